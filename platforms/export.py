"""The catalogue entry as JSON Schema 2020-12, so that an editor can help who writes one."""

from typing import Any

from platforms.model import Limits, Name, Platform, Refused, StandardWebhooks
from schemas.export import json_schema
from schemas.outcome import Outcome, Refusal


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of a catalogue entry, by name."""
    example = Platform(
        key="acme",
        name=Name(zh="示例", en="Acme"),
        category="social",
        account_domain="acme",
        protocol="bulk-json",
        endpoint="https://unbind.acme.example/v1/renewals",
        auth=StandardWebhooks(scheme="standard-webhooks", secret="env:ACME_SECRET"),  # noqa: S106 - a reference
        limits=Limits(calls_per_s=50, in_flight=8, items_per_call=500, timeout_s=10),
        outcomes={
            "OK": Outcome.UNBOUND,
            "NONE": Outcome.NO_BINDING,
            "HELD": Refused(REFUSED=Refusal.FUNDS_OR_DEBT),
        },
    )
    return {"platform": json_schema(example, name="platform", version=1)}
