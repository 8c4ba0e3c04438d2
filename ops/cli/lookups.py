"""What became of a number, and the results of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from backends.store import CaseView
    from ops.course import Course
    from ops.inspector import Inspector
    from schemas.outcome import Reason

results_app = typer.Typer(help="Results of runs.", no_args_is_help=True)
_CASE_FIELDS = (
    "platform", "state", "reason", "attempts", "first_sent_at", "settled_at", "due_at", "promise", "detail",
)  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Look")(status)
    app.add_typer(results_app, name="results", rich_help_panel="Look")


def status(
    *,
    number: Annotated[
        str | None, typer.Option(help="The number, in any usual spelling; `-` reads it from stdin.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Your own row id.")] = None,
    case: Annotated[str | None, typer.Option(help="The case id.")] = None,
    sandbox: SandboxOption = False,
    every: Annotated[bool, typer.Option("--all", help="Every platform, not only those that are not clean.")] = False,
    platform: Annotated[list[str] | None, typer.Option(help="Only this platform; may be given again.")] = None,
    turns: Annotated[bool, typer.Option("--turns", help="Whose turn it was, from intake to the end.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show where a number's renewal stands, platform by platform."""
    from schemas.errors import InputError

    if sum(value is not None for value in (number, reference, case)) != 1:
        raise InputError("give one of --number, --reference, --case")
    with _inspector(sandbox=sandbox) as inspector:
        if number is not None:
            # An argument can be read by every user of the machine; standard input cannot.
            text = typer.get_text_stream("stdin").readline().strip() if number == "-" else number
            found = inspector.cases_of_number(text)
        elif reference is not None:
            found = inspector.cases_of_reference(reference)
        else:
            found = [inspector.case(case or "")]
        for key in platform or ():
            inspector.catalogue.get(key)
        look = _Look(inspector=inspector, every=every, platforms=tuple(platform or ()), turns=turns)
        if output is Format.TABLE:
            for view in found:
                _show(look, view)
        else:
            bodies = [_case_json(look, view) for view in found]
            emit(bodies, fields=tuple(bodies[0]), output=output)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What of a case is asked for."""

    inspector: "Inspector"
    every: bool
    platforms: tuple[str, ...]
    turns: bool


def _show(look: _Look, view: "CaseView") -> None:
    from collections import Counter

    from schemas.state import STATES

    counts = Counter(view.record(platform).state for platform in view.platforms)
    print(f"{view.mask}  case {view.id}  {view.verdict}")
    print(f"  cut-off {view.cutoff_at} ({view.basis}), cycle {view.cycle}, reference {view.reference or '–'}")
    print(f"  run {view.run}")
    if given := look.inspector.authorisation(view.id):
        allowed, at = given.authorisation, given.withdrawn_at
        withdrawn = f", withdrawn by {given.withdrawn_by} at {at.isoformat(timespec='minutes')}" if at else ""
        print(
            f"  authorised by its owner ({allowed.method}, notice {allowed.notice_version}) until"
            f" {allowed.expires_at.isoformat()}{withdrawn}"
        )
    print("  " + ", ".join(f"{state} {n}" for state, n in counts.most_common()))
    every = look.every or look.platforms
    rows = [row for row in _rows(look, view) if every or not (STATES[row["state"]].clean)]
    if rows:
        said = ({**row, "promise": f"{row['promise']}?" if row["provisional"] else row["promise"]} for row in rows)
        emit(said, fields=_CASE_FIELDS, output=Format.TABLE)
        if any(row["provisional"] for row in rows):
            print("?: provisional, for the calendar of that year is not known yet")
    for row in rows:
        if remedy := row["remedy"]:
            print(f"{row['platform']}, {row['reason']}: {remedy['zh']} {remedy['en']} (next: {remedy['next_actor']})")
        if look.turns and row["turns"]:
            _show_turns(row)


def _show_turns(row: dict[str, Any]) -> None:
    from ops.turns import TURN_FIELDS

    held = ", ".join(f"{party} {seconds:,.0f} s" for party, seconds in row["held_s"].items() if seconds)
    late = f"; late: {row['late_party']}" if row["late_party"] else ""
    emit(row["turns"], fields=TURN_FIELDS, output=Format.TABLE, title=f"{row['platform']}: {held or 'no time'}{late}")


def _rows(look: _Look, view: "CaseView") -> Iterator[dict[str, Any]]:
    from ops.case_desk import CaseDesk

    courses = dict(look.inspector.courses(view))
    for row in CaseDesk(look.inspector).jobs(view):
        platform = row["platform"]
        if not look.platforms or platform in look.platforms:
            course = courses[view.settled.get(platform, platform)]
            yield row | _course_row(course, turns=look.turns) | _remedy_row(row["reason"])


def _course_row(course: "Course", *, turns: bool) -> dict[str, Any]:
    """Return the promise about a job and, where it is asked for, whose turn it was."""
    told = course.as_dict()
    promise = told["promise"] or {}
    row = {
        "due_at": promise.get("due_at"),
        "promise": promise.get("standing"),
        "provisional": promise.get("provisional"),
        "late_party": course.late,
    }
    return row | ({"held_s": told["held_s"], "turns": told["turns"]} if turns else {})


def _remedy_row(reason: "Reason | None") -> dict[str, Any]:
    from platforms.remedies import remedy_of
    from schemas.outcome import Refusal

    return {"remedy": remedy_of(reason).model_dump(mode="json") if isinstance(reason, Refusal) else None}


def _case_json(look: _Look, view: "CaseView") -> dict[str, Any]:
    from ops.case_desk import CaseDesk

    given = look.inspector.authorisation(view.id)
    return CaseDesk(look.inspector).head(view) | {
        "authorisation": given.row() if given else None,
        "jobs": list(_rows(look, view)),
    }


@results_app.command()
def export(
    *,
    run: Annotated[str | None, typer.Option(help="Run id; the newest when not given.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only these states; may be given again.")] = None,
    platform: Annotated[list[str] | None, typer.Option(help="Only these platforms; may be given again.")] = None,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.CSV,
) -> None:
    """Print one row for each job of a run; the same columns as results.csv."""
    from ops.case_desk import CaseDesk
    from ops.report import RESULTS_FIELDS
    from schemas.errors import InputError, NotFound
    from schemas.state import State

    unknown = set(state or ()) - set(State)
    if unknown:
        raise InputError(f"--state {', '.join(sorted(unknown))}: expected one of {', '.join(State)}")
    with _inspector(sandbox=sandbox) as inspector:
        chosen = run or next(inspector.runs(), None)
        if chosen is None:
            raise NotFound("no run yet" + ("" if sandbox else "; for what a sandbox run left, add --sandbox"))
        rows = CaseDesk(inspector).results(chosen, states=state or (), platforms=platform or ())
        count = emit(rows, fields=RESULTS_FIELDS, output=output)
        say(f"{count} jobs of run {chosen}")


@contextmanager
def _inspector(*, sandbox: bool) -> "Iterator[Inspector]":
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, catalogue):
        from ops.inspector import Inspector

        yield Inspector(backends, catalogue)
