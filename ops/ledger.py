"""The proof of a sandbox run: every recorded outcome against what the platforms themselves recorded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson
import requests

from backends.bootstrap import Backends
from platforms.catalogue import Catalogue
from schemas.errors import BackendUnavailable
from schemas.ids import job_id
from schemas.record import JobRecord
from schemas.state import STATES, State
from schemas.summary import LedgerCheck

_EXAMPLES_MAX = 10
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Entry:
    """What a platform recorded for one job: its outcome (None for a code of its own), and how often it acted."""

    outcome: str | None
    effects: int


def compare(backends: Backends, catalogue: Catalogue, cases: Iterable[str], *, base_url: str) -> LedgerCheck:
    """Hold every job of these cases against the simulator's ledger, one platform after the other.

    So memory holds the cases and one platform's page of the ledger, however many platforms there are. Raises
    BackendUnavailable.
    """
    parts = backends.store.whereabouts(cases)
    comparison = _Comparison()
    with requests.Session() as session:
        session.trust_env = False
        for platform in catalogue:
            comparison.open(_fetch(session, base_url, platform.key))
            for part in parts:
                if platform.key in part.platforms:
                    column = backends.store.column(part.manifest, platform.key)
                    for place, case in part.cases.items():
                        comparison.add(case, platform.key, JobRecord.at(column, place) or JobRecord())
            comparison.close()
    return comparison.result()


def _fetch(session: requests.Session, base_url: str, platform: str) -> dict[str, Entry]:
    try:
        answer = session.get(f"{base_url}/_ledger", params={"platform": platform}, stream=True, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        return dict(_entries(answer.iter_lines(chunk_size=1 << 20)))
    except requests.RequestException as error:
        kind = type(error).__name__
        raise BackendUnavailable(f"the simulator's ledger cannot be read at {base_url} ({kind})") from None


def _entries(lines: Iterator[bytes]) -> Iterator[tuple[str, Entry]]:
    for line in lines:
        if line:
            entry = orjson.loads(line)
            yield entry["id"], Entry(outcome=entry["outcome"], effects=entry["effects"])


class _Comparison:
    """Takes every job once, platform by platform, then says whether both sides agree."""

    def __init__(self) -> None:
        self._ledger: dict[str, Entry] = {}
        self._unseen: set[str] = set()
        self._compared = self._without_outcome = self._disagreements = self._second_effects = self._unknown = 0
        self._examples: list[str] = []

    def open(self, ledger: dict[str, Entry]) -> None:
        """Turn to the page of another platform."""
        self._ledger, self._unseen = ledger, set(ledger)

    def close(self) -> None:
        """Count what the page holds beside the jobs: an effect on a job that nobody knows here disagrees too."""
        for ident in self._unseen:
            if self._ledger[ident].effects:
                self._unknown += 1
                self._note(f"{ident}: an effect that no job of this run asked for")

    def add(self, case: str, platform: str, record: JobRecord) -> None:
        """Compare one job."""
        ident = job_id(case, platform)
        self._unseen.discard(ident)
        entry = self._ledger.get(ident)
        if entry is not None and entry.effects > 1:
            self._second_effects += 1
            self._note(f"{ident}: {entry.effects} effects")
        if record.disputed:
            self._disagree(f"{ident}: two different final answers")
            return
        if record.state is State.PENDING_REVIEW:
            # A code of the platform's own that the catalogue does not know: both must say that nothing is known.
            self._compared += 1
            if entry is None or entry.outcome is not None:
                self._disagree(f"{ident}: recorded for review, ledger says {entry.outcome if entry else 'never asked'}")
            return
        if not STATES[record.state].final:
            self._without_outcome += 1
            return
        self._compared += 1
        if entry is None or entry.outcome != record.state.value:
            self._disagree(f"{ident}: recorded {record.state}, ledger says {entry.outcome if entry else 'never asked'}")
        elif (record.state is State.UNBOUND) != (entry.effects == 1):
            self._disagree(f"{ident}: recorded {record.state}, ledger has {entry.effects} effects")

    def _disagree(self, example: str) -> None:
        self._disagreements += 1
        self._note(example)

    def _note(self, example: str) -> None:
        if len(self._examples) < _EXAMPLES_MAX:
            self._examples.append(example)

    def result(self) -> LedgerCheck:
        """Return the comparison."""
        return LedgerCheck(
            agrees=not (self._disagreements or self._second_effects or self._unknown),
            compared=self._compared,
            without_outcome=self._without_outcome,
            disagreements=self._disagreements,
            second_effects=self._second_effects,
            unknown_effects=self._unknown,
            examples=tuple(self._examples),
        )
