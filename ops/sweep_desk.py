"""What a person sees of sweeps, and changes about them."""

import csv
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any, Final

from backends.actions import Action, What, whoami
from backends.bootstrap import Backends
from backends.sweeps import Denied, Night, Standing
from backends.withdrawals import BY_HAND, Stage, Withdrawal
from ops.capacity import look_back_on, standings
from ops.when import iso
from platforms.catalogue import Catalogue
from producers.forecast import Forecast
from producers.hindsight import Hindsight
from producers.inventory import Change
from producers.reclaim import Reclaimed, Reclaimer
from producers.rows import Rejection
from producers.sweep import SweepStepper
from producers.sweep_definition import Definition, Definitions
from producers.sweep_plan import Plan, foresee_night, plan
from producers.sweep_rule import Begin, End, Skip, move, next_start, night_by_hand
from producers.sweep_source import source_of
from schemas.errors import ConfigurationError, InputError, Refused
from schemas.ids import split_job_id
from schemas.number import mask_text

LIST_FIELDS: Final = ("name", "at", "zone", "standing", "next", "last_day", "last_ending", "planned", "accepted", "why")
NIGHT_FIELDS: Final = (
    "day", "ending", "begun_at", "ended_at", "late", "who", "source", "rows", "rejected", "planned", "refused", "sent",
    "accepted", "known", "stopped", "let_go", "why", "run",
)  # fmt: skip
WITHDRAWAL_FIELDS: Final = ("job", "number", "platform", "stage", "requested_at", "changed_at", "attempts", "detail")
# How often a full queue is looked at.
_ROOM_S: Final = 0.5
_REFUSED_COLUMNS: Final = ("line", "field", "problem", "value")


class Stands(StrEnum):
    """Where a sweep stands, in one word."""

    PAUSED = "paused"
    AT_REST = "at_rest"
    SENDS = "sends"
    STUCK = "stuck"  # its open night cannot go on


