"""What a run adds up to: the `-o json` of `renewal run`, and `report.json`."""

from pydantic import BaseModel, ConfigDict

from schemas.outcome import Outcome
from schemas.state import State, Verdict


class CaseCounts(BaseModel):
    """Rows of the input file, by what became of them at intake."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: int
    rejected: int
    duplicate: int


class JobCounts(BaseModel):
    """Jobs of every case that the file names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    total: int
    by_state: dict[State, int]
    by_outcome: dict[Outcome, int]


class LedgerCheck(BaseModel):
    """The comparison of every recorded outcome with what the simulated platforms recorded themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agrees: bool
    compared: int
    without_outcome: int  # jobs that ended without an answer: nothing to compare
    disagreements: int
    second_effects: int
    unknown_effects: int
    examples: tuple[str, ...] = ()


class Summary(BaseModel):
    """Durations in seconds; files by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    cases: CaseCounts
    jobs: JobCounts
    verdicts: dict[Verdict, int]
    attempts: int
    calls: int
    duration_s: float
    jobs_per_s: float
    files: dict[str, str]
    ledger: LedgerCheck | None = None
