"""Interrupted runs: nothing of them stays behind, no job is lost, and the same command takes the run up."""

import signal
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.command import (
    Done,
    Renewal,
    Started,
    numbers,
    port_is_open,
    rows_of,
    wait_until,
    write_input,
    write_mixed_catalogue,
)

NUMBERS = 150
PLATFORMS = 20
# Ledger bytes at which some hundred of the 3,000 jobs have been answered, and most have not.
UNDER_WAY_BYTES = 10_000
FINISHED_BYTES = 200_000


@dataclass(frozen=True)
class Interruptible:
    """A command that lasts some seconds, to be given again and again."""

    renewal: Renewal
    arguments: tuple[str | Path, ...]
    report: Path

    def run_until_under_way(self, stop: signal.Signals) -> "Ended":
        """Start it, and send `stop` to it alone once platforms have begun to answer."""
        with self.renewal.started(*self.arguments) as run:
            wait_until(lambda: self._under_way(run), what="the platforms' first answers")
            port = wait_until(self.renewal.valkey_port, what="the embedded Valkey")
            run.send(stop)
            return Ended(done=run.wait(), answered=self.renewal.asked(), valkey_port=port)

    def _under_way(self, run: Started) -> bool:
        assert run.process.poll() is None, run.err
        return self.renewal.asked() > UNDER_WAY_BYTES

    def roles(self) -> list[str]:
        """Return what lives of it, other than the Valkey that a killed owner leaves to the next command."""
        return [line for line in self.renewal.living() if "valkey-server" not in line and "server.conf" not in line]

    def finish(self) -> Done:
        """Give the same command again, and let it end by itself."""
        done = self.renewal.run(*self.arguments)
        assert 0 == done.code, done.err
        return done


@dataclass(frozen=True)
class Ended:
    """How an interrupted run ended, and how far it was."""

    done: Done
    answered: int
    valkey_port: int


@pytest.fixture
def interruptible(renewal: Renewal, tmp_path: Path) -> Interruptible:
    """Some thousand jobs at platforms of both protocols, with the usual faults."""
    catalogue = write_mixed_catalogue(tmp_path / "catalogue", bulk=PLATFORMS - 6, single=6)
    file, report = write_input(tmp_path / "input.csv", numbers(NUMBERS)), tmp_path / "report"
    arguments = ("run", file, "--sandbox", "--catalogue", catalogue, "--report", report, "-o", "json")
    return Interruptible(renewal=renewal, arguments=arguments, report=report)


def assert_nothing_lost_and_nothing_twice(interruptible: Interruptible, done: Done) -> None:
    """Every job of the file has one end, and every platform knows the same."""
    summary = done.summary
    assert NUMBERS * PLATFORMS == summary["jobs"]["total"] == sum(summary["jobs"]["by_state"].values())
    assert set() == {"QUEUED", "WAITING"} & set(summary["jobs"]["by_state"])
    found = {name: summary["ledger"][name] for name in ("agrees", "second_effects", "unknown_effects", "examples")}
    assert {"agrees": True, "second_effects": 0, "unknown_effects": 0, "examples": []} == found
    rows = rows_of(interruptible.report / "results.csv")
    assert NUMBERS * PLATFORMS == len({(row["case"], row["platform"]) for row in rows}) == len(rows)


def runs_of(renewal: Renewal) -> int:
    """Return how many runs the data folder knows: one that was taken up is still the same."""
    return len(list(renewal.data.glob("runs/*/run.json")))


def server_of(renewal: Renewal) -> psutil.Process | None:
    """Return the process that listens on the port of the embedded Valkey."""
    port = renewal.valkey_port()
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return psutil.Process(connection.pid) if connection.pid else None
    return None


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_alive_and_is_taken_up_again(
    interruptible: Interruptible, stop: signal.Signals
) -> None:
    """Ctrl-C is how a person changes their mind: it costs them neither a job nor a look for stray processes."""
    renewal = interruptible.renewal
    ended = interruptible.run_until_under_way(stop)
    assert 130 == ended.done.code, ended.done.err
    said = "renewal: interrupted; the same command takes the run up again"
    assert said == ended.done.err.strip().splitlines()[-1]
    assert "Traceback" not in ended.done.err
    assert ended.answered < FINISHED_BYTES, "it was interrupted too late to show anything"
    assert [] == renewal.living()
    assert not port_is_open(ended.valkey_port)
    assert_nothing_lost_and_nothing_twice(interruptible, interruptible.finish())
    assert 1 == runs_of(renewal)
    assert [] == renewal.living()


def test_the_processes_of_a_killed_run_end_by_themselves_and_it_is_taken_up_again(
    interruptible: Interruptible,
) -> None:
    """SIGKILL asks nobody: workers must notice, and the next command finds everything and stops the Valkey."""
    renewal = interruptible.renewal
    ended = interruptible.run_until_under_way(signal.SIGKILL)
    assert -signal.SIGKILL == ended.done.code
    assert ended.answered < FINISHED_BYTES, "it was killed too late to show anything"
    wait_until(lambda: not interruptible.roles(), what="the end of every process of the killed run")
    assert_nothing_lost_and_nothing_twice(interruptible, interruptible.finish())
    assert 1 == runs_of(renewal)
    assert [] == renewal.living()
    assert not port_is_open(ended.valkey_port)
    for folder in (renewal.home, renewal.temporary, renewal.cwd):
        assert [] == list(folder.rglob("*"))


def test_a_killed_run_can_be_taken_up_at_once(interruptible: Interruptible) -> None:
    """Nobody waits politely after a crash: the next command is given while the last one's workers still end."""
    renewal = interruptible.renewal
    interruptible.run_until_under_way(signal.SIGKILL)
    assert_nothing_lost_and_nothing_twice(interruptible, interruptible.finish())
    assert 1 == runs_of(renewal)
    assert [] == renewal.living()


def test_a_run_survives_the_death_of_its_valkey(interruptible: Interruptible) -> None:
    """Memory ran out and the kernel chose the store: it comes back on what it wrote down, and the run goes on."""
    renewal = interruptible.renewal
    with renewal.started(*interruptible.arguments) as run:
        wait_until(lambda: interruptible._under_way(run), what="the platforms' first answers")
        server = wait_until(lambda: server_of(renewal), what="the embedded Valkey")
        server.kill()
        done = run.wait(110)
    assert 0 == done.code, done.err
    assert_nothing_lost_and_nothing_twice(interruptible, done)
    (log,) = renewal.data.glob("runs/*/run.log")
    assert '"process": "valkey"' in log.read_text(encoding="utf-8")
    assert [] == renewal.living()
