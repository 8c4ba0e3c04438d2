"""Sorts an inventory of any size by deadline, in fixed memory: an SQLite file that goes when it is closed.

On disk a number is sealed, and found by its keyed token; only dates, lines and codes stand in the clear.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from types import TracebackType
from typing import Any, Final, Self

import orjson

from backends.vault import Vault
from producers.eligibility import Departure, Ineligible, InventoryRow, NumberState, Rule, obstacle

_AT_ONCE: Final = 1000
_CACHE_KIB: Final = 16 * 1024


@dataclass(slots=True, kw_only=True)
class Contents:
    """What an inventory holds: what is planned for this night, and why the rest is not."""

    rows: int = 0
    rejected: int = 0
    planned_by_release: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def planned(self) -> int:
        """How many numbers are to be renewed."""
        return sum(self.planned_by_release.values())


class Sorter:
    """Takes rows in any order; gives those that may be renewed in the order of their release, then of their lines.

    Where one number has several rows, the one of its latest cycle counts, then the last one (requirement 2).
    """

    def __init__(self, vault: Vault, rule: Rule, *, day: date) -> None:
        self._vault, self._rule, self._day = vault, rule, day
        # Without a name: a file that SQLite makes when memory is not enough, and that has no name on disk either. It is
        # gone when this process is, however that ends.
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(
            "CREATE TABLE numbers (line INTEGER PRIMARY KEY, token TEXT, cycle TEXT, release TEXT, code TEXT, row BLOB)"
        )
        self._buffer: list[tuple[Any, ...]] = []
        self._digest = sha256()
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything."""
        self._database.close()

    def add(self, row: InventoryRow) -> None:
        """Take one row."""
        code = obstacle(row, self._rule, day=self._day)
        token = self._vault.token(row.number)
        cycle = row.deactivated_on.isoformat() if row.deactivated_on else ""
        release = row.release_planned_on.isoformat() if row.release_planned_on else ""
        self._digest.update(f"{row.line} {token} {cycle} {release} {code}\n".encode())
        self._rows += 1
        packed = self._packed(row) if code in {None, Ineligible.RECLAIMED} else None
        self._buffer.append((row.line, token, cycle, release, code, packed))
        if len(self._buffer) >= _AT_ONCE:
            self._flush()

    def contents(self) -> Contents:
        """Sort what was added, and say what it is. Nothing may be added after that."""
        self._flush()
        self._database.execute("CREATE INDEX by_token ON numbers (token, cycle, line)")
        self._database.execute(
            "UPDATE numbers SET code = ?, row = NULL WHERE EXISTS (SELECT 1 FROM numbers newer"
            " WHERE newer.token = numbers.token AND (newer.cycle, newer.line) > (numbers.cycle, numbers.line))",
            [Ineligible.SUPERSEDED],
        )
        self._database.execute("CREATE INDEX by_release ON numbers (release, line) WHERE code IS NULL")
        counted = self._database.execute
        releases = counted("SELECT release, count(*) FROM numbers WHERE code IS NULL GROUP BY release ORDER BY release")
        codes = counted("SELECT code, count(*) FROM numbers WHERE code IS NOT NULL GROUP BY code ORDER BY code")
        return Contents(
            rows=self._rows,
            planned_by_release=dict(releases.fetchall()),
            refused=dict(codes.fetchall()),
            fingerprint=self._digest.hexdigest()[:32],
        )

    def planned(self, *, start: int = 0) -> Iterator[InventoryRow]:
        """Yield what is to be renewed, deadline first, without the first `start` numbers."""
        query = "SELECT line, release, row FROM numbers WHERE code IS NULL ORDER BY release, line LIMIT -1 OFFSET ?"
        for line, release, packed in self._database.execute(query, [start]):
            yield self._unpacked(line, date.fromisoformat(release), packed)

    def reclaimed(self) -> Iterator[tuple[int, str]]:
        """Yield line and number of each number whose holder took it back."""
        query = "SELECT line, row FROM numbers WHERE code = ? ORDER BY line"
        for line, packed in self._database.execute(query, [Ineligible.RECLAIMED]):
            yield line, orjson.loads(self._vault.open(packed, context=_context(line)))[0]

    def refused(self) -> Iterator[tuple[int, str]]:
        """Yield line and code of each number that is not renewed, in the order of the inventory."""
        yield from self._database.execute("SELECT line, code FROM numbers WHERE code IS NOT NULL ORDER BY line")

    def _flush(self) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO numbers VALUES (?, ?, ?, ?, ?, ?)", self._buffer)
        self._database.execute("COMMIT")
        self._buffer.clear()

    def _packed(self, row: InventoryRow) -> bytes:
        facts = [row.number, row.state, row.deactivated_on, row.frozen_from, row.reference, row.cycle]
        return self._vault.seal(orjson.dumps(facts), context=_context(row.line))

    def _unpacked(self, line: int, release: date, packed: bytes) -> InventoryRow:
        number, state, deactivated, frozen, reference, cycle = orjson.loads(
            self._vault.open(packed, context=_context(line))
        )
        return InventoryRow(
            line=line,
            number=number,
            state=NumberState(state),
            deactivated_on=date.fromisoformat(deactivated),
            frozen_from=date.fromisoformat(frozen),
            release_planned_on=release,
            reference=reference,
            cycle=cycle,
            departure=Departure.CANCELLED,
        )


def _context(line: int) -> bytes:
    """Return what a sealed row is bound to."""
    return f"renewal/sweep/{line}".encode()
