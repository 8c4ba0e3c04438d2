"""A job's attempts as a person reads them: what came again and again with the same answer is one line. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Attempts one after the other with the same answer; `step` is the last of them."""

    step: Mapping[str, Any]
    count: int
    first_at: datetime
    last_at: datetime

    @property
    def every_s(self) -> float:
        """How far they are apart, on the average; 0 for a single one."""
        return (self.last_at - self.first_at).total_seconds() / (self.count - 1) if self.count > 1 else 0.0


def folded(steps: Sequence[Mapping[str, Any]]) -> list[Fold]:
    """Fold what came again with the same state, reason, status and generation."""
    folds = []
    for _, alike in groupby(steps, key=_answer):
        members = list(alike)
        folds.append(
            Fold(
                step=members[-1],
                count=len(members),
                first_at=datetime.fromisoformat(members[0]["at"]),
                last_at=datetime.fromisoformat(members[-1]["at"]),
            )
        )
    return folds


def _answer(step: Mapping[str, Any]) -> tuple[Any, ...]:
    return step["state"], step["reason"], step["http_status"], step["generation"]
