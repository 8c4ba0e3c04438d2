"""Origins: what a batch needs to know of its cases, read without their jobs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from backends.store import case_context
from backends.vault import Vault
from schemas.errors import ContractError

_FIELDS = ("run", "sealed", "cutoff", "basis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a case was accepted with. `number` is empty if no key of ours opens it."""

    case: str
    run: str
    cutoff_at: str
    basis: str
    number: str = field(repr=False)


class Origins:
    """Reads cases; changes nothing."""

    def __init__(self, client: Redis, keys: Keys, vault: Vault) -> None:
        self._client, self._keys, self._vault = client, keys, vault

    def of(self, cases: Sequence[str]) -> dict[str, Origin]:
        """Return the origins of those cases that exist."""

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for case in cases:
                pipe.hmget(self._keys.case(case), _FIELDS)
            return list(pipe.execute())

        return {
            case: self._origin(case, *found)
            for case, found in zip(cases, patiently(read), strict=True)
            if found[0] is not None
        }

    def _origin(self, case: str, *found: bytes) -> Origin:
        run, sealed, cutoff, basis = found
        try:
            number = self._vault.open(sealed, context=case_context(case)).decode()
        except ContractError:
            number = ""
        return Origin(case=case, run=text(run), cutoff_at=text(cutoff), basis=text(basis), number=number)

    def superseded(self, origins: Iterable[Origin]) -> set[str]:
        """Return the cases whose number has been recycled again since: another case of it has a later cut-off."""
        opened = [origin for origin in origins if origin.number]

        def members() -> list[set[bytes]]:
            pipe = self._client.pipeline(transaction=False)
            for origin in opened:
                pipe.smembers(self._keys.token(self._vault.token(origin.number)))
            return list(pipe.execute())

        others = {
            origin.case: {text(member) for member in found} - {origin.case}
            for origin, found in zip(opened, patiently(members), strict=True)
        }
        cutoffs = self._cutoffs(sorted(set().union(*others.values())))
        return {
            origin.case
            for origin in opened
            if any(cutoffs[other] > _instant(origin.cutoff_at) for other in others[origin.case] if other in cutoffs)
        }

    def _cutoffs(self, cases: Sequence[str]) -> dict[str, datetime]:
        def read() -> list[bytes | None]:
            pipe = self._client.pipeline(transaction=False)
            for case in cases:
                pipe.hget(self._keys.case(case), "cutoff")
            return list(pipe.execute())

        return {case: _instant(text(found)) for case, found in zip(cases, patiently(read), strict=True) if found}


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
