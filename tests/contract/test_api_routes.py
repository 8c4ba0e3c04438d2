"""The routes of the HTTP API show and change what the commands do, through the same desks."""

import csv
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backends.actions import What
from backends.bootstrap import Backends
from backends.kept import Kind
from ops.cancelling import finish_cancels
from platforms.catalogue import Catalogue
from schemas.ids import new_id
from schemas.outcome import Fault, Refusal
from schemas.state import State
from tests.command import wait_until
from tests.contract.test_api_frame import problem
from tests.contract.test_run_desk import rows as input_rows
from tests.contract.test_run_desk import submitted
from tests.fixtures_valkey import NOON
from tests.fixtures_web import Api, known_of
from tests.letters import accept, die, record, record_of, wait

BOTH = ["alipay", "wechat"]


def change(api: Api, path: str, *, status: int = 200, key: str = "", **body: Any) -> Any:
    """Change something, with a reason. Returns the answer."""
    headers = {"Idempotency-Key": key} if key else {}
    answer = api.ask("POST", path, headers=headers, json={"reason": "a change there"} | body)
    assert status == answer.status_code, answer.text
    return answer


def who(backends: Backends, what: What) -> list[tuple[str, str]]:
    """Return who did it and why, as the actions log says."""
    return [(each.action.who, each.action.reason) for each in backends.actions.list(what=what)]


ME = ("api:admin", "a change there")


# -- cases -------------------------------------------------------------------------------------------------------------


def test_a_case_is_shown_with_all_its_jobs_and_whether_it_may_be_sold(api: Api, backends: Backends) -> None:
    """The desk of the customer needs all of it at once."""
    (case,) = accept(backends, BOTH)
    record(backends, "alipay", [case], state=State.UNBOUND)
    shown = api.get(f"/v1/cases/{case}")
    assert ("INCOMPLETE", "138****0000") == (shown["verdict"], shown["number"])
    assert {"alipay": "UNBOUND", "wechat": "QUEUED"} == {job["platform"]: job["state"] for job in shown["jobs"]}
    assert (False, [("open", "wechat")]) == (
        shown["release"]["may_be_sold"],
        [(each["missing"], each["platform"]) for each in shown["release"]["why"]],
    )


def test_a_job_tells_every_attempt_and_who_has_it(api: Api, backends: Backends) -> None:
    """Whose turn it is must be told with its proof."""
    (case,) = accept(backends, BOTH)
    record(backends, "alipay", [case], state=State.WAITING, reason=Fault.TIMEOUT)
    batch = wait(backends, "alipay", [case], due=NOON + timedelta(hours=1))
    shown = api.get(f"/v1/cases/{case}/jobs/alipay")
    assert f"batch {batch.id}" in shown["held_by"]
    assert [("WAITING", "timeout")] == [(step["state"], step["reason"]) for step in shown["steps"]]
    assert [("platform", None, "fault")] == [(turn["holder"], turn["until"], turn["why"]) for turn in shown["turns"]]
    assert ("in_time", None, None) == (shown["promise"]["standing"], shown["late_party"], shown["remedy"])
    problem(api.ask("GET", f"/v1/cases/{case}/jobs/nobody"), 404)


def test_a_refusal_tells_what_can_be_done(api: Api, backends: Backends) -> None:
    """A refusal without a next step is the end of a person's way (requirement 11)."""
    (case,) = accept(backends, BOTH)
    record(backends, "alipay", [case], state=State.REFUSED, reason=Refusal.RISK_CONTROL)
    shown = api.get(f"/v1/cases/{case}/jobs/alipay")
    assert ("operator", "met") == (shown["remedy"]["next_actor"], shown["promise"]["standing"])
    assert shown["remedy"]["zh"]


def test_a_case_is_found_by_number_and_by_reference_and_told_masked(api: Api, backends: Backends) -> None:
    """The number goes in by a body, and comes back masked."""
    run = submitted(backends, input_rows(2))
    found = api.ask("POST", "/v1/lookups", json={"number": "138 0000 0001"}).json()["items"]
    assert [("R-1", "138****0001", run)] == [(each["reference"], each["number"], each["run"]) for each in found]
    assert found == api.ask("POST", "/v1/lookups", json={"reference": "R-1"}).json()["items"]
    problem(api.ask("POST", "/v1/lookups", json={"reference": "R-9"}), 404)
    problem(api.ask("POST", "/v1/lookups", json={}), 400)
    answer = api.ask("POST", "/v1/releases/check", json={"number": "+86 138 0000 0001"}).json()
    assert (False, "INCOMPLETE", "R-1") == (answer["may_be_sold"], answer["verdict"], answer["reference"])


# -- runs --------------------------------------------------------------------------------------------------------------


