"""`renewal platforms test`: the command, its file of numbers, the look at TLS, and the guide that names every check."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from ops.cli.main import app
from ops.conformance.check import Verdict
from ops.conformance.handshake import shake_hands
from ops.conformance.played import Handshake, Played
from ops.conformance.rehearsal import CHECKS
from platforms.catalogue import Catalogue
from schemas.errors import InputError
from tests.command import free_port
from tests.rehearsed import ROOT, SECRET, entry, example_numbers, example_served
from tests.stranger import Server, friendly, self_signed
from workers.tls import Tls

GUIDE = (ROOT / "docs" / "integrate.md").read_text(encoding="utf-8")


def numbers_file(path: Path) -> Path:
    """Write the numbers that are lent to the example server."""
    rows = [f"{n.role},{n.number},{n.bound_at.isoformat() if n.bound_at else ''}" for n in example_numbers()]
    path.write_text("\n".join(["role,number,bound_at", *rows]), encoding="utf-8")
    return path


def command(*arguments: str | Path, stdin: str = "") -> Result:
    """Run `renewal platforms test`."""
    return CliRunner().invoke(app, ["platforms", "test", *map(str, arguments)], input=stdin)


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the entry of the example server, whose endpoint leads nowhere."""
    monkeypatch.setenv("ACME_SECRET", SECRET)
    monkeypatch.setenv("RENEWAL_PRIVATE_ENDPOINTS", "allow")
    folder = tmp_path / "catalogue"
    folder.mkdir()
    platform = entry(1, outcomes=Catalogue.load(ROOT / "examples" / "catalogue").get("acme").outcomes)
    (folder / "acme.yaml").write_text(
        yaml.safe_dump(json.loads(platform.model_dump_json(exclude_defaults=True))), encoding="utf-8"
    )
    return folder


def test_the_command_prints_every_check_and_ends_well(tmp_path: Path, catalogue: Path) -> None:
    """Another address than the entry's, numbers from standard input, fields for a program."""
    lent = numbers_file(tmp_path / "numbers.csv").read_text(encoding="utf-8")
    with example_served(tmp_path / "record.csv") as platform:
        done = command(
            "acme",
            "--catalogue",
            catalogue,
            "--endpoint",
            platform.endpoint,
            "--numbers",
            "-",
            "-o",
            "json",
            stdin=lent,
        )
    assert 0 == done.exit_code, done.output
    rows = json.loads(done.stdout)
    assert [check.name for check in CHECKS] == [row["check"] for row in rows]
    assert {"must", "should"} == {row["kind"] for row in rows}
    assert not any(lent.number[3:] in done.output for lent in example_numbers())


