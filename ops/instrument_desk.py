"""Instruments, for people: recording one, ending one, and seeing on which a run may rest."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from backends.actions import Action, What, whoami
from backends.bootstrap import Backends
from backends.instruments import Recorded
from schemas.errors import InputError
from schemas.instrument import Instrument

FIELDS: Final = (
    "key", "title", "document_number", "approver", "valid_from", "valid_until", "valid", "recorded_by", "recorded_at",
    "ended_by", "ended_at",
)  # fmt: skip


class InstrumentDesk:
    """Shows instruments, records and ends them."""

    def __init__(self, backends: Backends, *, who: str = "") -> None:
        self._backends, self._who = backends, who or whoami()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every instrument in the order of their keys."""
        now = self._backends.clock.now()
        return (_row(recorded, now) for recorded in self._backends.instruments.list())

    def show(self, key: str) -> dict[str, Any]:
        """Return one instrument. Raises NotFound."""
        return _row(self._backends.instruments.get(key), self._backends.clock.now())

    def record(self, fields: dict[str, Any], *, reason: str) -> dict[str, Any]:
        """Record an instrument. Raises InputError that names each wrong field, Refused if its key is taken."""
        try:
            instrument = Instrument.model_validate(fields)
        except ValidationError as error:
            found = (f"{'.'.join(map(str, each['loc'])) or 'instrument'}: {each['msg']}" for each in error.errors())
            raise InputError("; ".join(found)) from None
        now = self._backends.clock.now()
        recorded = self._backends.instruments.record(instrument, by=self._who, now=now)
        after = instrument.model_dump(mode="json")
        self._log(What.INSTRUMENT_RECORD, instrument.key, reason=reason, before={}, after=after)
        return _row(recorded, now)

    def end(self, key: str, *, reason: str) -> dict[str, Any]:
        """Let nothing rest on it from now on. Runs that are under way go on. Raises NotFound, Refused."""
        now = self._backends.clock.now()
        ended = self._backends.instruments.end(key, by=self._who, now=now)
        before = {"valid_until": ended.instrument.valid_until.isoformat()}
        self._log(What.INSTRUMENT_END, key, reason=reason, before=before, after={"ended_at": ended.ended_at})
        return _row(ended, now)

    def _log(self, what: What, key: str, *, reason: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        self._backends.actions.append(
            Action(what=what, target=key, reason=reason, before=before, after=after, who=self._who)
        )


def _row(recorded: Recorded, now: datetime) -> dict[str, Any]:
    return recorded.instrument.model_dump(mode="json") | {
        "valid": not recorded.obstacle(now),
        "recorded_by": recorded.recorded_by,
        "recorded_at": recorded.recorded_at,
        "ended_by": recorded.ended_by or None,
        "ended_at": recorded.ended_at or None,
    }
