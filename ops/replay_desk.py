"""Replays, for people: ask for one, see how far it is, stop it, let it go on."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from backends.actions import Action, What
from backends.bootstrap import Backends
from backends.dead import DeadFilter
from backends.replays import Phase, Replay
from ops.replay_report import replay_report, replay_row
from ops.when import iso
from schemas.errors import Refused
from schemas.ids import new_id
from schemas.number import mask_text
from schemas.state import State

_SOME_LEFT: Final = 3
_STOPPED: Final = 1


class ReplayDesk:
    """Writes down what is wanted; a scheduler does it."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def ask(self, jobs: Sequence[str], *, reason: str, wanted: DeadFilter, state: str, canary: int) -> str:
        """Ask for a replay of these jobs. Returns its id."""
        ident, text = new_id(), describe(wanted)
        action = Action(
            what=What.DEAD_REPLAY, target=ident, reason=reason,
            before={"jobs": len(jobs), "state": state, "wanted": text}, after={"canary": canary},
        )  # fmt: skip
        self._backends.actions.append(action)
        self._backends.replays.create(
            ident, jobs=jobs, who=action.who, reason=mask_text(reason), wanted=text, state=State(state), canary=canary,
            now=self._backends.clock.now(),
        )  # fmt: skip
        return ident

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every replay, the newest first."""
        for ident in self._backends.replays.newest_first():
            yield replay_row(self._backends.replays.get(ident))

    def report(self, ident: str) -> dict[str, Any]:
        """Return the whole report of one. Raises NotFound."""
        return replay_report(self._backends, self._backends.replays.get(ident))

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
        self._backends.actions.append(Action(what=what, target=replay.id, reason=reason, before=before, after={}))


def describe(wanted: DeadFilter) -> str:
    """Return a choice as text that may be kept: a number is never in it, nor are many cases."""
    parts = [f"platform {', '.join(sorted(wanted.platforms))}"] if wanted.platforms else []
    parts += [f"cause {', '.join(sorted(wanted.reasons))}"] if wanted.reasons else []
    parts += [f"since {iso(wanted.since_ms)}"] if wanted.since_ms is not None else []
    parts += [f"until {iso(wanted.until_ms)}"] if wanted.until_ms is not None else []
    parts += [f"case {', '.join(sorted(wanted.cases)[:5])}"] if wanted.cases is not None else []
    parts += [f"run {wanted.run}"] if wanted.run else []
    return "; ".join(parts) or "all"
