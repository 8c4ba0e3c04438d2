"""What a run leaves behind for people and programs: report.html, report.json, results.csv and rejected.csv.

Each file is written beside its name and renamed when whole, so a half-written one is never mistaken for a report.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

from jinja2 import Environment, PackageLoader, StrictUndefined

from ops import page
from ops.progress import (
    FAULT_WORDS,
    STATE_WORDS,
    Findings,
    PlatformProgress,
    Progress,
    RejectedRow,
    Sample,
    Stuck,
    duration_text,
    latency_text,
    percent_text,
    slowest_platforms,
)
from schemas.number import MASK, mask, mask_text
from schemas.outcome import Outcome
from schemas.record import JobRecord
from schemas.state import STATES, State
from schemas.summary import Summary

REJECTED_SHOWN_MAX: Final = 20
PLATFORMS_SHOWN_MAX: Final = 12
RESULTS_FIELDS: Final = (
    "reference", "number", "case", "platform", "state", "outcome", "reason", "attempts", "first_sent_at", "settled_at",
)  # fmt: skip
RESULTS_HEADER: Final = ",".join(RESULTS_FIELDS) + "\n"
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
_MOBILE: Final = re.compile(r"(?<!\d)(?:\+?86)?(1[3-9]\d{9})(?!\d)")
_SPACED_DIGITS: Final = re.compile(r"\d(?:[\s().-]*\d){6,}")
_PERSON_STATES: Final = (State.DEAD, State.PENDING_REVIEW)
_OUTCOMES: Final = frozenset(outcome.value for outcome in Outcome)
_STATE_CELLS: Final = {state: f"{state},{state if state.value in _OUTCOMES else ''}" for state in State}


class ResultsCsv:
    """Streams results.csv; the file has its name only when the `with` block ended without an error."""

    def __init__(self, path: Path) -> None:
        """Write nothing yet."""
        self._path = path
        self._stack = ExitStack()
        self._refusals: Counter[str] = Counter()
        self._stuck: Counter[tuple[State, str, str]] = Counter()
        self._cases: dict[tuple[State, str, str], str] = {}

    def __enter__(self) -> Self:
        """Open the file beside its name."""
        self._file = self._stack.enter_context(whole_file(self._path))
        self._file.write(RESULTS_HEADER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file its name, or take it away when an error came."""
        self._stack.__exit__(kind, error, trace)

    def write_case(self, *, reference: str, number: str, case: str, jobs: Iterable[tuple[str, JobRecord]]) -> None:
        """Write one row for each (platform key, record). Raises ValueError for a number that is not masked."""
        self._file.writelines(result_rows(reference=reference, number=number, case=case, jobs=self._noted(case, jobs)))

    @property
    def findings(self) -> Findings:
        """What the rows written so far hold that a person should know."""
        stuck = (
            Stuck(state=key[0], platform=key[1], reason=key[2], count=count, case=self._cases[key])
            for key, count in self._stuck.most_common()
        )
        return Findings(refusals=dict(self._refusals.most_common()), stuck=tuple(stuck))

    def _noted(self, case: str, jobs: Iterable[tuple[str, JobRecord]]) -> Iterator[tuple[str, JobRecord]]:
        for platform, record in jobs:
            if not STATES[record.state].clean:
                self._note(case, platform, record)
            yield platform, record

    def _note(self, case: str, platform: str, record: JobRecord) -> None:
        reason = str(record.reason or "")
        if record.state is State.REFUSED:
            self._refusals[reason] += 1
        elif record.state in _PERSON_STATES:
            key = (record.state, platform, reason)
            self._stuck[key] += 1
            self._cases.setdefault(key, case)


def result_rows(*, reference: str, number: str, case: str, jobs: Iterable[tuple[str, JobRecord]]) -> Iterator[str]:
    """Return the lines of results.csv for one case. Raises ValueError for a number that is not masked."""
    if not MASK.fullmatch(number):
        raise ValueError("results hold masked numbers only")
    head = f"{_cell(_without_mobile(reference))},{number},{case}"
    for platform, record in jobs:
        yield (
            f"{head},{platform},{_STATE_CELLS[record.state]},{record.reason or ''},{record.attempts},"
            f"{_instant(record.first_sent_s)},{_instant(record.settled_s)}\n"
        )


