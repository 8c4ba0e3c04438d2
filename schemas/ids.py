"""Identifiers. All are derived, so that doing a thing twice gives the same name (requirement 15)."""

import hashlib
import re
import uuid
from base64 import b32encode
from typing import Annotated

from pydantic import StringConstraints

_DIGEST_BYTES = 16
ID_CHARS = 26
ID_PATTERN = r"^[a-z2-7]{26}$"
PLATFORM_PATTERN = r"^[a-z0-9][a-z0-9-]{0,39}$"

CaseId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
BatchId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
PlatformKey = Annotated[str, StringConstraints(pattern=PLATFORM_PATTERN)]
_JOB_ID = re.compile(r"([a-z2-7]{26})\.([a-z0-9][a-z0-9-]{0,39})")


def derive(*parts: str) -> str:
    """Return 26 letters and digits that depend on nothing but `parts` and their order."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()[:_DIGEST_BYTES]
    return b32encode(digest).decode().rstrip("=").lower()


def case_id(*, operator: str, number_token: str, cycle: str) -> str:
    """Name the case of one number in one cycle; the token keeps the number itself out of it."""
    return derive("case", operator, number_token, cycle)


def job_id(case: str, platform: str) -> str:
    """Name a job. This is also the idempotency key that its platform sees in every attempt."""
    return f"{case}.{platform}"


def split_job_id(job: str) -> tuple[str, str]:
    """Return the case and the platform of a job. Raises ValueError for anything else."""
    found = _JOB_ID.fullmatch(job)
    if not found:
        raise ValueError("a job id is a case id, a dot and a platform key")
    return found[1], found[2]


def new_id() -> str:
    """Name something that happens once: a run, an event, a lease."""
    return b32encode(uuid.uuid4().bytes).decode().rstrip("=").lower()
