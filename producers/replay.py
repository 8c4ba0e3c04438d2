"""Replay: dead letters are sent again in mass, safely.

First a canary of a few jobs at each platform; only if at least half of them settle, the rest follows, paced so that
little is out at any time; and a platform where most fail again is stopped. Any number of schedulers may step it: one at
a time holds a replay's lock, and what it sends is written down before it is sent.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final

import structlog

from backends.bootstrap import Backends
from backends.origins import Origin
from backends.replays import Group, Phase, Progress, Replay, Skip
from backends.waiting import Why
from platforms.catalogue import Catalogue
from platforms.model import Platform, Retry
from producers.decision import decision
from schemas.batch import Basis, Batch, Job, seal_context
from schemas.ids import derive, new_id, split_job_id
from schemas.record import ATTEMPTS_SHOWN_MAX, JobRecord
from schemas.state import STATES, State

# How many of the last jobs say whether a platform is well; at least the canary's.
RECENT_MIN: Final = 10
GENERATION_MAX: Final = 255
# What is out at a platform at one time: about two seconds of its calls, so that little is done before a stop bites.
_OUT_S: Final = 2.0
# A step shares its thread with the release of what is due.
_STEP_S: Final = 0.25
_WHO: Final = "replay"
_LOOKED_AT_ONCE: Final = 1000
log = structlog.get_logger()


# -- decisions: pure ---------------------------------------------------------------------------------------------------


class End(StrEnum):
    """What has become of a job that was sent again."""

    PENDING = "pending"
    SETTLED = "settled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """Where a platform stands now, and how many jobs are to be sent there at this moment."""

    phase: Phase
    count: int = 0
    why: str = ""


def end_of(record: JobRecord, *, generation: int, attempts: int) -> End:
    """Say what has become of a job that was sent in `generation` with so many attempts behind it."""
    if STATES[record.state].final:
        return End.SETTLED
    if record.generation < generation:
        return End.PENDING
    if record.generation > generation or record.state is State.DEAD:
        return End.FAILED  # in a later generation: it had died again, and somebody has replayed it
    if record.state in {State.ACCEPTED, State.PENDING_REVIEW}:
        return End.SETTLED
    # A record counts attempts no further than this: then any wait is taken for a failed attempt.
    spent = record.attempts > attempts or attempts >= ATTEMPTS_SHOWN_MAX
    return End.FAILED if record.state is State.WAITING and spent else End.PENDING


def decide(progress: Progress, *, canary: int, limit: int) -> Next:
    """Say how to go on at one platform of which at most `limit` jobs may be out at a time."""
    left = progress.end - progress.at
    if progress.phase in {Phase.STOPPED, Phase.DONE}:
        return Next(phase=progress.phase, why=progress.why)
    if not left:
        return Next(phase=progress.phase if progress.out else Phase.DONE)
    if progress.phase is Phase.CANARY and (progress.canary_sent < canary or progress.out):
        return Next(phase=Phase.CANARY, count=min(left, canary - progress.canary_sent))
    if progress.phase is Phase.CANARY and 2 * progress.canary_failed > progress.canary_ended:
        why = f"canary: {progress.canary_failed} of {progress.canary_ended} failed again"
        return Next(phase=Phase.STOPPED, why=why)
    window = max(RECENT_MIN, canary)
    failed = progress.recent[-window:].count("f")
    if len(progress.recent) >= window and 2 * failed > window:
        return Next(phase=Phase.STOPPED, why=f"{failed} of the last {window} failed again")
    room = limit - progress.out
    # A few stragglers must not hold up the rest, nor make many small batches of it.
    return Next(phase=Phase.RUNNING, count=min(room, left) if 2 * room >= min(limit, left) else 0)


def out_max(platform: Platform) -> int:
    """Return how many jobs of a replay may be out at a platform at one time."""
    return max(platform.jobs_per_batch, int(_OUT_S * platform.limits.calls_per_s))


def obstacle(
    record: JobRecord, *, origin: Origin | None, state: State, in_catalogue: bool, superseded: bool, over: bool
) -> Skip | None:
    """Say why a job that was chosen in this state may not be sent again; None if it may.

    `superseded`: the number has a newer case; `over`: what its owner has authorised is at its end.
    """
    # The first that holds is the one that is told.
    obstacles = {
        Skip.NO_PLATFORM: not in_catalogue,
        Skip.NO_CASE: origin is None,
        Skip.CHANGED: record.state is not state,
        Skip.GENERATIONS: record.generation >= GENERATION_MAX,
        Skip.SEALED: origin is not None and not origin.number,
        Skip.SUPERSEDED: superseded,
        Skip.NOT_AUTHORISED: over,
    }
    return next((skip for skip, holds in obstacles.items() if holds), None)


def note_end(progress: Progress, end: End, record: JobRecord, *, canary: int) -> None:
    """Count one job that is not out any more."""
    failed = end is End.FAILED
    name = (record.reason or record.state).value if failed else record.state.value
    counts = progress.failed if failed else progress.settled
    counts[name] = counts.get(name, 0) + 1
    progress.out -= 1
    progress.recent = (progress.recent + ("f" if failed else "s"))[-max(RECENT_MIN, canary) :]
    if progress.phase is Phase.CANARY:
        progress.canary_ended += 1
        progress.canary_failed += failed


# -- looking ahead -----------------------------------------------------------------------------------------------------


def obstacles(
    backends: Backends, catalogue: Catalogue, jobs: Sequence[str], *, state: State
) -> dict[str, Counter[Skip]]:
    """Count the jobs that would be skipped if a replay began now, by platform and why."""
    together: dict[str, list[str]] = defaultdict(list)
    for job in jobs:
        case, platform = split_job_id(job)
        together[platform].append(case)
    found: dict[str, Counter[Skip]] = {}
    for platform, every in together.items():
        found[platform] = Counter()
        for start in range(0, len(every), _LOOKED_AT_ONCE):
            cases = every[start : start + _LOOKED_AT_ONCE]
            origins = backends.origins.of(cases)
            superseded = backends.origins.superseded(origins.values())
            over = backends.authorisations.over(cases, now=backends.clock.now())
            for case, record in zip(cases, backends.store.records(platform, cases), strict=True):
                why = obstacle(
                    record, origin=origins.get(case), state=state, in_catalogue=platform in catalogue,
                    superseded=case in superseded, over=case in over,
                )  # fmt: skip
                if why is not None:
                    found[platform][why] += 1
    return found


# -- the engine --------------------------------------------------------------------------------------------------------


class Replayer:
    """Steps every replay that has something to do.

    Raises BackendUnavailable, RedisError: then another step, of whatever process, goes on.
    """

    def __init__(self, backends: Backends, catalogue: Catalogue) -> None:
        self._backends, self._catalogue = backends, catalogue
        self._turn: Counter[str] = Counter()

    def step(self) -> int:
        """Do a little of what there is to do. Returns how many jobs were sent again."""
        until_s, sent = time.monotonic() + _STEP_S, 0
        for ident in self._backends.replays.awake():
            token = new_id()
            if time.monotonic() < until_s and self._backends.replays.lock(ident, token):
                sent += self._step(ident, token, until_s)
        return sent

    def _step(self, ident: str, token: str, until_s: float) -> int:
        replay = self._backends.replays.get(ident)
        # Each step begins where the last one had no time left.
        first = self._turn[ident] % max(1, len(replay.platforms))
        sent, asleep = 0, True
        for progress in replay.platforms[first:] + replay.platforms[:first]:
            if time.monotonic() > until_s:
                asleep = False
                break
            self._turn[ident] += 1
            before = progress.sent
            asleep = self._visit(replay, progress, token) and asleep
            sent += progress.sent - before
        self._backends.replays.release(ident, token, asleep=asleep, round_=replay.round)
        return sent

    def _visit(self, replay: Replay, progress: Progress, token: str) -> bool:
        """Watch and send at one platform. Returns whether there is nothing left to do there for now."""
        replays, before = self._backends.replays, asdict(progress)
        out = replays.sent(replay.id, progress.platform) if progress.out else []
        out = self._watch(replay, progress, out)
        if progress.chunk is not None:
            out += self._send(replay, progress, again=True)
        if progress.round < replay.round:
            _begin_round(progress, replay.round)
        move = Next(phase=progress.phase, why=progress.why) if replay.halt else self._decide(replay, progress)
        if move.phase is Phase.STOPPED and progress.phase is not Phase.STOPPED:
            log.warning("replay.stopped", replay=replay.id, platform=progress.platform, reason=move.why)
        progress.phase, progress.why = move.phase, move.why
        if move.count:
            self._plan(replay, progress, move.count)
            # Written down before anything is changed: who comes after a crash finishes it.
            if not replays.write(replay.id, token, progress=progress, sent=out):
                return False
            out += self._send(replay, progress, again=False)
        if asdict(progress) != before and not replays.write(replay.id, token, progress=progress, sent=out):
            return False
        return not progress.out and (bool(replay.halt) or progress.phase in {Phase.STOPPED, Phase.DONE})

    def _decide(self, replay: Replay, progress: Progress) -> Next:
        platform = self._platform(progress)
        if platform is None:
            return decide(progress, canary=replay.canary, limit=progress.end - progress.start)
        limit = out_max(platform)
        move = decide(progress, canary=replay.canary, limit=limit)
        return replace(move, count=min(move.count, platform.jobs_per_batch))

    def _platform(self, progress: Progress) -> Platform | None:
        return self._catalogue.get(progress.platform) if progress.platform in self._catalogue else None

    def _watch(self, replay: Replay, progress: Progress, out: Sequence[Group]) -> list[Group]:
        """Count those that have come to an end. Returns the others."""
        left = []
        for group in out:
            pending = []
            for case, record in zip(
                group.cases, self._backends.store.records(progress.platform, group.cases), strict=True
            ):
                end = end_of(record, generation=group.generation, attempts=group.attempts)
                if end is End.PENDING:
                    pending.append(case)
                else:
                    note_end(progress, end, record, canary=replay.canary)
            if pending:
                left.append(replace(group, cases=tuple(pending)))
        return left

    # -- sending ---------------------------------------------------------------------------------------------------

    def _plan(self, replay: Replay, progress: Progress, count: int) -> None:
        """Choose the next jobs: those that may still be sent, together with those that stand where they stand."""
        jobs = self._backends.replays.jobs(replay.id, start=progress.at, count=count)
        cases = [split_job_id(job)[0] for job in jobs]
        origins = self._backends.origins.of(cases)
        superseded = self._backends.origins.superseded(origins.values())
        over = self._backends.authorisations.over(cases, now=self._backends.clock.now())
        known = progress.platform in self._catalogue
        together: dict[tuple[str, int, int], list[str]] = defaultdict(list)
        for case, record in zip(cases, self._backends.store.records(progress.platform, cases), strict=True):
            why = obstacle(
                record, origin=origins.get(case), state=replay.state, in_catalogue=known, superseded=case in superseded,
                over=case in over,
            )  # fmt: skip
            if why is None:
                together[origins[case].run, record.generation, record.attempts].append(case)
            else:
                _skip(progress, why)
        progress.taken = len(jobs)
        progress.chunk = [
            asdict(Group(run=run, generation=generation, attempts=attempts, cases=tuple(found)))
            for (run, generation, attempts), found in together.items()
        ]

    def _send(self, replay: Replay, progress: Progress, *, again: bool) -> list[Group]:
        """Send the chunk that is written down. Returns what is out now. Done twice it sends nothing twice."""
        out = []
        for place, group in enumerate(progress.groups):
            name = derive("replay", replay.id, progress.platform, str(progress.at), str(place))
            moved = self._moved(replay, progress, group=group, name=name, again=again)
            skipped = len(group.cases) - len(moved)
            if skipped:
                _skip(progress, Skip.CHANGED, count=skipped)
            if not moved:
                continue
            after = replace(group, generation=group.generation + 1, cases=moved)
            self._put(progress.platform, after, name=name)
            out.append(after)
            progress.sent += len(moved)
            progress.out += len(moved)
            if progress.phase is Phase.CANARY:
                progress.canary_sent += len(moved)
        progress.at += progress.taken
        progress.chunk, progress.taken = None, 0
        return out

    def _moved(self, replay: Replay, progress: Progress, *, group: Group, name: str, again: bool) -> tuple[str, ...]:
        """Take the jobs out of the dead letters. Returns those that this replay, and no other, has taken."""
        event = decision(
            group.cases,
            platform=progress.platform,
            run=group.run,
            batch=name,
            state=State.QUEUED,
            attempt=group.attempts,
            generation=group.generation + 1,
            who=_WHO,
            now=self._backends.clock.now(),
            event=name,
        )
        applied = self._backends.store.decide(event, only_from=frozenset({replay.state}))
        if not again and not applied.duplicate:
            return applied.cases
        # Somebody decided and died before putting the batch. The trail says which jobs were moved for this very batch.
        mine = set(applied.cases)
        for case in group.cases:
            steps = self._backends.dead.trail(f"{case}.{progress.platform}")
            if any(step.batch == name and step.state is State.QUEUED for step in steps):
                mine.add(case)
        return tuple(case for case in group.cases if case in mine)

    def _put(self, key: str, group: Group, *, name: str) -> None:
        """Let the jobs that have not gone on since wait for their turn; the same batch again changes nothing."""
        records = self._backends.store.records(key, group.cases)
        waiting = {
            case
            for case, record in zip(group.cases, records, strict=True)
            if (record.state, record.generation) == (State.QUEUED, group.generation)
        }
        found = self._backends.origins.of([case for case in group.cases if case in waiting])
        origins = {case: origin for case, origin in found.items() if origin.number}
        if not origins:
            return
        # A platform that has left the catalogue in this very moment: a worker says so and buries them again.
        retry = self._catalogue.get(key).retry if key in self._catalogue else Retry()
        now = self._backends.clock.now()
        cases = tuple(origins)
        batch = Batch(
            id=name,
            run=group.run,
            platform=key,
            attempt=group.attempts + 1,
            first_attempt=group.attempts + 1,
            generation=group.generation,
            deadline=now + timedelta(seconds=retry.total_s),
            jobs=tuple(
                Job(case=case, cutoff_at=origins[case].cutoff_at, basis=Basis(origins[case].basis)) for case in cases
            ),
            sealed=self._backends.vault.seal_numbers(
                [origins[case].number for case in cases], context=seal_context(cases)
            ),
        )
        self._backends.waiting.put(batch, due=now, why=Why.REPLAY)


def _begin_round(progress: Progress, number: int) -> None:
    """Begin anew after somebody has resumed the replay."""
    progress.round = number
    if progress.phase is Phase.STOPPED:
        progress.phase, progress.why, progress.recent = Phase.CANARY, "", ""
        progress.canary_sent = progress.canary_ended = progress.canary_failed = 0


def _skip(progress: Progress, why: Skip, *, count: int = 1) -> None:
    progress.skipped[why.value] = progress.skipped.get(why.value, 0) + count