class SweepDesk:
    """Shows and changes sweeps."""

    def __init__(self, backends: Backends, catalogue: Catalogue, *, who: str = "") -> None:
        self._backends, self._catalogue, self._who = backends, catalogue, who or whoami()

    @cached_property
    def definitions(self) -> Definitions:
        """The sweeps that there are. Raises ConfigurationError if no folder of them is set, or one is wrong."""
        if self._backends.settings.sweeps is None:
            raise ConfigurationError("RENEWAL_SWEEPS is not set: the folder that holds one YAML file for each sweep")
        return Definitions.load(self._backends.settings.sweeps)

    # -- look ------------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each sweep."""
        return [self._row(definition) for definition in self.definitions]

    def _row(self, definition: Definition) -> dict[str, Any]:
        standing, now = self._backends.sweeps.standing(definition.name), self._backends.clock.now()
        last = next(iter(self._backends.sweeps.nights(definition.name)), None)
        upcoming = next_start(definition, standing, now=now)
        return {
            "name": definition.name,
            "at": definition.at.isoformat("minutes"),
            "zone": definition.zone,
            "standing": _said(standing),
            "stands": _stands(standing),
            "open_day": standing.open and standing.open.isoformat(),
            "next": None if standing.paused else iso(int(upcoming.timestamp() * 1000)),
            "last_day": last and last.day,
            "last_ending": last and last.ending,
            "planned": last and last.planned,
            "accepted": last and last.accepted,
            "why": standing.paused or standing.problem or (last.why if last else ""),
        }

    def show(self, name: str) -> dict[str, Any]:
        """Return one sweep with its nights, the newest first. Raises NotFound."""
        definition = self.definitions.get(name)
        return self._row(definition) | {
            "definition": definition.model_dump(mode="json", exclude_none=True),
            "nights": [night_row(night) for night in self._backends.sweeps.nights(name)],
        }

    def plan(self, name: str, *, day: date | None, refused: Path | None) -> Plan:
        """Read the inventory of a night and count; nothing is changed. Raises NotFound, InputError."""
        definition = self.definitions.get(name)
        chosen = day or self._night(definition)
        source = source_of(definition, chosen, folder=self.definitions.folder, vault=self._backends.vault)
        if refused is None:
            return plan(self._backends, self._catalogue, definition, day=chosen, source=source)
        with refused.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_REFUSED_COLUMNS)

            def write(line: int, code: str, row: Rejection | None) -> None:
                writer.writerow([line, row.field, row.problem, row.value] if row else [line, "eligibility", code, ""])

            return plan(self._backends, self._catalogue, definition, day=chosen, source=source, on_refused=write)

    def report(self, name: str, *, day: date | None) -> dict[str, Any]:
        """Return what was planned for a night beside what has become of it. Raises NotFound, Refused."""
        night = self._night_of(name, day)
        counters = self._backends.runs.counters(night.run)
        total = counters.get("jobs")
        return night_row(night) | {
            "planned_by_release": night.planned_by_release,
            "planned_jobs": sum(night.jobs_by_platform.values()),
            "left": night.planned - night.cursor,
            "cases": counters.get("accepted"),
            "jobs": total,
            "jobs_by_state": {state.value: count for state, count in counters.by_state(total).items()},
            "verdicts": counters.family("verdict"),
        }

    def foresee(self, name: str, found: Plan) -> Forecast:
        """Return when each platform would be done with a planned night, and what would be left. Raises NotFound."""
        return foresee_night(
            self.definitions.get(name), self._catalogue, found.new_jobs, day=found.day, now=self._backends.clock.now(),
            standings=standings(self._backends, self._catalogue),
        )  # fmt: skip

    def look_back(self, name: str, *, day: date | None) -> Hindsight | None:
        """Return what was foreseen when a night began beside what happened; None where nothing is kept of it.

        Reads every case of the night. Raises NotFound, Refused.
        """
        night, forecast = self._night_of(name, day), self.foreseen(name, day=day)
        if forecast is None:
            return None
        return look_back_on(self._backends, self._catalogue, night.run, forecast=forecast)

    def foreseen(self, name: str, *, day: date | None) -> Forecast | None:
        """Return what was foreseen when a night began; None where nothing is kept of it. Raises NotFound, Refused."""
        body = self._backends.sweeps.forecast(name, date.fromisoformat(self._night_of(name, day).day))
        return None if body is None else Forecast.from_json(body)

    def _night_of(self, name: str, day: date | None) -> Night:
        self.definitions.get(name)
        night = self._backends.sweeps.night(name, day) if day else next(iter(self._backends.sweeps.nights(name)), None)
        if night is None:
            raise Refused(f"sweep {name}: no night {day or 'yet'}")
        return night

    def withdrawals(self, *, stage: Stage | None) -> list[dict[str, Any]]:
        """Return what is to be withdrawn or was, the oldest first."""
        found = [each for each in self._backends.withdrawals.every() if stage is None or each.stage is stage]
        found.sort(key=lambda each: (each.requested_ms, each.job))
        masks = {view.id: view.mask for view in self._backends.store.cases({split_job_id(w.job)[0] for w in found})}
        return [_withdrawal_row(each, masks) for each in found]

    # -- change ----------------------------------------------------------------------------------------------------

    def pause(self, name: str, *, reason: str) -> None:
        """Let nothing be begun or sent any more. Raises NotFound."""
        self.definitions.get(name)
        before = self._backends.sweeps.standing(name)
        self._backends.sweeps.pause(name, reason=mask_text(reason), now=self._backends.clock.now())
        self._log(What.SWEEP_PAUSE, name, reason=reason, before={"paused": before.paused}, after={"paused": reason})

    def resume(self, name: str, *, reason: str) -> None:
        """Let it go on. Raises NotFound."""
        self.definitions.get(name)
        before = self._backends.sweeps.standing(name)
        self._backends.sweeps.resume(name)
        self._log(What.SWEEP_RESUME, name, reason=reason, before={"paused": before.paused}, after={"paused": ""})

    def run(self, name: str, *, day: date | None, reason: str, stop: Event, progress: Callable[[Night], None]) -> Night:
        """Step a night from here until nothing more can be done now. Returns it as it is then.

        Raises NotFound, and Refused where the day is settled, another process steps it, or the sweep is paused.
        """
        definition, now = self.definitions.get(name), self._backends.clock.now()
        stepper = SweepStepper(
            self._backends, self._catalogue, self.definitions, who=self._who, stop=stop,
            standings=lambda: standings(self._backends, self._catalogue),
        )  # fmt: skip
        while isinstance(move(definition, self._backends.sweeps.standing(name), now=now), Skip | End):
            stepper.step_one(definition)
        chosen = day or self._night(definition)
        if chosen not in {self._night(definition), definition.today(now), definition.newest_night(now)}:
            # A night of the future would leave no night before it to be run.
            raise InputError(f"--day {chosen}: only the night that is due or open, or today's")
        more = stepper.advance(definition, chosen, late=self._is_late(definition, now))
        if isinstance(more, Denied):
            raise Refused(f"sweep {name}, {chosen}: {_DENIED[more]}")
        self._log(What.SWEEP_RUN, name, reason=reason, before={}, after={"day": chosen.isoformat()})
        try:
            while True:
                night = self._backends.sweeps.night(name, chosen)
                assert night is not None  # noqa: S101 - it has been begun above
                progress(night)
                if night.ending or night.problem or isinstance(more, Denied) or stop.is_set():
                    return night
                if not more:
                    stop.wait(_ROOM_S)
                more = stepper.advance(definition, chosen)
        finally:
            stepper.close()

    def reclaim(self, changes: list[Change], *, reason: str) -> Reclaimed:
        """Cancel what was not sent about these numbers, and ask for the withdrawal of the rest."""
        count = Reclaimer(self._backends, who=self._who, reason=reason).reclaim(changes)
        after = {"cases": count.cases, "cancelled": count.cancelled, "withdrawals": count.withdrawals}
        self._log(What.SWEEP_RECLAIM, f"{len(changes)} numbers", reason=reason, before={}, after=after)
        return count

    def told(self, jobs: list[str], *, reason: str) -> None:
        """Note that a person has told platforms of these withdrawals. Raises Refused, all or none, for any other."""
        open_jobs = {each.job: each for each in self._backends.withdrawals.every() if each.stage in BY_HAND}
        if wrong := [job for job in jobs if job not in open_jobs]:
            raise Refused(f"{wrong[0]}: no withdrawal that waits for a person")
        for job in jobs:
            now_ms = int(self._backends.clock.now().timestamp() * 1000)
            done = replace(
                open_jobs[job], stage=Stage.ACKNOWLEDGED, changed_ms=now_ms, detail=mask_text(f"told by hand: {reason}")
            )
            self._backends.withdrawals.note(done, again_at=None)
            before = {"stage": open_jobs[job].stage}
            self._log(What.SWEEP_TOLD, job, reason=reason, before=before, after={"stage": done.stage})

    def _night(self, definition: Definition) -> date:
        standing = self._backends.sweeps.standing(definition.name)
        return night_by_hand(definition, standing, now=self._backends.clock.now())

    def _is_late(self, definition: Definition, now: datetime) -> bool:
        due = move(definition, self._backends.sweeps.standing(definition.name), now=now)
        return isinstance(due, Begin) and due.late

    def _log(self, what: What, name: str, *, reason: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        self._backends.actions.append(
            Action(what=what, target=name, reason=reason, before=before, after=after, who=self._who)
        )


_DENIED: Final = {
    Denied.PAUSED: "the sweep is paused; renewal sweep resume lets it go on",
    Denied.LEASED: "another process steps it now",
    Denied.SETTLED: "that night, or a later one, is over",
    Denied.OTHER: "the night of another day is still open",
}


def night_row(night: Night) -> dict[str, Any]:
    """Return one night as a list shows it."""
    return {
        "day": night.day,
        "ending": night.ending or ("cannot go on" if night.problem else "open"),
        "begun_at": iso(night.begun_ms),
        "ended_at": iso(night.ended_ms) if night.ended_ms else None,
        "late": night.late,
        "who": night.who,
        "source": night.source,
        "rows": night.rows,
        "rejected": night.rejected,
        "planned": night.planned,
        "refused": night.refused,
        "sent": night.sent,
        "accepted": night.accepted,
        "known": night.known,
        "stopped": night.stopped,
        "let_go": night.let_go,
        "why": night.why or night.problem,
        "run": night.run,
    }


def _stands(standing: Standing) -> Stands:
    if standing.paused:
        return Stands.PAUSED
    if standing.open is None:
        return Stands.AT_REST
    return Stands.STUCK if standing.problem else Stands.SENDS


def _said(standing: Standing) -> str:
    if standing.paused:
        return "paused"
    if standing.open is None:
        return "at rest"
    return f"{'cannot go on with' if standing.problem else 'sends'} {standing.open}"


def _withdrawal_row(withdrawal: Withdrawal, masks: dict[str, str]) -> dict[str, Any]:
    case, platform = split_job_id(withdrawal.job)
    return {
        "job": withdrawal.job,
        "number": masks.get(case),
        "platform": platform,
        "stage": withdrawal.stage,
        "requested_at": iso(withdrawal.requested_ms),
        "changed_at": iso(withdrawal.changed_ms),
        "attempts": withdrawal.attempts,
        "detail": withdrawal.detail,
    }
