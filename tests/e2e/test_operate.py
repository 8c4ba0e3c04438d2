"""A night operator at the command line: look, turn, and see on record what was done."""

import json
from pathlib import Path
from typing import Any

import pytest

from backends.bootstrap import Backends, open_backends
from backends.embedded import EmbeddedValkey
from backends.settings import Settings
from backends.vault import new_key_file, write_key_file
from schemas.ids import new_id
from schemas.outcome import Fault
from tests.command import Done, Renewal, write_platform
from tests.letters import die

NUMBER = "13812345678"
HEALTH = {"state", "success_pct", "p95_ms", "calls_per_s_now", "rate_limit", "in_flight_now", "waiting", "dead"}


@pytest.fixture
def desk(renewal: Renewal, valkey: EmbeddedValkey, tmp_path: Path) -> Renewal:
    """The command with a store and a catalogue of two platforms, and no process of ours."""
    for key in ("alpha", "beta"):
        write_platform(tmp_path / "catalogue", key, limits={"calls_per_s": 10, "in_flight": 4})
    write_key_file(tmp_path / "number-keys", new_key_file())
    renewal.settings |= {
        "RENEWAL_REDIS_URL": valkey.url,
        "RENEWAL_NAMESPACE": f"t{new_id()}",
        "RENEWAL_NUMBER_KEYS_FILE": str(tmp_path / "number-keys"),
        "RENEWAL_CATALOGUE": str(tmp_path / "catalogue"),
    }
    return renewal


def stores(desk: Renewal) -> Backends:
    """Open what the command stands on."""
    settings = desk.settings
    return open_backends(
        Settings(
            redis_url=settings["RENEWAL_REDIS_URL"],
            namespace=settings["RENEWAL_NAMESPACE"],
            number_keys_file=Path(settings["RENEWAL_NUMBER_KEYS_FILE"]),
            data_dir=desk.data,
        )
    )


def rows(done: Done) -> list[dict[str, Any]]:
    """Return the rows of a command that went well."""
    assert 0 == done.code, done.told
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def test_without_a_system_the_catalogue_is_listed_and_nothing_is_started(renewal: Renewal, tmp_path: Path) -> None:
    """Who reads the catalogue on a laptop wants no server."""
    write_platform(tmp_path / "catalogue", "alpha")
    done = renewal.look("platforms", "list", "-o", "json", RENEWAL_CATALOGUE=str(tmp_path / "catalogue"))
    (row,) = rows(done)
    assert ("alpha", "bulk-json") == (row["key"], row["protocol"])
    assert "not up" in done.err
    assert not renewal.data.exists()
    asked = renewal.look("platforms", "list", "--state", "paused", RENEWAL_CATALOGUE=str(tmp_path / "catalogue"))
    assert 2 == asked.code, asked.told


def test_a_platform_is_paused_seen_and_resumed_and_all_is_on_record(desk: Renewal) -> None:
    """The whole way of one night's change, by the commands alone."""
    paused = desk.run(
        "platforms", "pause", "alpha", "--for", "2h", "--reason", f"owner of {NUMBER}", "--as", "li", "-o", "json"
    )
    assert ("flowing", "paused") == (rows(paused)[0]["before"]["state"], rows(paused)[0]["after"]["state"])
    first, second = rows(desk.look("platforms", "list", "-o", "json"))
    assert (("alpha", "paused"), ("beta", "flowing")) == tuple((row["key"], row["state"]) for row in (first, second))
    assert set(first) >= HEALTH
    assert ["alpha"] == [row["key"] for row in rows(desk.look("platforms", "list", "--state", "paused", "-o", "json"))]
    resumed = desk.look("platforms", "resume", "alpha", "--reason", "they are ready")
    assert 0 == resumed.code, resumed.told
    actions = rows(desk.look("actions", "list", "--target", "alpha", "--since", "1h", "-o", "json"))
    assert ["platform.pause", "platform.resume"] == [action["what"] for action in actions]
    assert actions[0]["who"].startswith("li (")
    assert "owner of 138****78" == actions[0]["reason"]
    assert NUMBER not in "".join([paused.out, paused.err, *(str(action) for action in actions)])


def test_a_command_that_went_well_logs_nothing(desk: Renewal) -> None:
    """A program reads standard output; on a terminal a line of JSON would only be in the way."""
    done = desk.run("platforms", "suspend", "beta", "--reason", "key leaked", "-o", "json")
    assert "suspended" == rows(done)[0]["after"]["state"]
    assert "" == done.err


