"""Whether this process lives, and whether it can serve."""

from fastapi import APIRouter
from redis.exceptions import RedisError

from ops.api.door import TheDoor
from ops.api.problems import Problem, documented
from schemas.errors import BackendUnavailable

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether this process lives")
def healthz() -> dict[str, str]:
    """Answer as long as the process does; asks nobody else."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether this process can serve", responses={503: documented()[503]})
def readyz(door: TheDoor) -> dict[str, str]:
    """Ask the status store and the broker; 503 says which of them is away. No key is needed, so no address is told."""
    try:
        door.backends.redis.ping()
    except RedisError:
        raise Problem(503, "the status store is away") from None
    try:
        door.backends.broker.depths()
    except BackendUnavailable:
        raise Problem(503, "the broker is away") from None
    return {"status": "ready"}
