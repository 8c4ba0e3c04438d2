"""The engine of mass replay against the real stores: a canary first, nothing twice, nothing lost."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.bootstrap import Backends
from backends.keys import REPLAY_LOCK_TTL_S
from backends.replays import Phase, Replay, Skip
from backends.waiting import Why
from platforms.catalogue import Catalogue
from producers.replay import Replayer
from schemas.batch import Batch
from schemas.errors import NotFound
from schemas.ids import job_id, new_id
from schemas.outcome import Fault
from schemas.state import State
from tests.command import write_platform
from tests.fixtures_valkey import NOON, ONE_NAMESPACE
from tests.letters import CUTOFF, accept, die, drain, record, record_of

CANARY = 4
PER_BATCH = 6
STEPS = 200


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Two platforms that take six jobs a call."""
    for key in ("alpha", "beta"):
        write_platform(tmp_path / "catalogue", key, limits={"items_per_call": PER_BATCH, "calls_per_s": 1})
    return Catalogue.load(tmp_path / "catalogue")


def ask(
    backends: Backends, cases: Sequence[str], platforms: Sequence[str] = ("alpha",), *, state: State = State.DEAD
) -> str:
    """Ask for a replay of these cases' jobs."""
    ident = new_id()
    backends.replays.create(
        ident, jobs=[job_id(case, platform) for platform in platforms for case in cases], who="somebody@here",
        reason="mended", wanted="platform alpha", state=state, canary=CANARY, now=NOON,
    )  # fmt: skip
    return ident


def answer(backends: Backends, batches: Sequence[Batch], state: State = State.UNBOUND) -> None:
    """Let a worker and the recorder have dealt with batches."""
    for batch in batches:
        cases = [job.case for job in batch.jobs]
        reason = Fault.SERVER_ERROR if state in {State.DEAD, State.WAITING} else None
        record(backends, batch.platform, cases, state=state, reason=reason, attempt=batch.attempt,
               generation=batch.generation)  # fmt: skip


def run(backends: Backends, replayer: Replayer, ident: str, *, state: State = State.UNBOUND) -> Replay:
    """Step a replay to its end; every batch that it sends is answered so."""
    for _ in range(STEPS):
        replayer.step()
        answer(backends, drain(backends), state)
        if ident not in backends.replays.awake():
            return backends.replays.get(ident)
    raise AssertionError(f"no end after {STEPS} steps: {backends.replays.get(ident)}")


def total(replay: Replay, name: str) -> Counter[str]:
    """Add up one kind of count over the platforms."""
    return sum((Counter(getattr(progress, name)) for progress in replay.platforms), Counter[str]())


def test_a_replay_sends_every_dead_letter_once_and_sees_it_settle(backends: Backends, catalogue: Catalogue) -> None:
    """What a person asked for has an end that can be read off: so many sent, so many settled."""
    cases = die(backends, ["alpha", "beta"], count=20)
    replay = run(backends, Replayer(backends, catalogue), ask(backends, cases, ["alpha", "beta"]))
    assert (Phase.DONE, 40, 0) == (replay.phase, replay.total, replay.out)
    assert {"UNBOUND": 40} == total(replay, "settled")
    assert {State.UNBOUND} == {record_of(backends, case, key).state for case in cases for key in ("alpha", "beta")}
    assert 0 == backends.dead.count()


def test_only_the_canary_is_sent_until_it_has_ended(backends: Backends, catalogue: Catalogue) -> None:
    """If the cause is not mended, a few jobs show it and not a hundred thousand."""
    cases = die(backends, ["alpha", "beta"], count=20)
    ident, replayer = ask(backends, cases, ["alpha", "beta"]), Replayer(backends, catalogue)
    sent = []
    for _ in range(5):
        replayer.step()
        sent += drain(backends)
    assert {"alpha": CANARY, "beta": CANARY} == Counter(batch.platform for batch in sent for _ in batch.jobs)
    answer(backends, sent[:1], State.UNBOUND)
    replayer.step()
    assert {PER_BATCH} == {len(batch.jobs) for batch in drain(backends)}
    assert Phase.RUNNING is backends.replays.get(ident).phase


