"""The announcer: sees by what is stored that a platform is suspended or resumed, a night has ended, or jobs get late.

Whoever caused it and whichever process died meanwhile, the state stands in the store, and the change is told once. What
comes and goes between two looks, a few seconds apart, is not told.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import structlog
from redis.exceptions import RedisError

from backends.admission import GateState
from backends.bootstrap import Backends
from backends.gates import GateView
from backends.sweeps import Night, Standing
from ops.overdue import Deadlines, deadlines
from platforms.calendar import WorkingDays
from platforms.catalogue import Catalogue
from producers.sweep_definition import Definitions
from schemas.errors import RenewalError
from schemas.notice import DeadlineAtRisk, NoticeData, PlatformResumed, PlatformSuspended, SweepFinished
from schemas.number import mask_text

_LOOK_S: Final = 3.0
_COUNT: Final = timedelta(minutes=1)
_SHANGHAI: Final = ZoneInfo("Asia/Shanghai")
_REASON_CHARS_MAX: Final = 200
# Of nights that ended while nobody looked; older ones are in `renewal sweep list`.
_NIGHTS_MAX: Final = 31
# What a thing becomes, and what to tell of it: nothing of what was so when somebody first looked.
Change = tuple[str, str, NoticeData | None]
log = structlog.get_logger()


class Announcer:
    """Looks, and tells what is new. Any number may look: each change is told once."""

    def __init__(self, backends: Backends, catalogue: Catalogue, definitions: Definitions | None) -> None:
        self._backends = backends
        self._platforms = [platform.key for platform in catalogue]
        self._sweeps = [definition.name for definition in definitions or ()]
        self._catalogue, self._calendar = catalogue, WorkingDays.load()
        self._counted_at: datetime | None = None

    def step(self) -> int:
        """Look once. Returns how many changes were told or remembered. Raises BackendUnavailable, RedisError."""
        announced = self._backends.outbox.announced()
        changes = list(gate_changes(self._backends.gates.views(self._platforms), announced))
        for name in self._sweeps:
            standing = self._backends.sweeps.standing(name)
            nights = self._nights(name, standing, announced)
            changes += sweep_changes(name, standing, announced=announced, nights=nights)
        changes += deadline_changes(self._deadlines(), announced, now=self._backends.clock.now())
        return sum(self._backends.outbox.announce(*change) for change in changes)

    def _deadlines(self) -> dict[str, Deadlines]:
        """Count what gets late, once a minute: it is told once a day."""
        now = self._backends.clock.now()
        if self._counted_at is not None and now - self._counted_at < _COUNT:
            return {}
        self._counted_at = now
        return deadlines(self._backends, self._catalogue, self._calendar, dead=self._backends.dead.groups())

    def _nights(self, name: str, standing: Standing, announced: dict[str, str]) -> list[Night]:
        known = announced.get(f"sweep:{name}")
        if standing.done is None or not known or known >= standing.done.isoformat():
            return []
        first = max(date.fromisoformat(known) + timedelta(days=1), standing.done - timedelta(days=_NIGHTS_MAX))
        days = [first + timedelta(days=count) for count in range((standing.done - first).days + 1)]
        return [night for day in days if (night := self._backends.sweeps.night(name, day))]


def gate_changes(views: Iterable[GateView], announced: dict[str, str]) -> Iterator[Change]:
    """Yield what to tell of gates. A pause hides what is under it, and tells nothing. Pure."""
    for view in views:
        about = f"gate:{view.platform}"
        before = announced.get(about, "")
        if view.state is GateState.PAUSED:
            continue
        if view.state is GateState.SUSPENDED:
            # Suspended again within one look, it is another suspension.
            since = f"suspended since {view.since.isoformat() if view.since else '?'}"
            if since != before:
                reason = mask_text(view.reason)[:_REASON_CHARS_MAX]
                yield about, since, PlatformSuspended(platform=view.platform, reason=reason)
        elif before:
            yield about, "", PlatformResumed(platform=view.platform)


def sweep_changes(
    name: str, standing: Standing, *, announced: dict[str, str], nights: Iterable[Night]
) -> Iterator[Change]:
    """Yield what to tell of a sweep, night by night. Pure."""
    about = f"sweep:{name}"
    if about not in announced:
        # Of a night that ended before anybody subscribed nobody wants to hear.
        yield about, (standing.done or date.min).isoformat(), None
    for night in nights:
        if night.ending is not None:
            yield about, night.day, SweepFinished(
                sweep=name, day=date.fromisoformat(night.day), run=night.run, ending=night.ending.value,
                planned=night.planned, sent=night.sent,
            )  # fmt: skip


def deadline_changes(found: Mapping[str, Deadlines], announced: dict[str, str], *, now: datetime) -> Iterator[Change]:
    """Yield the platforms whose jobs will soon be late, each once a day of Shanghai. Pure."""
    day = now.astimezone(_SHANGHAI).date()
    for platform, each in found.items():
        about = f"deadline:{platform}"
        if each.at_risk and announced.get(about) != day.isoformat():
            yield about, day.isoformat(), DeadlineAtRisk(platform=platform, day=day, jobs=each.at_risk)


def announcing(backends: Backends, catalogue: Catalogue, stop: threading.Event) -> list[threading.Thread]:
    """Return the thread to be started, if anybody subscribes. Raises ConfigurationError for a wrong definition."""
    if not backends.outbox.wanted:
        return []
    folder = backends.settings.sweeps
    announcer = Announcer(backends, catalogue, Definitions.load(folder) if folder is not None else None)
    return [threading.Thread(target=_announce, args=(announcer, stop))]


def _announce(announcer: Announcer, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            announcer.step()
        except (RenewalError, RedisError) as error:
            log.warning("scheduler.waiting", reason=type(error).__name__)
        stop.wait(_LOOK_S)
