"""An inventory that is the answer to an SQL query; needs the extra `sql`.

Read in pages by a cursor of the server, so that memory holds one page. Columns are those of a file, dates may be dates.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backends.settings import resolve_secret
from producers.eligibility import Ineligible, InventoryRow, Rule, obstacle
from producers.inventory import COLUMNS, REQUIRED, inventory_row, rejection
from producers.rows import Rejection, RowProblem, RowRules
from producers.sweep_definition import Query
from schemas.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE: Final = 1000


class SqlInventory:
    """The rows of a query, numbered as they come. Raises ConfigurationError if the URL or the driver is missing."""

    def __init__(self, query: Query, rule: Rule, *, day: date, folder: Path) -> None:
        self._query, self._rule, self._day = query.query, rule, day
        self._engine = _engine(resolve_secret(query.url, folder=folder), named=query.url)

    @property
    def name(self) -> str:
        """What a person calls it; a URL may hold a password."""
        return "SQL query"

    def rows(self) -> Iterator[InventoryRow | Rejection]:
        """Yield every row of the answer. Raises InputError."""
        from sqlalchemy import text

        with self._connected() as connection:
            answer = connection.execution_options(stream_results=True, yield_per=_PAGE).execute(text(self._query))
            columns = tuple(answer.keys())
            _check(columns)
            rules = RowRules(())
            for line, found in enumerate(answer.mappings(), start=1):
                yield _row(line, dict(found), rules=rules)

    def changed(self, rows: Sequence[InventoryRow], *, now: datetime) -> dict[int, Ineligible]:
        """Ask the query again, for these numbers alone: who is not in its answer any more is not sent."""
        from sqlalchemy import bindparam, text

        del now
        # How the table spells a number is its own business: every usual spelling is asked for.
        spelled = [each for row in rows for each in _spellings(row.number)]
        narrowed = f"SELECT * FROM ({self._query.rstrip().rstrip(';')}) AS inventory WHERE number IN :numbers"  # noqa: S608 - the operator's own query
        asked = text(narrowed).bindparams(bindparam("numbers", expanding=True))
        listed: dict[str, InventoryRow] = {}
        with self._connected() as connection:
            rules = RowRules(())
            for line, found in enumerate(connection.execute(asked, {"numbers": spelled}).mappings(), start=1):
                row = _row(line, dict(found), rules=rules)
                if isinstance(row, InventoryRow) and not _is_older(row, listed.get(row.number)):
                    listed[row.number] = row
        found_now: dict[int, Ineligible] = {}
        for row in rows:
            current = listed.get(row.number)
            if why := Ineligible.NOT_LISTED if current is None else obstacle(current, self._rule, day=self._day):
                found_now[row.line] = why
        return found_now

    @contextmanager
    def _connected(self) -> "Iterator[Connection]":
        """Lend a connection. Raises InputError that says what the database said, without its statement or values."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            # Its text repeats statement and parameters, and those are numbers.
            kind = type(getattr(error, "orig", None) or error).__name__
            raise InputError(f"the inventory's database: {kind} ({type(error).__name__})") from None


def _engine(url: str, *, named: str) -> Any:
    try:
        from sqlalchemy import NullPool, create_engine
        from sqlalchemy.exc import ArgumentError
    except ModuleNotFoundError:
        raise ConfigurationError("an SQL inventory needs the extra: pip install 'number-renewal[sql]'") from None
    try:
        # A connection for each look: between two chunks a night may wait for an hour.
        return create_engine(url, poolclass=NullPool, hide_parameters=True)
    except ArgumentError:
        raise ConfigurationError(f"inventory.url: {named} holds no URL as postgresql+psycopg://…") from None
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"inventory.url: {named} needs the driver {error.name}") from None


def _check(columns: Sequence[str]) -> None:
    names = [name.lower() for name in columns]
    for name in names:
        if name not in COLUMNS:
            raise InputError(f"SQL query: unknown column {name}; expected {', '.join(COLUMNS)}")
    if missing := next((name for name in REQUIRED if name not in names), None):
        raise InputError(f"SQL query: column {missing} is missing; expected {', '.join(COLUMNS)}")


def _row(line: int, found: Mapping[str, Any], *, rules: RowRules) -> InventoryRow | Rejection:
    values = {name.lower(): _text(value) for name, value in found.items()}
    try:
        return inventory_row(line, values, rules=rules)
    except RowProblem as problem:
        return rejection(line, problem)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.date().isoformat()
    return "" if value is None else str(value)


def _spellings(e164: str) -> tuple[str, ...]:
    national = e164.removeprefix("+86")
    return national, e164, f"86{national}", f"0086{national}"


def _is_older(row: InventoryRow, other: InventoryRow | None) -> bool:
    if other is None:
        return False
    return (str(row.deactivated_on or ""), row.line) < (str(other.deactivated_on or ""), other.line)
