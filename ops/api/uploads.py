"""Bulk files over HTTP: streamed to disk, kept sealed, and read in the background as `renewal submit` reads one."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from ops.api.access import OperatorCaller, Reader
from ops.api.door import TheDoor
from ops.api.idempotency import KEY_NEEDED_UNREAD
from ops.api.problems import Problem, documented
from ops.uploads import Terms, Uploads
from schemas.ids import ID_PATTERN
from schemas.instrument import INSTRUMENT_PATTERN
from schemas.number import mask_text

router = APIRouter(prefix="/v1/runs", tags=["runs"])
_FORMS: Final[dict[str, Literal["csv", "jsonl"]]] = {
    "text/csv": "csv",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
}
_ROWS: Final = {
    "requestBody": {
        "required": True,
        "content": {form: {"schema": {"type": "string", "format": "binary"}} for form in _FORMS},
    }
}
Name = Annotated[str, Query(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f/\\]+$")]
InstrumentKey = Annotated[str, Query(pattern=INSTRUMENT_PATTERN, description="on which the run rests (requirement 8)")]


class RunAnswer(BaseModel):
    """A file that is kept, and will be read."""

    run: str
    known: bool  # this very file had come before


@router.post("", status_code=202, dependencies=[KEY_NEEDED_UNREAD], openapi_extra=_ROWS,
             responses=documented(404, 409, 413, 415), summary="Renew the numbers of a file")  # fmt: skip
async def submit_file(
    request: Request, response: Response, *, door: TheDoor, caller: OperatorCaller, name: Name,
    instrument: InstrumentKey, key: Annotated[str, Header(alias="Idempotency-Key", max_length=255)],
    encoded: Annotated[Literal["identity", "gzip"], Header(alias="Content-Encoding")] = "identity",
) -> RunAnswer:  # fmt: skip
    """Take a CSV or JSON lines file, also gzip, under an instrument that is valid now. It is read afterwards.

    The same file under the same key again is the same run.
    """
    terms = _terms(request, name=name, instrument=instrument, who=caller.who, packed=encoded == "gzip")
    uploads = Uploads(door.backends, door.catalogue)
    upload = await run_in_threadpool(uploads.begin, terms, key=f"{caller.key_id}/{key}")
    with upload:
        async for data in request.stream():
            await run_in_threadpool(upload.write, data)
        kept = await run_in_threadpool(upload.keep)
    await run_in_threadpool(uploads.announce, upload.run, terms, again=not kept)
    response.headers["Location"] = f"/v1/runs/{upload.run}"
    return RunAnswer(run=upload.run, known=not kept)


@router.get("/{run}/rejected", response_class=FileResponse, responses=documented(404), summary="Rows that were refused")
def rejected(run: Annotated[str, Path(pattern=ID_PATTERN)], *, door: TheDoor, _: Reader) -> FileResponse:
    """Return the rows of a file that were refused so far, as CSV: line, field, problem, and a masked value."""
    path = Uploads(door.backends, door.catalogue).rejected(run)
    if path is None:
        raise Problem(404, "no such list: the file of this run did not come over HTTP to this machine")
    return FileResponse(path, media_type="text/csv; charset=utf-8", filename=f"rejected-{run}.csv")


def _terms(request: Request, *, name: str, instrument: str, who: str, packed: bool) -> Terms:
    media, _, rest = request.headers.get("content-type", "").partition(";")
    form = _FORMS.get(media.strip().lower())
    if form is None:
        raise Problem(415, f"Content-Type: expected one of {', '.join(_FORMS)}")
    charset = rest.strip().lower().removeprefix("charset=").strip('"') or "utf-8"
    return Terms(
        name=mask_text(name), instrument=instrument, who=who, form=form, encoding=charset, packed=packed,
    )  # fmt: skip