def test_a_canary_that_fails_stops_its_platform_and_no_other(backends: Backends, catalogue: Catalogue) -> None:
    """One platform that is not mended must not cost the replay of the others."""
    cases = die(backends, ["alpha", "beta"], count=20)
    ident, replayer = ask(backends, cases, ["alpha", "beta"]), Replayer(backends, catalogue)
    for _ in range(STEPS):
        replayer.step()
        for batch in drain(backends):
            answer(backends, [batch], State.DEAD if batch.platform == "alpha" else State.UNBOUND)
    replay = backends.replays.get(ident)
    alpha, beta = replay.platforms
    assert (Phase.STOPPED, Phase.DONE, Phase.STOPPED) == (alpha.phase, beta.phase, replay.phase)
    assert f"canary: {CANARY} of {CANARY} failed again" == alpha.why
    assert {"server_error": CANARY} == alpha.failed
    assert 20 == sum(record_of(backends, case, "alpha").state is State.DEAD for case in cases)
    assert [] == backends.replays.awake()


def test_a_retry_that_is_planned_counts_as_failed_again(backends: Backends, catalogue: Catalogue) -> None:
    """A platform that still answers 503 must not be sent the rest, only because its retries end in five days."""
    replay = run(
        backends, Replayer(backends, catalogue), ask(backends, die(backends, ["alpha"], count=20)), state=State.WAITING
    )
    assert (Phase.STOPPED, {"server_error": CANARY}) == (replay.phase, replay.platforms[0].failed)


def test_a_replay_stops_by_itself_when_jobs_fail_again_later(backends: Backends, catalogue: Catalogue) -> None:
    """A canary may be lucky: what fails afterwards stops the replay too."""
    ident, replayer = ask(backends, die(backends, ["alpha"], count=60)), Replayer(backends, catalogue)
    replayer.step()
    answer(backends, drain(backends))
    replay = run(backends, replayer, ident, state=State.DEAD)
    assert Phase.STOPPED is replay.phase
    assert "of the last 10 failed again" in replay.platforms[0].why
    assert replay.platforms[0].sent < 30


def test_a_resumed_replay_begins_with_a_canary_again(backends: Backends, catalogue: Catalogue) -> None:
    """Whoever resumes believes that the cause is mended now: that is tried out first, too."""
    ident, replayer = ask(backends, die(backends, ["alpha"], count=20)), Replayer(backends, catalogue)
    assert Phase.STOPPED is run(backends, replayer, ident, state=State.DEAD).phase
    backends.replays.resume(ident)
    replayer.step()
    (batch,) = drain(backends)
    assert CANARY == len(batch.jobs)
    answer(backends, [batch])
    replay = run(backends, replayer, ident)
    assert (Phase.DONE, {"UNBOUND": 20 - CANARY}) == (replay.phase, replay.platforms[0].settled)


def test_a_stopped_replay_sends_no_more_but_is_watched(backends: Backends, catalogue: Catalogue) -> None:
    """Who stops a replay wants to see what became of what was out already."""
    ident, replayer = ask(backends, die(backends, ["alpha"], count=20)), Replayer(backends, catalogue)
    replayer.step()
    out = drain(backends)
    backends.replays.stop(ident, why="wrong platform")
    replayer.step()
    answer(backends, out)
    for _ in range(3):
        replayer.step()
    replay = backends.replays.get(ident)
    assert [] == drain(backends)
    assert (Phase.STOPPED, "wrong platform", 0) == (replay.phase, replay.halt, replay.out)
    assert {"UNBOUND": CANARY} == replay.platforms[0].settled
    assert [] == backends.replays.awake()
    backends.replays.resume(ident)
    assert Phase.DONE is run(backends, replayer, ident).phase


