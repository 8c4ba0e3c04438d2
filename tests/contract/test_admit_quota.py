"""A platform's jobs of a day and its hours: the bulk lane alone is bound, and a quota is never exceeded."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest

from backends.admission import Admission, BulkTerms, NotNow, Permit, Report, Stop
from backends.bootstrap import Backends, open_backends
from backends.clock import ManualClock
from schemas.batch import Lane
from schemas.ids import new_id
from tests.fixtures_valkey import stored

# Half past eleven in the evening in Shanghai: an hour that is two days in two places.
EVENING = datetime(2026, 11, 1, 15, 30, tzinfo=UTC)


class Bench:
    """One platform under a clock that the test moves."""

    def __init__(self, backends: Backends, *, per_day: int | None = None) -> None:
        self.backends, self.platform, self.per_day = backends, f"p{new_id()}", per_day
        self.clock = ManualClock(EVENING)
        clock_us = lambda: int(self.clock.now().timestamp() * 1_000_000)  # noqa: E731 - as elsewhere
        self.admission = Admission(backends.redis, backends.keys, clock_us=clock_us)
        self.hours: tuple[datetime, datetime] | None = None

    def ask(self, jobs: int, *, calls: int = 1, lane: Lane = Lane.BULK) -> Permit | NotNow:
        """Ask for so many jobs."""
        return self.admission.ask(
            self.platform, calls=calls, calls_per_s=1000, in_flight=1000, hold_s=30, holder=new_id(), lane=lane,
            jobs=jobs, terms=BulkTerms(jobs_per_day=self.per_day, hours=self.hours),
        )  # fmt: skip

    def leave(self, jobs: int, *, calls: int = 1, lane: Lane = Lane.BULK) -> Permit:
        """Ask, and be granted."""
        answer = self.ask(jobs, calls=calls, lane=lane)
        assert isinstance(answer, Permit), answer
        return answer

    def refused(self, jobs: int, *, calls: int = 1) -> NotNow:
        """Ask, and be refused; nothing is spent."""
        before = self._kept()
        answer = self.ask(jobs, calls=calls)
        assert isinstance(answer, NotNow), answer
        assert before == self._kept()
        return answer

    def _kept(self) -> dict[str, tuple[int, bytes]]:
        """Return all but the slots, of which those are forgotten whose lease is over."""
        return {key: found for key, found in stored(self.backends).items() if ":slots:" not in key}

    def today(self) -> int:
        """What a person is shown."""
        return self.backends.figures.jobs_today([self.platform], now=self.clock.now())[self.platform]


def test_a_bulk_call_is_granted_whole_or_not_at_all(backends: Backends) -> None:
    """Half a call is none: what does not fit waits for the next day, and a smaller one may still fit."""
    bench = Bench(backends, per_day=1000)
    bench.leave(600)
    assert NotNow(retry_in_s=1800, why=Stop.QUOTA) == bench.refused(500)
    bench.leave(400)
    assert NotNow(retry_in_s=1800, why=Stop.QUOTA) == bench.refused(1)
    assert 1000 == bench.today()


def test_of_single_calls_as_many_are_granted_as_fit(backends: Backends) -> None:
    """The others wait for their turn, and are told then that it is tomorrow."""
    bench = Bench(backends, per_day=25)
    assert 20 == bench.leave(20, calls=20).calls
    assert 5 == bench.leave(20, calls=20).calls
    assert Stop.QUOTA is bench.refused(15, calls=15).why


def test_the_day_is_that_of_shanghai(backends: Backends) -> None:
    """At midnight there a new day begins, though in Greenwich it is still the afternoon."""
    bench = Bench(backends, per_day=10)
    bench.leave(10)
    bench.clock.set(EVENING + timedelta(minutes=29, seconds=59))
    assert NotNow(retry_in_s=1, why=Stop.QUOTA) == bench.refused(10)
    bench.clock.set(EVENING + timedelta(minutes=30))
    assert 0 == bench.today()
    bench.leave(10)
    assert 10 == bench.today()
    bench.clock.set(EVENING + timedelta(hours=24, minutes=29))
    bench.refused(1)


def test_what_waits_for_the_next_day_does_not_come_in_one_moment(backends: Backends) -> None:
    """Each is told a turn of its own after midnight, at the platform's rate."""
    bench, turns_s = Bench(backends, per_day=10), []
    bench.leave(10)
    for number in range(300):
        answer = bench.refused(10)
        turns_s.append(answer.retry_in_s)
        due_ms = (bench.clock.now().timestamp() + answer.retry_in_s) * 1000
        backends.redis.zadd(backends.keys.waiting_at(bench.platform), {f"b{number}": due_ms})
    assert [1800 + number / 1000 for number in range(300)] == pytest.approx(turns_s, abs=0.002)


def test_what_never_left_is_given_back_once_and_to_its_own_day(backends: Backends) -> None:
    """The time of a batch was over before its last calls: those jobs come again, and must not count twice."""
    bench = Bench(backends, per_day=20)
    permit = bench.leave(20, calls=20)
    for _ in range(2):
        bench.admission.settle(permit, Report(calls=13, unsent=7))
    assert 13 == bench.today()
    yesterdays = bench.leave(7, calls=7)
    bench.clock.set(EVENING + timedelta(minutes=30))
    bench.leave(20, calls=20)
    bench.admission.settle(yesterdays, Report(calls=0, unsent=7))
    assert 20 == bench.today()


def test_a_person_is_bound_by_neither(backends: Backends) -> None:
    """Nor does a person's job take from what the bulk lane may."""
    bench = Bench(backends, per_day=10)
    bench.leave(10)
    bench.hours = (EVENING + timedelta(hours=9), EVENING + timedelta(hours=18))
    for _ in range(3):
        permit = bench.leave(50, lane=Lane.INTERACTIVE)
        bench.admission.settle(permit, Report(calls=0, unsent=50))
    assert 10 == bench.today()


def test_outside_its_hours_the_bulk_lane_waits_for_them(backends: Backends) -> None:
    """Also where the asker's clock is behind and it says that they still hold."""
    bench = Bench(backends)
    bench.hours = (EVENING + timedelta(hours=9), EVENING + timedelta(hours=18))
    assert NotNow(retry_in_s=9 * 3600, why=Stop.HOURS) == bench.refused(1)
    bench.clock.set(EVENING + timedelta(hours=9))
    bench.leave(1)
    bench.clock.set(EVENING + timedelta(hours=18))
    assert NotNow(retry_in_s=1, why=Stop.HOURS) == bench.refused(1)


def test_workers_that_race_do_not_exceed_a_quota(backends: Backends) -> None:
    """Each has its own connection and asks in the same moment; together they get what the day allows, to the job."""
    workers, each, per_day, platform = 4, 7, 100, f"p{new_id()}"
    granted: list[int] = []
    together = Barrier(workers)

    def race() -> None:
        with closing(open_backends(backends.settings)) as own:
            together.wait(30)
            for _ in range(10):
                answer = own.admission.ask(
                    platform, calls=1, calls_per_s=10_000, in_flight=1000, hold_s=30, holder=new_id(), jobs=each,
                    terms=BulkTerms(jobs_per_day=per_day),
                )  # fmt: skip
                granted.append(each if isinstance(answer, Permit) else 0)

    racing = [Thread(target=race) for _ in range(workers)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join(60)
    assert workers * 10 == len(granted)
    # Unless midnight in Shanghai passes meanwhile, which gives a second quota.
    assert per_day // each * each in {sum(granted), sum(granted) // 2}
