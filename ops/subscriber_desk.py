"""What a person sees of the systems that are told what happens, and what a person can do about them."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from backends.actions import Action, What
from backends.bootstrap import Backends
from ops.progress import duration_text
from ops.snapshot import SubscriberFigures, subscriber_figures
from schemas.errors import NotFound
from schemas.ids import new_id
from schemas.notice import Notice, Ping
from workers.notifier import Heard, channels
from workers.subscriptions import Subscriptions
from workers.transport import Transport

SUBSCRIBER_FIELDS: Final = (
    "name", "state", "delivered", "undelivered", "behind", "failures", "again_at", "last_at", "problem",
)  # fmt: skip


class SubscriberDesk:
    """List, test, resume. Raises ConfigurationError for a file that is wrong."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._subscriptions = Subscriptions.load(backends.settings.subscribers)

    def rows(self) -> list[dict[str, Any]]:
        """Return how each subscriber does."""
        now = self._backends.clock.now()
        return [_row(name, subscriber_figures(self._backends, name, now=now)) for name in self._subscriptions.names]

    def test(self, name: str, transport: Callable[[], Transport]) -> Heard:
        """Send a notice that says nothing to one subscriber, now, past the outbox. Raises NotFound."""
        self._known(name)
        opened, now = transport(), self._backends.clock.now()
        try:
            found = channels(self._subscriptions, self._backends, opened)
            channel = next(each for each in found if each.name == name)
            return channel.tell(Notice.of(Ping(subscriber=name), ident=new_id(), time=now), now=now)
        finally:
            opened.close()

    def resume(self, name: str, *, reason: str) -> None:
        """Let a subscriber be told again from now on, also one that has said that it is gone. Raises NotFound."""
        self._known(name)
        before = asdict(self._backends.subscribers.told(name))
        cleared: dict[str, int] = {"failures": 0, "failing_ms": 0, "again_ms": 0, "gone_ms": 0}
        self._backends.actions.append(
            Action(
                what=What.EVENTS_RESUME, target=name, reason=reason,
                before={field: before[field] for field in cleared}, after=cleared,
            )
        )  # fmt: skip
        self._backends.subscribers.note(name, **cleared, problem="")

    def _known(self, name: str) -> None:
        if name not in self._subscriptions.names:
            raise NotFound(f"no subscriber {name!r}; there are: {', '.join(self._subscriptions.names) or 'none'}")


def _row(name: str, figures: SubscriberFigures) -> dict[str, Any]:
    told = figures.told
    return {
        "name": name,
        "state": "gone" if told.gone_ms else "failing" if told.failures else "well",
        "delivered": told.delivered,
        "undelivered": told.undelivered,
        "behind": duration_text(figures.behind_s) if figures.behind_s else None,
        "failures": told.failures,
        "again_at": _instant(told.again_ms),
        "last_at": _instant(told.last_ms),
        "problem": told.problem or None,
    }


def _instant(millis: int) -> str | None:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if millis else None