def test_results_are_streamed_and_no_spreadsheet_runs_them(api: Api, backends: Backends) -> None:
    """A reference comes from a file that somebody else wrote."""
    run = submitted(backends, [input_rows(1)[0]._replace(reference="=HYPERLINK(1)")])
    answer = api.ask("GET", f"/v1/runs/{run}/results")
    assert "text/csv; charset=utf-8" == answer.headers["content-type"]
    read = list(csv.DictReader(answer.text.splitlines()))
    assert [("'=HYPERLINK(1)", "alipay"), ("'=HYPERLINK(1)", "wechat")] == [
        (row["reference"], row["platform"]) for row in read
    ]
    lines = api.ask("GET", f"/v1/runs/{run}/results", params={"format": "jsonl", "platform": "wechat"}).text
    assert ["=HYPERLINK(1)"] == [json.loads(line)["reference"] for line in lines.splitlines()]
    problem(api.ask("GET", f"/v1/runs/{new_id()}/results"), 404)


def test_runs_are_listed_newest_first_and_each_is_counted(api: Api, backends: Backends) -> None:
    """The same figures as `renewal runs`."""
    first = submitted(backends, input_rows(1), file="first.csv")
    page = api.get("/v1/runs")
    assert ([first], None) == ([row["run"] for row in page["items"]], page["next"])
    shown = api.get(f"/v1/runs/{first}")
    assert (1, 2, {"QUEUED": 2}) == (shown["cases"], shown["jobs"], shown["by_state"])
    assert {"alipay", "wechat"} == {row["platform"] for row in api.get(f"/v1/runs/{first}/platforms")}
    proof = api.get(f"/v1/runs/{first}/audit")
    assert (True, 2) == (proof["adds_up"], proof["hands"][0]["queued"])


def test_a_run_is_cancelled_behind_the_answer_and_only_by_the_right_count(api: Api, backends: Backends) -> None:
    """Whoever means another run has another count in mind."""
    run = submitted(backends, input_rows(2))
    problem(change(api, f"/v1/runs/{run}/cancel", status=409, expect_count=3), 409)
    answer = change(api, f"/v1/runs/{run}/cancel", status=202, expect_count=4)
    assert (f"/v1/runs/{run}", "cancelled") == (answer.headers["location"], answer.json()["state"])
    assert [ME] == who(backends, What.RUN_CANCEL)
    wait_until(lambda: not backends.runs.counters(run).held, what="the cancellation", seconds=60)
    assert {"CANCELLED": 4} == api.get(f"/v1/runs/{run}")["by_state"]


def test_a_cancellation_that_a_console_died_over_goes_on_with_the_next_one(api: Api, backends: Backends) -> None:
    """The run says that it is cancelled; its jobs must follow, whoever looks after them."""
    run, other = submitted(backends, input_rows(2)), submitted(backends, input_rows(1, first=50))
    backends.runs.cancel(run, reason="why")
    finish_cancels(backends, Catalogue.load().select(BOTH)).join(60)
    assert (0, 2) == (backends.runs.counters(run).held, backends.runs.counters(other).held)


# -- platforms ---------------------------------------------------------------------------------------------------------


def test_a_gate_is_turned_and_it_is_on_record_by_whose_key(api: Api, backends: Backends) -> None:
    """One log for all that people and programs change."""
    shown = change(api, "/v1/platforms/alipay/pause", dry_run=True).json()
    assert ("flowing", "paused", True) == (shown["before"]["state"], shown["after"]["state"], shown["dry_run"])
    assert "flowing" == api.get("/v1/platforms/alipay")["gate"]["state"]
    change(api, "/v1/platforms/alipay/pause")
    assert ["alipay"] == [row["key"] for row in api.get("/v1/platforms", params={"state": "paused"})]
    change(api, "/v1/platforms/alipay/resume")
    change(api, "/v1/platforms/alipay/limit", calls_per_s=2.5)
    assert 2.5 == api.get("/v1/platforms/alipay")["gate"]["limit_calls_per_s"]
    change(api, "/v1/platforms/alipay/limit", clear=True)
    change(api, "/v1/platforms/alipay/suspend")
    change(api, "/v1/platforms/alipay/probe")
    logged = api.get("/v1/actions", params={"target": "alipay"})["items"]
    assert ["probe", "suspend", "limit", "limit", "resume", "pause"] == [e["what"].split(".")[1] for e in logged]
    assert {ME} == {(entry["who"], entry["reason"]) for entry in logged}


def test_a_change_without_a_reason_is_none(api: Api, backends: Backends) -> None:
    """Whoever comes after has to know why."""
    for body in ({}, {"reason": ""}, {"reason": "  "}):
        problem(api.ask("POST", "/v1/platforms/alipay/pause", json=body), 422)
    problem(change(api, "/v1/platforms/nobody/pause", status=404), 404)
    assert [] == backends.actions.list()


# -- what waits --------------------------------------------------------------------------------------------------------


