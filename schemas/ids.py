"""Identifiers. All are derived, so that doing a thing twice gives the same name (requirement 15)."""

import hashlib
import re
import uuid
from typing import Annotated

from pydantic import StringConstraints

_DIGEST_BYTES = 16
ID_CHARS = 26
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = tuple(first + second for first in _LETTERS for second in _LETTERS)
ID_PATTERN = r"^[a-z2-7]{26}$"
PLATFORM_PATTERN = r"^[a-z0-9][a-z0-9-]{0,39}$"

CaseId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
BatchId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
PlatformKey = Annotated[str, StringConstraints(pattern=PLATFORM_PATTERN)]
_JOB_ID = re.compile(r"([a-z2-7]{26})\.([a-z0-9][a-z0-9-]{0,39})")


def derive(*parts: str) -> str:
    """Return 26 letters and digits that depend on nothing but `parts` and their order."""
    return _base32(hashlib.sha256("\0".join(parts).encode()).digest()[:_DIGEST_BYTES])


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
    return _base32(uuid.uuid4().bytes)


def _base32(data: bytes) -> str:
    """Return 16 bytes as RFC 4648 base32, lower case and without padding.

    Two letters at a time from a table: intake derives two ids a row, and the standard library takes twice as long.
    """
    bits = int.from_bytes(data) << 2
    pairs = _PAIRS
    return (
        pairs[bits >> 120] + pairs[bits >> 110 & 1023] + pairs[bits >> 100 & 1023] + pairs[bits >> 90 & 1023]
        + pairs[bits >> 80 & 1023] + pairs[bits >> 70 & 1023] + pairs[bits >> 60 & 1023] + pairs[bits >> 50 & 1023]
        + pairs[bits >> 40 & 1023] + pairs[bits >> 30 & 1023] + pairs[bits >> 20 & 1023] + pairs[bits >> 10 & 1023]
        + pairs[bits & 1023]
    )  # fmt: skip
