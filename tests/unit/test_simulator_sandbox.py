from base64 import b64decode
from pathlib import Path

import pytest

from platforms.catalogue import Catalogue
from platforms.model import Bearer, NoAuth, StandardWebhooks
from schemas.errors import Refused
from simulator.sandbox import write_sandbox
from tests.command import write_platform

BASE = "http://127.0.0.1:8900"


def _secret(ref: str) -> str:
    return Path(ref.removeprefix("file:")).read_text(encoding="ascii")


def test_a_sandbox_is_the_same_catalogue_pointed_at_the_simulator(tmp_path: Path) -> None:
    """Every platform of the sample is there, unchanged but for its address, secrets and times."""
    sample = Catalogue.load()
    sandbox = write_sandbox(sample, tmp_path / "box", base_url=BASE)
    assert [entry.key for entry in sample] == [entry.key for entry in sandbox]
    for before, after in zip(sample, sandbox, strict=True):
        assert f"{BASE}/{before.key}/v1/renewals" == after.endpoint
        own = {"endpoint", "auth", "limits", "retry", "callback", "poll"}
        assert before.model_dump(exclude=own) == after.model_dump(exclude=own)
        assert (before.callback is None, before.poll is None) == (after.callback is None, after.poll is None)
        assert after.poll is None or after.poll.endpoint == f"{BASE}/{before.key}/v1/polls"
        assert before.limits.model_dump(exclude={"timeout_s"}) == after.limits.model_dump(exclude={"timeout_s"})
        assert before.auth.scheme == after.auth.scheme
        assert len(before.secret_refs) == len(after.secret_refs)


def test_days_pass_in_seconds(tmp_path: Path) -> None:
    """Retries wait for parts of seconds and end after two minutes; the number of attempts stays."""
    sample = Catalogue.load()
    for before, after in zip(sample, write_sandbox(sample, tmp_path / "box", base_url=BASE), strict=True):
        assert before.retry.attempts_max == after.retry.attempts_max
        assert (0.3, 0.6, 1.2, 2.4) == after.retry.delays_s
        assert after.retry.total_s <= 120
        assert after.limits.timeout_s <= 2


def test_secrets_are_fresh_well_formed_and_for_the_owner_only(tmp_path: Path) -> None:
    """Each secret lies in a file of mode 0600 in a folder of mode 0700, and no two are the same."""
    sandbox = write_sandbox(Catalogue.load(), tmp_path / "box", base_url=BASE)
    seen = set()
    for entry in sandbox:
        for ref in entry.secret_refs:
            path = Path(ref.removeprefix("file:"))
            assert path.is_absolute()
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700
            secret = _secret(ref)
            seen.add(secret)
            if isinstance(entry.auth, StandardWebhooks):
                assert len(b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
            else:
                assert isinstance(entry.auth, Bearer)
                assert len(secret) >= 32
        assert bool(entry.secret_refs) != isinstance(entry.auth, NoAuth)
    assert (tmp_path / "box").stat().st_mode & 0o777 == 0o700
    assert len(seen) == sum(len(entry.secret_refs) for entry in sandbox)


def test_writing_again_keeps_the_secrets_and_drops_what_is_no_longer_wanted(tmp_path: Path) -> None:
    """A simulator that already runs on the sandbox still knows its callers."""
    sample = Catalogue.load()
    keys = [entry.key for entry in sample if entry.auth.scheme == "bearer"][:2]
    box = tmp_path / "box"
    before = write_sandbox(sample.select(keys), box, base_url=BASE)
    secret = _secret(before.get(keys[0]).secret_refs[0])
    after = write_sandbox(sample.select(keys[:1]), box, base_url="http://127.0.0.1:9000/")
    assert keys[:1] == [entry.key for entry in after]
    assert f"http://127.0.0.1:9000/{keys[0]}/v1/renewals" == after.get(keys[0]).endpoint
    assert secret == _secret(after.get(keys[0]).secret_refs[0])


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A catalogue that people wrote is never overwritten by a sandbox."""
    own = tmp_path / "alipay.yaml"
    own.write_text("mine")
    with pytest.raises(Refused, match="holds something else than a sandbox"):
        write_sandbox(Catalogue.load(), tmp_path, base_url=BASE)
    assert own.read_text() == "mine"


def test_a_sandbox_withdraws_at_the_simulator_and_nowhere_else(tmp_path: Path) -> None:
    """A rehearsal that told a real platform would undo what it had done."""
    write_platform(tmp_path / "mine", "alpha", withdraw="https://alpha.example/v1/withdrawals")
    write_platform(tmp_path / "mine", "beta")
    sandbox = write_sandbox(Catalogue.load(tmp_path / "mine"), tmp_path / "box", base_url=BASE)
    assert [f"{BASE}/alpha/v1/withdrawals", None] == [entry.withdraw for entry in sandbox]
