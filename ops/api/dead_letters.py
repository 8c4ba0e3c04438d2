"""Dead letters: jobs that need a person."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from backends.dead import DeadFilter, DeadJob
from ops.api.access import OperatorCaller, Reader
from ops.api.asking import Asked, Change, ExpectCount, Identifier, Instant, PlatformName, agree
from ops.api.door import Door, TheDoor
from ops.api.idempotency import KEY_TAKEN, OnceRoute
from ops.api.paging import Page, Part
from ops.api.problems import Problem, documented
from ops.dead_letters import DeadDesk, instant_ms
from schemas.outcome import REASONS, reason_of
from schemas.state import State

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], route_class=OnceRoute, responses=documented(404))


class Step(BaseModel):
    """One attempt of a job, or one decision of a person about it."""

    at: str
    ms: int
    attempt: int
    generation: int
    state: State
    reason: str | None
    http_status: int | None
    detail: str | None
    worker: str
    batch: str


class JobView(BaseModel):
    """Everything that is known of one job."""

    job: str
    number: Annotated[str, Field(description="masked")]
    case: str
    platform: str
    run: str
    cutoff_at: str
    state: State
    reason: str | None
    attempts: int
    generation: int
    held_by: str
    next_step: str | None
    steps: list[Step]


class DeadGroup(BaseModel):
    """The dead letters of one platform that died for one reason."""

    platform: str
    reason: str | None
    count: int
    first_at: str
    last_at: str
    number: str | None
    job: str
    next_step: str


class DeadLetter(BaseModel):
    """One dead letter."""

    number: str | None
    case: str
    platform: str
    reason: str | None
    died_at: str
    attempts: int
    generation: int
    http_status: int | None
    detail: str | None
    run: str | None
    job: str


class DeadChoice(Asked):
    """Which dead letters; what is not given does not matter. `everything` says that all are meant."""

    platforms: Annotated[tuple[PlatformName, ...], Field(max_length=1000)] = ()
    causes: Annotated[tuple[str, ...], Field(max_length=100, description="reasons, as the groups show them")] = ()
    since: Instant | None = None
    until: Instant | None = None
    case: Identifier | None = None
    number: Annotated[str | None, Field(max_length=40, description="in any usual spelling")] = None
    run: Identifier | None = None
    everything: bool = False

    def filter(self, door: Door) -> DeadFilter:
        """Return the choice as the desk takes it. Raises Problem 400, InputError, NotFound."""
        if unknown := sorted(set(self.causes) - set(REASONS)):
            raise Problem(400, f"causes: {len(unknown)} of them do not exist; the groups show those that do")
        cases: frozenset[str] | None = None
        if self.number is not None:
            cases = frozenset(view.id for view in door.inspector.cases_of_number(self.number))
        if self.case is not None:
            known = frozenset({door.inspector.case(self.case).id})
            cases = known if cases is None else cases & known
        return DeadFilter(
            platforms=frozenset(self.platforms),
            reasons=frozenset(map(reason_of, self.causes)),
            since_ms=instant_ms(self.since),
            until_ms=instant_ms(self.until),
            cases=cases,
            run=self.run,
        )


class Discard(Change):
    """Letters that are given up."""

    choice: DeadChoice
    expect_count: ExpectCount


class Discarded(BaseModel):
    """How many letters were given up; those that had changed meanwhile were not."""

    chosen: int
    cancelled: int


def _wanted(
    *,
    door: TheDoor,
    platform: Annotated[list[PlatformName] | None, Query()] = None,
    cause: Annotated[list[str] | None, Query(description="a reason, as the groups show it")] = None,
    since: Annotated[Instant | None, Query()] = None,
    until: Annotated[Instant | None, Query()] = None,
    case: Annotated[Identifier | None, Query()] = None,
    run: Annotated[Identifier | None, Query()] = None,
) -> DeadFilter:
    choice = DeadChoice(
        platforms=tuple(platform or ()), causes=tuple(cause or ()), since=since, until=until, case=case, run=run
    )
    return choice.filter(door)


Wanted = Annotated[DeadFilter, Depends(_wanted)]


@router.get("/groups", summary="The causes, the largest first")
def groups(door: TheDoor, _: Reader, wanted: Wanted) -> list[DeadGroup]:
    """Return platform, reason, how many, one of them, and what to do."""
    return [DeadGroup.model_validate(row) for row in DeadDesk(door.backends, door.catalogue).groups(wanted)]


@router.get("", summary="Dead letters, the newest first")
def letters(*, door: TheDoor, _: Reader, wanted: Wanted, part: Part) -> Page[DeadLetter]:
    """Return a part of those that fit."""
    desk = DeadDesk(door.backends, door.catalogue)
    after = part.after(int, str)
    found = [letter for letter in desk.select(wanted) if after is None or _place(letter) > (-after[0], after[1])]
    page: Page[DeadJob] = part.page(found, place=lambda letter: (letter.died_ms, letter.job), shown=lambda each: each)
    return Page(items=[DeadLetter.model_validate(row) for row in desk.rows(page.items)], next=page.next)


@router.get("/{job}", summary="One letter with every attempt")
def letter(job: str, door: TheDoor, _: Reader) -> JobView:
    """Return everything that is known of one job, dead or not."""
    return JobView.model_validate(DeadDesk(door.backends, door.catalogue).show(job))


@router.post("/discard", summary="Give letters up for good", responses=documented(404, 409), dependencies=[KEY_TAKEN])
def discard(asked: Discard, door: TheDoor, caller: OperatorCaller) -> Discarded:
    """Let their jobs become CANCELLED, and that is final; only if it is exactly the expected number of them."""
    not_a_cause(asked.reason)
    desk = DeadDesk(door.backends, door.catalogue, who=caller.who)
    chosen = desk.choose(asked.choice.filter(door), everything=asked.choice.everything)
    agree(len(chosen), expect=asked.expect_count, what="dead letters to be given up for good")
    return Discarded(chosen=len(chosen), cancelled=desk.discard(chosen, reason=asked.reason))


def not_a_cause(reason: str) -> None:
    """Raise Problem 400 for a reason that is what letters die of: it was meant as a choice."""
    if reason in set(REASONS):
        raise Problem(400, "reason: say why you do this; what letters died of is chosen by `causes`")


def _place(letter: DeadJob) -> tuple[Any, ...]:
    return -letter.died_ms, letter.job