def test_a_replayed_job_gets_a_full_set_of_attempts(backends: Backends, catalogue: Catalogue) -> None:
    """Attempt numbers go on, but what the first generation spent must not bury the second at its first fault."""
    cases = accept(backends, ["alpha"], count=1)
    record(backends, "alpha", cases, attempt=12)
    ask(backends, cases)
    Replayer(backends, catalogue).step()
    (leased,) = [backends.waiting.lease(NOON, at_most=5)]
    (waiter,) = leased.waiters
    batch = waiter.batch
    assert Why.REPLAY is waiter.why
    assert (13, 13, 1) == (batch.attempt, batch.first_attempt, batch.generation)
    assert NOON + timedelta(seconds=catalogue.get("alpha").retry.total_s) == batch.deadline
    assert CUTOFF == batch.jobs[0].cutoff_at
    known = record_of(backends, cases[0], "alpha")
    assert (State.QUEUED, 12, 1) == (known.state, known.attempts, known.generation)


def test_what_may_not_be_sent_is_skipped_and_said(backends: Backends, catalogue: Catalogue) -> None:
    """A dead letter of weeks ago may be about a number that has been recycled again, or settled late."""
    settled, superseded, spent, good = die(backends, ["alpha", "gone"], count=4)
    record(backends, "alpha", [settled], state=State.NO_BINDING, attempt=2)
    accept(backends, ["alpha"], first=1, cutoff_at="2026-12-01T00:00:00+08:00")
    record(backends, "alpha", [spent], state=State.DEAD, generation=255)
    unknown = new_id()
    ident = ask(backends, [settled, superseded, spent, good, unknown], ["alpha", "gone"])
    replay = run(backends, Replayer(backends, catalogue), ident)
    alpha, gone = replay.platforms
    assert {Skip.CHANGED: 1, Skip.SUPERSEDED: 1, Skip.GENERATIONS: 1, Skip.NO_CASE: 1} == alpha.skipped
    assert {Skip.NO_PLATFORM: 5} == gone.skipped
    assert (1, {"UNBOUND": 1}) == (alpha.sent, alpha.settled)


def test_an_older_case_of_the_number_does_not_supersede(backends: Backends, catalogue: Catalogue) -> None:
    """Only a later cut-off says that the number has changed hands again."""
    accept(backends, ["alpha"], cutoff_at="2025-12-01T00:00:00+08:00")
    cases = die(backends, ["alpha"], count=1)
    assert 1 == run(backends, Replayer(backends, catalogue), ask(backends, cases)).platforms[0].sent


def test_jobs_under_review_can_be_sent_again(backends: Backends, catalogue: Catalogue) -> None:
    """After a code map is mended, what a platform had answered in an unknown code is asked again."""
    cases = accept(backends, ["alpha"], count=3)
    record(backends, "alpha", cases[:2], state=State.PENDING_REVIEW)
    record(backends, "alpha", cases[2:])
    ident = ask(backends, cases, state=State.PENDING_REVIEW)
    replay = run(backends, Replayer(backends, catalogue), ident)
    assert ({"UNBOUND": 2}, {Skip.CHANGED: 1}) == (replay.platforms[0].settled, replay.platforms[0].skipped)


class Crash(Exception):
    """Ends a step where a process might die."""