def test_what_waits_is_listed_hurried_and_taken_out(api: Api, backends: Backends) -> None:
    """The same as `renewal retries`, with the same counts."""
    cases = accept(backends, BOTH, count=3)
    batches = [wait(backends, "alipay", [case], due=NOON + timedelta(hours=n)) for n, case in enumerate(cases, 1)]
    first = api.get("/v1/retries", params={"limit": "2"})
    rest = api.get("/v1/retries", params={"limit": "2", "cursor": first["next"]})
    assert [batch.id for batch in batches] == [row["batch"] for row in first["items"] + rest["items"]]
    assert rest["next"] is None
    assert [("alipay", "retry", 3, 3)] == [
        (row["platform"], row["why"], row["batches"], row["jobs"]) for row in api.get("/v1/retries/groups")
    ]
    assert [cases[0]] == [job["case"] for job in api.get(f"/v1/retries/{batches[0].id}")["cases"]]
    choice: dict[str, Any] = {"choice": {"batches": [batches[0].id]}}
    problem(change(api, "/v1/retries/run-now", status=409, expect_count=2, **choice), 409)
    assert 1 == change(api, "/v1/retries/run-now", expect_count=1, **choice).json()["batches"]
    problem(change(api, "/v1/retries/cancel", status=400, choice={}, expect_count=3), 400)
    assert 3 == change(api, "/v1/retries/cancel", choice={"everything": True}, expect_count=3).json()["jobs"]
    assert {State.CANCELLED} == {record_of(backends, case, "alipay").state for case in cases}
    assert ([ME], [ME]) == (who(backends, What.RETRIES_RUN_NOW), who(backends, What.RETRIES_CANCEL))


def test_what_waits_for_one_platform_is_read_without_that_of_others(api: Api, backends: Backends) -> None:
    """A thousand batches of others must not slow a look at one; and a batch that is being sent is told as such."""
    cases = accept(backends, BOTH, count=2)
    wait(backends, "alipay", [cases[0]])
    mine = wait(backends, "wechat", [cases[1]])
    backends.waiting.lease(NOON, at_most=5)
    (row,) = api.get("/v1/retries", params={"platform": "wechat"})["items"]
    assert (mine.id, True) == (row["batch"], row["leased"])


# -- dead letters ------------------------------------------------------------------------------------------------------


def test_letters_are_understood_by_cause_one_by_one_and_by_job(api: Api, backends: Backends) -> None:
    """From the cause to the attempt, as on the command line."""
    cases = die(backends, BOTH, count=2)
    groups = api.get("/v1/dead-letters/groups")
    assert [("alipay", "rejected_request", 2), ("wechat", "rejected_request", 2)] == [
        (group["platform"], group["reason"], group["count"]) for group in groups
    ]
    listed = api.get("/v1/dead-letters", params={"platform": "wechat", "cause": "rejected_request"})["items"]
    assert {f"{case}.wechat" for case in cases} == {letter["job"] for letter in listed}
    assert "DEAD" == api.get(f"/v1/dead-letters/{listed[0]['job']}")["state"]
    problem(api.ask("GET", "/v1/dead-letters", params={"cause": "boredom"}), 400)
    problem(api.ask("GET", "/v1/dead-letters/nobody"), 404)


def test_letters_are_given_up_only_by_the_right_count_and_a_reason_that_is_one(api: Api, backends: Backends) -> None:
    """It is final."""
    cases = die(backends, ["alipay"], count=2)
    path = "/v1/dead-letters/discard"
    all_of_them: dict[str, Any] = {"choice": {"everything": True}}
    problem(change(api, path, status=409, expect_count=1, **all_of_them), 409)
    problem(change(api, path, status=400, expect_count=2, choice={}), 400)
    problem(change(api, path, status=400, reason="timeout", expect_count=2, **all_of_them), 400)
    assert {"chosen": 2, "cancelled": 2} == change(api, path, expect_count=2, **all_of_them).json()
    assert {State.CANCELLED} == {record_of(backends, case, "alipay").state for case in cases}
    assert [ME] == who(backends, What.DEAD_DISCARD)


