"""What tests of answers that come later build on: a platform that calls back, and its signed callbacks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from backends.bootstrap import Backends
from backends.signature import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from ops.callback_desk import CallbackDesk
from platforms.catalogue import Catalogue
from schemas.ids import new_id
from tests.command import write_platform

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_bm9ib2R5LXNob3VsZC11c2UtdGhpcy1vbmU="
STRANGERS = "whsec_c29tZWJvZHktZWxzZS1lbnRpcmVseS1oZXJl"
CALLBACK = {"secret": ["env:ALPHA_CALLBACK", "env:ALPHA_CALLBACK_OLD"]}
OUTCOMES = {
    "OK": "UNBOUND",
    "NONE": "NO_BINDING",
    "HELD": {"REFUSED": "funds_or_debt"},
    "NO": "REFUSED",
    "LOOK": "PENDING_REVIEW",
    "TAKEN": "ACCEPTED",
}
POLL = {"endpoint": "https://beta.example/v1/polls", "delays_s": [60, 600]}


def catalogue_of(folder: Path, **fields: Any) -> Catalogue:
    """Return a catalogue: alpha calls back, beta is asked, gamma says nothing later."""
    write_platform(folder, "alpha", callback=CALLBACK, outcomes=OUTCOMES, **fields)
    write_platform(folder, "beta", poll=POLL, outcomes=OUTCOMES, **fields)
    write_platform(folder, "gamma", outcomes=OUTCOMES, **fields)
    return Catalogue.load(folder)


def desk_of(backends: Backends, catalogue: Catalogue) -> CallbackDesk:
    """Return the desk, its events recorded at once instead of by way of the broker."""
    return CallbackDesk(backends, catalogue, keys={"alpha": (SECRET, OLD_SECRET)}, publish=backends.store.apply)


def signed(body: bytes, *, at: datetime, message: str = "", secrets: Sequence[str] = (SECRET,)) -> Mapping[str, str]:
    """Return the headers of a callback."""
    message = message or f"msg_{new_id()}"
    return {
        ID_HEADER: message,
        TIMESTAMP_HEADER: str(int(at.timestamp())),
        SIGNATURE_HEADER: sign(secrets, message_id=message, timestamp=at, body=body),
    }


def results(*items: Mapping[str, Any]) -> bytes:
    """Return the body of a callback about these items."""
    return orjson.dumps({"results": list(items)})
