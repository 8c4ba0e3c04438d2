"""Errors as RFC 9457 problems. They name the field and what was expected, and never repeat a value."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
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


class Problem(Exception):
    """What a route answers instead; `extra` are members beside those of the RFC."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
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


def problem_of(error: RenewalError) -> Problem:
    """Return an error of ours as a problem."""
    status = next((found for kind, found in _STATUS.items() if isinstance(error, kind)), 500)
    headers = {"Retry-After": str(_AGAIN_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Problem(status, str(error), headers=headers)


def handle_problems(app: FastAPI) -> None:
    """Let every error of the app be answered as a problem."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, RenewalError)
        return problem_of(error).response()

    async def given(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return Problem(422, "the request is not valid", errors=_errors(error.errors())).response()

    async def by_status(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return Problem(error.status_code, str(error.detail), headers=error.headers).response()

    async def store_away(_: Request, error: Exception) -> Response:
        return problem_of(BackendUnavailable(f"the status store is away ({type(error).__name__})")).response()

    app.add_exception_handler(RenewalError, ours)
    app.add_exception_handler(Problem, given)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, by_status)
    app.add_exception_handler(RedisError, store_away)


def _errors(found: Sequence[Any]) -> list[dict[str, str]]:
    """Name each field and what was expected of it; pydantic's message repeats no value, its `input` would."""
    return [
        {"field": mask_text(".".join(map(str, error["loc"]))), "detail": mask_text(error["msg"])}
        for error in found[:_ERRORS_SHOWN_MAX]
    ]
