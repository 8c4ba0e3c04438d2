"""What can go wrong with a measurement, as one message."""

from schemas.errors import RenewalError


class Unmeasured(RenewalError):
    """A figure could not be taken, or would mean nothing; the message says why."""
