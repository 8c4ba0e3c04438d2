"""`renewal release`: what a sales system calls, with the exit codes that it acts on."""

import json
import stat
from pathlib import Path

import pytest

from backends.bootstrap import open_backends
from backends.embedded import EmbeddedValkey
from backends.settings import Settings
from backends.vault import new_key_file, write_key_file
from schemas.ids import new_id
from schemas.outcome import Refusal
from schemas.state import State
from tests.command import Renewal, rows_of, write_platform
from tests.letters import accept, mobile, record

PLATFORMS = ("alpha", "beta")


@pytest.fixture
def desk(renewal: Renewal, valkey: EmbeddedValkey, tmp_path: Path) -> Renewal:
    """The command on a store that holds three numbers: clean, refused by one platform, and not asked yet."""
    for key in (*PLATFORMS, "gamma"):
        write_platform(tmp_path / "catalogue", key)
    write_key_file(tmp_path / "number-keys", new_key_file())
    settings = Settings(
        redis_url=valkey.url,
        namespace=f"t{new_id()}",
        number_keys_file=tmp_path / "number-keys",
        catalogue=tmp_path / "catalogue",
    )
    renewal.settings |= {
        "RENEWAL_REDIS_URL": valkey.url,
        "RENEWAL_NAMESPACE": settings.namespace,
        "RENEWAL_NUMBER_KEYS_FILE": str(settings.number_keys_file),
        "RENEWAL_CATALOGUE": str(settings.catalogue),
    }
    backends = open_backends(settings)
    clean, refused, _ = accept(backends, PLATFORMS, count=3)
    record(backends, "alpha", [clean, refused], state=State.NO_BINDING)
    record(backends, "beta", [clean], state=State.UNBOUND)
    record(backends, "beta", [refused], state=State.REFUSED, reason=Refusal.FUNDS_OR_DEBT)
    backends.close()
    return renewal


def test_one_number_is_answered_by_the_exit_code_and_in_json(desk: Renewal) -> None:
    """0 sells, and nothing else does."""
    ask = ["release", "check", "--number", "-", "-o", "json"]
    clean = desk.run(*ask, stdin=mobile(0))
    assert 0 == clean.code, clean.told
    answer = json.loads(clean.out)
    assert (True, "CLEAN", [], ["gamma"]) == tuple(
        answer[name] for name in ("may_be_sold", "verdict", "why", "not_asked")
    )
    refused = desk.run(*ask, stdin=mobile(1))
    assert 6 == refused.code, refused.told
    assert [{"missing": "refused", "platform": "beta", "state": "REFUSED", "reason": "funds_or_debt"}] == (
        json.loads(refused.out)["why"]
    )
    assert 0 == desk.look(*ask, "--level", "CLEAN_WITH_EXCEPTIONS", stdin=mobile(1)).code
    untried = desk.look("release", "check", "--number", "-", "--level", "CLEAN_WITH_EXCEPTIONS", stdin=mobile(2))
    assert (6, True) == (untried.code, "may NOT be sold" in untried.out), untried.told
    unknown = desk.look(*ask, stdin=mobile(3))
    assert (5, False) == (unknown.code, json.loads(unknown.out)["may_be_sold"]), unknown.told
    for done in (clean, refused, untried, unknown):
        assert mobile(0)[3:] not in done.out + done.err


def test_a_run_is_listed_for_people_and_for_programs(desk: Renewal, tmp_path: Path) -> None:
    """On a pipe all numbers; in a table those that need somebody; nowhere a number in the clear."""
    table = desk.look("release", "list")
    assert (0, True) == (table.code, "1 numbers may be sold, 2 may not" in table.err), table.told
    assert "beta refused (funds_or_debt)" in table.out
    listed = {lines: desk.look("release", "list", "-o", lines) for lines in ("json", "csv")}
    assert [True, False, False] == [row["may_be_sold"] for row in json.loads(listed["json"].out)]
    assert 4 == len(listed["csv"].out.splitlines())
    assert [] == [done.told for done in (table, *listed.values()) if "13800000000" in done.out + done.err]


def test_full_numbers_need_a_file_and_a_reason(desk: Renewal, tmp_path: Path) -> None:
    """A terminal scrolls back, and a log keeps what is piped into it."""
    path, reason = tmp_path / "sales.csv", ["--reason", "sales of week 45"]
    assert 2 == desk.look("release", "list", "--with-numbers", *reason).code
    assert 2 == desk.look("release", "list", "--with-numbers", "--file", path).code
    assert 6 == desk.look("release", "list", "--with-numbers", *reason, "--file", "/dev/stdout").code
    assert not path.exists()
    done = desk.run("release", "list", "--with-numbers", *reason, "--file", path)
    assert (0, 0o600) == (done.code, stat.S_IMODE(path.stat().st_mode)), done.told
    assert [mobile(index) for index in range(3)] == [row["e164"] for row in rows_of(path)]
    assert "13800000000" not in done.out + done.err
    noted = json.loads(desk.look("actions", "list", "-o", "json").out)
    assert [("numbers.export", "sales of week 45")] == [(each["what"], each["reason"]) for each in noted]
