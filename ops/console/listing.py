"""A list on a page: its filters in the URL, its order, one page of it, and the same rows as a file."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode

import orjson
from fastapi import Request
from starlette.responses import Response

from ops.report import harmless

PER_PAGE: Final = 50
_PAGE, _SORT, _FORMAT = "page", "sort", "format"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: `name` is its word in the catalogue; `key` orders by it; `wide` ones are left out on a phone."""

    name: str
    numeric: bool = False
    wide: bool = False
    key: Callable[[Any], Any] | None = None
    falling: bool = False  # the greatest first, when somebody asks for this order


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[T]):
    """What one page of a list shows. `known` counts everything there is, `found` what fits the filters."""

    path: str
    columns: tuple[Column, ...]
    filters: Mapping[str, str]
    sort: str
    page: int
    pages: int
    known: int
    found: int
    rows: Sequence[T]

    @property
    def filtered(self) -> bool:
        """Whether anything is left out by choice."""
        return any(self.filters.values())

    def link(self, **changes: object) -> str:
        """Return the address of this list with changes; what is empty is left out."""
        said = {**self.filters, _SORT: self.sort, _PAGE: self.page if self.page > 1 else "", **changes}
        query = urlencode({name: value for name, value in said.items() if value})
        return self.path + (f"?{query}" if query else "")

    def sorted_by(self, column: Column) -> str:
        """Return the address of this list in the order of a column; a second time the other way round."""
        return self.link(sort=f"-{column.name}" if self.sort == column.name else column.name, page="")

    def order_of(self, column: Column) -> str:
        """Return how the list is ordered by a column, as ARIA says it."""
        if self.sort.removeprefix("-") != column.name:
            return "none"
        return "descending" if (self.sort.startswith("-")) != column.falling else "ascending"


def listing(
    request: Request,
    every: Sequence[T],
    *,
    columns: tuple[Column, ...],
    filters: Mapping[str, str],
    fits: Callable[[T], bool] = lambda _: True,
    per_page: int = PER_PAGE,
) -> Listing[T]:
    """Choose, order and cut what a page shows of rows that are all at hand, as the query of the request says."""
    chosen = [row for row in every if fits(row)]
    sort = request.query_params.get(_SORT, "")
    by = next((column for column in columns if column.name == sort.removeprefix("-") and column.key), None)
    if by is not None and by.key is not None:
        chosen.sort(key=by.key, reverse=by.falling != sort.startswith("-"))
    pages = max(1, -(-len(chosen) // per_page))
    page = min(pages, page_number(request))
    return Listing(
        path=request.url.path,
        columns=columns,
        filters=filters,
        sort=sort if by else "",
        page=page,
        pages=pages,
        known=len(every),
        found=len(chosen),
        rows=chosen[(page - 1) * per_page : page * per_page],
    )


def page_number(request: Request) -> int:
    """Return the page that a request asks for; the first if it asks for none."""
    text = request.query_params.get(_PAGE, "1")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 9 else 1  # noqa: PLR2004 - a billion


def wanted_file(request: Request) -> str:
    """Return `csv` or `json` if the rows are asked for as a file, else nothing."""
    asked = request.query_params.get(_FORMAT, "")
    return asked if asked in {"csv", "json"} else ""


def as_file(rows: Iterable[Mapping[str, Any]], *, fields: Sequence[str], name: str, kind: str) -> Response:
    """Return rows as a file to keep: CSV that no spreadsheet takes for formulas, or JSON."""
    if kind == "json":
        body = orjson.dumps([{field: row.get(field) for field in fields} for row in rows], default=str)
        return _download(body, f"{name}.json", "application/json")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([_cell(row.get(field)) for field in fields] for row in rows)
    # With a byte order mark, or the usual spreadsheet takes Chinese for something else.
    return _download(out.getvalue().encode("utf-8-sig"), f"{name}.csv", "text/csv; charset=utf-8")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    # A number may be below nought; only text can be a formula.
    return harmless(value) if isinstance(value, str) else str(value)


def _download(body: bytes, name: str, media_type: str) -> Response:
    return Response(body, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})
