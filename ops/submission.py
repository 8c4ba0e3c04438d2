"""`renewal submit`: put a file on the jobs queue and leave."""

from collections.abc import Callable
from pathlib import Path

from backends.log import configure_logging
from ops.progress import RejectedRow
from ops.report import write_rejected
from ops.session import opened
from platforms.catalogue import Catalogue
from producers.intake import read
from producers.rows import Rejection
from producers.submit import Submitter
from schemas.batch import Lane
from schemas.ids import new_id

_SHOWN_MAX = 10


def submit_file(
    file: str,
    *,
    encoding: str,
    catalogue: Path | None,
    platforms: list[str],
    rejected: Path | None,
    lane: Lane,
    say: Callable[[str], None],
) -> int:
    """Submit, and say what became of the rows. Returns 0, or 3 if rows were refused. Raises RenewalError."""
    configure_logging()
    refused: list[Rejection] = []
    with opened(catalogue=catalogue) as (backends, loaded):
        chosen: Catalogue = loaded.select(platforms) if platforms else loaded
        run = new_id()
        backends.broker.declare()
        rows = read("-" if file == "-" else Path(file), encoding=encoding, known_platforms=chosen)
        backends.runs.begin(run, file=Path(file).name, now=backends.clock.now())
        submitter = Submitter(backends, chosen, operator=backends.settings.operator, lane=lane)
        intake = submitter.submit(rows, run=run, on_rejected=refused.append)
        say(
            f"run {run}: {intake.accepted} cases accepted, {intake.duplicate} known already, {intake.rejected} rows"
            f" refused, {intake.batches} batches queued"
        )
        if not backends.heartbeats.alive("worker"):
            say("no worker runs yet: `renewal up` starts the whole system")
    for row in refused[:_SHOWN_MAX]:
        say(f"line {row.line}: {row.field}: {row.problem}")
    if len(refused) > _SHOWN_MAX:
        say(f"… and {len(refused) - _SHOWN_MAX} more" + ("" if rejected else "; `--rejected FILE` keeps them all"))
    if rejected is not None:
        write_rejected(rejected, [RejectedRow(row.line, row.field, row.problem, row.value) for row in refused])
    return 3 if refused else 0
