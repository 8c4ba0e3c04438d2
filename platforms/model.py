"""One entry of the catalogue: everything the dispatcher knows about a platform."""

from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from platforms.maintenance import Maintenance
from schemas.ids import PlatformKey
from schemas.outcome import Outcome, Refusal

Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]
SecretRef = Annotated[str, StringConstraints(pattern=r"^(env:[A-Z][A-Z0-9_]*|file:[^\x00]+)$")]
# One, or two while a key is rotated.
SecretRefs = SecretRef | Annotated[tuple[SecretRef, ...], Field(min_length=1, max_length=2)]
Url = Annotated[str, StringConstraints(max_length=500)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Name(_Strict):
    """What people read."""

    zh: Annotated[str, StringConstraints(min_length=1, max_length=60)]
    en: Annotated[str, StringConstraints(min_length=1, max_length=60)]


class NoAuth(_Strict):
    """The endpoint asks for nothing."""

    scheme: Literal["none"]


class Bearer(_Strict):
    """`Authorization: Bearer …` (RFC 6750)."""

    scheme: Literal["bearer"]
    token: SecretRef


class StandardWebhooks(_Strict):
    """Standard Webhooks signatures, v1 by a whsec_ and v1a by a whsk_ key; two keys while one is rotated."""

    scheme: Literal["standard-webhooks"]
    secret: SecretRefs

    @property
    def secrets(self) -> tuple[str, ...]:
        """The references, newest first."""
        return _each(self.secret)


Auth = Annotated[NoAuth | Bearer | StandardWebhooks, Field(discriminator="scheme")]


class Limits(_Strict):
    """What the contract with the platform allows, for all workers together."""

    calls_per_s: Annotated[float, Field(gt=0, le=10_000)] = 10.0
    in_flight: Annotated[int, Field(ge=1, le=1000)] = 4
    items_per_call: Annotated[int, Field(ge=1, le=1000)] = 500
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 10.0
    # Jobs of the bulk lane, each day of Asia/Shanghai; no end when not given.
    jobs_per_day: Annotated[int | None, Field(ge=1, le=100_000_000)] = None


class Retry(_Strict):
    """When a call without an answer is repeated; the last delay repeats. The defaults end after five days."""

    attempts_max: Annotated[int, Field(ge=1, le=100)] = 12
    delays_s: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=100)] = (5, 60, 600, 3600)
    total_s: Annotated[float, Field(gt=0, le=90 * 86400)] = 432_000


class Sla(_Strict):
    """How soon the platform has promised to answer: in working days (0 is the same day), or in minutes."""

    working_days: Annotated[int, Field(ge=0, le=60)] = 5
    minutes: Annotated[int | None, Field(ge=1, le=7 * 24 * 60)] = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.minutes is not None and "working_days" in self.model_fields_set:
            raise ValueError("expected working_days or minutes, not both")
        return self

    @property
    def warning(self) -> timedelta:
        """How long before its end a promise counts as at risk: the last working day, or a fair part of less."""
        if self.minutes is not None:
            return timedelta(minutes=self.minutes) / 5
        return timedelta(days=1) if self.working_days else timedelta(hours=6)


class Callback(_Strict):
    """The platform calls us with answers that come later, signed with one of these (`whsec_…`, or `whpk_…` for v1a)."""

    secret: SecretRefs

    @property
    def secrets(self) -> tuple[str, ...]:
        """The references, newest first."""
        return _each(self.secret)


class Poll(_Strict):
    """Where we ask for answers that come later, and how long after the job was first sent; the last delay repeats."""

    endpoint: Url
    delays_s: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=100)] = (600, 3600)

    @field_validator("endpoint")
    @classmethod
    def _is_a_plain_url(cls, endpoint: str) -> str:
        return _plain_url(endpoint)


def _each(refs: str | tuple[str, ...]) -> tuple[str, ...]:
    return (refs,) if isinstance(refs, str) else refs


def _plain_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("expected an http or https URL")
    if parts.username or parts.password:
        raise ValueError("a URL must not hold credentials; use auth")
    if parts.fragment:
        raise ValueError("a URL must not have a fragment")
    return url


class Refused(_Strict):
    """A code that means REFUSED, and for which reason."""

    REFUSED: Refusal


Code = Annotated[str, StringConstraints(min_length=1, max_length=64)]
CANONICAL_OUTCOMES: dict[str, Outcome | Refused] = {outcome.value: outcome for outcome in Outcome}


class Platform(_Strict):
    """One platform. `outcomes` maps its own codes to ours; a code that is not in it is never success.

    `bulk_hours` are when the bulk lane may be sent, always when empty. `settled_by` names the platform of the same
    account domain whose answer settles this one too, so that this one is not asked (requirement 25).
    """

    key: PlatformKey
    name: Name
    category: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    account_domain: PlatformKey
    protocol: Literal["json", "bulk-json"]
    endpoint: Url
    # Where it is told that a number went back to its old owner; none where it has no such way.
    withdraw: Url | None = None
    # How an answer reaches us that comes later than the call; with neither there is no way.
    callback: Callback | None = None
    poll: Poll | None = None
    auth: Auth
    limits: Limits = Limits()
    retry: Retry = Retry()
    sla: Sla = Sla()
    maintenance: Annotated[tuple[Maintenance, ...], Field(max_length=20)] = ()
    bulk_hours: Annotated[tuple[Maintenance, ...], Field(max_length=20)] = ()
    settled_by: PlatformKey | None = None
    outcomes: Annotated[dict[Code, Outcome | Refused], Field(min_length=1, max_length=200)] = CANONICAL_OUTCOMES

    @field_validator("endpoint", "withdraw")
    @classmethod
    def _is_a_plain_url(cls, endpoint: str | None) -> str | None:
        return None if endpoint is None else _plain_url(endpoint)

    @model_validator(mode="after")
    def _one_item_a_call(self) -> Self:
        given = "items_per_call" in self.limits.model_fields_set
        if self.protocol == "json" and given and self.limits.items_per_call != 1:
            raise ValueError("limits.items_per_call: protocol json sends one item a call")
        return self

    @property
    def jobs_per_batch(self) -> int:
        """How many jobs travel in one message: what one call takes, or about a second of single calls.

        A batch that needed longer would hold a worker's slot while it waits for its platform (rule 6).
        """
        if self.protocol == "bulk-json":
            # A call is granted whole or not at all: it must fit into a day.
            return min(self.limits.items_per_call, self.limits.jobs_per_day or self.limits.items_per_call)
        return max(1, min(100, int(self.limits.calls_per_s)))

    @property
    def answers_later(self) -> bool:
        """Whether an answer that comes later than the call has a way to reach us."""
        return self.callback is not None or self.poll is not None

    @property
    def call_refs(self) -> tuple[str, ...]:
        """The secrets that our calls need, newest first."""
        if isinstance(self.auth, Bearer):
            return (self.auth.token,)
        return self.auth.secrets if isinstance(self.auth, StandardWebhooks) else ()

    @property
    def callback_refs(self) -> tuple[str, ...]:
        """The secrets with which the platform's callbacks are checked, newest first."""
        return self.callback.secrets if self.callback is not None else ()

    @property
    def secret_refs(self) -> tuple[str, ...]:
        """Every secret of this entry."""
        return self.call_refs + self.callback_refs

    def to_yaml_dict(self) -> dict[str, Any]:
        """Return the entry as its file holds it: defaults left out."""
        return self.model_dump(mode="json", exclude_defaults=True)
