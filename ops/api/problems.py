"""Errors as RFC 9457 problems. They name the field and what was expected, and never repeat a value."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.exceptions import HTTPException

from schemas.errors import BackendUnavailable, InputError, NotFound, Refused, RenewalError, TimeLimit
from schemas.number import mask_text

MEDIA_TYPE: Final = "application/problem+json"
_STATUS: Final[Mapping[type[RenewalError], int]] = {
    InputError: 400,
    NotFound: 404,
    Refused: 409,
    TimeLimit: 503,
    BackendUnavailable: 503,
}
_ERRORS_SHOWN_MAX: Final = 20
_AGAIN_S: Final = 5
_WORDS: Final[Mapping[int, str]] = {
    400: "an argument is wrong: the detail names it",
    401: "no valid key",
    403: "the key has a smaller scope",
    404: "there is no such thing",
    408: "the body came too slowly",
    409: "a rule or the state of things forbids it: nothing was changed",
    413: "the body is too large",
    415: "the body is of a form that is not taken",
    422: "the request is not valid: `errors` names each field",
    429: "too many requests: come again after `Retry-After` seconds",
    503: "the status store or the broker is away: come again after `Retry-After` seconds",
}
_ALWAYS: Final = (400, 401, 403, 422, 429, 503)


class WrongField(BaseModel):
    """One field that is wrong, and what was expected; never its value."""

    field: str
    detail: str


class ProblemBody(BaseModel):
    """An error, as RFC 9457 has it. `type` is about:blank: the status says what kind it is."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[WrongField] = Field(default_factory=list)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route may answer instead, for its `responses`: what every route may, and these."""
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}}}
    return {status: {"description": _WORDS[status], "content": content} for status in sorted({*_ALWAYS, *statuses})}


class Problem(Exception):
    """What a route answers instead; `extra` are members beside those of the RFC."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.extra = status, detail, dict(headers or {}), extra

    def response(self) -> Response:
        """Return it as it travels."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": mask_text(self.detail),
            **self.extra,
        }
        return Response(orjson.dumps(body), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """Return an error that we know of as a problem."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return Problem(422, "the request is not valid", errors=_errors(error.errors()))
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, RedisConnectionError | RedisTimeoutError):
        error = BackendUnavailable(f"the status store is away ({type(error).__name__})")
    status = next(found for kind, found in _STATUS.items() if isinstance(error, kind))
    headers = {"Retry-After": str(_AGAIN_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Problem(status, str(error), headers=headers)


# Any other error of ours is a fault of this program or of its settings: its log says which, and nobody else is told.
_KNOWN: Final[tuple[type[Exception], ...]] = (
    Problem, *_STATUS, RequestValidationError, HTTPException, RedisConnectionError, RedisTimeoutError,
)  # fmt: skip


def handle_problems(app: FastAPI) -> None:
    """Let every error that we know of be answered as a problem."""

    async def answer(_: Request, error: Exception) -> Response:
        return problem_of(error).response()

    for kind in _KNOWN:
        app.add_exception_handler(kind, answer)


def _errors(found: Sequence[Any]) -> list[dict[str, str]]:
    """Name each field and what was expected of it; pydantic's message repeats no value, its `input` would."""
    return [
        {"field": mask_text(".".join(map(str, error["loc"]))), "detail": mask_text(error["msg"])}
        for error in found[:_ERRORS_SHOWN_MAX]
    ]
