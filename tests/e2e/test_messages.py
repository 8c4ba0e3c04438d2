"""What is wrong is said once, in one clear message, with the right exit code and no traceback."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from backends.vault import new_key_file
from tests.command import Renewal

GOOD = "number,cutoff_at\n13800001234,2026-11-01T00:00:00+08:00\n"
ENTRY = """key: acme
name: {zh: 示例, en: Acme}
category: tools
account_domain: acme
protocol: json
endpoint: https://unbind.acme.example/v1
auth: {scheme: bearer, token: env:ACME_TOKEN_NOT_SET}
"""


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, kept from others."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def prepare(renewal: Renewal) -> None:
    """The files that the cases below speak of."""
    folder = renewal.cwd
    (folder / "good.csv").write_text(GOOD, encoding="utf-8")
    (folder / "column.csv").write_text("number,when\n13800001234,x\n", encoding="utf-8")
    (folder / "gb.csv").write_bytes("number,cutoff_at,reference\n13800001234,2026-11-01,编号一\n".encode("gb18030"))
    for name, text in (("broken", ENTRY.replace("protocol: json", "protocol: fax")), ("secret", ENTRY)):
        (folder / name).mkdir()
        (folder / name / "acme.yaml").write_text(text, encoding="utf-8")
    (folder / "keys").write_text(new_key_file(), encoding="utf-8")
    (folder / "bad-keys").write_text("seal what\n", encoding="utf-8")


CASES = {
    "file missing": (["run", "nope.csv", "--sandbox"], 2, ["nope.csv"]),
    "folder given": (["run", ".", "--sandbox"], 2, ["folder"]),
    "column missing": (["run", "column.csv", "--sandbox"], 2, ["column.csv", "cutoff_at"]),
    "wrong encoding": (["run", "gb.csv", "--sandbox"], 2, ["gb.csv", "--encoding gb18030"]),
    "wrong encoding of a submission": (["submit", "gb.csv"], 2, ["gb.csv", "--encoding gb18030"]),
    "unknown encoding": (["submit", "gb.csv", "--encoding", "klingon"], 2, ["klingon", "gb18030"]),
    "submission of a missing file": (["submit", "nope.csv"], 2, ["nope.csv"]),
    "submission to an unknown platform": (["submit", "good.csv", "--platforms", "wechatt"], 5, ["wechatt", "wechat"]),
    "no catalogue there": (["run", "good.csv", "--catalogue", "nowhere"], 1, ["nowhere"]),
    "unknown platform": (["run", "good.csv", "--sandbox", "--platforms", "wechatt"], 5, ["wechatt", "wechat"]),
    "bad catalogue": (["run", "good.csv", "--catalogue", "broken"], 1, ["acme.yaml", "protocol"]),
    "secret missing": (["run", "good.csv", "--catalogue", "secret"], 1, ["acme", "ACME_TOKEN_NOT_SET"]),
    "check names the field": (["platforms", "check", "broken"], 1, ["acme.yaml", "protocol"]),
    "no such number": (["status", "--number", "13800001234"], 5, ["no case"]),
    "no number at all": (["status", "--number", "hello"], 2, ["number", "11 digits"]),
    "no such reference": (["status", "--reference", "R-1"], 5, ["no case"]),
    "nothing to look for": (["status"], 2, ["--number", "--reference", "--case"]),
    "unknown state": (["results", "export", "--state", "GONE"], 2, ["GONE", "DEAD"]),
    "unknown scenario": (["run", "good.csv", "--sandbox", "--faults", "hail"], 2, ["hail", "storm"]),
    "keys to rotate are missing": (["keys", "rotate", "no-keys"], 1, ["no-keys"]),
    "no run yet": (["results", "export"], 5, ["no run"]),
    "unknown command": (["renew"], 2, ["renew"]),
    "keys are not overwritten": (["keys", "create", "keys"], 6, ["keys"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_gets_one_clear_message(renewal: Renewal, name: str) -> None:
    """It names what is wrong and ends with the code that the help promises."""
    prepare(renewal)
    arguments, code, words = CASES[name]
    # Who takes files in takes over a process, its signals and its log.
    tell = renewal.run if arguments[0] in {"run", "submit", "renew"} else renewal.look
    ended = tell(*arguments)
    assert code == ended.code, ended.err
    assert [] == [word for word in words if word not in ended.err]
    assert "Traceback" not in ended.err
    assert "" == ended.out
    assert [] == renewal.living()


ENVIRONMENTS = {
    "redis away": ({"RENEWAL_REDIS_URL": "redis://:pass@127.0.0.1:{port}/0"}, 8, ["Redis", "RENEWAL_REDIS_URL"]),
    "broker away": ({"RENEWAL_BROKER_URL": "amqp://guest:pass@127.0.0.1:{port}//"}, 8, ["RENEWAL_BROKER_URL"]),
    "bad setting": ({"RENEWAL_QUEUE_HIGH_WATER": "lots"}, 1, ["RENEWAL_QUEUE_HIGH_WATER"]),
    "bad keys": ({"RENEWAL_NUMBER_KEYS_FILE": "bad-keys"}, 1, ["bad-keys", "line 1"]),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_wrong_environment_gets_one_clear_message(renewal: Renewal, name: str, closed_port: int) -> None:
    """It says what was tried and how to set it, and never a password."""
    prepare(renewal)
    environment, code, words = ENVIRONMENTS[name]
    renewal.settings = {key: value.format(port=closed_port) for key, value in environment.items()}
    ended = renewal.run("run", "good.csv", "--sandbox", "--max-seconds", "20")
    assert code == ended.code, ended.err
    assert [] == [word for word in words if word not in ended.err]
    assert "Traceback" not in ended.err
    assert "pass@" not in ended.err
    assert [] == renewal.living()


@pytest.mark.parametrize("variable", ["RENEWAL_REDIS_URL", "RENEWAL_BROKER_URL"])
def test_a_submission_names_the_backend_that_is_away(renewal: Renewal, variable: str, closed_port: int) -> None:
    """A pipeline must tell by the exit code that trying again later is enough."""
    prepare(renewal)
    renewal.settings = {
        "RENEWAL_NUMBER_KEYS_FILE": str(renewal.cwd / "keys"),
        variable: f"redis://:pass@127.0.0.1:{closed_port}/0",
    }
    ended = renewal.run("submit", "good.csv")
    assert 8 == ended.code, ended.err
    assert [] == [word for word in (variable, str(closed_port)) if word not in ended.err]
    assert "Traceback" not in ended.err
    assert "pass@" not in ended.err
    assert [] == renewal.living()


def test_keys_must_be_given_with_a_redis_of_ones_own(renewal: Renewal, closed_port: int) -> None:
    """Keys made on the spot would be beside the wrong data."""
    prepare(renewal)
    renewal.settings = {"RENEWAL_REDIS_URL": f"redis://127.0.0.1:{closed_port}/0"}
    ended = renewal.run("submit", "good.csv")
    assert 1 == ended.code, ended.err
    assert "RENEWAL_NUMBER_KEYS_FILE" in ended.err
    assert "Traceback" not in ended.err


def test_a_file_is_taken_with_the_encoding_that_the_message_named(renewal: Renewal) -> None:
    """Advice that does not work is worse than none."""
    prepare(renewal)
    ended = renewal.run("submit", "gb.csv", "--encoding", "gb18030")
    assert 0 == ended.code, ended.err
    assert "1 cases accepted" in ended.err
    found = renewal.look("status", "--reference", "编号一", "-o", "json")
    assert 0 == found.code, found.err
    assert ["编号一"] == [case["reference"] for case in json.loads(found.out)]


def test_a_bad_row_of_a_submission_is_named_and_the_rest_goes_on(renewal: Renewal) -> None:
    """One typing error must not keep a night's file back."""
    prepare(renewal)
    (renewal.cwd / "row.csv").write_text(f"{GOOD}010-62781234,2026-11-01\n", encoding="utf-8")
    ended = renewal.run("submit", "row.csv", "--rejected", "refused.csv")
    assert 3 == ended.code, ended.err
    assert "1 cases accepted, 0 known already, 1 rows refused" in ended.err
    assert "line 3: number: " in ended.err
    refused = (renewal.cwd / "refused.csv").read_text(encoding="utf-8").splitlines()
    assert "line,field,problem,value" == refused[0]
    assert ["3", "number"] == refused[1].split(",")[:2]
    assert "62781234" not in ended.err + "".join(refused)


def test_a_taken_port_is_named(renewal: Renewal) -> None:
    """Instead of a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = renewal.run("simulate", "--port", port)
    assert 8 == ended.code, ended.err
    assert f"127.0.0.1:{port}" in ended.err
    assert "Traceback" not in ended.err


def test_help_loads_none_of_the_heavy_modules(renewal: Renewal) -> None:
    """`renewal --help` answers at once because it needs little."""
    heavy = {"celery", "kombu", "pydantic", "requests", "redis"}
    probe = f"import sys, ops.cli.main; print(sorted({heavy} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "[]" == ended.stdout.strip()
    assert 0 == renewal.run("--help").code
