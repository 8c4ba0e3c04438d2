"""The picture of `renewal top`: alerts first, then rates, platforms by trouble, queues, processes. Pure."""

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ops.alerts import Alert, Severity, alerts
from ops.health import PlatformHealth, by_trouble
from ops.progress import duration_text, latency_text
from ops.snapshot import Snapshot, healths, rates
from ops.watch import worker_rows
from platforms.catalogue import Catalogue

ALERTS_MAX: Final = 8
PLATFORMS_MAX: Final = 12
PROCESSES_MAX: Final = 12
_STYLES: Final = {"suspended": "bold red", "broken": "bold red", "probing": "yellow", "paused": "yellow"}
_ROOMY_COLUMNS: Final = 100


def picture(catalogue: Catalogue, now: Snapshot, earlier: Snapshot, *, columns: int) -> RenderableType:
    """Return everything at one moment; rates are those between the two snapshots."""
    found = healths(catalogue, now, earlier=earlier)
    return Group(
        _heading(now, earlier),
        *_alerts(alerts(now, earlier)),
        Text(),
        _platforms(by_trouble(found), roomy=columns >= _ROOMY_COLUMNS),
        Text(),
        *_queues(now),
        Text(),
        _processes(now),
    )


def _heading(now: Snapshot, earlier: Snapshot) -> Text:
    speed = rates(now, earlier)
    over = duration_text(now.taken_s - earlier.taken_s)
    return Text.assemble(
        ("renewal top", "bold"),
        (f" · {now.at:%H:%M:%S}Z · ", "dim"),
        f"{speed.jobs_per_s:,.1f} jobs/s settled · {speed.calls_per_s:,.1f} calls/s",
        (f" (over {over})", "dim"),
    )


def _alerts(found: Sequence[Alert]) -> list[Text]:
    if not found:
        return [_line("no alerts", "green")]
    lines = []
    for alert in found[:ALERTS_MAX]:
        subject = f" {alert.subject}" if alert.subject else ""
        style = "bold red" if alert.code.severity is Severity.CRITICAL else "yellow"
        lines.append(_line(f"{alert.code.severity} {alert.code}{subject}: {alert.text}", style))
    if len(found) > ALERTS_MAX:
        lines.append(_line(f"… and {len(found) - ALERTS_MAX} more: renewal alerts", "dim"))
    return lines


def _platforms(found: Sequence[PlatformHealth], *, roomy: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("worst first", no_wrap=True, overflow="ellipsis", max_width=28)
    table.add_column("state", no_wrap=True)
    headings = ["2xx %", "p95", "calls/s", "in flight", "waiting", "dead"]
    for heading in [*headings, "retrying"] if roomy else headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for health in found[:PLATFORMS_MAX]:
        state = Text(health.state, style=_STYLES.get(health.state, ""))
        table.add_row(Text(health.key), state, *_cells(health, roomy=roomy))
    return table


def _cells(health: PlatformHealth, *, roomy: bool) -> list[str]:
    share = "–" if health.success_pct is None else f"{health.success_pct:.1f}"
    speed = "–" if health.calls_per_s is None else f"{health.calls_per_s:.1f}"
    cells = [
        share,
        latency_text(health.p95_ms),
        f"{speed}/{health.rate_limit_per_s:g}",
        f"{health.gate.in_flight_now}/{health.in_flight_limit}",
        f"{health.waiting:,}",
        f"{health.dead:,}",
    ]
    return [*cells, f"{health.retrying:,}"] if roomy else cells


def _queues(now: Snapshot) -> list[Text]:
    queues = " · ".join(f"{name} {depth:,}" for name, depth in now.queues.items()) or "not known"
    custody = " · ".join(f"{phase} {count:,}" for phase, count in sorted(now.held.by_phase.items())) or "none"
    due_s = now.waiting.oldest_due_s
    late = f", the first for {duration_text(due_s)}" if now.waiting.due and due_s >= 1 else ""
    return [
        _line(f"queues    {queues}"),
        _line(f"custody   {custody}"),
        _line(f"waiting   {now.waiting.due:,} due{late} · {now.waiting.later:,} later"),
        _line(f"dead      {now.dead_total:,}, {sum(now.dead_lately.values()):,} within the last hour"),
    ]


def _processes(now: Snapshot) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("process", "name", "state", "last sign", "running", "done"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    rows = list(worker_rows(now.processes))
    for row in rows[:PROCESSES_MAX]:
        style = "" if row["state"] == "alive" else "bold red"
        running = "" if row["running"] is None else f"{row['running']} {row['platforms'] or ''}".strip()
        done = "" if row["done"] is None else f"{row['done']:,} {row['unit']}"
        sign = f"{row['last_sign_s']:.0f} s ago"
        table.add_row(row["role"], row["name"], Text(row["state"], style=style), sign, Text(running), done)
    return table


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
