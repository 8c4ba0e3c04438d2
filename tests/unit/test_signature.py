"""Standard Webhooks: what others sign is read, what is signed here others read, and nothing else gets in."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from backends.signature import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    TOLERANCE_S,
    SignatureProblem,
    check_key,
    new_pair,
    new_secret,
    sign,
    verify,
)
from schemas.errors import ConfigurationError

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BODY = '{"id": "é", "code": "UNBOUND"}'.encode()
SECRET, OTHER_SECRET = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
# The vector by which the reference server of the specification tests v1a.
PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
VECTOR = {
    ID_HEADER: "msg_p5jXN8AQM9LWM0D4loKWxJek",
    TIMESTAMP_HEADER: "1614265330",
    SIGNATURE_HEADER: "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
}
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_AT = datetime.fromtimestamp(1614265330, UTC)
OTHER_PRIVATE, OTHER_PUBLIC = new_pair()


def headers(*secrets: str, ident: str = "msg-1", at: datetime = NOW, body: bytes = BODY) -> dict[str, str]:
    """Return the three headers of a message signed here."""
    return {
        ID_HEADER: ident,
        TIMESTAMP_HEADER: str(int(at.timestamp())),
        SIGNATURE_HEADER: sign(secrets, message_id=ident, timestamp=at, body=body),
    }


def admits(*keys: str, given: Mapping[str, str], body: bytes = BODY, now: datetime = NOW) -> bool:
    """Tell whether a message is taken."""
    try:
        return verify(keys, given, body, now=now) == given[ID_HEADER]
    except SignatureProblem:
        return False


def test_v1_is_what_the_specifications_library_signs() -> None:
    """The bytes of the header are the same, so who uses the library reads our calls."""
    assert Webhook(SECRET).sign("msg-1", NOW, BODY.decode()) == headers(SECRET)[SIGNATURE_HEADER]


@pytest.mark.parametrize("spelling", [SECRET, SECRET.removeprefix("whsec_"), SECRET.rstrip("=")])
def test_a_v1_key_is_read_as_the_library_reads_it(spelling: str) -> None:
    """With and without its prefix and its padding: both sides may have stored it in another way."""
    given = headers(SECRET) | {SIGNATURE_HEADER: Webhook(SECRET).sign("msg-1", NOW, BODY.decode())}
    assert admits(spelling, given=given)
    assert headers(SECRET) == headers(spelling)


def test_the_library_takes_what_is_signed_now() -> None:
    """The other direction: the library looks at its own clock."""
    now = datetime.now(UTC)
    assert Webhook(SECRET).verify(BODY.decode(), headers(SECRET, at=now)) == {"id": "é", "code": "UNBOUND"}


def test_v1a_is_what_the_specifications_server_signs() -> None:
    """Ed25519 signs the same bytes the same way everywhere (RFC 8032), so one vector is enough to find a difference."""
    assert VECTOR[SIGNATURE_HEADER] == sign(
        [PRIVATE], message_id=VECTOR[ID_HEADER], timestamp=VECTOR_AT, body=VECTOR_BODY
    )


@pytest.mark.parametrize("key", [PUBLIC, PRIVATE, PUBLIC.rstrip("=")])
def test_v1a_is_checked_by_either_half(key: str) -> None:
    """A platform has the public half; a pretended platform the private one, in which the public one stands."""
    assert admits(key, given=VECTOR, body=VECTOR_BODY, now=VECTOR_AT)


def test_a_seed_alone_is_a_private_key() -> None:
    """Some libraries keep 32 bytes, some 64; the signature is the same."""
    seed = "whsk_" + base64.b64encode(base64.b64decode(PRIVATE.removeprefix("whsk_"))[:32]).decode()
    assert headers(PRIVATE) == headers(seed)


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ],
)
def test_the_curve_is_that_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    """Vectors 1 and 2 of RFC 8032 7.1: what is under v1a is Ed25519 itself and no variant of it."""
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    assert public == key.public_key().public_bytes_raw().hex()
    assert signature == key.sign(bytes.fromhex(message)).hex()


@pytest.mark.parametrize("secrets", [(SECRET, PRIVATE), (PRIVATE, SECRET), (PRIVATE, OTHER_PRIVATE), (SECRET,) * 2])
def test_each_of_two_keys_signs(secrets: tuple[str, ...]) -> None:
    """During a rotation, also one from v1 to v1a, a platform that knows only one of them lets the call in."""
    given = headers(*secrets)
    assert len(secrets) == len(given[SIGNATURE_HEADER].split(" "))
    assert [True] * len(secrets) == [admits(secret, given=given) for secret in secrets]


@pytest.mark.parametrize("keys", [(OTHER_SECRET, SECRET), (PUBLIC, SECRET), (SECRET, OTHER_PUBLIC)])
def test_one_of_two_keys_is_enough_in_any_order(keys: tuple[str, ...]) -> None:
    """Where a signature or a key stands says nothing."""
    good = headers(SECRET)
    assert admits(*keys, given=good)
    several = f"v1,AAAA {headers(PRIVATE)[SIGNATURE_HEADER]} v9,x  {good[SIGNATURE_HEADER]}"
    assert admits(*keys, given=good | {SIGNATURE_HEADER: several})


@pytest.mark.parametrize(
    ("signed_by", "key"),
    [(SECRET, OTHER_SECRET), (PRIVATE, OTHER_PUBLIC), (PRIVATE, SECRET), (SECRET, PUBLIC), (OTHER_PRIVATE, PUBLIC)],
    ids=["v1", "v1a", "v1a by v1", "v1 by v1a", "new pair"],
)
def test_another_key_does_not_fit(signed_by: str, key: str) -> None:
    """Neither one of the same kind nor one of the other."""
    assert not admits(key, given=headers(signed_by))


@pytest.mark.parametrize("key", [SECRET, PUBLIC])
def test_a_signature_under_the_name_of_the_other_version_does_not_fit(key: str) -> None:
    """A version is part of what is claimed: nothing is tried that was not said."""
    good = headers(SECRET, PRIVATE)[SIGNATURE_HEADER].split(" ")
    swapped = " ".join(f"{'v1a' if part.startswith('v1,') else 'v1'},{part.partition(',')[2]}" for part in good)
    assert not admits(key, given=headers(SECRET) | {SIGNATURE_HEADER: swapped})


def test_no_key_lets_nobody_in() -> None:
    """A platform whose keys are gone is closed, not open."""
    assert not admits(given=headers(SECRET))


@pytest.mark.parametrize(
    ("off_s", "good"), [(0, True), (TOLERANCE_S, True), (-TOLERANCE_S, True), (TOLERANCE_S + 1, False), (-301, False)]
)
def test_five_minutes_are_the_limit_on_both_sides(off_s: int, good: bool) -> None:
    """A call that somebody has recorded is worth nothing after that, and clocks may be a little wrong."""
    assert good is admits(SECRET, given=headers(SECRET), now=NOW + timedelta(seconds=off_s))


@pytest.mark.parametrize("off_s", [TOLERANCE_S + 0.001, TOLERANCE_S + 0.999])
def test_a_part_of_a_second_counts(off_s: float) -> None:
    """No rounding gives anybody a second more."""
    assert not admits(SECRET, given=headers(SECRET), now=NOW + timedelta(seconds=off_s))


@pytest.mark.parametrize(
    "changes",
    [
        {ID_HEADER: ""},
        {ID_HEADER: "é"},
        {ID_HEADER: "\ud800"},
        {ID_HEADER: "a\nb"},
        {ID_HEADER: "x" * 257},
        {TIMESTAMP_HEADER: ""},
        {TIMESTAMP_HEADER: "soon"},
        {TIMESTAMP_HEADER: "-1"},
        {TIMESTAMP_HEADER: "1.5"},
        {TIMESTAMP_HEADER: " 1"},
        {TIMESTAMP_HEADER: "²"},
        {TIMESTAMP_HEADER: "١٧"},
        {TIMESTAMP_HEADER: "9" * 5000},
        {SIGNATURE_HEADER: ""},
        {SIGNATURE_HEADER: " "},
        {SIGNATURE_HEADER: "v1"},
        {SIGNATURE_HEADER: "v1,"},
        {SIGNATURE_HEADER: "v1,é"},
        {SIGNATURE_HEADER: "v1a,\ud800"},
        {SIGNATURE_HEADER: "v1a,AAAA"},
        {SIGNATURE_HEADER: "v1," * 5000},
        {SIGNATURE_HEADER: "v1,AAAA " * 10 + "v1,good"},
    ],
)
@pytest.mark.parametrize("key", [SECRET, PUBLIC])
def test_a_malformed_header_is_a_problem_and_never_another_error(changes: dict[str, str], key: str) -> None:
    """Whatever a stranger sends, the answer is no, and his text is not repeated."""
    with pytest.raises(SignatureProblem) as raised:
        verify([key], headers(SECRET, PRIVATE) | changes, BODY, now=NOW)
    assert not any(value.strip() in str(raised.value) for value in changes.values() if len(value.strip()) > 6)


@pytest.mark.parametrize("name", [ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER])
def test_a_missing_header_is_a_problem(name: str) -> None:
    """All three belong together."""
    given = headers(SECRET)
    del given[name]
    with pytest.raises(SignatureProblem, match=name):
        verify([SECRET], given, BODY, now=NOW)


ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=40)
SIGNATURES = st.builds("{},{}".format, st.sampled_from(["v1", "v1a", "v2", ""]), ANY_TEXT)


@given(ident=ANY_TEXT, stamp=ANY_TEXT | st.just(str(int(NOW.timestamp()))), signatures=st.lists(SIGNATURES, max_size=4))
def test_random_headers_are_only_ever_a_problem(ident: str, stamp: str, signatures: list[str]) -> None:
    """No header makes anything but SignatureProblem."""
    given = {ID_HEADER: ident, TIMESTAMP_HEADER: stamp, SIGNATURE_HEADER: " ".join(signatures)}
    with pytest.raises(SignatureProblem):
        verify([SECRET, PUBLIC], given, BODY, now=NOW)


@given(
    body=st.binary(max_size=200),
    other=st.binary(max_size=200),
    ident=st.from_regex(r"[!-~]{1,60}", fullmatch=True),
    off_s=st.integers(-TOLERANCE_S, TOLERANCE_S),
    change=st.sampled_from(["body", "id", "time", "bit"]),
    bit=st.integers(0, 8 * 200 - 1),
)
def test_any_change_of_body_id_or_time_shuts_the_gate(
    *, body: bytes, other: bytes, ident: str, off_s: int, change: str, bit: int
) -> None:
    """The signature is of all three, to the last bit, under both versions."""
    at = NOW + timedelta(seconds=off_s)
    for secret, key in ((SECRET, SECRET), (PRIVATE, PUBLIC)):
        good = headers(secret, ident=ident, at=at, body=body)
        assert admits(key, given=good, body=body)
        sent, given_headers = body, dict(good)
        if change == "body":
            sent = other if other != body else body + b" "
        elif change == "bit" and body:
            place = bit % (8 * len(body))
            sent = body[: place // 8] + bytes([body[place // 8] ^ 1 << place % 8]) + body[place // 8 + 1 :]
        elif change == "time":
            given_headers[TIMESTAMP_HEADER] = str(int(at.timestamp()) + (1 if off_s < TOLERANCE_S else -1))
        else:
            given_headers[ID_HEADER] = ident + "x"
        assert not admits(key, given=given_headers, body=sent)


def test_dots_that_are_moved_from_the_id_into_the_body_leave_no_json() -> None:
    """The specification puts dots between its parts, and ids may hold some: what can be shifted cannot be read."""
    at = str(int(NOW.timestamp()))
    given = headers(SECRET, ident=f"a.{at}", body=b"{}") | {ID_HEADER: "a"}
    shifted = f"{at}.{{}}".encode()
    assert admits(SECRET, given=given, body=shifted)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(shifted)
    # What stands before our ids' last dot is followed by a platform's key, which is no instant of these years.
    assert not admits(SECRET, given=headers(SECRET, ident="a.acme") | {ID_HEADER: "a"}, body=b"acme." + BODY)


@pytest.mark.parametrize(
    "key",
    ["", "whsec_", "whsec_é", "whsec_a", "whsec_****", "whsk_", "whsk_AAAA", "whpk_", "whpk_AAAA",
     PRIVATE[:-8], PUBLIC + "AAAA", PRIVATE[:48] + base64.b64encode(bytes(32)).decode()],
)  # fmt: skip
def test_a_key_that_is_none_is_refused_without_being_shown(key: str) -> None:
    """Wrong alphabet, wrong length, or two halves that do not belong together."""
    for use in (lambda: check_key(key, signs=False), lambda: verify([key], headers(SECRET), BODY, now=NOW)):
        with pytest.raises(ConfigurationError) as raised:
            use()
        assert len(key) < 8 or key not in str(raised.value)


def test_a_public_key_checks_and_does_not_sign() -> None:
    """In `auth` it is a mistake that is told before the first call; in `callback` it is what belongs there."""
    check_key(PUBLIC, signs=False)
    with pytest.raises(ConfigurationError, match="cannot sign"):
        check_key(PUBLIC, signs=True)
    with pytest.raises(ConfigurationError, match="cannot sign"):
        headers(PUBLIC)


def test_new_keys_work_and_are_never_the_same() -> None:
    """What `renewal keys webhook create` prints is used as it is."""
    secret, (private, public) = new_secret(), new_pair()
    assert admits(secret, public, given=headers(secret))
    assert admits(public, given=headers(private))
    assert 4 == len({secret, new_secret(), private, new_pair()[0]})
    Webhook(secret).sign("m", NOW, "{}")
