"""Safe mass replay of dead letters: ask for it, watch it, stop it, read what came of it."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.consent import DryRunOption, ExpectOption, ReasonOption, YesOption, agree, needs_reason
from ops.cli.letters import (
    AllOption,
    CaseOption,
    CauseOption,
    NumberOption,
    PlatformOption,
    RunOption,
    SinceOption,
    UntilOption,
    sample,
    wanted_of,
)
from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from backends.dead import DeadFilter
    from ops.dead_letters import DeadDesk
    from ops.inspector import Inspector
    from ops.replay_desk import ReplayDesk

_LOOK_S = 0.5
_INTERRUPTED = 130
ReplayArgument = Annotated[str, typer.Argument(help="Id of the replay.")]
StateOption = Annotated[
    str, typer.Option(help="DEAD, or PENDING_REVIEW: what a platform answered in a code nobody knew.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(replay)
    app.command("replays")(list_replays)
    app.command("replay-show")(show)
    app.command("replay-stop")(stop)
    app.command("replay-resume")(resume)


def replay(
    *,
    reason: ReasonOption = "",
    platform: PlatformOption = None,
    cause: CauseOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    case: CaseOption = None,
    number: NumberOption = None,
    run: RunOption = None,
    everything: AllOption = False,
    state: StateOption = "DEAD",
    canary: Annotated[int, typer.Option(min=1, max=1000, help="Jobs of each platform that are tried first.")] = 10,
    expect_count: ExpectOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not watch it.")] = False,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Send dead letters again: a canary first, then the rest at a measured pace; stops by itself if they fail again.

    Exit code 0 when all of it settled, 3 when some failed again or were skipped, 1 when it was stopped.
    """
    from ops.replay_desk import jobs_to_replay

    with _opened(sandbox=sandbox) as (replays, desk, inspector):
        wanted = wanted_of(
            desk, inspector, platform=platform, cause=cause, since=since, until=until, case=case, number=number, run=run
        )
        jobs = jobs_to_replay(desk, inspector, wanted, everything=everything, state=state)
        if dry_run:
            _dry_run(desk, wanted, jobs, state=state, output=output)
            return
        needs_reason(reason, not_a_cause=True)
        agree(len(jobs), what="jobs to be sent again", expect=expect_count, yes=yes)
        if not jobs:
            say("nothing to send")
            return
        ident = replays.ask(jobs, reason=reason, wanted=wanted, state=state, canary=canary)
        say(f"replay {ident}: {len(jobs)} jobs, {canary} of each platform first")
        if detach:
            say(_how(ident, sandbox=sandbox))
            return
        _watch(replays, ident, sandbox=sandbox, output=output)


def _dry_run(desk: "DeadDesk", wanted: "DeadFilter", jobs: list[str], *, state: str, output: Format) -> None:
    if state == "DEAD":
        sample(desk, desk.select(wanted), output=output)
        return
    emit(({"job": job} for job in jobs[:10]), fields=("job",), output=output)
    say(f"{len(jobs)} jobs under review would be sent again; nothing was: --dry-run")


def _watch(replays: "ReplayDesk", ident: str, *, sandbox: bool, output: Format) -> None:
    """Say how far it is until it ends; Ctrl-C only ends the watching."""
    said = ""
    try:
        while True:
            line, ended = replays.progress(ident)
            if line != said:
                say(line)
                said = line
            if ended:
                break
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        say(f"not watched any more; it goes on. {_how(ident, sandbox=sandbox)}")
        raise typer.Exit(_INTERRUPTED) from None
    _report(replays, ident, output=output)
    code = replays.exit_code(ident)
    if code:
        raise typer.Exit(code)


def _how(ident: str, *, sandbox: bool) -> str:
    more = " --sandbox" if sandbox else ""
    return (
        f"See it: renewal dead replay-show {ident}{more} · stop it: renewal dead replay-stop {ident}{more} --reason …"
        f" · go on: renewal dead replay-resume {ident}{more} --reason …"
    )


def list_replays(*, sandbox: SandboxOption = False, output: OutputOption = Format.TABLE) -> None:
    """List replays, the newest first."""
    from ops.replay_report import LIST_FIELDS

    with _opened(sandbox=sandbox) as (replays, _, _):
        emit(replays.rows(), fields=LIST_FIELDS, output=output)


def show(ident: ReplayArgument, *, sandbox: SandboxOption = False, output: OutputOption = Format.TABLE) -> None:
    """Show what has come of a replay, and how its jobs stand now."""
    with _opened(sandbox=sandbox) as (replays, _, _):
        _report(replays, ident, output=output)


def stop(ident: ReplayArgument, *, reason: ReasonOption = "", sandbox: SandboxOption = False) -> None:
    """Send no more of a replay; what was sent goes on by itself."""
    needs_reason(reason)
    with _opened(sandbox=sandbox) as (replays, _, _):
        say(replays.stop(ident, reason=reason))


def resume(ident: ReplayArgument, *, reason: ReasonOption = "", sandbox: SandboxOption = False) -> None:
    """Go on with a replay that was stopped, by a canary again where it stopped by itself."""
    needs_reason(reason)
    with _opened(sandbox=sandbox) as (replays, _, _):
        say(replays.resume(ident, reason=reason))


def _report(replays: "ReplayDesk", ident: str, *, output: Format) -> None:
    import json

    from ops.replay_report import PLATFORM_FIELDS

    found = replays.report(ident)
    if output is Format.JSON:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    if output is Format.TABLE:
        print(f"replay {found['replay']}: {found['state']}" + (f" ({found['why']})" if found["why"] else ""))
        print(f"  asked for by {found['who']} at {found['asked_at']}: {found['reason']}; {found['wanted']}")
        for name in ("settled_by_state", "failed_by_reason", "skipped_by_why", "now"):
            counts = ", ".join(f"{key} {count}" for key, count in found[name].items())
            print(f"  {name.replace('_', ' ')}: {counts or '–'}")
    emit(found["platforms"], fields=PLATFORM_FIELDS, output=output)


@contextlib.contextmanager
def _opened(*, sandbox: bool) -> "Iterator[tuple[ReplayDesk, DeadDesk, Inspector]]":
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, catalogue):
        from ops.dead_letters import DeadDesk
        from ops.inspector import Inspector
        from ops.replay_desk import ReplayDesk

        yield ReplayDesk(backends), DeadDesk(backends, catalogue), Inspector(backends, catalogue)
