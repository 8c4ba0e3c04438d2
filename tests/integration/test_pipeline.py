"""`renewal submit` with `renewal up` beside it: real workers, recorder and scheduler, over Redis and over RabbitMQ."""

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from amqp.exceptions import NotFound, PreconditionFailed
from kombu import Connection
from prometheus_client.parser import text_string_to_metric_families

from backends.api_keys import Scope
from backends.bootstrap import Backends, open_backends
from backends.settings import Settings
from ops.inspector import Inspector
from platforms.catalogue import Catalogue
from schemas.ids import new_id
from schemas.state import STATES, State
from tests.asking import Asker
from tests.command import Done, Renewal, Started, numbers, port_is_open, wait_until, write_input, write_platform

RABBITMQ = os.environ.get("RENEWAL_TEST_RABBITMQ_URL") or "amqp://guest:guest@127.0.0.1:5672//"
NUMBERS = 60
# Low enough that a minute's work of one worker would break each of them.
BULK_LIMITS = {"calls_per_s": 4, "in_flight": 1, "items_per_call": 5}
SINGLE_LIMITS = {"calls_per_s": 15, "in_flight": 2}
BROKERS = ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]


@dataclass(frozen=True)
class Story:
    """The same file submitted twice, and what everybody knew after each time."""

    broker: str
    catalogue: Catalogue
    submitted: Done
    settled: dict[tuple[str, str], State]
    stats: dict[str, Any]
    again: Done
    stats_after: dict[str, Any]
    ledger: dict[str, dict[str, Any]]
    exported: Done
    scraped: dict[tuple[str, ...], float]
    queue_kinds: dict[str, str]
    stopped: Done
    left_alive: list[str]


@pytest.fixture(scope="module", params=BROKERS)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Run it once for each broker; many rules are read off it."""
    folder, namespace = tmp_path_factory.mktemp("pipeline"), f"t{new_id()}"
    settings = {"RENEWAL_PRIVATE_ENDPOINTS": "allow", "RENEWAL_NAMESPACE": namespace}
    with contextlib.ExitStack() as stack:
        if request.param == "rabbitmq":
            stack.enter_context(rabbitmq_queues(namespace))
            settings["RENEWAL_BROKER_URL"] = RABBITMQ
        renewal = Renewal(folder / "clean", **settings)
        stack.callback(renewal.kill_leftovers)
        yield tell(renewal, folder, namespace=namespace, broker=request.param)


def tell(renewal: Renewal, folder: Path, *, namespace: str, broker: str) -> Story:
    """Bring everything up, submit the file, wait for the end, submit it again, and stop."""
    write_catalogue(folder / "catalogue")
    file, sandbox = write_input(folder / "input.csv", numbers(NUMBERS)), folder / "sandbox"
    world = renewal.started(
        "simulate", "--catalogue", folder / "catalogue", "--port", "0", "--faults", "normal",
        "--write-catalogue", sandbox,
    )  # fmt: skip
    with world as simulator:
        url = told(simulator, r"simulating \d+ platforms on (http://\S+) ")
        renewal.settings["RENEWAL_CATALOGUE"] = str(sandbox)
        with renewal.started("up", "--workers", "2") as up:
            told(up, r"(up; logs in)")
            submitted = renewal.run("submit", file)
            with opened(renewal, namespace) as backends:
                run = run_of(submitted)
                inspector = Inspector(backends, Catalogue.load(sandbox))
                wait_until(lambda: not inspector.open_jobs([run]), what="the end of every job")
                stats = fetched(f"{url}/_stats")
                again = renewal.run("submit", file)
                wait_until(lambda: not inspector.open_jobs([run_of(again)]), what="the end of the second run")
                settled = {
                    (view.id, platform): view.record(platform).state
                    for view in inspector.run_cases(run)
                    for platform in view.platforms
                }
                scraped = scrape(backends, Catalogue.load(sandbox))
            story = Story(
                broker=broker,
                catalogue=Catalogue.load(sandbox),
                submitted=submitted,
                settled=settled,
                stats=stats,
                again=again,
                stats_after=fetched(f"{url}/_stats"),
                ledger=ledger_of(url),
                exported=renewal.run("results", "export", "--run", run, "-o", "jsonl"),
                scraped=scraped,
                queue_kinds=queue_kinds(namespace) if broker == "rabbitmq" else {},
                stopped=stop(up),
                left_alive=[line for line in renewal.living() if "simulate" not in line],
            )
    return story


def write_catalogue(folder: Path) -> None:
    """Four platforms of each protocol, with limits that the load must run into."""
    for index in range(4):
        write_platform(folder, f"many{index}", limits=BULK_LIMITS)
        write_platform(folder, f"one{index}", protocol="json", limits=SINGLE_LIMITS)


def told(process: Started, pattern: str) -> str:
    """Return what a process says on standard error, once it does."""
    found = wait_until(lambda: re.search(pattern, process.err), what=pattern)
    return found[1]


def stop(process: Started) -> Done:
    """End a process as a person would."""
    process.process.terminate()
    return process.wait()


def run_of(submitted: Done) -> str:
    """Return the run that a submission names."""
    found = re.search(r"^run ([a-z2-7]{26}):", submitted.err, re.MULTILINE)
    assert found is not None, submitted.told
    return found[1]


@contextlib.contextmanager
def opened(renewal: Renewal, namespace: str) -> Iterator[Backends]:
    """Look at the stores of the system that is up."""
    state = json.loads((renewal.data / "valkey" / "server.json").read_bytes())
    settings = Settings(
        redis_url=f"redis://:{state['password']}@127.0.0.1:{state['port']}/0",
        number_keys_file=renewal.data / "number-keys",
        namespace=namespace,
    )
    with contextlib.closing(open_backends(settings)) as backends:
        yield backends


def fetched(url: str) -> dict[str, Any]:
    """Return a JSON page of the simulator."""
    with urlopen(url, timeout=10) as answer:
        content: dict[str, Any] = json.load(answer)
        return content


def scrape(backends: Backends, catalogue: Catalogue) -> dict[tuple[str, ...], float]:
    """Return what Prometheus would read, by name and values of labels."""
    _, key = backends.api_keys.create("prometheus", Scope.READ, by="a test", now=backends.clock.now())
    answer = Asker(backends, catalogue, key=key).get("/metrics")
    assert 200 == answer.status_code, answer.text
    families = text_string_to_metric_families(answer.text)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def ledger_of(url: str) -> dict[str, dict[str, Any]]:
    """Return what the platforms recorded, by job."""
    with urlopen(f"{url}/_ledger", timeout=10) as answer:
        entries = [json.loads(line) for line in answer if line.strip()]
    return {entry["id"]: entry for entry in entries}


# -- RabbitMQ ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def rabbitmq_queues(namespace: str) -> Iterator[None]:
    """Skip the test where no RabbitMQ answers; take the namespace's queues away at the end."""
    if not port_is_open(urlsplit(RABBITMQ).port or 5672):
        pytest.skip("no RabbitMQ at 127.0.0.1:5672; start one, or set RENEWAL_TEST_RABBITMQ_URL")
    try:
        yield
    finally:
        with Connection(RABBITMQ, connect_timeout=5) as connection:
            for name in queue_names(namespace):
                channel: Any = connection.channel()
                with contextlib.suppress(NotFound):
                    channel.queue_delete(name)