def rejected_cells(row: RejectedRow) -> tuple[int, str, str, str]:
    """Return a row of rejected.csv, numbers masked and harmless in a spreadsheet."""
    row = _without_number(row)
    return row.line, row.field, row.problem, harmless(row.value)


def write_report(
    folder: Path,
    *,
    summary: Summary,
    progress: Progress,
    samples: Sequence[Sample],
    rejected: Sequence[tuple[int, str, str, str]],
    started_at: datetime,
    finished_at: datetime,
    command: str,
    sandbox: bool,
    findings: Findings | None = None,
    watched: bool = True,
) -> None:
    """Write report.html and report.json into `folder`. Without `findings` the page points at results.csv instead.

    Of a run that was not `watched` from its start, neither its curve nor the calls of each platform are known.
    """
    values = {
        "summary": summary,
        "progress": progress,
        "samples": samples,
        "rejected": [_without_number(RejectedRow(*row)) for row in rejected[:REJECTED_SHOWN_MAX]],
        "started_at": started_at,
        "finished_at": finished_at,
        "command": _without_mobile(command),
        "sandbox": sandbox,
        "findings": findings,
        "slowest": slowest_platforms(progress.platforms, limit=PLATFORMS_SHOWN_MAX),
        "names": {platform.key: platform for platform in progress.platforms},
        "shown_max": PLATFORMS_SHOWN_MAX,
        "watched": watched,
    }
    with whole_file(folder / "report.html") as file:
        file.writelines(_template_environment().get_template("report.html.j2").generate(values))
    about = {"started_at": _iso(started_at), "finished_at": _iso(finished_at), "sandbox": sandbox}
    platforms = [_platform_row(platform, watched=watched) for platform in progress.platforms]
    with whole_file(folder / "report.json") as file:
        json.dump(
            summary.model_dump(mode="json") | about | {"platforms": platforms}, file, ensure_ascii=False, indent=1
        )
        file.write("\n")


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 file that takes its name only if the block ends without an error, and else vanishes."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        # A value that was read from a broken encoding must not break the report about it.
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _template_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ops"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": "{:,}".format,
        "duration": duration_text,
        "latency": latency_text,
        "words": lambda text: text.replace("_", " "),
        "clock": lambda at: at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }
    environment.globals |= {
        "page": page,
        "percent": percent_text,
        "State": State,
        "STATE_WORDS": STATE_WORDS,
        "FAULT_WORDS": FAULT_WORDS,
    }
    return environment


def _platform_row(platform: PlatformProgress, *, watched: bool) -> dict[str, Any]:
    known = {
        "key": platform.key,
        "name": {"zh": platform.name_zh, "en": platform.name_en},
        "category": platform.category,
        "jobs": platform.jobs,
        "by_state": {state: count for state, count in platform.by_state.items() if count},
    }
    if not watched:
        return known
    return known | {
        "calls": platform.calls,
        "attempts": platform.attempts,
        "faults": dict(platform.faults),
        "http_statuses": dict(platform.statuses),
        "p50_ms": _rounded(platform.latency_ms(0.5)),
        "p95_ms": _rounded(platform.latency_ms(0.95)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


@lru_cache(maxsize=65_536)
def _instant(second: int) -> str:
    return _iso(datetime.fromtimestamp(second, UTC)) if second else ""


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _without_mobile(text: str) -> str:
    return _MOBILE.sub(lambda found: mask(found[1]), text)


def _without_number(row: RejectedRow) -> RejectedRow:
    # In the number's own column any run of digits may be one, however it is spaced; elsewhere that would eat dates.
    spaced = row.value if row.field != "number" else _SPACED_DIGITS.sub(_masked_run, row.value)
    return row._replace(value=mask_text(spaced))


def _masked_run(digits: re.Match[str]) -> str:
    return f"{digits[0][:3]}****{digits[0][-2:]}"


def harmless(text: str) -> str:
    """Return a cell that no spreadsheet runs: what starts like a formula gets an apostrophe (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _cell(text: str) -> str:
    safe = harmless(text)
    if any(mark in safe for mark in ',"\n\r'):
        return '"' + safe.replace('"', '""') + '"'
    return safe
