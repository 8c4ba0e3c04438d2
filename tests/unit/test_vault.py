"""The vault: what it seals only its keys open, only in its place, and no error tells a key or a number."""

import os
import stat
from base64 import b64encode, urlsafe_b64decode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.vault import Vault, new_key_file, rotate, write_key_file
from schemas.errors import ConfigurationError, ContractError

HERE, THERE = b"renewal/case/a", b"renewal/case/b"
NUMBER = "+8613812345678"
KEY = b64encode(bytes(range(32))).decode()
OTHER_KEY = b64encode(bytes(range(1, 33))).decode()


def vault(text: str | None = None) -> Vault:
    """A vault with fresh keys, or those of a key file."""
    return Vault.parse(text or new_key_file(), source="keys")


VAULT = vault()


@given(text=st.binary(max_size=200), context=st.binary(max_size=40))
def test_what_was_sealed_is_opened(text: bytes, context: bytes) -> None:
    """Whatever it is, and in its own place."""
    assert text == VAULT.open(VAULT.seal(text, context=context), context=context)


def test_a_sealed_text_opens_only_in_its_place() -> None:
    """A blob cannot be moved to another case or batch."""
    sealed = VAULT.seal(NUMBER.encode(), context=HERE)
    with pytest.raises(ContractError, match="do not belong"):
        VAULT.open(sealed, context=THERE)


def test_the_same_text_is_sealed_differently_each_time() -> None:
    """Who reads the store cannot tell which cases have the same number."""
    sealed = {VAULT.seal(NUMBER.encode(), context=HERE) for _ in range(100)}
    assert 100 == len(sealed)
    assert [] == [blob for blob in sealed if NUMBER[3:].encode() in blob]


def test_no_byte_can_be_changed_added_or_left_out() -> None:
    """Anything but the whole is refused, never opened as something else."""
    sealed = VAULT.seal(NUMBER.encode(), context=HERE)
    changed = [
        sealed[:at] + bytes([sealed[at] ^ bit]) + sealed[at + 1 :] for at in range(len(sealed)) for bit in (1, 128)
    ]
    shortened = [sealed[:end] for end in range(len(sealed))] + [sealed[start:] for start in range(1, len(sealed))]
    for wrong in [*changed, *shortened, sealed + b"\0"]:
        with pytest.raises(ContractError):
            VAULT.open(wrong, context=HERE)


@given(numbers=st.lists(st.integers(0, 10**11).map(lambda n: f"+86{n:011d}"), min_size=1, max_size=50))
def test_the_numbers_of_a_batch_come_back_in_order(numbers: list[str]) -> None:
    """They belong to its cases by their position alone."""
    assert numbers == VAULT.open_numbers(VAULT.seal_numbers(numbers, context=HERE), context=HERE)


@given(data=st.data())
def test_a_changed_blob_never_opens_as_other_numbers(data: st.DataObject) -> None:
    """One letter of the text as it travels, replaced by any other."""
    sealed = VAULT.seal_numbers([NUMBER], context=HERE)
    at = data.draw(st.integers(0, len(sealed) - 1))
    wrong = sealed[:at] + data.draw(st.characters(codec="utf-8")) + sealed[at + 1 :]
    try:
        opened = VAULT.open_numbers(wrong, context=HERE)
    except ContractError:
        return
    assert [NUMBER] == opened
    assert urlsafe_b64decode(sealed) == urlsafe_b64decode(wrong)


@pytest.mark.parametrize("wrong", ["", "A", "号码", "!!!!", "=" * 8])
def test_what_is_no_sealed_text_is_refused(wrong: str) -> None:
    """A poison letter is an error of contract, not a crash."""
    with pytest.raises(ContractError):
        VAULT.open_numbers(wrong, context=HERE)


def test_after_a_rotation_the_old_key_opens_and_the_new_one_seals() -> None:
    """Keys change without stopping the night's work."""
    text = new_key_file()
    old, new = vault(text), vault(rotate(text))
    sealed_before = old.seal(b"before", context=HERE)
    assert b"before" == new.open(sealed_before, context=HERE)
    sealed_after = new.seal(b"after", context=HERE)
    assert sealed_before[:4] != sealed_after[:4]
    with pytest.raises(ContractError, match="not in the key file"):
        old.open(sealed_after, context=HERE)


