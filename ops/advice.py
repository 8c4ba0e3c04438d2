"""What to do about a dead letter, by the reason for which it died. A closed table: no reason is without a next step."""

from typing import Final

from schemas.outcome import Fault, Hold, Reason

_LOOK: Final = "look at one: `renewal dead show <job>`"
_REPLAY: Final = "then replay with a canary: `renewal dead replay --platform {platform} --cause {reason}`"
_AWAY: Final = f"the platform did not answer in all its attempts: see `renewal platforms show {{platform}}`, {_REPLAY}"
_CONNECTION: Final = f"the connection is wrong: mend the entry of {{platform}} in the catalogue, {_REPLAY}"

ADVICE: Final[dict[Reason, str]] = {
    Fault.TIMEOUT: _AWAY,
    Fault.CONNECTION: _AWAY,
    Fault.SERVER_ERROR: _AWAY,
    Fault.TOO_MANY_REQUESTS: f"lower the rate: `renewal platforms limit {{platform}} --calls-per-s …`, {_REPLAY}",
    Fault.DNS: _CONNECTION,
    Fault.TLS: _CONNECTION,
    Fault.PRIVATE_ADDRESS: _CONNECTION,
    Fault.REDIRECT: _CONNECTION,
    Fault.ENDPOINT_GONE: _CONNECTION,
    Fault.UNAUTHORIZED: f"renew the secret of {{platform}}, start the workers again, {_REPLAY}",
    Fault.REJECTED_REQUEST: (
        f"the platform cannot read this request; {_LOOK}; mend the row or the entry of {{platform}}, {_REPLAY}"
    ),
    Fault.UNREADABLE_ANSWER: f"{_LOOK}; tell {{platform}} what it answers; when it is mended, {_REPLAY}",
    Fault.ANSWER_TOO_LARGE: f"lower limits.items_per_call of {{platform}} in the catalogue, {_REPLAY}",
    Fault.UNANSWERED: f"{{platform}} leaves these items out of its answers; {_LOOK}; tell the platform, {_REPLAY}",
    Hold.UNKNOWN_CODE: f"add the code to `outcomes` of {{platform}} in the catalogue, {_REPLAY}",
    Hold.DEADLINE: f"its time was over before an answer came: see `renewal platforms show {{platform}}`, {_REPLAY}",
    Hold.POISON: f"no worker could finish its batch; {_LOOK}; see the workers' logs first, {_REPLAY}",
    Hold.DISCARDED: "a person gave it up: nothing to do",
    Hold.STOPPED: "a person stopped its retries: nothing to do",
    Hold.RECLAIMED: "its holder has taken the number back: nothing to do; see `renewal sweep withdrawals`",
    Hold.WITHDRAWN: "the owner has withdrawn the authorisation: nothing to do; see `renewal sweep withdrawals`",
    Hold.EXPIRED_AUTHORISATION: "the authorisation is over: ask for a new one, and submit it as a new request",
    Hold.USER_ACTION: "the platform waits for the number's owner: tell the owner what {platform} asks for",
}  # fmt: skip


def advice(reason: Reason | None, *, platform: str) -> str:
    """Return the next step for a dead letter."""
    if reason is None or reason not in ADVICE:
        return _LOOK
    return ADVICE[reason].format(platform=platform, reason=reason)
