"""The operator: who changes what platforms may be asked. The inspector only looks.

Each change is one atomic turn of a gate, which running workers meet at their next call, and one entry of the log. A
batch that was refused waits until the time it was told then, so who opens a gate lets those look again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final

from backends.actions import Action, What, whoami
from backends.admission import RULES, GateState
from backends.bootstrap import Backends
from backends.gates import GateView
from backends.waiting import Why
from backends.waiting_view import WaitingFilter
from platforms.catalogue import Catalogue
from schemas.errors import BackendUnavailable, InputError
from schemas.number import mask_text

_FOR_THE_GATE: Final = frozenset({Why.PAUSED, Why.SUSPENDED, Why.BREAKER})
Turn = Callable[[str], tuple[GateView, GateView]]
Guess = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """One gate before and after a change; after a dry run, as it would be."""

    platform: str
    before: dict[str, Any]
    after: dict[str, Any]
    hurried: int = 0  # batches that waited for the gate, and look again now

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """What is different, before and after."""
        return {name: (old, self.after[name]) for name, old in self.before.items() if old != self.after[name]}


class Operator:
    """Turns gates. With `dry_run` nothing is changed and nothing written down."""

    def __init__(self, backends: Backends, catalogue: Catalogue, *, who: str = "", dry_run: bool = False) -> None:
        self._backends, self._catalogue = backends, catalogue
        self._who, self._dry_run = who or whoami(), dry_run

    @property
    def now(self) -> datetime:
        """The instant from which times are counted."""
        return self._backends.clock.now()

    def pause(self, platforms: Sequence[str], *, reason: str, until: datetime | None = None) -> list[Turned]:
        """Let no call through until then, or until resumed. Raises NotFound before anything is changed."""
        now, said = self._backends.clock.now(), mask_text(reason)
        if until is not None and until <= now:
            raise InputError("the end of a pause lies ahead")
        would = {"state": GateState.PAUSED.value, "reason": said, "until": _iso(until)}
        return self._each(
            platforms, What.PLATFORM_PAUSE, reason=reason, guess=lambda _: would,
            turn=lambda key: self._backends.gates.pause(key, until=until, reason=said),
        )  # fmt: skip

    def resume(self, platforms: Sequence[str], *, reason: str) -> list[Turned]:
        """End pause, suspension and breaker. Raises NotFound before anything is changed."""
        turned = self._each(
            platforms, What.PLATFORM_RESUME, reason=reason, guess=_resumed, turn=self._backends.gates.resume
        )
        return self._hurried(turned, _FOR_THE_GATE)

    def suspend(self, platforms: Sequence[str], *, reason: str) -> list[Turned]:
        """Stop all but a probe now and then, which resumes by itself. Raises NotFound before anything is changed."""
        said = mask_text(reason)
        return self._each(
            platforms, What.PLATFORM_SUSPEND, reason=reason, guess=lambda before: _suspended(before, said),
            turn=lambda key: self._backends.gates.suspend(key, reason=said),
        )  # fmt: skip

    def probe(self, platforms: Sequence[str], *, reason: str = "") -> list[Turned]:
        """Let the next probe go now. Raises NotFound before anything is changed."""
        now = _iso(self._backends.clock.now())

        def guess(before: dict[str, Any]) -> dict[str, Any]:
            waits = before["state"] in {GateState.SUSPENDED, GateState.BROKEN, GateState.PROBING} and before["until"]
            return {"until": now} if waits else {}

        turned = self._each(platforms, What.PLATFORM_PROBE, reason=reason, guess=guess, turn=self._backends.gates.probe)
        # A probe is a batch that asks: a few, so that those beyond it do not all come for nothing.
        return self._hurried(turned, _FOR_THE_GATE, at_most=RULES.probes)

    def limit(
        self, platforms: Sequence[str], *, reason: str, calls_per_s: float | None = None, in_flight: int | None = None
    ) -> list[Turned]:
        """Set limits below those of the catalogue; one that is not given stays. Raises NotFound, InputError."""
        if calls_per_s is None and in_flight is None:
            raise InputError("give --calls-per-s, --in-flight or --clear")
        if calls_per_s is not None and not (calls_per_s > 0 and math.isfinite(calls_per_s)):
            raise InputError("--calls-per-s: more than nothing; to stop a platform, pause it")
        if in_flight is not None and in_flight < 1:
            raise InputError("--in-flight: at least 1; to stop a platform, pause it")
        given = {"limit_calls_per_s": calls_per_s, "limit_in_flight": in_flight}
        would = {name: value for name, value in given.items() if value is not None}

        def turn(key: str) -> tuple[GateView, GateView]:
            (kept,) = self._backends.gates.views([key])
            return self._backends.gates.limit(
                key,
                calls_per_s=kept.limit_calls_per_s if calls_per_s is None else calls_per_s,
                in_flight=kept.limit_in_flight if in_flight is None else in_flight,
            )

        return self._each(platforms, What.PLATFORM_LIMIT, reason=reason, guess=lambda _: would, turn=turn)

    def clear_limits(self, platforms: Sequence[str], *, reason: str) -> list[Turned]:
        """Take a person's limits away: those of the catalogue hold again. Raises NotFound."""
        turned = self._each(
            platforms, What.PLATFORM_LIMIT, reason=reason,
            guess=lambda _: {"limit_calls_per_s": None, "limit_in_flight": None},
            turn=lambda key: self._backends.gates.limit(key, calls_per_s=None, in_flight=None),
        )  # fmt: skip
        return self._hurried(turned, frozenset({Why.LIMIT}))

    def _each(self, platforms: Sequence[str], what: What, *, reason: str, turn: Turn, guess: Guess) -> list[Turned]:
        # All names are checked first: a typing error in the last one must not leave the first ones changed.
        keys = list(dict.fromkeys(self._catalogue.get(name).key for name in platforms))
        if self._dry_run:
            befores = [shown(view) for view in self._backends.gates.views(keys)]
            return [
                Turned(platform=key, before=before, after=before | guess(before))
                for key, before in zip(keys, befores, strict=True)
            ]
        return [self._turn(key, what, reason=reason, turn=turn) for key in keys]

    def _turn(self, key: str, what: What, *, reason: str, turn: Turn) -> Turned:
        before, after = map(shown, turn(key))
        action = Action(what=what, target=key, reason=reason, before=before, after=after, who=self._who)
        try:
            self._backends.actions.append(action)
        except BackendUnavailable as error:
            raise BackendUnavailable(f"{key} is {after['state']} now, but {error}") from error
        return Turned(platform=key, before=before, after=after)

    def _hurried(self, turned: Sequence[Turned], whys: frozenset[Why], *, at_most: int | None = None) -> list[Turned]:
        """Let batches that were refused look again; admission gives each its turn at the platform's rate."""
        if self._dry_run:
            return list(turned)
        return [replace(each, hurried=self._hurry(each.platform, whys, at_most=at_most)) for each in turned]

    def _hurry(self, key: str, whys: frozenset[Why], *, at_most: int | None) -> int:
        now, ids = self._backends.clock.now(), frozenset(self._backends.figures.waiting_for(key))
        # A filter without ids would take every batch there is.
        if not ids:
            return 0
        found = self._backends.waiting_view.select(WaitingFilter(batches=ids, whys=whys), now=now)
        return self._backends.waiting_view.run_now(list(islice(found, at_most)), now=now)[0]


def shown(view: GateView) -> dict[str, Any]:
    """Return what a person may change about a gate, as lists and the log show it."""
    return {
        "state": view.state.value,
        "reason": view.reason,
        "until": _iso(view.until),
        "trips": view.trips,
        "limit_calls_per_s": view.limit_calls_per_s,
        "limit_in_flight": view.limit_in_flight,
    }


def _resumed(before: dict[str, Any]) -> dict[str, Any]:
    if before["state"] in {GateState.FLOWING, GateState.RAMPING}:
        return {}
    # Under a pause the view does not show what else there is.
    state = "flowing or ramping" if before["state"] == GateState.PAUSED else GateState.RAMPING.value
    return {"state": state, "reason": "resumed", "until": None}


def _suspended(before: dict[str, Any], reason: str) -> dict[str, Any]:
    # A pause lies over it and is shown as long as it lasts.
    return {} if before["state"] == GateState.PAUSED else {"state": GateState.SUSPENDED.value, "reason": reason}


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.strftime("%Y-%m-%dT%H:%M:%SZ")