def test_show_says_all_about_one_platform(desk: Renewal) -> None:
    """Entry, gate, limits of a person, and why its jobs died: on one page."""
    backends = stores(desk)
    die(backends, ["alpha"], count=3)
    backends.close()
    limited = desk.look("platforms", "limit", "alpha", "--calls-per-s", "2.5", "--reason", "slow")
    assert 0 == limited.code, limited.told
    done = desk.look("platforms", "show", "alpha", "-o", "json")
    assert 0 == done.code, done.told
    shown = json.loads(done.out)
    assert (10.0, 2.5, 2.5) == (
        shown["limits"]["calls_per_s"], shown["health"]["rate_limit"], shown["gate"]["limit_calls_per_s"]
    )  # fmt: skip
    assert [(Fault.REJECTED_REQUEST.value, 3)] == [(each["reason"], each["count"]) for each in shown["dead_groups"]]
    assert "dead_groups" in desk.look("platforms", "show", "alpha").out


WRONG = {
    "unknown platform": (["platforms", "pause", "alpha", "gamma", "--reason", "x"], 5, "gamma"),
    "no reason": (["platforms", "pause", "alpha"], 2, "--reason"),
    "blank reason": (["platforms", "resume", "alpha", "--reason", " "], 2, "--reason"),
    "no limit": (["platforms", "limit", "alpha", "--reason", "x"], 2, "--calls-per-s"),
    "limit and clear": (["platforms", "limit", "alpha", "--in-flight", "1", "--clear", "--reason", "x"], 2, "--clear"),
    "no number": (["platforms", "limit", "alpha", "--calls-per-s", "nan", "--reason", "x"], 2, "--calls-per-s"),
    "wrong time": (["platforms", "pause", "alpha", "--for", "soon", "--reason", "x"], 2, "--for"),
    "unknown state": (["platforms", "list", "--state", "asleep"], 2, "asleep"),
    "unknown kind": (["actions", "list", "--what", "coffee"], 2, "coffee"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_and_changes_nothing(desk: Renewal, name: str) -> None:
    """At night people mistype; the exit code tells a script, the message a person."""
    arguments, code, word = WRONG[name]
    done = desk.look(*arguments)
    assert code == done.code, done.told
    assert word in done.err
    assert "Traceback" not in done.err
    backends = stores(desk)
    assert [] == backends.actions.list()
    backends.close()


def test_a_dry_run_shows_and_changes_nothing(desk: Renewal) -> None:
    """Look before you turn."""
    done = desk.look("platforms", "suspend", "alpha", "beta", "--reason", "x", "--dry-run", "-o", "json")
    assert [("suspended", True)] * 2 == [(row["after"]["state"], row["dry_run"]) for row in rows(done)]
    assert {"flowing"} == {row["state"] for row in rows(desk.look("platforms", "list", "-o", "json"))}
    assert [] == rows(desk.look("actions", "list", "-o", "json"))


def test_alerts_exit_1_and_name_their_page(desk: Renewal) -> None:
    """A cron job needs no more than the exit code; here no process of ours lives."""
    done = desk.run("alerts", "-o", "json")
    assert 1 == done.code, done.told
    codes = [row["code"] for row in json.loads(done.out)]
    assert ["no_worker", "no_recorder", "no_scheduler"] == codes
    backends = stores(desk)
    for role in ("worker", "recorder", "scheduler"):
        backends.heartbeats.beat(role, facts={})
    backends.close()
    assert [] == rows(desk.look("alerts", "-o", "json"))
    quiet = desk.look("alerts")
    assert (0, "") == (quiet.code, quiet.out)


def test_queues_workers_and_top_show_the_whole(desk: Renewal) -> None:
    """Off a terminal each prints once, plainly, and ends."""
    backends = stores(desk)
    backends.heartbeats.beat("worker", facts={"running": 2, "platforms": ["alpha"], "batches": 5, "transport": "curl"})
    backends.close()
    queues = {(row["what"], row["name"]) for row in rows(desk.look("queues", "-o", "json"))}
    assert {("queue", "bulk"), ("custody", "begun"), ("waiting", "due now"), ("for a person", "dead")} <= queues
    (worker,) = rows(desk.look("workers", "-o", "json"))
    assert ("worker", "alive", 2, 5, "curl") == tuple(
        worker[name] for name in ("role", "state", "running", "done", "client")
    )
    top = desk.run("top", "--once", FORCE_COLOR="")
    assert 0 == top.code, top.told
    assert "critical no_recorder" in top.out
    assert "\x1b" not in top.out


def test_a_store_that_is_away_is_said_with_exit_8(desk: Renewal) -> None:
    """An empty list would look as if all were well."""
    done = desk.run("platforms", "list", RENEWAL_REDIS_URL="redis://127.0.0.1:1/0")
    assert (8, "") == (done.code, done.out), done.told
