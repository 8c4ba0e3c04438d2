"""Whether processes hold the same for ten times the work. Pure."""

from collections.abc import Mapping
from typing import Final

# The store is to grow: its bytes a job are measured by themselves.
GROWS: Final = "valkey"
# A short load leaves buffers half empty and interpreters half grown; what leaks by the job shows far beyond this.
SLACK_MB: Final = 24.0


def growth(small: Mapping[str, float], large: Mapping[str, float]) -> float | None:
    """Return how many times as much the role that grew most holds in the large run, `SLACK_MB` of it forgiven.

    Both are the most memory by role, in MB; None where no role is in both.
    """
    found = [(large[role] - SLACK_MB) / small[role] for role in large if role in small and role != GROWS]
    return max(found) if found else None
