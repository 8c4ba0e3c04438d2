"""Pages of long lists: a cursor says behind which row the next one begins, so nothing is told twice or left out."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Annotated, Any, Final, Generic, TypeVar

import orjson
from fastapi import Depends, Query
from pydantic import BaseModel, Field

from ops.api.problems import Problem

T = TypeVar("T")
R = TypeVar("R")
_LIMIT_MAX: Final = 500
_CURSOR_CHARS_MAX: Final = 400


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    items: list[T]
    next: Annotated[str | None, Field(description="give it as `cursor` for the next part; null at the end")] = None


class Cursor:
    """Which part of a list is asked for."""

    def __init__(
        self,
        limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX, description="at most so many rows")] = 50,
        cursor: Annotated[
            str | None, Query(max_length=_CURSOR_CHARS_MAX, description="`next` of the part before")
        ] = None,
    ) -> None:
        self.limit, self._after = limit, _read(cursor)

    def after(self, *kinds: type) -> tuple[Any, ...] | None:
        """Return the place of the last row that was told, None at the beginning. Raises Problem 400 for any other."""
        if self._after is None:
            return None
        if len(self._after) != len(kinds) or not all(map(isinstance, self._after, kinds)):
            raise _foreign()
        return tuple(self._after)

    def page(self, rows: Iterable[T], *, place: Callable[[T], tuple[Any, ...]], shown: Callable[[T], R]) -> "Page[R]":
        """Return the first rows that come; `place` is what the next part begins behind."""
        found = list(islice(rows, self.limit + 1))
        last = found[self.limit - 1] if len(found) > self.limit else None
        return Page(
            items=[shown(row) for row in found[: self.limit]], next=None if last is None else _text(place(last))
        )


Part = Annotated[Cursor, Depends()]


def _text(place: tuple[Any, ...]) -> str:
    return urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def _read(cursor: str | None) -> list[Any] | None:
    if cursor is None:
        return None
    try:
        place = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        raise _foreign() from None
    if not isinstance(place, list):
        raise _foreign()
    return place


def _foreign() -> Problem:
    return Problem(400, "cursor: expected `next` of an answer of this same list")
