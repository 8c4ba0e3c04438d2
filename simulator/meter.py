"""What is counted of one platform's traffic, so that a test can hold the dispatcher to its limits."""

from collections import Counter, deque
from typing import Final

_WINDOW_S: Final = 1.0


class Meter:
    """Counts calls, and remembers the most that were open at once and the most that came within one second."""

    def __init__(self) -> None:
        self.requests = 0
        self.items = 0
        self.auth_failures = 0
        self.rejected = 0
        self.in_flight = 0
        self.in_flight_max = 0
        self.requests_per_s_max = 0
        self.first_s: float | None = None
        self.last_s: float | None = None
        # By name, for a fault comes from the scenario or from a behaviour that was ordered.
        self.faults: Counter[str] = Counter()
        self._recent: deque[float] = deque()

    def enter(self, now_s: float) -> None:
        """Count a call that has come in whole."""
        self.requests += 1
        self.first_s = now_s if self.first_s is None else self.first_s
        self.last_s = now_s
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        recent = self._recent
        recent.append(now_s)
        while recent[0] <= now_s - _WINDOW_S:
            recent.popleft()
        self.requests_per_s_max = max(self.requests_per_s_max, len(recent))

    def leave(self) -> None:
        """Note that a call has its answer, or nobody left who waits for it."""
        self.in_flight -= 1

    def summary(self) -> dict[str, object]:
        """Return the counts under the names that `GET /_stats` shows."""
        return {
            "requests": self.requests,
            "items": self.items,
            "auth_failures": self.auth_failures,
            "rejected": self.rejected,
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "requests_per_s_max": self.requests_per_s_max,
            "first_s": self.first_s,
            "last_s": self.last_s,
            "faults": dict(self.faults),
        }
