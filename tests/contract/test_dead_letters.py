"""Dead letters, for people: found by cause, read, given up, and a number revealed only on record."""

from datetime import timedelta
from pathlib import Path

import pytest

from backends.actions import What
from backends.bootstrap import Backends
from backends.dead import DeadFilter
from backends.replays import Phase
from ops.dead_letters import DeadDesk
from ops.inspector import Inspector
from ops.replay_desk import ReplayDesk, describe
from ops.replay_report import replay_report
from platforms.catalogue import Catalogue
from producers.replay import Replayer
from schemas.errors import NotFound, Refused
from schemas.ids import job_id, new_id
from schemas.outcome import Fault, Hold
from schemas.state import State
from tests.command import write_platform
from tests.fixtures_valkey import NOON, stored
from tests.letters import accept, die, drain, mobile, record, record_of, wait

HOUR = timedelta(hours=1)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Two platforms."""
    for key in ("alpha", "beta"):
        write_platform(tmp_path / "catalogue", key)
    return Catalogue.load(tmp_path / "catalogue")


@pytest.fixture
def desk(backends: Backends, catalogue: Catalogue) -> DeadDesk:
    """Where dead letters are dealt with."""
    return DeadDesk(backends, catalogue)


def ms(hours: float) -> int:
    """Return a time as indexes keep it, in hours from noon."""
    return int((NOON + hours * HOUR).timestamp() * 1000)


def test_causes_come_largest_first_each_with_a_sample_and_a_next_step(backends: Backends, desk: DeadDesk) -> None:
    """Four hundred dead letters are two causes: a person mends causes."""
    cases = accept(backends, ["alpha", "beta"], count=3)
    for hour, case in enumerate(cases):
        record(backends, "alpha", [case], at=NOON + hour * HOUR)
    record(backends, "beta", cases[:1], reason=Fault.TIMEOUT)
    first, second = desk.groups(DeadFilter())
    assert ("alpha", Fault.REJECTED_REQUEST, 3) == (first["platform"], first["reason"], first["count"])
    assert ("2026-11-01T12:00:00Z", "2026-11-01T14:00:00Z") == (first["first_at"], first["last_at"])
    assert (job_id(cases[2], "alpha"), "138****0002") == (first["job"], first["number"])
    assert "--platform alpha --cause rejected_request" in first["next_step"]
    assert ("beta", 1) == (second["platform"], second["count"])


def test_every_option_narrows_the_choice(backends: Backends, desk: DeadDesk) -> None:
    """A replay or a discard obeys its filter, or it changes what nobody meant; lists and groups say the same."""
    run = new_id()
    first, second = accept(backends, ["alpha", "beta"], count=2, run=run)
    (third,) = accept(backends, ["alpha", "beta"], first=7)
    letters = [(first, "alpha", 0), (second, "alpha", 1), (second, "beta", 2), (third, "beta", 3)]
    for case, platform, hour in letters:
        reason = Fault.TIMEOUT if platform == "beta" else None
        record(backends, platform, [case], reason=reason, at=NOON + hour * HOUR)
    a, b, c, d = (job_id(case, platform) for case, platform, _ in letters)
    for wanted, found in [
        (DeadFilter(), [d, c, b, a]),
        (DeadFilter(platforms=frozenset({"alpha"})), [b, a]),
        (DeadFilter(reasons=frozenset({Fault.TIMEOUT})), [d, c]),
        (DeadFilter(reasons=frozenset({Fault.TIMEOUT, Fault.REJECTED_REQUEST})), [d, c, b, a]),
        (DeadFilter(since_ms=ms(1)), [d, c, b]),
        (DeadFilter(until_ms=ms(1)), [a]),
        (DeadFilter(since_ms=ms(1), until_ms=ms(3)), [c, b]),
        (DeadFilter(cases=frozenset({second})), [c, b]),
        (DeadFilter(cases=frozenset()), []),
        (DeadFilter(run=run), [c, b, a]),
        (DeadFilter(run=run, platforms=frozenset({"beta"}), since_ms=ms(2)), [c]),
        (DeadFilter(platforms=frozenset({"gamma"})), []),
    ]:
        chosen = desk.select(wanted)
        assert found == [letter.job for letter in chosen]
        assert found == [row["job"] for row in desk.rows(chosen)]
        assert len(found) == sum(group["count"] for group in desk.groups(wanted))


def test_a_list_has_no_number_in_the_clear(backends: Backends, desk: DeadDesk) -> None:
    """Lists are copied into mails and tickets (rule 8)."""
    (case,) = accept(backends, ["alpha"])
    record(backends, "alpha", [case], detail="no such subscriber", attempt=3)
    (row,) = desk.rows(desk.select(DeadFilter()))
    assert ("138****0000", 3, 400, "no such subscriber") == (
        row["number"], row["attempts"], row["http_status"], row["detail"],
    )  # fmt: skip
    assert mobile(0)[3:] not in str(row) + str(desk.groups(DeadFilter())) + str(desk.show(row["job"]))


def test_a_job_shows_every_attempt_and_who_has_it(backends: Backends, desk: DeadDesk) -> None:
    """What was asked, what was answered, and whose turn it is: the whole story of one job."""
    (case,) = accept(backends, ["alpha"])
    record(backends, "alpha", [case], state=State.WAITING, reason=Fault.TIMEOUT)
    batch = wait(backends, "alpha", [case], due=NOON + HOUR)
    shown = desk.show(job_id(case, "alpha"))
    assert f"waiting set until 2026-11-01T13:00:00Z (retry), batch {batch.id}" == shown["held_by"]
    drain(backends)
    record(backends, "alpha", [case], state=State.DEAD, attempt=2, at=NOON + HOUR, detail="bad request")
    shown = desk.show(job_id(case, "alpha"))
    assert ("operator", State.DEAD, Fault.REJECTED_REQUEST) == (shown["held_by"], shown["state"], shown["reason"])
    assert [(1, State.WAITING, Fault.TIMEOUT, None), (2, State.DEAD, Fault.REJECTED_REQUEST, "bad request")] == [
        (step["attempt"], step["state"], step["reason"], step["detail"]) for step in shown["steps"]
    ]
    assert "renewal dead replay" in shown["next_step"]


def test_a_job_in_custody_is_found_there(backends: Backends, desk: DeadDesk) -> None:
    """While a worker has it, nothing needs to be done, and that is what is said."""
    (case,) = accept(backends, ["alpha"])
    batch = wait(backends, "alpha", [case])
    drain(backends)
    assert "between two hands" in desk.show(job_id(case, "alpha"))["held_by"]
    backends.custody.enter([(batch, batch.model_dump_json().encode())], now=NOON)
    assert f"queued, batch {batch.id}" == desk.show(job_id(case, "alpha"))["held_by"]


@pytest.mark.parametrize("job", ["nonsense", f"{'a' * 26}.alpha"])
def test_a_job_that_is_not_known_is_not_found(desk: DeadDesk, job: str) -> None:
    """A mistyped id is a message and no traceback."""
    with pytest.raises(NotFound):
        desk.show(job)


def test_a_case_at_another_platform_is_not_found(backends: Backends, desk: DeadDesk) -> None:
    """It would look like a job that nobody has tried yet."""
    (case,) = accept(backends, ["alpha"])
    with pytest.raises(NotFound, match="not renewed at beta"):
        desk.show(job_id(case, "beta"))


def test_a_number_is_revealed_only_on_record(backends: Backends, desk: DeadDesk) -> None:
    """Who looked at it and why must be known afterwards; the number itself is kept nowhere."""
    (case,) = die(backends, ["alpha"], count=1)
    before = set(stored(backends))
    assert mobile(0) == desk.reveal(job_id(case, "alpha"), reason="the platform asked about it")
    (entry,) = backends.actions.list(what=What.NUMBER_REVEAL)
    assert (job_id(case, "alpha"), "the platform asked about it") == (entry.action.target, entry.action.reason)
    assert {backends.keys.actions} == set(stored(backends)) - before
    assert all(mobile(0)[3:].encode() not in body for _, body in stored(backends).values())


def test_discarded_letters_are_cancelled_and_others_stay(backends: Backends, desk: DeadDesk) -> None:
    """Given up is final and says why; what has been replayed meanwhile is not given up."""
    cases = die(backends, ["alpha", "beta"], count=4)
    letters = desk.select(DeadFilter(platforms=frozenset({"alpha"})))
    record(backends, "alpha", cases[:1], state=State.QUEUED, generation=1)
    assert 3 == desk.discard(letters, reason="13912345678 and the rest are test numbers")
    assert State.QUEUED is record_of(backends, cases[0], "alpha").state
    for case in cases[1:]:
        known = record_of(backends, case, "alpha")
        assert (State.CANCELLED, Hold.DISCARDED, 1) == (known.state, known.reason, known.attempts)
        assert "139****78 and the rest are test numbers" == backends.store.details(case)["alpha"]["detail"]
    assert {"beta"} == {letter.platform for letter in desk.select(DeadFilter())}
    (entry,) = backends.actions.list(what=What.DEAD_DISCARD)
    assert {"dead": 4} == entry.action.before


def test_jobs_under_review_are_found_through_their_cases(
    backends: Backends, desk: DeadDesk, catalogue: Catalogue
) -> None:
    """They are no dead letters, so no index has them; a mended code map makes them worth another try."""
    run = new_id()
    cases = accept(backends, ["alpha", "beta"], count=2, run=run)
    record(backends, "alpha", cases, state=State.PENDING_REVIEW)
    record(backends, "beta", cases[:1], state=State.PENDING_REVIEW)
    views = list(Inspector(backends, catalogue).run_cases(run))
    assert 3 == len(desk.under_review(views, platforms=frozenset()))
    assert [job_id(cases[0], "beta")] == desk.under_review(views, platforms=frozenset({"beta"}))


def test_a_replay_is_asked_for_watched_stopped_and_resumed(backends: Backends, catalogue: Catalogue) -> None:
    """Four steps of one person, each on record, and at the end a report that adds up."""
    die(backends, ["alpha"], count=6)
    desk, replays = DeadDesk(backends, catalogue), ReplayDesk(backends)
    wanted = DeadFilter(platforms=frozenset({"alpha"}))
    jobs = [letter.job for letter in desk.select(wanted)]
    ident = replays.ask(jobs, reason="mended for 13912345678", wanted=wanted, state="DEAD", canary=2)
    line, ended = replays.progress(ident)
    assert line.startswith("canary: 0 of 6 sent")
    assert "no scheduler is running" in line
    assert not ended
    replays.stop(ident, reason="wait")
    Replayer(backends, catalogue).step()
    report = replay_report(backends, backends.replays.get(ident))
    assert (Phase.STOPPED, "stopped by a person: wait", 0) == (report["state"], report["why"], report["sent"])
    assert 1 == replays.exit_code(ident)
    replays.resume(ident, reason="go")
    with pytest.raises(Refused, match="not stopped"):
        replays.resume(ident, reason="go")
    for _ in range(20):
        Replayer(backends, catalogue).step()
        for batch in drain(backends):
            record(backends, "alpha", [job.case for job in batch.jobs], state=State.UNBOUND, attempt=2, generation=1)
    report = replays.report(ident)
    assert ("done", 6, {"UNBOUND": 6}, {"UNBOUND": 6}) == (
        report["state"], report["sent"], report["settled_by_state"], report["now"],
    )  # fmt: skip
    assert [("done", 6, 0)] == [(row["state"], row["settled"], row["pending"]) for row in report["platforms"]]
    assert ("mended for 139****78", "platform alpha") == (report["reason"], report["wanted"])
    assert 0 == replays.exit_code(ident)
    assert [ident] == [row["replay"] for row in replays.rows()]
    with pytest.raises(Refused, match="done already"):
        replays.stop(ident, reason="too late")
    assert [What.DEAD_REPLAY, What.DEAD_REPLAY_STOP, What.DEAD_REPLAY_RESUME] == [
        entry.action.what for entry in backends.actions.list(target=ident)
    ]


def test_a_choice_is_described_for_the_log() -> None:
    """Weeks later the log says what was chosen, by the words in which it was."""
    wanted = DeadFilter(
        platforms=frozenset({"b", "a"}), reasons=frozenset({Fault.TIMEOUT}), since_ms=ms(0), until_ms=ms(1), run="r"
    )
    since, until = "2026-11-01T12:00:00Z", "2026-11-01T13:00:00Z"
    assert f"platform a, b; cause timeout; since {since}; until {until}; run r" == describe(wanted)
    assert "all" == describe(DeadFilter())
