"""The scripts that begin, write and settle nights, driven beside a model of them in Python."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.bootstrap import Backends
from backends.sweeps import LEASE_S, Denied, Ending, Lease, Night
from schemas.ids import new_id
from tests.fixtures_valkey import NOON, ONE_NAMESPACE

DAYS = [date(2026, 11, day) for day in range(1, 6)]


def night(day: date, *, cursor: int = 0) -> Night:
    """A night as its stepper writes it."""
    return Night(day=day.isoformat(), run=new_id(), begun_ms=1, cursor=cursor)


@dataclass
class Model:
    """What the scripts promise, in Python."""

    fence: int = 0
    until: datetime = NOON
    open: date | None = None
    done: date | None = None
    paused: bool = False
    cursors: dict[date, int] = field(default_factory=dict)
    settled: list[date] = field(default_factory=list)

    def begin(self, day: date, now: datetime) -> Denied | int:
        """Take the lease."""
        if self.paused:
            return Denied.PAUSED
        if self.until > now:
            return Denied.LEASED
        if self.open is not None and self.open != day:
            return Denied.OTHER
        if self.open is None:
            if self.done is not None and self.done >= day:
                return Denied.SETTLED
            self.open = day
            self.cursors.setdefault(day, 0)
        self.fence += 1
        self.until = now + timedelta(seconds=LEASE_S)
        return self.fence

    def holds(self, lease: Lease) -> bool:
        """Whether a lease is the newest, and its night still open."""
        return lease.fence == self.fence and lease.day == self.open

    def write(self, lease: Lease, cursor: int, now: datetime) -> bool:
        """Write how far it is."""
        if not self.holds(lease):
            return False
        self.cursors[lease.day] = cursor
        self.until = now + timedelta(seconds=LEASE_S)
        return not self.paused

    def settle(self, lease: Lease, cursor: int) -> bool:
        """End the night."""
        if not self.holds(lease):
            return False
        self.cursors[lease.day] = cursor
        self.settled.append(lease.day)
        self.open, self.done, self.until = None, lease.day, NOON
        return True

    def give_back(self, lease: Lease) -> bool:
        """End the lease."""
        if not self.holds(lease):
            return False
        self.until = NOON
        return True


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "write", "write", "settle", "give_back", "wait", "pause", "resume"]),
        st.integers(0, len(DAYS) - 1),
        st.integers(0, 3),
    ),
    max_size=40,
)


@ONE_NAMESPACE
@given(operations=OPERATIONS)
def test_the_scripts_do_what_the_model_does(backends: Backends, operations: list[tuple[str, int, int]]) -> None:
    """Whoever steps, pauses and dies in whatever order: one night a day, in order, and no write of a stale holder."""
    sweeps, model, name, now = backends.sweeps, Model(), new_id(), NOON
    leases: list[Lease] = []
    for cursor, (what, place, old) in enumerate(operations, start=1):
        lease = leases[-1 - old % len(leases)] if leases else None
        if what == "begin":
            begun = sweeps.begin(name, night(DAYS[place]), holder="somebody", now=now)
            expected = model.begin(DAYS[place], now)
            if isinstance(begun, Denied):
                assert expected is begun
                continue
            assert (expected, DAYS[place]) == (begun[0].fence, begun[0].day)
            assert model.cursors[DAYS[place]] == begun[1].cursor
            leases.append(begun[0])
        elif what == "wait":
            now += timedelta(seconds=LEASE_S * (place + 1) / 2)
        elif what in {"pause", "resume"}:
            model.paused = what == "pause"
            sweeps.pause(name, reason="a change", now=now) if model.paused else sweeps.resume(name)
        elif lease is not None and what == "write":
            assert model.write(lease, cursor, now) is sweeps.write(lease, night(lease.day, cursor=cursor), now=now)
        elif lease is not None and what == "settle":
            assert model.settle(lease, cursor) is sweeps.settle(lease, night(lease.day, cursor=cursor))
        elif lease is not None:
            assert model.give_back(lease) is sweeps.give_back(lease)
        standing = sweeps.standing(name)
        assert (model.open, model.done, model.fence) == (standing.open, standing.done, standing.fence)
    assert sorted(set(model.settled)) == model.settled
    assert model.cursors == {date.fromisoformat(each.day): each.cursor for each in sweeps.nights(name)}


def test_a_stale_holder_is_refused_every_write(backends: Backends) -> None:
    """A process that was frozen in the middle of a night must not take its cursor back."""
    sweeps, name = backends.sweeps, new_id()
    first = sweeps.begin(name, night(DAYS[0]), holder="a", now=NOON)
    later = NOON + timedelta(seconds=LEASE_S)
    second = sweeps.begin(name, night(DAYS[0]), holder="b", now=later)
    assert not isinstance(first, Denied)
    assert not isinstance(second, Denied)
    assert sweeps.write(second[0], night(DAYS[0], cursor=2000), now=later)
    stale = night(DAYS[0], cursor=1000)
    assert not sweeps.write(first[0], stale, now=later)
    assert not sweeps.write(first[0], None, now=later)
    assert not sweeps.settle(first[0], stale)
    assert not sweeps.give_back(first[0], stale)
    found = sweeps.night(name, DAYS[0])
    assert found is not None
    assert 2000 == found.cursor


def test_settling_twice_is_settling_once(backends: Backends) -> None:
    """The answer to the first call may have been lost on the way."""
    sweeps, name = backends.sweeps, new_id()
    begun = sweeps.begin(name, night(DAYS[0]), holder="a", now=NOON)
    assert not isinstance(begun, Denied)
    ended = night(DAYS[0], cursor=7)
    ended.ending = Ending.COMPLETED
    assert sweeps.settle(begun[0], ended)
    assert sweeps.settle(begun[0], ended)
    assert Denied.SETTLED is sweeps.begin(name, night(DAYS[0]), holder="b", now=NOON)


@pytest.mark.parametrize("ending", [None, *Ending])
def test_a_night_is_stored_as_it_was(ending: Ending | None) -> None:
    """A record that comes back otherwise would lose what a report is made of."""
    stored = Night(
        day="2026-11-01", run=new_id(), begun_ms=5, refused={"sim_swap": 2}, stopped={"reclaimed": 1}, ending=ending,
        planned_by_release={"2026-11-04": 9}, jobs_by_platform={"alpha": 9},
    )  # fmt: skip
    assert stored == Night.unpack(stored.packed())
