"""Whether this process lives, and whether it can serve."""

from fastapi import APIRouter

from ops.api.door import TheDoor

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether this process lives")
def healthz() -> dict[str, str]:
    """Answer as long as the process does; asks nobody else."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether this process can serve")
def readyz(door: TheDoor) -> dict[str, str]:
    """Ask the status store and the broker; 503 says which of them is away."""
    door.backends.redis.ping()
    door.backends.broker.depths()
    return {"status": "ready"}