def test_a_replay_is_foreseen_begun_once_watched_stopped_and_resumed(api: Api, backends: Backends) -> None:
    """The whole way of a mass replay, without the command line."""
    die(backends, BOTH, count=3)
    choice: dict[str, Any] = {"choice": {"platforms": ["alipay"]}}
    preview = api.ask("POST", "/v1/replays/preview", json=choice | {"canary": 2}).json()
    assert (3, [("alipay", 3, 2)]) == (
        preview["jobs"],
        [(row["platform"], row["jobs"], row["canary"]) for row in preview["platforms"]],
    )
    problem(change(api, "/v1/replays", status=400, expect_count=3, **choice), 400)
    problem(change(api, "/v1/replays", status=409, key="r-1", expect_count=4, **choice), 409)
    begun = change(api, "/v1/replays", status=202, key="r-1", expect_count=3, **choice)
    again = change(api, "/v1/replays", status=202, key="r-1", expect_count=3, **choice)
    assert begun.headers["location"] == again.headers["location"]
    assert 1 == len(backends.replays.newest_first())
    where = begun.headers["location"]
    assert ("canary", 3) == (api.get(where)["state"], api.get(where)["total"])
    change(api, f"{where}/stop")
    assert "stopped" == api.get(where)["state"]
    change(api, f"{where}/resume")
    problem(change(api, f"{where}/resume", status=409), 409)
    assert [begun.json()["replay"]] == [row["replay"] for row in api.get("/v1/replays")["items"]]
    assert [ME] == who(backends, What.DEAD_REPLAY)


def test_a_replay_whose_answer_was_lost_is_the_same_one(api: Api, backends: Backends) -> None:
    """A process that died between the doing and the keeping must not make two of it."""
    die(backends, ["alipay"], count=1)
    asked: dict[str, Any] = {"choice": {"everything": True}, "expect_count": 1}
    first = change(api, "/v1/replays", status=202, key="r-2", **asked).json()["replay"]
    for name in backends.redis.scan_iter(match=f"{backends.settings.namespace}:idempotency:*"):
        backends.redis.delete(name)
    assert first == change(api, "/v1/replays", status=202, key="r-2", **asked).json()["replay"]
    assert 1 == len(backends.replays.newest_first())


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_sweeps_are_shown_paused_and_begun(backends: Backends, api: Api, tmp_path: Path) -> None:
    """Where none are set there are none; where they are, the desk is the one of the command."""
    assert [] == api.get("/v1/sweeps")
    problem(api.ask("GET", "/v1/sweeps/nightly"), 404)
    known = known_of(backends, tmp_path)
    object.__setattr__(backends.settings, "sweeps", tmp_path / "sweeps")
    assert ["nightly"] == [row["name"] for row in api.get("/v1/sweeps")]
    change(api, "/v1/sweeps/nightly/pause")
    assert ("paused", "a change there") == (
        api.get("/v1/sweeps/nightly")["standing"], api.get("/v1/sweeps/nightly")["why"],
    )  # fmt: skip
    change(api, "/v1/sweeps/nightly/resume")
    assert known["day"] == [night["day"] for night in api.get("/v1/sweeps/nightly")["nights"]]
    begun = change(api, "/v1/sweeps/nightly/run", status=202)
    assert 3 == begun.json()["planned"]
    assert 3 == api.get(begun.headers["location"])["planned"]
    assert ([ME], [ME]) == (who(backends, What.SWEEP_PAUSE), who(backends, What.SWEEP_RUN))


def test_what_was_kept_is_read_in_parts_and_dropped_by_count(api: Api, backends: Backends) -> None:
    """Nobody forgets what they have not read."""
    for number in range(3):
        backends.kept.bury_message(f"message {number}", why="not JSON", queue="bulk", now=NOON)
    first = api.get("/v1/kept/poison", params={"limit": "2"})
    rest = api.get("/v1/kept/poison", params={"limit": "2", "cursor": first["next"]})
    assert [3, 2, 1] == [item["position"] for item in first["items"] + rest["items"]]
    problem(change(api, "/v1/kept/poison/drop", status=409, expect_count=2), 409)
    change(api, "/v1/kept/poison/drop", expect_count=3)
    assert 0 == backends.kept.count(Kind.POISON)
    assert [ME] == who(backends, What.KEPT_DROP)


def test_the_whole_is_told_in_one_look(api: Api, backends: Backends, tmp_path: Path) -> None:
    """What `renewal top`, `alerts`, `queues` and `workers` show."""
    known_of(backends, tmp_path)
    whole = api.get("/v1/snapshot")
    assert (3, {"worker": 1}) == (whole["dead"], whole["alive"])
    assert {"no_recorder", "no_scheduler", "poison_present"} <= {alert["code"] for alert in whole["alerts"]}
    assert whole["alerts"] == api.get("/v1/alerts")
    assert 1 == next(row["count"] for row in api.get("/v1/queues") if row["name"] == "due later")
    assert ["alive"] == [row["state"] for row in api.get("/v1/workers")]


@pytest.mark.parametrize("where", ["/v1/cases/{}", "/v1/runs/{}", "/v1/retries/{}", "/v1/replays/{}"])
def test_what_is_not_there_is_told_alike_whatever_it_is_called(api: Api, where: str) -> None:
    """Names cannot be found by trying: 130 bits, and the answer to a wrong one says nothing of others."""
    first, second = (problem(api.ask("GET", where.format(ident)), 404) for ident in (new_id(), new_id()))
    assert len(first["detail"]) == len(second["detail"])
