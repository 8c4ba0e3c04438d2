"""The last lines of a run, for a person."""

from rich.console import Console
from rich.table import Table

from ops.progress import STATE_WORDS, duration_text
from schemas.state import State, Verdict
from schemas.summary import LedgerCheck, Summary


def print_verdict(summary: Summary, *, open_jobs: int, sandbox: bool) -> None:
    """Say what came of a run: verdict first, then figures, then where to look next."""
    console = Console()
    cases, jobs = summary.cases, summary.jobs
    console.print()
    for line in _verdict_lines(summary, open_jobs=open_jobs):
        console.print(line, highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(justify="right")
    table.add_column()
    for state in State:
        if count := jobs.by_state.get(state):
            table.add_row(f"{count:,}", STATE_WORDS[state])
    console.print(table)
    console.print(
        f"{summary.calls:,} calls, {summary.attempts:,} attempts, {duration_text(summary.duration_s)},"
        f" {summary.jobs_per_s:,.0f} jobs/s; rows: {cases.accepted:,} accepted, {cases.duplicate:,} known already,"
        f" {cases.rejected:,} refused",
        highlight=False,
    )
    if summary.ledger:
        console.print(_ledger_line(summary.ledger), highlight=False)
        for example in summary.ledger.examples:
            console.print(f"  {example}", highlight=False, markup=False)
    console.print(f"report   {summary.files['report.html']}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"results  {summary.files['results.csv']}", highlight=False, markup=False, soft_wrap=True)
    flag = " --sandbox" if sandbox else ""
    console.print(
        f"next     renewal results export{flag} --state DEAD · renewal status{flag} --reference …", highlight=False
    )


def _verdict_lines(summary: Summary, *, open_jobs: int) -> list[str]:
    clean = summary.verdicts.get(Verdict.CLEAN, 0)
    exceptions = summary.verdicts.get(Verdict.CLEAN_WITH_EXCEPTIONS, 0)
    incomplete = summary.verdicts.get(Verdict.INCOMPLETE, 0)
    total = clean + exceptions + incomplete
    counts = f"{exceptions:,} have exceptions, {incomplete:,} are incomplete"
    lines = [f"{clean:,} of {total:,} numbers are clean; {counts}."]
    if open_jobs:
        lines.append(f"{open_jobs:,} jobs are still open; the same command takes the run up again.")
    return lines


def _ledger_line(ledger: LedgerCheck) -> str:
    compared = f"ledger   {ledger.compared:,} recorded outcomes compared with the platforms' own record:"
    if ledger.agrees:
        rest = f"; {ledger.without_outcome:,} jobs have no outcome" if ledger.without_outcome else ""
        return f"{compared} they agree, no second effect{rest}"
    return (
        f"{compared} {ledger.disagreements:,} disagree, {ledger.second_effects:,} second effects,"
        f" {ledger.unknown_effects:,} effects nobody asked for"
    )
