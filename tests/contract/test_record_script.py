"""`record.lua` against its model `schemas.record.merge`: any order, any repetition, one end."""

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha1
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.bootstrap import Backends
from backends.connect import text
from backends.kept import Kind
from backends.record_arguments import detail_of
from backends.store import Accepted, Applied, Known
from schemas.batch import Basis
from schemas.case import Case
from schemas.ids import derive, job_id, new_id
from schemas.outcome import REASON_CODES, Fault, Hold, Outcome, Reason, Refusal
from schemas.record import JobRecord, contradicts, is_late, merge
from schemas.result import ANSWERED, LATENCY_BOUNDS_MS, Alike, AttemptData, JobResult, ResultEvent
from schemas.state import STATES, Holder, State, verdict
from tests.fixtures_valkey import NOON, ONE_NAMESPACE, stored

PLATFORMS = ("alpha", "beta")
CASES = 3
SETTLING = {Holder.NOBODY, Holder.OPERATOR}
STRANGER = CASES  # the number of a case that nobody has accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What an attempt made of one job."""

    case: int
    state: State
    reason: Reason | None = None
    reference: str | None = None

    def result(self, case: str) -> JobResult:
        """The job's line in the event."""
        outcome = Outcome(self.state.value) if self.state.value in set(Outcome) else None
        return JobResult(case=case, state=self.state, outcome=outcome, reason=self.reason, reference=self.reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One result event. `execution` tells two workers apart that ran the same attempt.

    With `later` it is an answer that came later, and no attempt.
    """

    platform: str
    attempt: int
    generation: int
    execution: int
    at_s: int
    run: int
    calls: int
    by_place: bool
    said: tuple[Said, ...]
    later: bool = False


@dataclass(slots=True)
class World:
    """The cases of one example, and what a fold of the model over the events makes of them."""

    backends: Backends
    platforms: tuple[str, str] = field(default_factory=lambda: (f"a-{new_id()}", f"b-{new_id()}"))
    runs: tuple[str, str] = field(default_factory=lambda: (new_id(), new_id()))
    cases: tuple[str, ...] = field(default_factory=lambda: tuple(new_id() for _ in range(CASES + 1)))
    at: dict[str, Accepted] = field(default_factory=dict)
    records: dict[tuple[str, str], JobRecord] = field(default_factory=dict)
    details: dict[tuple[str, str], bytes] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    disputes: list[dict[str, Any]] = field(default_factory=list)
    late: list[dict[str, Any]] = field(default_factory=list)
    accepted: dict[str, int] = field(default_factory=dict)
    orphans: list[dict[str, Any]] = field(default_factory=list)
    counted: dict[str, Counter[str]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def accept(self) -> None:
        """Record the cases, in turn for one run and the other."""
        for run in self.runs:
            mine = [case for case in self.cases[:CASES] if self.owner(case) == run]
            cases = [make_case(case, line=line, platforms=self.platforms) for line, case in enumerate(mine)]
            for case, accepted in zip(mine, self.backends.store.accept(run, cases, now=NOON), strict=True):
                assert (Known.NEW, run) == (accepted.known, accepted.run)
                self.at[case] = accepted

    def owner(self, case: str) -> str:
        """The run that a case belongs to."""
        return self.runs[self.cases.index(case) % 2]

    def event(self, step: Step) -> ResultEvent:
        """The step as it travels; the same step has the same id."""
        started, platform = NOON + timedelta(seconds=step.at_s), self.platforms[PLATFORMS.index(step.platform)]
        data = AttemptData(
            batch=derive("batch", platform),
            run=self.runs[step.run],
            platform=platform,
            attempt=step.attempt,
            generation=step.generation,
            started_at=started,
            ended_at=started + timedelta(seconds=1),
            worker="w",
            calls=step.calls,
            http_statuses={"200": step.calls},
            latencies=(step.calls,) + (0,) * len(LATENCY_BOUNDS_MS),
            faults={"timeout": 1} if step.calls > 1 else {},
            **self._told(step),
        )
        event = ResultEvent(id=derive(self.cases[0], repr(step)), time=started, subject=platform, data=data)
        return event.model_copy(update={"type": ANSWERED}) if step.later else event

    def _told(self, step: Step) -> dict[str, Any]:
        """The results: some by their places in the first run's manifest, the others by the names of their cases."""
        known = self.at.get(self.cases[0])
        manifest = known.manifest if known else None
        by_place, by_name = [], []
        for said in step.said:
            case = self.cases[said.case]
            known = self.at.get(case)
            if step.by_place and known and known.manifest == manifest and not said.reference:
                by_place.append(Alike(state=said.state, reason=said.reason, spans=((known.place, known.place + 1),)))
            else:
                by_name.append(said.result(case))
        return {"manifest": manifest, "alike": tuple(by_place), "jobs": tuple(by_name)}

    def results(self, event: ResultEvent) -> list[JobResult]:
        """Every job of an event, in the order in which the script takes them."""
        names = {known.place: case for case, known in self.at.items() if known.manifest == event.data.manifest}
        return [
            JobResult(case=names[place], state=alike.state, reason=alike.reason)
            for alike in event.data.alike
            for start, end in alike.spans or ()
            for place in range(start, end)
        ] + list(event.data.jobs)

    def hear(self, event: ResultEvent) -> Applied:
        """Fold the model over one event. Returns what the script must answer."""
        if event.id in self.seen:
            return Applied(duplicate=True)
        self.seen.add(event.id)
        answer: Counter[str] = Counter()
        for job in self.results(event):
            answer[self._hear_job(job, event)] += 1
            answer["disputed"] += self._contradicted
        data = event.data
        for counter in () if event.type == ANSWERED else (self._counter(data.run), self._counter(data.platform)):
            counter.update({"attempts": 1, "calls": data.calls, "status:200": data.calls, "latency:0": data.calls})
            counter.update({f"fault:{name}": count for name, count in data.faults.items()})
        return Applied(
            changed=answer["changed"],
            unchanged=answer["unchanged"],
            disputed=answer["disputed"],
            orphaned=answer["orphaned"],
        )

    _contradicted: bool = False

    def _hear_job(self, job: JobResult, event: ResultEvent) -> str:
        platform, key = event.data.platform, (job.case, event.data.platform)
        self._contradicted = False
        if job.case == self.cases[STRANGER]:
            state = STATES[job.state].code
            self.orphans.append({"case": job.case, "platform": platform, "event": event.id, "state": state})
            return "orphaned"
        known, change = self.records.get(key, JobRecord()), change_of(job, event)
        new = self.records[key] = merge(known, change)
        same = (known.state, known.reason) == (job.state, job.reason)
        if contradicts(known.state, job.state, same=same):
            self._contradicted = True
            self.disputes.append(dispute(known, job, event))
        elif is_late(known.state, job.state):
            self.late.append(dispute(known, job, event))
        self._expect(job_id(*key), known, new, ended_s=int(event.data.ended_at.timestamp()))
        detail = detail_of(job, event, reference=job.reference) or b""
        assert isinstance(detail, bytes)
        if change.place > known.place:
            self.details[key] = detail
            if new.state is State.DEAD:
                self.dead[job_id(*key)] = int(event.data.ended_at.timestamp()) * 1000
            else:
                self.dead.pop(job_id(*key), None)
            return "changed"
        if (known.place, known.state, known.reason) == (change.place, change.state, change.reason) and detail:
            self.details[key] = min(detail, self.details.get(key) or detail, key=lambda text: sha1(text).digest())
        return "unchanged"

    def _expect(self, job: str, known: JobRecord, new: JobRecord, *, ended_s: int) -> None:
        """Note whether the platform owes an answer, and since when."""
        if new.state is not State.ACCEPTED:
            self.accepted.pop(job, None)
        elif new != known:
            self.accepted[job] = (new.first_sent_s or ended_s) * 1000

    def _counter(self, name: str) -> Counter[str]:
        return self.counted.setdefault(name, Counter())

    # -- what must be stored, recomputed from the records --------------------------------------------------------

    def rolled_up(self, case: str) -> tuple[int, int]:
        """Jobs that are open, and those that ended other than clean."""
        records = [self.records.get((case, platform), JobRecord()) for platform in self.platforms]
        exceptions = [r for r in records if r.disputed or (STATES[r.state].final and not STATES[r.state].clean)]
        return sum(not STATES[record.state].final for record in records), len(exceptions)

    def counters(self, *, run: str = "", platform: str = "") -> dict[str, int]:
        """Every counter of a run or of a platform."""
        counters = Counter(self.counted.get(run or platform, {}))
        for (case, at), record in self.records.items():
            if (run and self.owner(case) == run) or (platform and at == platform):
                counters[f"state:{STATES[record.state].code}"] += 1
        for case in self.cases[:CASES]:
            open_jobs, exceptions = self.rolled_up(case)
            if run and self.owner(case) == run and not open_jobs:
                counters[f"verdict:{verdict(open_jobs=0, exceptions=exceptions)}"] += 1
        return {name: count for name, count in counters.items() if count}

    def expected(self) -> dict[str, Any]:
        """Everything the status store must hold."""
        assert {job_id(*key) for key, record in self.records.items() if record.state is State.DEAD} == set(self.dead)
        assert {key for key, record in self.records.items() if not STATES[record.state].final} <= set(self.details)
        assert {job_id(*k) for k, record in self.records.items() if record.state is State.ACCEPTED} == set(
            self.accepted
        )
        found: dict[str, Any] = {"dead": self.dead, "disputes": self.disputes, "late": self.late}
        found |= {"orphans": self.orphans, "accepted": self.accepted, "polls": dict.fromkeys(self.accepted, 0)}
        for case in self.cases[:CASES]:
            at = {platform: (case, platform) for platform in self.platforms}
            found[f"jobs {case}"] = {"#": struct.pack(">HH", *self.rolled_up(case))} | {
                platform: self.records[key].pack() for platform, key in at.items() if key in self.records
            }
            found[f"details {case}"] = {p: self.details[key] for p, key in at.items() if self.details.get(key)}
        found |= {f"run {run}": self.counters(run=run) for run in self.runs}
        return found | {f"platform {platform}": self.counters(platform=platform) for platform in self.platforms}

    def found(self) -> dict[str, Any]:
        """What it holds."""
        redis: Any = self.backends.redis
        keys = self.backends.keys
        mine = set(self.cases)
        dead = {text(job): int(at) for job, at in redis.zrange(keys.dead, 0, -1, withscores=True)}
        found: dict[str, Any] = {"dead": {job: at for job, at in dead.items() if job[:26] in mine}}
        for index, key_of in (("accepted", keys.accepted), ("polls", keys.polls)):
            pairs = [pair for at in self.platforms for pair in redis.zrange(key_of(at), 0, -1, withscores=True)]
            found[index] = {text(job): int(at) for job, at in pairs}
        for name, key in (("disputes", keys.disputes), ("late", keys.late), ("orphans", keys.orphans)):
            entries = [orjson.loads(entry) for entry in redis.lrange(key, 0, -1)]
            found[name] = [entry for entry in entries if entry["case"] in mine]
        for case in self.cases[:CASES]:
            found[f"jobs {case}"] = self._stored_jobs(redis.hgetall(keys.jobs(self.at[case].manifest)), case)
            found[f"details {case}"] = by_text(redis.hgetall(keys.details(case)))
        for run in self.runs:
            values = self.backends.runs.counters(run).values
            found[f"run {run}"] = {n: count for n, count in values.items() if count and n not in {"accepted", "jobs"}}
        for platform, counters in self.backends.runs.platform_counters(self.platforms).items():
            found[f"platform {platform}"] = {name: count for name, count in counters.values.items() if count}
        return found

    def _stored_jobs(self, stored: dict[bytes, bytes], case: str) -> dict[str, bytes]:
        """The case's roll and its records, as they stand at its place of each column."""
        place, widths = self.at[case].place, {"#": 4, "$": 26}
        assert self.owner(case) == stored[b"@"][:26].decode()
        cut = {
            name: value[place * widths.get(name, 12) : (place + 1) * widths.get(name, 12)]
            for name, value in by_text(stored).items()
            if name != "@"
        }
        assert case == cut.pop("$").decode()
        return {name: value for name, value in cut.items() if value != bytes(12)}


def by_text(found: dict[bytes, bytes]) -> dict[str, bytes]:
    """Return a hash of Redis with its names as text."""
    return {text(name): value for name, value in found.items()}


def make_case(ident: str, *, line: int, platforms: tuple[str, ...]) -> Case:
    """A case with everything else at its usual."""
    return Case(
        id=ident,
        number="+8613800001234",
        token=new_id(),
        line=line,
        cutoff_at="2026-11-01T00:00:00+08:00",
        basis=Basis.PLANNED_RELEASE,
        cycle="2026-11-01",
        reference="",
        platforms=platforms,
    )


def change_of(job: JobResult, event: ResultEvent) -> JobRecord:
    """One job of an event as the model sees it."""
    ended = int(event.data.ended_at.timestamp())
    return JobRecord(
        state=job.state,
        reason=job.reason,
        attempts=event.data.attempt,
        generation=event.data.generation,
        first_sent_s=0 if event.type == ANSWERED else int(event.data.started_at.timestamp()),
        settled_s=ended if STATES[job.state].holder in SETTLING else 0,
    )


def dispute(known: JobRecord, job: JobResult, event: ResultEvent) -> dict[str, Any]:
    """What is kept of a final answer that contradicts the recorded one."""
    return {
        "case": job.case,
        "platform": event.data.platform,
        "event": event.id,
        "at": int(event.data.ended_at.timestamp()),
        "kept": STATES[known.state].code,
        "kept_reason": REASON_CODES[known.reason] if known.reason else 0,
        "other": STATES[job.state].code,
        "other_reason": REASON_CODES[job.reason] if job.reason else 0,
    }


CLEAN = (State.UNBOUND, None)
FINALS: list[tuple[State, Reason | None]] = [
    CLEAN,
    (State.NO_BINDING, None),
    (State.REFUSED, Refusal.LEGAL_HOLD),
    (State.REFUSED, Refusal.FUNDS_OR_DEBT),
    (State.EXPIRED, Hold.DEADLINE),
    (State.DELIVERED_UNCONFIRMED, Hold.DEADLINE),
]
OPEN: list[tuple[State, Reason | None]] = [
    (State.WAITING, Fault.TIMEOUT),
    (State.WAITING, Fault.SERVER_ERROR),
    (State.DEAD, Fault.TIMEOUT),
    (State.DEAD, Fault.REJECTED_REQUEST),
    (State.ACCEPTED, None),
    (State.PENDING_REVIEW, None),
]


@st.composite
def steps(draw: st.DrawFn, finals: dict[tuple[int, str], list[tuple[State, Reason | None]]] | None = None) -> Step:
    """One event about some cases; attempt numbers go on across generations."""
    platform, generation = draw(st.sampled_from(PLATFORMS)), draw(st.integers(0, 2))
    said = []
    for case in draw(st.lists(st.integers(0, STRANGER), min_size=1, max_size=CASES + 1, unique=True)):
        ends = FINALS if finals is None else finals.get((case, platform), [CLEAN])
        state, reason = draw(st.sampled_from([*ends, *OPEN]))
        said.append(Said(case=case, state=state, reason=reason, reference=draw(st.sampled_from([None, "R1", "R2"]))))
    return Step(
        platform=platform,
        attempt=10 * generation + draw(st.integers(1, 3)),
        generation=generation,
        execution=draw(st.integers(0, 1)),
        at_s=draw(st.integers(0, 1000)),
        run=draw(st.integers(0, 1)),
        calls=draw(st.integers(1, 2)),
        by_place=draw(st.booleans()),
        said=tuple(said),
        later=draw(st.booleans()),
    )


@st.composite
def without_contradiction(draw: st.DrawFn) -> list[Step]:
    """Events in which each job has at most one final answer, however often."""
    jobs = [(case, platform) for case in range(CASES) for platform in PLATFORMS]
    finals = {job: [draw(st.sampled_from(FINALS))] for job in jobs}
    return draw(st.lists(steps(finals), max_size=10))


HISTORIES = st.lists(steps(), max_size=10)


@settings(ONE_NAMESPACE, max_examples=120)
@given(history=HISTORIES, repeats=st.lists(st.integers(0, 9), max_size=5))
def test_after_every_event_the_store_is_what_the_model_says(
    backends: Backends, history: list[Step], repeats: list[int]
) -> None:
    """Records, roll-ups, counters, details, dead letters, disputes and orphans: all follow from the events alone."""
    world = World(backends)
    world.accept()
    for step in history + [history[i] for i in repeats if i < len(history)]:
        event = world.event(step)
        expected = world.hear(event)
        assert expected == backends.store.apply(event)
        assert world.expected() == world.found()


@ONE_NAMESPACE
@given(history=without_contradiction(), data=st.data())
def test_any_order_gives_one_end(backends: Backends, history: list[Step], data: st.DataObject) -> None:
    """Two recorders that heard the same events in different orders hold the same (rule 3)."""
    again = [history[i] for i in data.draw(st.lists(st.integers(0, 9), max_size=4)) if i < len(history)]
    ends = []
    for order in (history, data.draw(st.permutations(history + again))):
        world = World(backends)
        world.accept()
        for step in order:
            backends.store.apply(world.event(step))
        ends.append(nameless(world))
    assert ends[0] == ends[1]


def nameless(world: World) -> list[str]:
    """Return what a world ended as, line by line: without chance names, order of lists and times of indexes."""
    names = {name: f"case {number}" for number, name in enumerate(world.cases)}
    names |= {name: f"run {number}" for number, name in enumerate(world.runs)}
    names |= {name: f"platform {number}" for number, name in enumerate(world.platforms)}
    found = world.found()
    assert [] == found.pop("disputes")
    found["late"] = {str(place): (entry["case"], entry["other"]) for place, entry in enumerate(found.pop("late"))}
    # Since when an answer is owed that came before its call was recorded depends on which answer came first.
    found["accepted"] = dict.fromkeys(found.pop("accepted"))
    orphans = [(entry["case"], entry["platform"], entry["state"]) for entry in found.pop("orphans")]
    lines = [f"orphan {entry}" for entry in orphans] + [f"dead {job}" for job in found.pop("dead")]
    lines += [f"{key} {name} {value}" for key, values in found.items() for name, value in values.items()]
    for name, plain in names.items():
        lines = [line.replace(name, plain) for line in lines]
    return sorted(lines)


def only(case: int, state: State, reason: Reason | None = None, *, at_s: int = 0, attempt: int = 1) -> Step:
    """An event about one job."""
    said = (Said(case=case, state=state, reason=reason),)
    return Step(platform="alpha", attempt=attempt, generation=0, execution=0, at_s=at_s, run=0, calls=1, by_place=False,
                said=said)  # fmt: skip


def test_a_final_answer_stays_and_its_contradiction_is_kept(backends: Backends) -> None:
    """The first recorded answer is not overwritten, and the other can be seen (requirement 20)."""
    world = World(backends)
    world.accept()
    backends.store.apply(world.event(only(0, State.NO_BINDING)))
    applied = backends.store.apply(world.event(only(0, State.UNBOUND, at_s=5, attempt=2)))
    assert Applied(unchanged=1, disputed=1) == applied
    record = backends.store.case(world.cases[0]).record(world.platforms[0])
    assert (State.NO_BINDING, True) == (record.state, record.disputed)
    (kept,) = [orjson.loads(entry) for entry in backends.redis.lrange(backends.keys.disputes, 0, -1)]
    assert (STATES[State.NO_BINDING].code, STATES[State.UNBOUND].code) == (kept["kept"], kept["other"])
    assert (world.cases[0], world.platforms[0]) == (kept["case"], kept["platform"])


@pytest.mark.parametrize("state", [State.EXPIRED, State.DELIVERED_UNCONFIRMED])
def test_an_answer_after_the_deadline_is_late_and_no_dispute(backends: Backends, state: State) -> None:
    """That nobody answered in time stays true; what the platform did in the end is kept, and seen in the trail."""
    world = World(backends)
    world.accept()
    backends.store.apply(world.event(only(0, State.ACCEPTED)))
    backends.store.apply(world.event(only(0, state, Hold.DEADLINE, at_s=5)))
    late = world.event(replace(only(0, State.UNBOUND, at_s=9), later=True))
    assert Applied(unchanged=1) == backends.store.apply(late)
    record = backends.store.case(world.cases[0]).record(world.platforms[0])
    assert (state, False) == (record.state, record.disputed)
    (kept,) = backends.kept.newest(Kind.LATE, at_most=5)
    assert (STATES[state].code, STATES[State.UNBOUND].code) == (kept.content["kept"], kept.content["other"])
    assert 0 == backends.kept.count(Kind.DISPUTES)
    trail = backends.dead.trail(job_id(world.cases[0], world.platforms[0]))
    assert [State.ACCEPTED, state, State.UNBOUND] == [step.state for step in trail]


def test_a_result_for_an_unknown_case_is_kept(backends: Backends) -> None:
    """Nothing is lost silently: who asks can see it, and it makes no case of its own."""
    world = World(backends)
    event = world.event(only(STRANGER, State.UNBOUND))
    assert Applied(orphaned=1) == backends.store.apply(event)
    (kept,) = [orjson.loads(entry) for entry in backends.redis.lrange(backends.keys.orphans, 0, -1)]
    assert {"case": world.cases[STRANGER], "platform": world.platforms[0], "event": event.id, "state": 6} == kept
    assert not backends.redis.exists(backends.keys.jobs(world.cases[STRANGER]))


@ONE_NAMESPACE
@given(history=st.lists(steps(), min_size=1, max_size=4))
def test_an_event_heard_twice_changes_nothing(backends: Backends, history: Sequence[Step]) -> None:
    """A re-sent event is recognised by its id: not one byte of the whole store is another afterwards."""
    world = World(backends)
    world.accept()
    events = [world.event(step) for step in history]
    for event in events:
        backends.store.apply(event)
    before = stored(backends)
    for event in events:
        assert Applied(duplicate=True) == backends.store.apply(event)
    assert before == stored(backends)


@pytest.mark.parametrize("state", [state for state in State if STATES[state].final], ids=lambda state: state.value)
def test_a_case_is_clean_only_when_every_job_is(backends: Backends, state: State) -> None:
    """The verdict counts a case once, when its last job is settled."""
    world = World(backends)
    world.accept()
    run, reason = world.runs[0], Refusal.OTHER if state is State.REFUSED else None
    backends.store.apply(world.event(only(0, state, reason)))
    assert {} == backends.runs.counters(run).family("verdict")
    other = Step(
        platform="beta", attempt=1, generation=0, execution=0, at_s=0, run=0, calls=1, by_place=True,
        said=(Said(case=0, state=State.UNBOUND),),
    )  # fmt: skip
    backends.store.apply(world.event(other))
    expected = "CLEAN" if STATES[state].clean else "CLEAN_WITH_EXCEPTIONS"
    assert {expected: 1} == backends.runs.counters(run).family("verdict")
    assert expected == backends.store.case(world.cases[0]).verdict


def test_a_late_contradiction_takes_the_verdict_back(backends: Backends) -> None:
    """A case that was counted CLEAN is counted once still, with its exception."""
    world = World(backends)
    world.accept()
    for platform in PLATFORMS:
        step = only(0, State.UNBOUND)
        backends.store.apply(
            world.event(Step(**{n: getattr(step, n) for n in step.__slots__} | {"platform": platform}))
        )
    backends.store.apply(world.event(only(0, State.REFUSED, Refusal.OTHER, attempt=2)))
    counted = backends.runs.counters(world.runs[0]).family("verdict")
    assert {"CLEAN": 0, "CLEAN_WITH_EXCEPTIONS": 1} == counted