@pytest.mark.parametrize("step", ["decide", "put", "write", "late write"])
def test_a_crash_loses_no_job_and_sends_none_twice(
    backends: Backends, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A scheduler may die between any two commands: the next one finishes what was written down."""
    cases = die(backends, ["alpha"], count=3)
    ident = ask(backends, cases)
    owner = {"decide": backends.store, "put": backends.waiting}.get(step, backends.replays)
    name = step.rpartition(" ")[2]
    real, calls = getattr(owner, name), Counter[str]()

    def crash(*args: object, **words: object) -> object:
        calls[name] += 1
        if step == "late write" and calls[name] == 1:
            return real(*args, **words)
        if step == "decide":
            real(*args, **words)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(type(owner), name, lambda _, *args, **words: crash(*args, **words))
        with pytest.raises(Crash):
            Replayer(backends, catalogue).step()
    assert 0 == Replayer(backends, catalogue).step(), "the dead scheduler's lock still holds"
    backends.redis.delete(backends.keys.replay_lock(ident))
    replayer = Replayer(backends, catalogue)
    replayer.step()
    sent = drain(backends)
    assert Counter(cases) == Counter(job.case for batch in sent for job in batch.jobs)
    answer(backends, sent)
    assert {"UNBOUND": 3} == run(backends, replayer, ident).platforms[0].settled


def test_a_lock_ends_by_itself(backends: Backends) -> None:
    """A scheduler that died in a step must not hold a replay for good."""
    ident = ask(backends, die(backends, ["alpha"], count=1))
    assert backends.replays.lock(ident, "one")
    assert not backends.replays.lock(ident, "two")
    assert 0 < backends.redis.ttl(backends.keys.replay_lock(ident)) <= REPLAY_LOCK_TTL_S
    assert not backends.replays.release(ident, "two", asleep=True, round_=1)
    assert backends.replays.release(ident, "one", asleep=False, round_=1)
    assert backends.replays.lock(ident, "two")


def test_who_lost_the_lock_writes_nothing(backends: Backends) -> None:
    """A process that was frozen in a step would put the clock of a replay back."""
    ident = ask(backends, die(backends, ["alpha"], count=1))
    (progress,) = backends.replays.get(ident).platforms
    backends.replays.lock(ident, "one")
    progress.at += 1
    assert not backends.replays.write(ident, "two", progress=progress, sent=[])
    assert 0 == backends.replays.get(ident).platforms[0].at
    assert backends.replays.write(ident, "one", progress=progress, sent=[])
    assert 1 == backends.replays.get(ident).platforms[0].at


def test_a_replay_that_is_resumed_while_it_falls_asleep_stays_awake(backends: Backends) -> None:
    """Otherwise it would lie there, resumed, until somebody wondered."""
    ident = ask(backends, die(backends, ["alpha"], count=1))
    backends.replays.lock(ident, "one")
    backends.replays.resume(ident)
    assert backends.replays.release(ident, "one", asleep=True, round_=1)
    assert [ident] == backends.replays.awake()


def test_a_replay_that_is_not_known_is_not_found(backends: Backends) -> None:
    """A mistyped id is a message and no traceback."""
    with pytest.raises(NotFound, match="no replay"):
        backends.replays.get(new_id())


def test_two_replays_at_once_never_send_a_job_twice(backends: Backends, catalogue: Catalogue) -> None:
    """Two people on shift may replay the same letters: each platform is asked once."""

    @ONE_NAMESPACE
    @given(
        first=st.sets(st.integers(0, 11)), second=st.sets(st.integers(0, 11), min_size=1),
        turns=st.lists(st.sampled_from("12"), max_size=12), states=st.lists(st.sampled_from(State), max_size=4),
    )  # fmt: skip
    def check(first: set[int], second: set[int], turns: list[str], states: list[State]) -> None:
        cases = die(backends, ["alpha"], count=12, first=0)
        for case, state in zip(cases, states, strict=False):
            record(backends, "alpha", [case], state=state, attempt=2)
        dead = {case for case in cases if record_of(backends, case, "alpha").state is State.DEAD}
        chosen = [[cases[index] for index in sorted(part)] for part in (first, second)]
        idents = [ask(backends, part) for part in chosen if part]
        engines = {"1": Replayer(backends, catalogue), "2": Replayer(backends, catalogue)}
        sent: list[Batch] = []
        for turn in [*turns, *"12" * 4]:
            engines[turn].step()
            batches = drain(backends)
            sent += batches
            answer(backends, batches)
        wanted = dead & (set(chosen[0]) | set(chosen[1]))
        assert Counter(wanted) == Counter(job.case for batch in sent for job in batch.jobs)
        assert len(wanted) == sum(backends.replays.get(ident).platforms[0].sent for ident in idents)

    check()