def queue_names(namespace: str) -> list[str]:
    """Return the queues that a namespace needs."""
    return [f"{namespace}.{name}" for name in ("interactive", "bulk", "results")]


def queue_kinds(namespace: str) -> dict[str, str]:
    """Return the kind of each queue: only an equal declaration of one that exists is accepted."""
    kinds: dict[str, str] = {}
    with Connection(RABBITMQ, connect_timeout=5) as connection:
        for name in queue_names(namespace):
            channel: Any = connection.channel()  # a refused declaration closes its channel
            try:
                channel.queue_declare(name, passive=True)
                channel.queue_declare(name, durable=True, auto_delete=False)
                kinds[name] = "classic"
            except NotFound as missing:
                kinds[name] = str(missing)
            except PreconditionFailed as refusal:
                kinds[name] = "quorum" if "'quorum'" in str(refusal) else str(refusal)
    return kinds


# -- the rules -----------------------------------------------------------------------------------------------------


def test_every_job_of_a_submitted_file_is_settled(story: Story) -> None:
    """Whoever submits and leaves must find an end for each job, whatever faults the platforms had."""
    assert 0 == story.submitted.code, story.submitted.err
    assert f"{NUMBERS} cases accepted, 0 known already, 0 rows refused" in story.submitted.err
    assert NUMBERS * len(story.catalogue) == len(story.settled)
    assert [] == [job for job, state in story.settled.items() if state in {State.QUEUED, State.WAITING}]


def test_recorded_outcomes_agree_with_the_platforms_ledger(story: Story) -> None:
    """The record is worth nothing where a platform knows it otherwise; an effect may come once."""
    recorded = {f"{case}.{platform}": state for (case, platform), state in story.settled.items()}
    finals = {job: state.value for job, state in recorded.items() if STATES[state].final}
    assert finals == {job: story.ledger[job]["outcome"] for job in finals}
    assert set() == set(story.ledger) - set(recorded)
    assert [] == [job for job, entry in story.ledger.items() if entry["effects"] > 1]
    effects = {job for job, entry in story.ledger.items() if entry["effects"]}
    assert effects == {job for job, state in recorded.items() if state is State.UNBOUND}
    assert effects, "a comparison without a single effect shows nothing"


