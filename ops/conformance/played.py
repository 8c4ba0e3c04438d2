"""What was sent to an endpoint, and everything that came back: the record that is judged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ops.conformance.plan import Asked, Step
from platforms.model import Platform
from schemas.errors import ContractError
from schemas.ids import job_id
from schemas.outcome import Outcome
from workers.callback import read_callback
from workers.connector import Answered, Entry, interpret
from workers.transport import Answer

# What the kit answers a callback whose signature is good; the second one once, to its first.
TAKEN: Final = 204
NOT_NOW: Final = 503


class NotTried(Exception):
    """What a check is about did not come to pass, and should have; says why."""


class NotNeeded(Exception):
    """What a check is about does not concern this catalogue entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One request to the kit's own address, and what it was answered; header names in lower case."""

    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    at: datetime
    status: int

    @property
    def ident(self) -> str:
        """The id under which the platform sent it."""
        return self.headers.get("webhook-id", "")

    @property
    def proved(self) -> bool:
        """Whether its signature was good: taken, or turned away only to see whether it comes again."""
        return self.status in {TAKEN, NOT_NOW}


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What the TLS of an endpoint is like, or in `problem` why there is none."""

    version: str = ""
    expires_at: datetime | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A rehearsal that is over. A step that was not come to is not in `answers`.

    `turned_away` are answers that asked to come again later, and were obeyed.
    """

    platform: Platform
    asked: tuple[Asked, ...]
    answers: Mapping[Step, tuple[Answer, ...]]
    turned_away: tuple[Answer, ...] = ()
    handshake: Handshake | None = None
    callback_keys: tuple[str, ...] = field(default=(), repr=False)
    listened: bool = False
    heard: tuple[Heard, ...] = ()
    ended_at: datetime

    def of(self, step: Step) -> tuple[Answer, ...]:
        """Return the answers of a step. Raises NotTried where it was not come to."""
        if step not in self.answers:
            raise NotTried("the first call had no answer")
        return self.answers[step]

    def all(self) -> Iterator[Answer]:
        """Yield every answer, whatever it was to."""
        for answers in self.answers.values():
            yield from answers
        yield from self.turned_away

    def entries(self, step: Step) -> dict[str, Entry]:
        """Return what the answers of a step say, by job. Raises NotTried."""
        found: dict[str, Entry] = {}
        for answer in self.of(step):
            found |= interpret(self.platform, answer, now=self.ended_at).results
        return found

    def accepted(self) -> dict[str, Answered]:
        """Return the jobs of the first step that were taken and not done, each with its answer."""
        return {
            job: entry
            for job, entry in self.entries(Step.FIRST).items()
            if isinstance(entry, Answered) and entry.outcome is Outcome.ACCEPTED
        }

    def said_later(self) -> dict[str, Answered]:
        """Return the outcomes that came by callback or poll, by job."""
        found: dict[str, Answered] = {}
        for heard in self.heard:
            if not heard.proved:
                continue
            try:
                reading = read_callback(self.platform, heard.body)
            except ContractError:
                continue
            found |= {job_id(case, self.platform.key): answer for case, answer in reading.said.items()}
        if Step.POLLED in self.answers:
            found |= {job: entry for job, entry in self.entries(Step.POLLED).items() if isinstance(entry, Answered)}
        return {job: answer for job, answer in found.items() if answer.outcome is not Outcome.ACCEPTED}

    def verdicts(self) -> dict[str, Entry]:
        """Return the last word on each item of the first step: what came later stands above ACCEPTED."""
        later = self.said_later()
        accepted = self.accepted()
        return {
            job: later.get(job, entry) if job in accepted else entry for job, entry in self.entries(Step.FIRST).items()
        }
