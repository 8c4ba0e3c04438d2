"""Whether this process lives, and whether it can serve."""

from collections.abc import Callable
from typing import Final

from fastapi import APIRouter

from backends.connect import ping
from ops.api.door import TheDoor
from ops.api.problems import Problem, documented
from schemas.errors import BackendUnavailable

router = APIRouter(tags=["health"])
# Whoever asks gives up after a few seconds, and wants to hear which of them it was.
_PATIENCE_S: Final = 1.0


@router.get("/healthz", summary="Whether this process lives")
def healthz() -> dict[str, str]:
    """Answer as long as the process does; asks nobody else."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether this process can serve", responses={503: documented()[503]})
def readyz(door: TheDoor) -> dict[str, str]:
    """Ask the status store and the broker, each for about a second; 503 names in `away` which do not answer."""
    backends = door.backends
    asked: dict[str, Callable[[], None]] = {
        "status store": lambda: ping(backends.settings.redis_url or "", timeout_s=_PATIENCE_S),
        "broker": lambda: backends.broker.ping(timeout_s=_PATIENCE_S),
    }
    away = [name for name, ask in asked.items() if not _answers(ask)]
    if away:
        raise Problem(503, f"no answer from the {' and the '.join(away)}", headers={"Retry-After": "5"}, away=away)
    return {"status": "ready"}


def _answers(ask: Callable[[], None]) -> bool:
    try:
        ask()
    except BackendUnavailable:
        return False
    return True
