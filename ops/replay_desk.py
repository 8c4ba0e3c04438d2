"""Replays, for people: ask for one, see how far it is, stop it, let it go on."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from backends.actions import Action, What, whoami
from backends.bootstrap import Backends
from backends.dead import DeadFilter
from backends.replays import Phase, Replay, Skip
from backends.store import CaseView
from ops.dead_letters import DeadDesk
from ops.inspector import Inspector
from ops.replay_report import replay_figures, replay_report, replay_row
from ops.when import iso
from platforms.catalogue import Catalogue
from producers.replay import obstacles, out_max
from schemas.errors import InputError, Refused
from schemas.ids import new_id, split_job_id
from schemas.number import mask_text
from schemas.state import State

_SOME_LEFT: Final = 3
_STOPPED: Final = 1


class ReplayDesk:
    """Writes down what is wanted; a scheduler does it."""

    def __init__(self, backends: Backends, *, who: str = "") -> None:
        self._backends, self._who = backends, who or whoami()

    def ask(
        self, jobs: Sequence[str], *, reason: str, wanted: DeadFilter, state: str, canary: int, ident: str = ""
    ) -> str:
        """Ask for a replay of these jobs. Returns its id; asked again by an id of the caller's, it is the same one."""
        ident, text = ident or new_id(), describe(wanted)
        if self._backends.replays.exists(ident):
            return ident
        action = Action(
            what=What.DEAD_REPLAY, target=ident, reason=reason,
            before={"jobs": len(jobs), "state": state, "wanted": text}, after={"canary": canary},
            who=self._who,
        )  # fmt: skip
        self._backends.actions.append(action)
        self._backends.replays.create(
            ident, jobs=jobs, who=action.who, reason=mask_text(reason), wanted=text, state=State(state), canary=canary,
            now=self._backends.clock.now(),
        )  # fmt: skip
        return ident

    def preview(
        self, jobs: Sequence[str], catalogue: Catalogue, *, canary: int, state: str = State.DEAD
    ) -> dict[str, Any]:
        """Say what a replay of these jobs would be. Its duration counts only the limits that the catalogue sets."""
        skips = obstacles(self._backends, catalogue, jobs, state=State(state))
        by_platform = Counter(split_job_id(job)[1] for job in jobs)
        rows = [
            _foreseen(platform, count, skips=skips[platform], catalogue=catalogue, canary=canary)
            for platform, count in sorted(by_platform.items())
        ]
        return {
            "jobs": len(jobs),
            "canary": canary,
            "skipped": sum(row["skipped"] for row in rows),
            "skipped_by_why": dict(sum(skips.values(), Counter[Skip]())),
            "least_s": max((row["least_s"] for row in rows), default=0.0),
            "platforms": rows,
        }

    def rows(self, *, after: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield every replay, the newest first; with `after`, those that are older than that one."""
        for ident in self._backends.replays.newest_first(after=after):
            yield replay_row(self._backends.replays.get(ident))

    def report(self, ident: str) -> dict[str, Any]:
        """Return the whole report of one. Raises NotFound."""
        return replay_report(self._backends, self._backends.replays.get(ident))

    def figures(self, ident: str) -> dict[str, Any]:
        """Return the report without how its jobs stand now, which reads each of them. Raises NotFound."""
        return replay_figures(self._backends.replays.get(ident))

    def progress(self, ident: str) -> tuple[str, bool]:
        """Say in one line how far it is, and whether it has ended. Raises NotFound."""
        replay = self._backends.replays.get(ident)
        row = replay_row(replay)
        line = (
            f"{row['state']}: {row['sent']} of {row['total']} sent, {row['settled']} settled,"
            f" {row['failed']} failed again, {row['skipped']} skipped, {row['pending']} pending"
        )
        if not self._backends.heartbeats.alive("scheduler"):
            line += "; no scheduler is running: it goes on when one is"
        return line, not replay.out and replay.phase in {Phase.DONE, Phase.STOPPED}

    def exit_code(self, ident: str) -> int:
        """Return how a command that watched it ends."""
        replay = self._backends.replays.get(ident)
        if replay.phase is not Phase.DONE:
            return _STOPPED
        left = any(progress.failed or progress.skipped for progress in replay.platforms)
        return _SOME_LEFT if left else 0

    def stop(self, ident: str, *, reason: str) -> str:
        """Send no more of it. Returns what is to be said. Raises NotFound, Refused."""
        replay = self._backends.replays.get(ident)
        if replay.phase is Phase.DONE:
            raise Refused(f"replay {ident} is done already")
        self._log(What.DEAD_REPLAY_STOP, replay, reason=reason)
        self._backends.replays.stop(ident, why=mask_text(reason))
        return f"replay {ident} is stopped; {replay.out} jobs that were sent go on by themselves"

    def resume(self, ident: str, *, reason: str) -> str:
        """Go on with it. Returns what is to be said. Raises NotFound, Refused."""
        replay = self._backends.replays.get(ident)
        if replay.phase is not Phase.STOPPED and not any(p.phase is Phase.STOPPED for p in replay.platforms):
            raise Refused(f"replay {ident} is not stopped: it is {replay.phase}")
        self._log(What.DEAD_REPLAY_RESUME, replay, reason=reason)
        self._backends.replays.resume(ident)
        left = sum(progress.end - progress.at for progress in replay.platforms)
        return f"replay {ident} goes on with {left} jobs that have not been sent"

    def _log(self, what: What, replay: Replay, *, reason: str) -> None:
        row = replay_row(replay)
        before = {name: row[name] for name in ("state", "total", "sent", "settled", "failed", "skipped", "pending")}
        self._backends.actions.append(
            Action(what=what, target=replay.id, reason=reason, before=before, after={}, who=self._who)
        )


def jobs_to_replay(
    desk: DeadDesk, inspector: Inspector, wanted: DeadFilter, *, everything: bool, state: str
) -> list[str]:
    """Return the jobs that fit: dead letters, or what waits for a review. Raises InputError if nothing says which."""
    if state == State.DEAD:
        # The first to die goes first.
        return [letter.job for letter in reversed(desk.choose(wanted, everything=everything))]
    if state != State.PENDING_REVIEW:
        raise InputError("state: expected DEAD or PENDING_REVIEW")
    if wanted.reasons or wanted.since_ms or wanted.until_ms:
        raise InputError("state PENDING_REVIEW: choose by run, case, number and platform only")
    if wanted.cases is not None:
        cases: Iterator[CaseView] = map(inspector.case, sorted(wanted.cases))
    elif wanted.run is not None:
        cases = inspector.run_cases(wanted.run)
    else:
        raise InputError("state PENDING_REVIEW: say which, by run, case or number")
    chosen = (view for view in cases if wanted.run in {None, view.run})
    return desk.under_review(chosen, platforms=wanted.platforms)


def _foreseen(key: str, jobs: int, *, skips: Counter[Skip], catalogue: Catalogue, canary: int) -> dict[str, Any]:
    """`out_max` jobs are out at a time; what is skipped takes no call."""
    row: dict[str, Any] = {"platform": key, "jobs": jobs, "skipped": skips.total()}
    if key not in catalogue:
        return row | {"canary": 0, "out_max": 0, "least_s": 0.0, "skipped_for": Skip.NO_PLATFORM}
    platform, sent = catalogue.get(key), jobs - skips.total()
    calls = math.ceil(sent / platform.limits.items_per_call) if platform.protocol == "bulk-json" else sent
    least_s = round(calls / platform.limits.calls_per_s, 1)
    return row | {
        "canary": min(canary, sent), "out_max": out_max(platform), "least_s": least_s, "skipped_for": None,
    }  # fmt: skip


def describe(wanted: DeadFilter) -> str:
    """Return a choice as text that may be kept: a number is never in it, nor are many cases."""
    parts = [f"platform {', '.join(sorted(wanted.platforms))}"] if wanted.platforms else []
    parts += [f"cause {', '.join(sorted(wanted.reasons))}"] if wanted.reasons else []
    parts += [f"since {iso(wanted.since_ms)}"] if wanted.since_ms is not None else []
    parts += [f"until {iso(wanted.until_ms)}"] if wanted.until_ms is not None else []
    parts += [f"case {', '.join(sorted(wanted.cases)[:5])}"] if wanted.cases is not None else []
    parts += [f"run {wanted.run}"] if wanted.run else []
    return "; ".join(parts) or "all"
