"""Retries: batches that wait, for a time, a rate or a platform."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from backends.waiting import Why
from backends.waiting_view import WaitingBatch, WaitingFilter
from ops.api.access import OperatorCaller, Reader
from ops.api.asking import Asked, Change, ExpectCount, Identifier, IdentifierPath, Instant, PlatformName, agree
from ops.api.door import Door, TheDoor
from ops.api.idempotency import KEY_TAKEN, OnceRoute
from ops.api.paging import Page, Part
from ops.api.problems import documented
from ops.retries import Retries
from schemas.state import State

router = APIRouter(prefix="/v1/retries", tags=["retries"], route_class=OnceRoute, responses=documented(404))


class WaitingRow(BaseModel):
    """One batch that waits."""

    batch: str
    platform: str
    why: str
    due_at: str
    in_s: int
    attempt: int
    generation: int
    jobs: int
    run: str
    leased: Annotated[bool, Field(description="a scheduler sends it at this moment")]


class WaitingJob(BaseModel):
    """One job of a batch."""

    number: str | None
    case: str
    state: State
    reason: str | None
    attempts: int
    generation: int


class WaitingWhole(WaitingRow):
    """One batch with its jobs."""

    lane: str
    first_attempt: int
    deadline: str
    cases: list[WaitingJob]


class WaitingGroup(BaseModel):
    """What waits for one platform for one reason."""

    platform: str
    why: str
    batches: int
    jobs: int
    first_due_at: str


class RetryChoice(Asked):
    """Which batches; what is not given does not matter. `everything` says that all are meant."""

    batches: Annotated[tuple[Identifier, ...], Field(max_length=1000)] = ()
    platforms: Annotated[tuple[PlatformName, ...], Field(max_length=1000)] = ()
    whys: tuple[Why, ...] = ()
    run: Identifier | None = None
    case: Identifier | None = None
    number: Annotated[str | None, Field(max_length=40, description="in any usual spelling")] = None
    due_before: Instant | None = None
    everything: bool = False

    def filter(self, door: Door) -> WaitingFilter:
        """Return the choice as the desk takes it. Raises InputError, NotFound."""
        cases: frozenset[str] | None = None
        if self.number is not None:
            cases = frozenset(view.id for view in door.inspector.cases_of_number(self.number))
        if self.case is not None:
            known = frozenset({door.inspector.case(self.case).id})
            cases = known if cases is None else cases & known
        return WaitingFilter(
            platforms=frozenset(self.platforms),
            whys=frozenset(self.whys),
            batches=frozenset(self.batches),
            cases=cases,
            run=self.run,
            due_before=self.due_before,
        )


class RetryChange(Change):
    """Batches that a person hurries or takes out."""

    choice: RetryChoice
    expect_count: ExpectCount


class Turned(BaseModel):
    """What a change did; `busy` are batches that a scheduler was sending at that moment."""

    batches: int
    jobs: int
    busy: list[str]


def _wanted(
    *,
    door: TheDoor,
    platform: Annotated[list[PlatformName] | None, Query()] = None,
    why: Annotated[list[Why] | None, Query()] = None,
    run: Annotated[Identifier | None, Query()] = None,
    case: Annotated[Identifier | None, Query()] = None,
    due_before: Annotated[Instant | None, Query()] = None,
) -> WaitingFilter:
    choice = RetryChoice(
        platforms=tuple(platform or ()), whys=tuple(why or ()), run=run, case=case, due_before=due_before
    )
    return choice.filter(door)


Wanted = Annotated[WaitingFilter, Depends(_wanted)]


@router.get("", summary="What waits, the first due first")
def retries(*, door: TheDoor, _: Reader, wanted: Wanted, part: Part) -> Page[WaitingRow]:
    """Return a part of the batches that fit."""
    desk, after = Retries(door.backends), part.after(int, str)
    found = desk.select(wanted, after=(after[0], after[1]) if after else None)
    return part.page(found, place=_place, shown=lambda waiting: WaitingRow.model_validate(desk.row(waiting)))


@router.get("/groups", summary="What waits, by platform and why")
def groups(door: TheDoor, _: Reader, wanted: Wanted) -> list[WaitingGroup]:
    """Count the batches that fit; reads each of them."""
    return [WaitingGroup.model_validate(row) for row in Retries(door.backends).groups(wanted)]


@router.get("/{batch}", summary="One batch with its jobs")
def retry(batch: IdentifierPath, door: TheDoor, _: Reader) -> WaitingWhole:
    """Return a batch that waits; 404 where it does not wait any more."""
    return WaitingWhole.model_validate(Retries(door.backends).show(batch))


@router.post("/run-now", summary="Let batches be due now", responses=documented(404, 409), dependencies=[KEY_TAKEN])
def run_now(asked: RetryChange, door: TheDoor, caller: OperatorCaller) -> Turned:
    """Hurry them; rates, pauses and breakers of their platforms hold all the same."""
    desk, chosen = _chosen(asked, door, caller.who)
    turned = desk.run_now(chosen, reason=asked.reason)
    return Turned(batches=turned.batches, jobs=turned.jobs, busy=list(turned.busy))


@router.post("/cancel", summary="Take batches out", responses=documented(404, 409), dependencies=[KEY_TAKEN])
def cancel(asked: RetryChange, door: TheDoor, caller: OperatorCaller) -> Turned:
    """Let their jobs become CANCELLED: they are not tried again."""
    desk, chosen = _chosen(asked, door, caller.who)
    turned = desk.cancel(chosen, reason=asked.reason)
    return Turned(batches=turned.batches, jobs=turned.jobs, busy=list(turned.busy))


def _chosen(asked: RetryChange, door: Door, who: str) -> tuple[Retries, list[WaitingBatch]]:
    desk = Retries(door.backends, who=who)
    chosen = desk.choose(asked.choice.filter(door), everything=asked.choice.everything)
    agree(len(chosen), expect=asked.expect_count, what="batches to be changed")
    return desk, chosen


def _place(waiting: WaitingBatch) -> tuple[int, str]:
    return waiting.due_ms, waiting.batch
