"""`/docs`: the OpenAPI document as pages, from files of this house: nothing is fetched from anywhere."""

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response

from ops.api.problems import Problem

router = APIRouter(include_in_schema=False)
_FOLDER: Final = files("ops.api") / "static"
_KINDS: Final = {"css": "text/css", "js": "text/javascript", "html": "text/html"}
# Swagger UI sets styles from its script, and has its pictures in its style sheet.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_DAY: Final = "public, max-age=86400"
_SERVED: Final = ("swagger-ui.css", "swagger-ui-bundle.js", "docs.js")


@router.get("/docs")
def docs() -> Response:
    """Serve the page."""
    return _file("docs.html", cache="no-cache")


@router.get("/docs/{name}")
def docs_file(name: str) -> Response:
    """Serve one of its files."""
    if name not in _SERVED:
        raise Problem(404, "no such file")
    return _file(name, cache=_DAY)


def _file(name: str, *, cache: str) -> Response:
    kind = _KINDS[name.rpartition(".")[2]]
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": cache}
    return Response((_FOLDER / name).read_bytes(), media_type=f"{kind}; charset=utf-8", headers=headers)
