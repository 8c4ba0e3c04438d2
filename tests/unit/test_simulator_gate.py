from base64 import b64encode
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from backends.signature import new_pair, sign
from schemas.errors import ConfigurationError
from simulator.gate import Gate, Headers, gate_of
from tests.simulated import platform

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OLD, NEW = (f"whsec_{b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
BODY = '{"id": "é"}'.encode()


def _gate(*secrets: str) -> Gate:
    refs = [f"env:S{index}" for index in range(len(secrets))]
    entry = platform(auth={"scheme": "standard-webhooks", "secret": refs})
    return gate_of(entry, dict(zip(refs, secrets, strict=True)).__getitem__)


def _headers(secret: str, **changes: str) -> Headers:
    stamp = str(int(NOW.timestamp()))
    sent = {
        "webhook-id": "msg-1",
        "webhook-timestamp": stamp,
        "webhook-signature": Webhook(secret).sign("msg-1", NOW, BODY.decode()),
    }
    sent |= {name.replace("_", "-"): value for name, value in changes.items()}
    return {name.encode(): value.encode() for name, value in sent.items()}


def _signature(secret: str) -> str:
    return sign([secret], message_id="msg-1", timestamp=NOW, body=BODY)


def _admits(gate: Gate, headers: Headers, *, body: bytes = BODY, later_s: float = 0.0) -> bool:
    return gate(headers, body, NOW.timestamp() + later_s)


def test_a_signature_of_the_reference_library_is_let_in() -> None:
    """The gate agrees with `standardwebhooks`, the library of the specification."""
    assert _admits(_gate(NEW), _headers(NEW))


def test_while_a_key_is_rotated_either_signature_is_good() -> None:
    """A platform that knows two secrets takes a call signed by the old, by the new, or by both."""
    gate = _gate(NEW, OLD)
    both = Webhook("whsec_" + b64encode(b"x" * 32).decode()).sign("msg-1", NOW, BODY.decode())
    assert _admits(gate, _headers(OLD))
    assert _admits(gate, _headers(NEW))
    signature = Webhook(OLD).sign("msg-1", NOW, BODY.decode())
    assert _admits(gate, _headers(OLD, webhook_signature=f"{both} {signature}"))


@pytest.mark.parametrize(("later_s", "admitted"), [(299, True), (-299, True), (301, False), (-301, False)])
def test_a_signature_is_good_for_five_minutes(later_s: float, admitted: bool) -> None:
    """A recorded call cannot be played again later."""
    assert admitted is _admits(_gate(NEW), _headers(NEW), later_s=later_s)


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook_id": "msg-2"},
        {"webhook_id": ""},
        {"webhook_timestamp": ""},
        {"webhook_timestamp": "soon"},
        {"webhook_timestamp": str(int(NOW.timestamp()) + 1)},
        {"webhook_signature": ""},
        {"webhook_signature": "v1,"},
        {"webhook_signature": "v1a,AAAA"},
    ],
)
def test_a_changed_header_shuts_the_gate(changes: dict[str, str]) -> None:
    """Id, time and signature are all needed, and belong together."""
    assert not _admits(_gate(NEW), _headers(NEW, **changes))


@pytest.mark.parametrize("held", [0, 1])
def test_a_platform_that_holds_v1a_keys_checks_v1a(held: int) -> None:
    """Its entry has the private key, from which the public one follows; a rotation from v1 to v1a has both."""
    private, _ = new_pair()
    stranger, _ = new_pair()
    gate = _gate(*((private,), (OLD, private))[held])
    assert _admits(gate, _headers(OLD, webhook_signature=_signature(private)))
    assert not _admits(gate, _headers(OLD, webhook_signature=_signature(stranger)))
    assert bool(held) is _admits(gate, _headers(OLD))


def test_a_public_key_is_no_secret_of_a_platform() -> None:
    """It could not sign the calls: such an entry does not start."""
    with pytest.raises(ConfigurationError, match=r"^acme: auth\.secret: a public key"):
        _gate(new_pair()[1])


def test_a_changed_body_or_another_key_shuts_the_gate() -> None:
    """The signature is of these bytes, by this platform's key."""
    assert not _admits(_gate(NEW), _headers(NEW), body=BODY + b" ")
    assert not _admits(_gate(NEW), _headers(OLD))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_é"])
def test_a_malformed_secret_is_named_by_its_platform(secret: str) -> None:
    """A secret that is no key refuses to start, and is not repeated."""
    with pytest.raises(ConfigurationError, match=r"^acme: auth\.secret: a (key|secret) "):
        _gate(secret)


def test_a_bearer_token_is_compared_whole() -> None:
    """The token is needed in full, under its scheme."""
    gate = gate_of(platform(auth={"scheme": "bearer", "token": "env:T"}), lambda _: "t0ken")
    assert gate({b"authorization": b"Bearer t0ken"}, b"", 0)
    for wrong in (b"Bearer t0ke", b"Bearer t0ken2", b"t0ken", b"Basic t0ken", b""):
        assert not gate({b"authorization": wrong}, b"", 0)


def test_a_platform_without_authentication_asks_for_nothing() -> None:
    """Scheme `none` lets everybody in, and never asks for a secret."""
    secrets: dict[str, str] = {}
    assert gate_of(platform(), secrets.__getitem__)({}, b"", 0)
