"""How a promise stands, and what can be done about a refusal."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml

from platforms.calendar import ZONE, WorkingDays
from platforms.model import Sla
from platforms.promise import Standing, promise_of
from platforms.remedies import FILE, load_remedies, remedy_of
from schemas.errors import ConfigurationError
from schemas.outcome import Refusal
from schemas.record import JobRecord
from schemas.state import FINAL_STATES, State

MONDAY = datetime(2026, 3, 2, 10, tzinfo=ZONE)
DUE = datetime(2026, 3, 5, tzinfo=ZONE)  # two working days later, at midnight
SECOND = timedelta(seconds=1)
DAYS = WorkingDays.load()


def standing(
    state: State = State.QUEUED, *, now: datetime = DUE, settled_at: datetime | None = None, sla: Sla | None = None,
    with_user: bool = False,
) -> Standing:  # fmt: skip
    """Return how a promise stands that began on Monday morning."""
    return promise_of(
        JobRecord(state=state), started_at=MONDAY, settled_at=settled_at, sla=sla or Sla(working_days=2),
        calendar=DAYS, now=now, with_user=with_user,
    ).standing  # fmt: skip


@pytest.mark.parametrize("state", sorted(set(State) - FINAL_STATES))
def test_an_open_job_is_in_time_then_at_risk_then_overdue(state: State) -> None:
    """The warning comes while something can still be done: when the last working day begins."""
    last_day = DUE - timedelta(days=1)
    assert Standing.IN_TIME is standing(state, now=last_day - SECOND)
    assert Standing.AT_RISK is standing(state, now=last_day)
    assert Standing.AT_RISK is standing(state, now=DUE - SECOND)
    assert Standing.OVERDUE is standing(state, now=DUE)
    assert Standing.PAUSED is standing(state, now=DUE, with_user=True)


@pytest.mark.parametrize(
    ("sla", "warns", "ends"),
    [
        (Sla(working_days=0), MONDAY.replace(hour=18), MONDAY.replace(hour=0) + timedelta(days=1)),
        (Sla(minutes=10), MONDAY + timedelta(minutes=8), MONDAY + timedelta(minutes=10)),
    ],
)
def test_a_promise_of_less_than_a_day_warns_near_its_end(sla: Sla, warns: datetime, ends: datetime) -> None:
    """A warning that is there from the beginning is none."""
    assert Standing.IN_TIME is standing(sla=sla, now=warns - SECOND)
    assert Standing.AT_RISK is standing(sla=sla, now=warns)
    assert Standing.OVERDUE is standing(sla=sla, now=ends)


def test_what_is_over_was_in_time_or_was_not() -> None:
    """Midnight belongs to the next day."""
    assert Standing.MET is standing(State.UNBOUND, settled_at=DUE - SECOND)
    assert Standing.MISSED is standing(State.UNBOUND, settled_at=DUE)
    assert Standing.MISSED is standing(State.EXPIRED, settled_at=DUE - SECOND)
    assert Standing.VOID is standing(State.CANCELLED, settled_at=DUE + SECOND)
    assert Standing.VOID is standing(State.DELIVERED_UNCONFIRMED, settled_at=DUE + SECOND)


@pytest.mark.parametrize("reason", list(Refusal))
def test_every_refusal_has_a_remedy_in_both_languages(reason: Refusal) -> None:
    """A refusal without a next step is the end of a person's way (requirement 11)."""
    remedy = remedy_of(reason)
    assert remedy.next_actor in {"operator", "platform", "user"}
    assert any("\u4e00" <= letter <= "\u9fff" for letter in remedy.zh)
    assert remedy.en.isascii()


def test_remedies_that_miss_a_reason_or_name_another_are_refused(tmp_path: Path) -> None:
    """The list of reasons may grow, and its remedies must grow with it."""
    said = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    path = tmp_path / "remedies.yaml"
    for wrong, named in [
        ({key: value for key, value in said.items() if key != "legal_hold"}, "legal_hold"),
        (said | {"whim": said["other"]}, "whim"),
        (said | {"other": said["other"] | {"next_actor": "nobody"}}, r"other\.next_actor"),
    ]:
        path.write_text(yaml.safe_dump(wrong), encoding="utf-8")
        load_remedies.cache_clear()
        with pytest.raises(ConfigurationError, match=named):
            load_remedies(path)
    load_remedies.cache_clear()
