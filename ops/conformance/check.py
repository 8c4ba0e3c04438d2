"""One thing that a platform must or should do: its name, where it is written, and what a rehearsal says of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from inspect import getdoc
from typing import Final

from ops.conformance.played import NotNeeded, NotTried, Played

GUIDE: Final = "docs/integrate.md"
_PROBLEMS_SHOWN_MAX: Final = 3
Judge = Callable[[Played], Iterator[str]]


class Verdict(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_TRIED = "not tried"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rehearsal says of one check, in plain words and without any number."""

    check: "Check"
    verdict: Verdict
    said: str = ""

    @property
    def holds(self) -> bool:
        """Whether a platform may go live with it: a must that was not tried does not hold."""
        return not self.check.must or self.verdict in {Verdict.PASSED, Verdict.NOT_NEEDED}

    def row(self) -> dict[str, str]:
        """Return it as the command prints it."""
        return {
            "check": self.check.name,
            "kind": "must" if self.check.must else "should",
            "verdict": self.verdict,
            "about": self.check.about,
            "said": self.said,
            "section": f"{GUIDE}#{self.check.section}",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A rule. `judge` yields a sentence for each breach of it, and raises NotTried or NotNeeded."""

    name: str
    section: str
    must: bool
    judge: Judge

    @property
    def about(self) -> str:
        """The rule in one sentence."""
        return (getdoc(self.judge) or "").partition("\n")[0]

    def finding(self, played: Played) -> Finding:
        """Hold a rehearsal against the rule."""
        try:
            problems = list(dict.fromkeys(self.judge(played)))
        except NotTried as reason:
            return Finding(check=self, verdict=Verdict.NOT_TRIED, said=str(reason))
        except NotNeeded as reason:
            return Finding(check=self, verdict=Verdict.NOT_NEEDED, said=str(reason))
        if not problems:
            return Finding(check=self, verdict=Verdict.PASSED)
        shown = problems[:_PROBLEMS_SHOWN_MAX]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        return Finding(check=self, verdict=Verdict.FAILED, said="; ".join(shown))


class Checks:
    """The checks of one module, in the order in which they are written."""

    def __init__(self) -> None:
        self.all: list[Check] = []

    def add(self, name: str, *, section: str, must: bool = True) -> Callable[[Judge], Judge]:
        """Return what makes a function the judge of a check of this name."""

        def keep(judge: Judge) -> Judge:
            self.all.append(Check(name=name, section=section, must=must, judge=judge))
            return judge

        return keep
