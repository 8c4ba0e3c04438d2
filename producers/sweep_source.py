"""Where a sweep's numbers come from, and what has become of them since: files, or an SQL query."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Final, Protocol

from backends.vault import Vault
from producers.eligibility import Ineligible, InventoryRow, NumberState, is_of_this_cycle, obstacle
from producers.inventory import read_changes, read_inventory
from producers.rows import Rejection
from producers.sweep_definition import Definition, Files, Query
from schemas.errors import InputError

# They are kept in memory: about 100 bytes each.
CHANGES_MAX: Final = 500_000


class InventorySource(Protocol):
    """An inventory as a sweep sees it. Both methods raise InputError where it cannot be read."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    def rows(self) -> Iterator[InventoryRow | Rejection]:
        """Yield every row, in an order of its own."""
        ...

    def changed(self, rows: Sequence[InventoryRow], *, now: datetime) -> dict[int, Ineligible]:
        """Return, by line, which of these planned numbers may not be sent any more, and why (requirement 4)."""
        ...


def source_of(definition: Definition, day: date, *, folder: Path, vault: Vault) -> InventorySource:
    """Return the inventory of a night. Raises ConfigurationError if a secret or a package is missing."""
    if isinstance(definition.inventory, Query):
        from producers.inventory_sql import SqlInventory

        return SqlInventory(definition.inventory, definition.rule, day=day, folder=folder)
    return FileInventory(definition, definition.inventory, day=day, folder=folder, vault=vault)


class FileInventory:
    """The file of one night, and the file of changes beside it."""

    def __init__(self, definition: Definition, files: Files, *, day: date, folder: Path, vault: Vault) -> None:
        self._definition, self._vault, self._day = definition, vault, day
        self._file = files.file(day, beside=folder)
        self._changes = definition.changes.file(day, beside=folder) if definition.changes else None
        # With a file for each night, one that is not there yet says that nothing has changed so far.
        self._may_be_missing = definition.changes is not None and definition.changes.pattern is not None
        self._seen: tuple[int, int] | None = None
        self._state_of: dict[str, tuple[datetime, NumberState]] = {}

    @property
    def name(self) -> str:
        """The name of the file."""
        return self._file.name

    def rows(self) -> Iterator[InventoryRow | Rejection]:
        """Yield every row of the file. Raises InputError."""
        return read_inventory(self._file, encoding=self._definition.encoding)

    def changed(self, rows: Sequence[InventoryRow], *, now: datetime) -> dict[int, Ineligible]:
        """Look at the changes as they stand now. Raises InputError: who cannot look must not send."""
        if self._changes is None:
            return {}
        self._look(self._changes, now)
        found: dict[int, Ineligible] = {}
        for row in rows:
            known = self._state_of.get(self._vault.token(row.number))
            if known and is_of_this_cycle(row, known[0]):
                why = obstacle(replace(row, state=known[1]), self._definition.rule, day=self._day)
                if why:
                    found[row.line] = why
        return found

    def _look(self, path: Path, now: datetime) -> None:
        try:
            status = path.stat()
        except FileNotFoundError:
            if self._may_be_missing:
                return
            raise InputError(f"{path.name}: no such file; without the changes nothing is sent") from None
        except OSError as error:
            raise InputError(f"{path.name}: cannot be read: {error.strerror}; nothing is sent") from None
        if self._seen == (status.st_mtime_ns, status.st_size):
            return
        state_of: dict[str, tuple[datetime, NumberState]] = {}
        for change in read_changes(path, now=now, encoding=self._definition.encoding):
            if isinstance(change, Rejection):
                # It may be the one number that was taken back.
                said = f"line {change.line}: {change.field}: {change.problem}"
                raise InputError(f"{path.name}: {said}; nothing is sent until it is mended")
            token = self._vault.token(change.number)
            if token not in state_of or state_of[token][0] <= change.at:
                state_of[token] = (change.at, change.state)
            if len(state_of) > CHANGES_MAX:
                raise InputError(f"{path.name}: more than {CHANGES_MAX} numbers; write a new inventory instead")
        self._state_of, self._seen = state_of, (status.st_mtime_ns, status.st_size)