def test_the_command_hears_callbacks(tmp_path: Path, catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words on standard error say where the platform has to call; standard output is the result alone."""
    monkeypatch.setenv("ACME_CALLBACK_SECRET", SECRET)
    with (catalogue / "acme.yaml").open("a", encoding="utf-8") as file:
        file.write("callback: {secret: env:ACME_CALLBACK_SECRET}\n")
    port = free_port()

    def put_off(module: Any) -> None:
        module.CALL_AGAIN_S = 0.05
        at = f"http://127.0.0.1:{port}/v1/callbacks/acme"
        module.Handler.later = module.Later(0.1, url=at, secret=SECRET)

    listening = ("--listen", f"127.0.0.1:{port}", "--callback-url", "https://test.operator.example/", "--wait", "10s")
    with example_served(tmp_path / "record.csv", spoil=put_off) as platform:
        at = ("--catalogue", catalogue, "--endpoint", platform.endpoint)
        done = command("acme", *at, "--numbers", numbers_file(tmp_path / "numbers.csv"), *listening, "-o", "csv")
    assert 0 == done.exit_code, done.output
    assert "your platform calls https://test.operator.example/v1/callbacks/acme" in done.stderr
    assert "callback-again,must,passed," in done.stdout


def test_the_command_ends_with_3_where_a_must_does_not_hold(tmp_path: Path, catalogue: Path) -> None:
    """A pipeline of the integrator stops there."""
    done = command("acme", "--catalogue", catalogue, "--numbers", numbers_file(tmp_path / "numbers.csv"))
    assert 3 == done.exit_code
    assert "the connection was refused or broke" in done.stdout
    assert "musts do not hold" in done.stderr


BAD_NUMBERS = {
    "number,bound_at\n1,2\n": "expected the columns role, number, bound_at",
    "role,number\nowner,13800138000\n": "line 2: role: expected one of bound_before, bound_after, not_bound, refusing",
    "role,number\nnot_bound,0213800138\n": "line 2: number: ",
    "role,number,bound_at\nbound_after,13800138000,2026-01-05\n": "line 2: bound_at: expected the instant",
    "role,number\nbound_before,13800138000\n": "line 2: bound_at: expected the instant",
    "role,number\nrefusing,13800138000\n": "role: expected at least one number with the role not_bound",
    "role,number\nnot_bound,13800138000\nrefusing,+86 138 0013 8000\n": "number: the same one twice",
}


@pytest.mark.parametrize("lines", BAD_NUMBERS)
def test_a_wrong_line_of_numbers_is_named_without_its_number(catalogue: Path, lines: str) -> None:
    """Nothing is sent before the whole file is right."""
    done = command("acme", "--catalogue", catalogue, "--numbers", "-", stdin=lines)
    assert isinstance(done.exception, InputError)
    assert BAD_NUMBERS[lines] in str(done.exception)
    assert "13800138000" not in str(done.exception)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--numbers"),
        (("--numbers", "nowhere.csv"), "--numbers nowhere.csv: cannot be read"),
        (("--numbers", "-", "--endpoint", "ftp://a.example"), "--endpoint: expected an http or https URL"),
        (("--numbers", "-", "--listen", "127.0.0.1:0"), "--listen and --callback-url belong together"),
        (("--numbers", "-", "--wait", "soon"), "--wait"),
        (("--numbers", "-", "--listen", "here", "--callback-url", "http://a.example"), "--listen: expected HOST:PORT"),
    ],
)
def test_a_wrong_option_is_named(catalogue: Path, options: tuple[str, ...], said: str) -> None:
    """There is no number that is taken where none is given."""
    done = command("acme", "--catalogue", catalogue, *options, stdin="role,number\nnot_bound,13800138000\n")
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)


def test_a_certificate_that_nobody_vouches_for_is_named(tmp_path: Path) -> None:
    """The words of the TLS library, which a failed call alone does not have; plain HTTP has none."""
    context, _ = self_signed(tmp_path, address="127.0.0.1")
    server = Server(friendly, tls=context)
    try:
        found = shake_hands(server.url, tls=Tls(), private_endpoints=True)
        private = shake_hands(server.url, tls=Tls(), private_endpoints=False)
    finally:
        server.close()
    assert found is not None
    assert found.problem.startswith("certificate: ")
    assert Handshake(problem="the address is private") == private
    assert shake_hands("http://127.0.0.1/", tls=Tls(), private_endpoints=True) is None


def test_plain_http_is_good_for_this_machine_alone() -> None:
    """An endpoint on the net must be https, whatever answers there."""
    tls = next(check for check in CHECKS if check.name == "tls")
    now = datetime.now(UTC)
    at = {
        place: Played(platform=entry(1, endpoint=f"http://{place}/x"), asked=(), answers={}, ended_at=now)
        for place in ("localhost", "a.example")
    }
    assert Verdict.NOT_NEEDED is tls.finding(at["localhost"]).verdict
    assert Verdict.FAILED is tls.finding(at["a.example"]).verdict


def test_a_certificate_that_ends_soon_is_told_before_it_does() -> None:
    """Two weeks are enough to get another one."""
    tls = next(check for check in CHECKS if check.name == "tls")
    now = datetime.now(UTC)
    for days, verdict in ((13, Verdict.FAILED), (15, Verdict.PASSED)):
        hands = Handshake(version="TLSv1.3", expires_at=now + timedelta(days=days))
        played = Played(
            platform=entry(1, endpoint="https://a.example/"), asked=(), answers={}, ended_at=now, handshake=hands
        )
        assert verdict is tls.finding(played).verdict


def test_every_check_is_in_the_guide_and_leads_to_a_section_of_it() -> None:
    """Who reads that a rule does not hold finds the rule."""
    titles = re.findall(r"^#+ +(.+?) *$", GUIDE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert [] == [check.name for check in CHECKS if check.section not in anchors]
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (must|should) \|", GUIDE, re.MULTILINE))
    assert {check.name: "must" if check.must else "should" for check in CHECKS} == rows
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert [] == [check.name for check in CHECKS if not check.about.endswith(".")]
