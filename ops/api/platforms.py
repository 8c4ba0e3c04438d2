"""Platforms: what the catalogue says of each, how it does, and a person's hand on its gate."""

from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ops.api.access import OperatorCaller, Reader
from ops.api.asking import Change, Instant, PlatformPath
from ops.api.door import Door, TheDoor
from ops.api.idempotency import KEY_TAKEN, OnceRoute
from ops.api.problems import documented
from ops.operator import Operator
from ops.operator import Turned as Change_
from ops.platform_desk import PlatformDesk
from schemas.errors import InputError

router = APIRouter(prefix="/v1/platforms", tags=["platforms"], route_class=OnceRoute, responses=documented(404))


class Health(BaseModel):
    """How a platform does, over all its calls. What `calls` grows by between two looks is its speed."""

    state: str
    success_pct: float | None
    p95_ms: int | None
    calls: int
    rate_limit: float
    in_flight_now: int
    in_flight_limit: int
    waiting: int
    retrying: int
    dead: int
    jobs_today: int
    jobs_per_day: int | None
    bulk_opens_at: str | None
    gate_reason: str | None


class PlatformRow(Health):
    """A platform with its health."""

    key: str
    name: str


class Gate(BaseModel):
    """What a platform may be asked now."""

    state: str
    reason: str | None
    since: str | None
    until: str | None
    trips: int
    learned_share: float
    limit_calls_per_s: float | None
    limit_in_flight: int | None


class PlatformDeadGroup(BaseModel):
    """Dead letters of one reason."""

    reason: str | None
    count: int
    first: str
    last: str
    sample: str


class Platform(BaseModel):
    """A platform: its entry in the catalogue, defaults filled in, and how it does."""

    model_config = ConfigDict(extra="allow")

    key: str
    health: Health
    gate: Gate
    dead_groups: list[PlatformDeadGroup]


class Turn(Change):
    """A change of a gate; with `dry_run` it is only shown."""

    dry_run: bool = False


class Pause(Turn):
    """A pause, until then or until resumed."""

    until: Instant | None = None


class LimitTurn(Turn):
    """Limits below those of the catalogue; one that is not given stays. `clear` takes both away."""

    calls_per_s: Annotated[float | None, Field(gt=0, le=1e6)] = None
    in_flight: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    clear: bool = False

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        limits = self.calls_per_s is not None or self.in_flight is not None
        if self.clear == limits:
            raise InputError("expected calls_per_s, in_flight or both; or clear alone")
        return self


class Turned(BaseModel):
    """A gate before and after. `hurried` are batches that waited for it, and look again now."""

    platform: str
    before: dict[str, Any]
    after: dict[str, Any]
    hurried: int
    dry_run: bool


@router.get("", summary="Platforms with their health, those in trouble first")
def platforms(
    *,
    door: TheDoor,
    _: Reader,
    category: Annotated[str | None, Query(max_length=40)] = None,
    state: Annotated[list[str] | None, Query()] = None,
) -> list[PlatformRow]:
    """Return every platform that fits."""
    found = _desk(door).select(category=category, states=state or ())
    return [PlatformRow.model_validate(health.row()) for health in found]


@router.get("/{platform}", summary="One platform")
def platform(*, platform: PlatformPath, door: TheDoor, _: Reader) -> Platform:
    """Return its entry, its health, its gate and its newest groups of dead letters."""
    return Platform.model_validate(_desk(door).show(platform))


@router.post("/{platform}/pause", summary="Let no call through, not even a probe", dependencies=[KEY_TAKEN])
def pause(*, platform: PlatformPath, asked: Pause, door: TheDoor, caller: OperatorCaller) -> Turned:
    """Pause it, until then or until resumed; its jobs wait."""
    turned = _hand(door, caller, asked).pause([platform], reason=asked.reason, until=asked.until)
    return _told(turned, asked)


@router.post("/{platform}/resume", summary="End pause, suspension and breaker", dependencies=[KEY_TAKEN])
def resume(*, platform: PlatformPath, asked: Turn, door: TheDoor, caller: OperatorCaller) -> Turned:
    """Let calls through; what was more than paused comes back on a ramp."""
    return _told(_hand(door, caller, asked).resume([platform], reason=asked.reason), asked)


@router.post("/{platform}/suspend", summary="Stop all but a probe now and then", dependencies=[KEY_TAKEN])
def suspend(*, platform: PlatformPath, asked: Turn, door: TheDoor, caller: OperatorCaller) -> Turned:
    """Suspend it; the first probe that succeeds resumes it by itself."""
    return _told(_hand(door, caller, asked).suspend([platform], reason=asked.reason), asked)


@router.post("/{platform}/probe", summary="Let the next probe go now", dependencies=[KEY_TAKEN])
def probe(*, platform: PlatformPath, asked: Turn, door: TheDoor, caller: OperatorCaller) -> Turned:
    """Probe a suspended or broken platform at once."""
    return _told(_hand(door, caller, asked).probe([platform], reason=asked.reason), asked)


@router.post("/{platform}/limit", summary="Set limits below those of the catalogue", dependencies=[KEY_TAKEN])
def limit(*, platform: PlatformPath, asked: LimitTurn, door: TheDoor, caller: OperatorCaller) -> Turned:
    """Set or clear them; no limit raises one of the catalogue."""
    hand = _hand(door, caller, asked)
    if asked.clear:
        return _told(hand.clear_limits([platform], reason=asked.reason), asked)
    turned = hand.limit([platform], reason=asked.reason, calls_per_s=asked.calls_per_s, in_flight=asked.in_flight)
    return _told(turned, asked)


def _desk(door: Door) -> PlatformDesk:
    # A request does not wait a second to tell a rate that nobody asked for.
    return PlatformDesk(door.backends, door.catalogue, rate_s=0)


def _hand(door: Door, caller: OperatorCaller, asked: Turn) -> Operator:
    return Operator(door.backends, door.catalogue, who=caller.who, dry_run=asked.dry_run)


def _told(turned: list[Change_], asked: Turn) -> Turned:
    (one,) = turned
    return Turned(platform=one.platform, before=one.before, after=one.after, hurried=one.hurried, dry_run=asked.dry_run)
