"""What `record.lua` is given: a result event as keys and arguments, and the table of states as Lua. Pure."""

from typing import Any, Final

import orjson

from backends.keys import SEEN_TTL_S, TRAIL_TTL_S, Keys
from schemas.notice import NoticeType
from schemas.outcome import REASON_CODES, Hold
from schemas.result import ANSWERED, Alike, JobResult, ResultEvent
from schemas.state import STATES, Holder, State

_TRAIL_MAX: Final = 50
_SETTLING: Final = {Holder.NOBODY, Holder.OPERATOR}


def arguments(
    event: ResultEvent,
    keys: Keys,
    *,
    counted: bool = True,
    only_from: frozenset[State] = frozenset(),
    tells: bool = False,
) -> tuple[list[str], list[Any]]:
    """Return KEYS and ARGV that apply an event; with `tells` the outbox learns of cases that are settled by it.

    With `only_from` it is a decision. Neither that nor an answer that came later is an attempt: nothing is counted but
    the change, nothing was sent, and nobody's custody ends.
    """
    data = event.data
    attempted = event.type != ANSWERED and not only_from
    fixed = [
        keys.seen(event.id), keys.platform(data.platform), keys.dead, keys.disputes, keys.orphans,
        keys.custody, keys.custody_batches, keys.custody_notes, keys.dead_groups,
        keys.accepted(data.platform), keys.polls(data.platform), keys.late, keys.paused(data.platform), keys.totals,
        *([keys.outbox] if tells else []),
    ]  # fmt: skip
    codes = "".join(f",{STATES[state].code}" for state in only_from)
    counters = _counters(event) if counted and attempted else []
    args: list[Any] = [
        keys.run_prefix, data.run, data.platform, SEEN_TTL_S, event.id, data.attempt, data.generation,
        # What sends nothing must not look like the first time that the job was sent.
        int(data.started_at.timestamp()) if attempted else 0, int(data.ended_at.timestamp()),
        data.batch if attempted and data.closes else "",
        keys.dead_at_prefix, keys.trail_prefix, TRAIL_TTL_S, _trail_head(event),
        f"{codes}," if codes else "", keys.jobs_prefix, keys.details_prefix, keys.case_prefix,
        data.manifest or "", len(counters) // 2, *counters,
    ]  # fmt: skip
    for group in data.alike:
        args += [*_codes(group), detail_of(group, event), _named(group)]
    for job in data.jobs:
        args += [*_codes(job), detail_of(job, event, reference=job.reference), job.case]
    return fixed, args


def _trail_head(event: ResultEvent) -> bytes:
    """Return what a trail says of an attempt, as the inside of a JSON object."""
    data = event.data
    facts = {
        "at": data.started_at.isoformat(),
        "ms": int((data.ended_at - data.started_at).total_seconds() * 1000),
        "attempt": data.attempt,
        "generation": data.generation,
        "batch": data.batch,
        "worker": data.worker,
    }
    return orjson.dumps(facts)[1:-1]


def _counters(event: ResultEvent) -> list[Any]:
    data = event.data
    counters: list[Any] = ["attempts", 1, "calls", data.calls]
    for status, count in data.http_statuses.items():
        counters += [f"status:{status}", count]
    for fault, count in data.faults.items():
        counters += [f"fault:{fault}", count]
    for bucket, count in enumerate(data.latencies):
        if count:
            counters += [f"latency:{bucket}", count]
    return counters


def _named(group: Alike) -> str:
    """Return the cases of a group as `record.lua` takes them."""
    if group.spans is None:
        return "".join(group.cases)
    return "@" + ",".join(f"{start} {end}" for start, end in group.spans)


def _codes(result: Alike | JobResult) -> tuple[int, int]:
    return STATES[result.state].code, REASON_CODES[result.reason] if result.reason else 0


def detail_of(result: Alike | JobResult, event: ResultEvent, *, reference: str | None = None) -> bytes | str:
    """Return what a plain record cannot hold; a job that is plain and done has nothing more to say."""
    if STATES[result.state].holder is Holder.NOBODY and not (reference or result.detail):
        return ""
    facts: dict[str, Any] = {"attempt": event.data.attempt, "at": event.data.ended_at.isoformat()}
    if reference:
        facts["reference"] = reference
    if result.detail:
        facts["detail"] = result.detail
    if result.http_status:
        facts["http_status"] = result.http_status
    if result.state is State.WAITING and event.data.retry_at:
        facts["due"] = event.data.retry_at.isoformat()
    return orjson.dumps(facts)


def states_for_lua() -> str:
    """Return `schemas.state.STATES` as Lua, so that there is one table only."""
    rows = ",".join(
        f"[{rule.code}]={{final={_lua(rule.final)},clean={_lua(rule.clean)},rank={rule.rank},"
        f"settles={_lua(rule.holder in _SETTLING)},unanswered={_lua(rule.unanswered)}}}"
        for rule in STATES.values()
    )
    names = (State.QUEUED, State.WAITING, State.DEAD, State.ACCEPTED)
    codes = ",".join(str(STATES[name].code) for name in names)
    return (
        f"local {','.join(names)} = {codes}\nlocal USER_ACTION = {REASON_CODES[Hold.USER_ACTION]}\n"
        f"local STATES = {{{rows}}}\nlocal TRAIL_MAX = {_TRAIL_MAX}\nlocal CASE_SETTLED = '{NoticeType.CASE_SETTLED}'\n"
    )


def _lua(value: bool) -> str:  # noqa: FBT001 - a literal, not a switch
    return "true" if value else "false"
