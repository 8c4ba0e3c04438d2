"""Answers that a pretended platform gives later: which jobs it has accepted, and the callbacks that it sends then.

What is said is decided elsewhere; here it is only when, and in which envelope.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Any, Final, Protocol

import orjson

from backends.signature import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from schemas.ids import derive, job_id
from simulator.request import Item

# Nobody's key: what is signed with it is forged.
_FORGED: Final = "whsec_bm90LXRoZS1wbGF0Zm9ybSdzLW93bi1rZXk="


class Say(Protocol):
    """Says of a case what its platform answers, or, if it is to lie, something else that it might have answered."""

    def __call__(self, case: str, *, lie: bool) -> dict[str, str]:
        """Return the fields of a result, without its id."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One callback as it travels."""

    platform: str
    headers: dict[str, str]
    body: bytes


class Accepted:
    """The jobs of one platform that were answered 202."""

    def __init__(self, platform: str, *, secrets: Sequence[str]) -> None:
        self._platform, self._secrets = platform, secrets
        self._due_s: dict[str, float] = {}
        self._heap: list[tuple[float, int, tuple[str, ...], str]] = []
        self._count = 0

    def add(self, items: Sequence[Item], *, due_s: float, manner: str) -> str:
        """Take jobs; one that was taken before keeps its time. Returns the reference for them all."""
        fresh = tuple(item["case"] for item in items if item["case"] not in self._due_s)
        self._due_s |= dict.fromkeys(fresh, due_s)
        self._count += 1
        if fresh and manner != "never" and self._secrets:
            heappush(self._heap, (due_s, self._count, fresh, manner))
        return f"N-{derive(self._platform, *(item['case'] for item in items))[:12].upper()}"

    def is_decided(self, case: str, *, now_s: float) -> bool:
        """Whether the answer for a case may be told."""
        return self._due_s.get(case, float("inf")) <= now_s

    def letters(self, say: Say, *, now_s: float) -> Iterator[Letter]:
        """Yield the callbacks that are due, in the order in which they are sent."""
        while self._heap and self._heap[0][0] <= now_s:
            _, number, cases, manner = heappop(self._heap)
            true = self._body(cases, say, lie=False)
            ident = f"msg_{derive(self._platform, str(number), *cases)}"
            if manner == "forged":
                lie = self._body(cases, say, lie=True)
                yield self._letter(f"{ident}-forged", lie, secrets=(_FORGED,), now_s=now_s)
            yield self._letter(ident, true, secrets=self._secrets, now_s=now_s)
            if manner == "twice":
                yield self._letter(ident, true, secrets=self._secrets, now_s=now_s)
                yield self._letter(f"{ident}-again", true, secrets=self._secrets, now_s=now_s)
            if manner == "contradicting":
                lie = self._body(cases, say, lie=True)
                yield self._letter(f"{ident}-other", lie, secrets=self._secrets, now_s=now_s)

    def _body(self, cases: Sequence[str], say: Say, *, lie: bool) -> bytes:
        results: list[dict[str, Any]] = [{"id": job_id(case, self._platform), **say(case, lie=lie)} for case in cases]
        return orjson.dumps(results[0] if len(results) == 1 else {"results": results})

    def _letter(self, ident: str, body: bytes, *, secrets: Sequence[str], now_s: float) -> Letter:
        at = datetime.fromtimestamp(now_s, UTC)
        headers = {
            "Content-Type": "application/json",
            ID_HEADER: ident,
            TIMESTAMP_HEADER: str(int(now_s)),
            SIGNATURE_HEADER: sign(secrets, message_id=ident, timestamp=at, body=body),
        }
        return Letter(platform=self._platform, headers=headers, body=body)