def test_the_metrics_are_what_the_platforms_counted(story: Story) -> None:
    """Exact, though four processes worked on it: calls as they came to each platform, jobs as they are recorded."""
    calls, states = Counter[str](), Counter(state.value for state in story.settled.values())
    for (name, *labels), value in story.scraped.items():
        if name == "renewal_calls_total":
            calls[labels[0]] += int(value)
    came = {key: platform["requests"] for key, platform in story.stats_after["platforms"].items()}
    assert set(came) == set(calls)
    # A kept connection that ends under a call is replaced at once: the platform sees two, and it is one call of ours.
    cut = {
        key: sum(platform["faults"].get(kind, 0) for kind in ("reset", "lost_answer"))
        for key, platform in story.stats_after["platforms"].items()
    }
    assert {} == {key: n for key, n in came.items() if not n - cut[key] <= calls[key] <= n}
    scraped = {labels[0]: value for (name, *labels), value in story.scraped.items() if name == "renewal_jobs" and value}
    assert states == scraped
    finished = {labels[0]: n for (name, *labels), n in story.scraped.items() if name == "renewal_cases"}
    assert NUMBERS == sum(finished.values())
    buckets = (n for (name, *labels), n in story.scraped.items() if name.endswith("_bucket") and "+Inf" in labels)
    assert sum(calls.values()) == sum(buckets)
    assert (2, 1, 1) == tuple(story.scraped["renewal_processes", role] for role in ("worker", "recorder", "scheduler"))


def test_the_exported_results_are_the_recorded_ones(story: Story) -> None:
    """What a pipeline reads must be what is stored, masked."""
    assert 0 == story.exported.code, story.exported.err
    rows = [json.loads(line) for line in story.exported.out.splitlines()]
    exported = {(row["case"], row["platform"]): row["state"] for row in rows}
    assert {job: state.value for job, state in story.settled.items()} == exported
    assert [] == [row["number"] for row in rows if not re.fullmatch(r"1\d{2}\*{4}\d{4}", row["number"])]


def test_the_same_file_again_adds_nothing(story: Story) -> None:
    """A pipeline that repeats a file after a time-out must not ask anybody twice."""
    assert 0 == story.again.code, story.again.err
    assert f"0 cases accepted, {NUMBERS} known already, 0 rows refused, 0 batches queued" in story.again.err
    counted = ("requests", "items", "jobs", "effects")
    assert {name: story.stats[name] for name in counted} == {name: story.stats_after[name] for name in counted}


def test_no_platform_has_more_calls_open_than_its_limit(story: Story) -> None:
    """In-flight is shared by every thread of every worker: the sum counts, as the platform sees it."""
    limits = {entry.key: entry.limits.in_flight for entry in story.catalogue}
    peaks = {key: platform["in_flight_max"] for key, platform in story.stats["platforms"].items()}
    assert set(limits) == set(peaks)
    assert {} == {key: (peak, limits[key]) for key, peak in peaks.items() if peak > limits[key]}


def test_no_platform_is_called_faster_than_its_limit(story: Story) -> None:
    """A platform that is called too fast shuts the operator out; one that is called far too slowly loses the night."""
    limits = {entry.key: entry.limits.calls_per_s for entry in story.catalogue}
    peaks = {key: platform["requests_per_s_max"] for key, platform in story.stats["platforms"].items()}
    # The exact bound is held where no process can be late (test_admit_script.py). Here calls leave evenly spaced, but a
    # worker that the machine let wait for a moment sends what has become due in that moment together.
    assert {} == {key: (peak, limits[key]) for key, peak in peaks.items() if peak > 1.3 * limits[key] + 2}
    assert {} == {key: (peak, limits[key]) for key, peak in peaks.items() if peak < limits[key] / 2}


def test_up_ends_in_order_and_leaves_no_process(story: Story) -> None:
    """Whoever stops the system must have it stopped."""
    assert 0 == story.stopped.code, story.stopped.err
    assert "Traceback" not in story.stopped.err
    assert [] == story.left_alive


def test_on_rabbitmq_every_queue_is_a_quorum_queue(story: Story) -> None:
    """A classic queue loses its messages with its node, and counts no deliveries."""
    expected = dict.fromkeys(story.queue_kinds, "quorum")
    assert {"rabbitmq": 3, "redis": 0}[story.broker] == len(expected)
    assert expected == story.queue_kinds
