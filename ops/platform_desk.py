"""Platforms, for people and programs: what the catalogue says of each, and how it does."""

import time
from collections.abc import Callable, Collection
from typing import Any, Final

from backends.admission import GateState
from backends.bootstrap import Backends
from backends.dead import DeadFilter
from ops.health import PlatformHealth, by_trouble
from ops.snapshot import healths, take, take_two
from ops.when import iso
from platforms.catalogue import Catalogue
from platforms.model import Platform
from schemas.errors import InputError

CATALOGUE_FIELDS: Final = (
    "key", "name", "category", "protocol", "calls_per_s", "in_flight", "items_per_call", "auth", "endpoint",
)  # fmt: skip
STATES_SHOWN: Final = frozenset({*(state.value for state in GateState), "maintenance"})
RATE_S: Final = 1.0
_GROUPS_MAX: Final = 5


class PlatformDesk:
    """Shows platforms; `ops.operator` changes what they may be asked."""

    def __init__(
        self, backends: Backends, catalogue: Catalogue, *, rate_s: float = RATE_S,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:  # fmt: skip
        """Look for `rate_s` seconds to tell how fast platforms are called now; with 0 that is not told."""
        self._backends, self._catalogue, self._rate_s, self._wait = backends, catalogue, rate_s, wait

    def healths(self, *, over_s: float | None = None) -> list[PlatformHealth]:
        """Return the health of each platform; with `over_s` watched for so long, and judged by that alone."""
        apart_s = over_s or self._rate_s
        if not apart_s:
            return healths(self._catalogue, take(self._backends, self._catalogue, taken_s=time.monotonic()))
        earlier, now = take_two(self._backends, self._catalogue, apart_s=apart_s, clock=time.monotonic, wait=self._wait)
        return healths(self._catalogue, now, earlier=earlier, lately=over_s is not None)

    def select(
        self, *, category: str | None = None, states: Collection[str] = (), over_s: float | None = None
    ) -> list[PlatformHealth]:
        """Return the platforms that fit, those in trouble first. Raises InputError for a state that does not exist."""
        if unknown := sorted(set(states) - STATES_SHOWN):
            raise InputError(f"state {', '.join(unknown)}: expected one of {', '.join(sorted(STATES_SHOWN))}")
        categories = {platform.key: platform.category for platform in self._catalogue}
        return [
            health
            for health in by_trouble(self.healths(over_s=over_s))
            if category in {None, categories[health.key]} and (not states or health.state in states)
        ]

    def show(self, key: str, *, over_s: float | None = None) -> dict[str, Any]:
        """Return a platform's entry, its health, its gate and its newest groups of dead letters. Raises NotFound."""
        entry: dict[str, Any] = self._catalogue.get(key).model_dump(mode="json")
        alone = PlatformDesk(self._backends, self._catalogue.select([key]), rate_s=self._rate_s, wait=self._wait)
        (health,) = alone.healths(over_s=over_s)
        gate = health.gate
        entry["health"] = {name: value for name, value in health.row().items() if name not in {"key", "name"}}
        entry["gate"] = {
            "state": gate.state.value,
            "reason": gate.reason or None,
            "since": gate.since.isoformat() if gate.since else None,
            "until": gate.until.isoformat() if gate.until else None,
            "trips": gate.trips,
            "learned_share": gate.share,
            "limit_calls_per_s": gate.limit_calls_per_s,
            "limit_in_flight": gate.limit_in_flight,
        }
        entry["dead_groups"] = self._dead_groups(key)
        return entry

    def _dead_groups(self, key: str) -> list[dict[str, Any]]:
        groups = self._backends.dead.groups(DeadFilter(platforms=frozenset({key})))
        newest = sorted(groups, key=lambda group: group.last_ms, reverse=True)[:_GROUPS_MAX]
        return [
            {"reason": group.reason, "count": group.count, "first": iso(group.first_ms), "last": iso(group.last_ms),
             "sample": group.sample}
            for group in newest
        ]  # fmt: skip


def entry_row(platform: Platform) -> dict[str, Any]:
    """Return what the catalogue says of a platform, as a list shows it."""
    return {
        "key": platform.key,
        "name": f"{platform.name.en} {platform.name.zh}",
        "category": platform.category,
        "protocol": platform.protocol,
        "calls_per_s": platform.limits.calls_per_s,
        "in_flight": platform.limits.in_flight,
        "items_per_call": platform.limits.items_per_call if platform.protocol == "bulk-json" else 1,
        "auth": platform.auth.scheme,
        "endpoint": platform.endpoint,
    }
