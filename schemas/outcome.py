"""What a platform can answer for one job, and why a job is where it is. Both lists are closed.

Sources: requirements 9 (outcomes), 11 (refusal reasons) and 16 (retry classes).
"""

from enum import StrEnum


class Outcome(StrEnum):
    """What a platform answered for one job."""

    UNBOUND = "UNBOUND"
    NO_BINDING = "NO_BINDING"
    BOUND_AFTER_CUTOFF = "BOUND_AFTER_CUTOFF"
    REFUSED = "REFUSED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    PENDING_REVIEW = "PENDING_REVIEW"
    ACCEPTED = "ACCEPTED"


class Refusal(StrEnum):
    """Why a platform refused: the only reasons that REFUSED may carry."""

    FUNDS_OR_DEBT = "funds_or_debt"
    OPEN_ORDER_OR_DISPUTE = "open_order_or_dispute"
    REALNAME_LOCKED = "realname_locked"
    BANNED_ACCOUNT = "banned_account"
    LEGAL_HOLD = "legal_hold"
    RISK_CONTROL = "risk_control"
    ENTERPRISE_ACCOUNT = "enterprise_account"
    ONLY_LOGIN_METHOD = "only_login_method"
    MANUAL_IDENTITY_CHECK = "manual_identity_check"
    RECORD_MISMATCH = "record_mismatch"
    OTHER = "other"


class Fault(StrEnum):
    """Why a call gave no answer for a job."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    DNS = "dns"
    TLS = "tls"
    PRIVATE_ADDRESS = "private_address"
    REDIRECT = "redirect"
    UNAUTHORIZED = "unauthorized"
    ENDPOINT_GONE = "endpoint_gone"
    TOO_MANY_REQUESTS = "too_many_requests"
    SERVER_ERROR = "server_error"
    REJECTED_REQUEST = "rejected_request"
    UNREADABLE_ANSWER = "unreadable_answer"
    ANSWER_TOO_LARGE = "answer_too_large"
    UNANSWERED = "unanswered"


class Hold(StrEnum):
    """Why a job stopped or waits, where neither an answer nor one fault says it."""

    UNKNOWN_CODE = "unknown_code"
    DEADLINE = "deadline"
    POISON = "poison"  # no worker could finish the batch that carried it
    DISCARDED = "discarded"  # a person gave the dead letter up
    STOPPED = "stopped"  # a person stopped its retries
    RECLAIMED = "reclaimed"  # its holder has taken the number back
    WITHDRAWN = "withdrawn"  # the owner has withdrawn the authorisation
    EXPIRED_AUTHORISATION = "expired_authorisation"  # the time for which the owner gave it is over
    USER_ACTION = "user_action"  # the platform waits for something that only the number's owner can do


Reason = Refusal | Fault | Hold

# The position is the byte stored in a packed record: append, never reorder.
REASONS: tuple[Reason, ...] = (*Refusal, *Fault, *Hold)
REASON_CODES: dict[str, int] = {reason.value: code for code, reason in enumerate(REASONS, start=1)}


def reason_of(text: str) -> Reason:
    """Return the reason that `text` names. Raises ValueError for text outside the closed list."""
    try:
        return REASONS[REASON_CODES[text] - 1]
    except KeyError:
        raise ValueError(f"unknown reason {text!r}") from None