def test_a_rotation_leaves_tokens_as_they_are() -> None:
    """Cases of last year must still be found by their number."""
    text = new_key_file()
    rotated = rotate(rotate(text))
    assert vault(text).token(NUMBER) == vault(rotated).token(NUMBER)
    assert 3 == rotated.count("seal ")
    assert 1 == rotated.count("token ")


def test_a_token_depends_on_its_key_and_the_number_alone() -> None:
    """Equal numbers, equal tokens; without the key nobody can try all numbers."""
    one = vault(f"seal aaaa {KEY}\ntoken bbbb {OTHER_KEY}")
    same = vault(f"token cccc {OTHER_KEY}\nseal dddd {OTHER_KEY}")
    other = vault(f"seal aaaa {KEY}\ntoken bbbb {KEY}")
    assert one.token(NUMBER) == same.token(NUMBER)
    assert one.token(NUMBER) != other.token(NUMBER)
    assert one.token(NUMBER) != one.token("+8613812345679")
    assert "13812345678" not in one.token(NUMBER)


def test_a_token_of_known_keys_never_changes() -> None:
    """It is stored: another way to make it would lose every case."""
    assert "oepzfartpibhohertgz27g6iqi" == vault(f"seal aaaa {KEY}\ntoken bbbb {OTHER_KEY}").token(NUMBER)


def test_what_was_sealed_with_known_keys_still_opens() -> None:
    """It is stored: another cipher or layout needs a new key id, never this one."""
    sealed = bytes.fromhex(
        "616161612f37a64cfe58ba09443f02dd23b54eaf40aca8fd892da4aa0689c744d2478714a2fa2fca072fe167121e"
    )
    assert NUMBER.encode() == vault(f"seal aaaa {KEY}\ntoken bbbb {KEY}").open(sealed, context=HERE)


def test_a_key_file_may_hold_comments_and_empty_lines() -> None:
    """People note when a key was made."""
    text = f"# made in November\n\n  seal aaaa {KEY}  \n\ntoken bbbb {OTHER_KEY}\n"
    assert b"x" == vault(text).open(vault(text).seal(b"x", context=HERE), context=HERE)


GOOD = f"seal aaaa {KEY}\ntoken bbbb {KEY}"
WRONG_FILES = {
    "nonsense": ("seal aaaa\n", "line 1"),
    "key too short": (f"# one\nseal aaaa {KEY[:20]}\ntoken bbbb {KEY}", "line 2"),
    "key too long": (f"{GOOD}\nseal cccc {KEY}AAAA", "line 3"),
    "id too long": (f"{GOOD}\n\nseal ccccc {KEY}", "line 4"),
    "id in capitals": (f"seal AAAA {KEY}", "line 1"),
    "unknown use": (f"{GOOD}\nsign cccc {KEY}", "line 3"),
    "id twice": (f"{GOOD}\nseal aaaa {OTHER_KEY}", "line 3"),
    "no token": (f"seal aaaa {KEY}", "exactly one `token`"),
    "two tokens": (f"{GOOD}\ntoken cccc {KEY}", "exactly one `token`"),
    "no seal": (f"token bbbb {KEY}", "at least one `seal`"),
    "empty": ("", "at least one `seal`"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_key_file_names_itself_and_its_line_and_never_a_key(name: str) -> None:
    """The message ends up in logs and tickets."""
    text, expected = WRONG_FILES[name]
    with pytest.raises(ConfigurationError) as caught:
        Vault.parse(text, source="/etc/keys")
    assert expected in str(caught.value)
    assert str(caught.value).startswith("/etc/keys: ")
    assert [] == [key for key in (KEY, OTHER_KEY) if key[:8] in str(caught.value)]


def test_no_key_is_shown_with_the_vault() -> None:
    """A traceback may print any object."""
    assert KEY[:8] not in repr(vault(GOOD))
    assert repr(bytes(range(32)))[2:10] not in repr(vault(GOOD))


def test_a_key_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """Whatever the umask, and also where a wider file was there before; no other file is left beside it."""
    path = tmp_path / "made" / "keys"
    before = os.umask(0)
    try:
        write_key_file(path, new_key_file())
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)
        path.chmod(0o644)
        text = rotate(path.read_text(encoding="utf-8"))
        write_key_file(path, text)
    finally:
        os.umask(before)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert text == path.read_text(encoding="utf-8")
    assert [path] == list(path.parent.iterdir())
