"""Requests and files over HTTP: what a pipeline or a desk hands in, what it hears, and what it is refused."""

import gzip
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from backends.actions import What
from backends.api_keys import Scope
from backends.bootstrap import Backends
from ops.instrument_desk import InstrumentDesk
from ops.uploads import Uploads
from platforms.catalogue import Catalogue
from schemas.ids import new_id
from schemas.state import State
from tests.command import CUTOFF
from tests.fixtures_valkey import NOON, stored
from tests.fixtures_web import PLATFORMS, Api
from tests.letters import accept, record_of

INSTRUMENT = "notice-7"
FILE = f"number,cutoff_at\n13800000001,{CUTOFF}\nnone,{CUTOFF}\n".encode()


@pytest.fixture(autouse=True)
def ready(backends: Backends) -> None:
    """Queues are there, and an instrument that is valid."""
    backends.broker.declare()
    InstrumentDesk(backends, who="clerk").record(
        {
            "key": INSTRUMENT, "title": "Notice", "document_number": "7", "approver": "head",
            "valid_from": NOON - timedelta(days=1), "valid_until": NOON + timedelta(days=1),
        },
        reason="signed",
    )  # fmt: skip


def body(**changed: Any) -> dict[str, Any]:
    """A request that is right, but for what is given."""
    allowed = {
        "platforms": ["alipay"], "notice_version": "2026-11", "language": "zh-CN", "method": "app_login",
        "given_at": (NOON - timedelta(minutes=1)).isoformat(), "expires_at": (NOON + timedelta(days=9)).isoformat(),
    }  # fmt: skip
    allowed |= changed.pop("authorisation", {})
    said = {"number": "13800000001", "cutoff_at": "2026-10-20T10:00:00+08:00", "reference": "R-1"}
    return said | {"authorisation": allowed} | changed


def submit(api: Api, said: dict[str, Any] | None = None, *, key: str = "k1", **words: Any) -> Any:
    """Hand a request in."""
    return api.ask("POST", "/v1/requests", json=said or body(), headers={"Idempotency-Key": key}, **words)


def upload(api: Api, content: bytes = FILE, *, key: str = "f1", query: str = "", **headers: str) -> Any:
    """Hand a file in."""
    sent = {"Idempotency-Key": key, "Content-Type": "text/csv"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    path = f"/v1/runs?{query or f'name=pool.csv&instrument={INSTRUMENT}'}"
    return api.ask("POST", path, content=content, headers=sent)


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_request_is_accepted_and_can_be_followed(api: Api) -> None:
    """202, where its case is, and the link for the owner; nothing in it is the number."""
    answer = submit(api, scope=Scope.OPERATE)
    assert 202 == answer.status_code, answer.text
    said = answer.json()
    assert (["alipay"], {}, False) == (said["platforms"], said["settled"], said["known"])
    assert f"/v1/cases/{said['case']}" == answer.headers["location"]
    assert said["owner"]["url"].startswith("http://127.0.0.1:8088/o/")
    assert "13800000001" not in answer.text
    assert "INCOMPLETE" == api.get(answer.headers["location"])["verdict"]
    owner = api.client.get(said["owner"]["url"].removeprefix("http://127.0.0.1:8088"))
    assert (200, True) == (owner.status_code, "138****0001" in owner.text)


def test_the_same_request_again_has_no_second_effect(api: Api, backends: Backends) -> None:
    """Under the same key it is answered from memory, under another it is the same case."""
    first = submit(api).json()
    replayed = submit(api)
    assert ("true", first) == (replayed.headers["idempotency-replayed"], replayed.json())
    again = submit(api, key="k2").json()
    assert (first["case"], True) == (again["case"], again["known"])
    assert 1 == backends.redis.llen(backends.keys.queue("interactive"))


def test_a_key_is_needed_and_belongs_to_one_request(api: Api) -> None:
    """400 without one, 422 where it was another request's."""
    assert 400 == api.ask("POST", "/v1/requests", json=body()).status_code
    submit(api)
    assert 422 == submit(api, body(reference="R-2")).status_code


def test_who_may_only_read_hands_nothing_in(api: Api, backends: Backends) -> None:
    """A screen on a wall asks no platform."""
    case = submit(api).json()["case"]
    for path, sent in (
        ("/v1/requests", body()),
        (f"/v1/cases/{case}/authorisation/withdraw", {"reason": "x"}),
        (f"/v1/cases/{case}/owner-links", None),
    ):
        answer = api.ask("POST", path, json=sent, headers={"Idempotency-Key": new_id()}, scope=Scope.READ)
        assert 403 == answer.status_code, path
    assert 403 == api.ask("DELETE", f"/v1/cases/{case}/owner-links", scope=Scope.READ).status_code
    assert State.QUEUED is record_of(backends, case, "alipay").state


@pytest.mark.parametrize(
    ("changed", "field", "status"),
    [
        ({"number": "13800"}, "body.number", 400),
        ({"owner_name": "somebody"}, "body.owner_name", 422),
        ({"authorisation": {"platforms": ["alipay", "no-such"]}}, "body.authorisation.platforms.1", 400),
        ({"authorisation": {"id_card": "x"}}, "body.authorisation.id_card", 422),
        ({"authorisation": {"method": "guess"}}, "body.authorisation.method", 422),
        ({"authorisation": {"expires_at": NOON.isoformat()}}, "body.authorisation.expires_at", 400),
    ],
)
def test_a_wrong_field_is_named(api: Api, backends: Backends, changed: dict[str, Any], field: str, status: int) -> None:
    """As RFC 9457 has it, and without its value; nothing has happened."""
    before = stored(backends)
    answer = submit(api, body(**changed))
    assert status == answer.status_code
    assert [field] == [each["field"] for each in answer.json()["errors"]]
    assert "13800" not in answer.text
    assert not [name for name in stored(backends) if name not in before and ":pace:" not in name]


def test_another_authorisation_for_the_same_number_and_cycle_is_a_conflict(api: Api) -> None:
    """409 names the case, so that the desk can look at it."""
    case = submit(api).json()["case"]
    answer = submit(api, body(authorisation={"platforms": list(PLATFORMS)}), key="k2")
    assert (409, True) == (answer.status_code, case in answer.json()["detail"])


def test_an_authorisation_is_withdrawn(api: Api, backends: Backends) -> None:
    """What is unsent is cancelled; a case that has none is refused, one that is not there is not found."""
    case = submit(api).json()["case"]
    answer = api.ask("POST", f"/v1/cases/{case}/authorisation/withdraw", json={"reason": "changed their mind"})
    assert {"case": case, "cancelled": 1, "withdrawals": 0} == answer.json()
    shown = api.get(f"/v1/cases/{case}/authorisation")
    assert (["alipay"], "app_login", "api:admin") == (shown["platforms"], shown["method"], shown["withdrawn_by"])
    assert State.CANCELLED is record_of(backends, case, "alipay").state
    (entry,) = backends.actions.list(what=What.AUTHORISATION_WITHDRAW)
    assert ("api:admin", "changed their mind") == (entry.action.who, entry.action.reason)
    (other,) = accept(backends, ["alipay"])
    path = "/v1/cases/{}/authorisation/withdraw"
    assert 409 == api.ask("POST", path.format(other), json={"reason": "x"}).status_code
    assert 404 == api.ask("GET", f"/v1/cases/{other}/authorisation").status_code
    assert 404 == api.ask("POST", path.format(new_id()), json={"reason": "x"}).status_code
    assert 422 == api.ask("POST", path.format(case), json={"reason": "  "}).status_code


def test_links_are_made_and_revoked(api: Api, backends: Backends) -> None:
    """The store and the actions log know of them, and none of them knows the link."""
    (case,) = accept(backends, ["alipay"])
    made = api.ask("POST", f"/v1/cases/{case}/owner-links")
    assert 201 == made.status_code
    token = made.json()["url"].rpartition("/")[2]
    assert 43 == len(token)
    assert not [name for name, (_, value) in stored(backends).items() if token.encode() in value or token in name]
    assert 200 == api.client.get(f"/o/{token}").status_code
    assert 204 == api.ask("DELETE", f"/v1/cases/{case}/owner-links").status_code
    assert 404 == api.client.get(f"/o/{token}").status_code
    assert 404 == api.ask("POST", f"/v1/cases/{new_id()}/owner-links").status_code
    (entry,) = backends.actions.list(what=What.OWNER_LINK_REVOKE)
    assert {"revoked": 1} == entry.action.after


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_taken_read_and_reported(api: Api, backends: Backends) -> None:
    """202 with the run at once; the refused rows are a resource of their own."""
    answer = upload(api)
    assert 202 == answer.status_code, answer.text
    run = answer.json()["run"]
    assert f"/v1/runs/{run}" == answer.headers["location"]
    assert "reading" == api.get(f"/v1/runs/{run}")["state"]
    Uploads(backends, Catalogue.load().select(list(PLATFORMS))).step(Event())
    shown = api.get(f"/v1/runs/{run}")
    assert (1, 1) == (shown["cases"], shown["rejected"])
    refused = api.ask("GET", f"/v1/runs/{run}/rejected", scope=Scope.READ)
    assert "text/csv; charset=utf-8" == refused.headers["content-type"]
    assert refused.text.splitlines()[1].startswith("3,number,")


def test_a_packed_file_is_taken(api: Api, backends: Backends) -> None:
    """As its header says."""
    run = upload(api, gzip.compress(FILE), Content_Encoding="gzip").json()["run"]
    Uploads(backends, Catalogue.load().select(list(PLATFORMS))).step(Event())
    assert 1 == api.get(f"/v1/runs/{run}")["cases"]


def test_the_same_file_again_is_the_same_run(api: Api) -> None:
    """A client whose connection broke sends it again."""
    assert upload(api).json() | {"known": True} == upload(api).json()
    assert 409 == upload(api, FILE + b"13800000002,2026-11-01\n").status_code
    assert upload(api).json()["run"] != upload(api, key="f2").json()["run"]


@pytest.mark.parametrize(
    ("query", "headers", "content", "status"),
    [
        ("name=a&instrument=no-such", {}, FILE, 404),
        ("name=a&instrument=Wrong%20Key", {}, FILE, 422),
        ("name=a", {}, FILE, 422),
        (f"instrument={INSTRUMENT}", {}, FILE, 422),
        (f"name=..%2Fa&instrument={INSTRUMENT}", {}, FILE, 422),
        ("", {"Content_Type": "application/pdf"}, FILE, 415),
        ("", {"Content_Type": "text/csv; charset=klingon"}, FILE, 400),
        ("", {"Content_Encoding": "br"}, FILE, 422),
        ("", {}, b"", 400),
        ("", {}, b"nonsense\n", 400),
    ],
)
def test_what_cannot_be_taken_leaves_nothing(
    api: Api, backends: Backends, query: str, headers: dict[str, str], content: bytes, status: int
) -> None:
    """No run, and no file on disk; without a valid instrument 0 sends (requirement 8)."""
    answer = upload(api, content, query=query, **headers)
    assert status == answer.status_code, answer.text
    assert [] == list(backends.runs.newest_first())
    folder = backends.settings.data_dir / "uploads"
    assert [] == list(folder.glob("*") if folder.is_dir() else [])


def test_a_file_needs_a_key_and_a_right(api: Api, backends: Backends) -> None:
    """400 and 403, before a byte of it is kept."""
    path, sent = f"/v1/runs?name=a&instrument={INSTRUMENT}", {"Content-Type": "text/csv"}
    assert 400 == api.ask("POST", path, content=FILE, headers=sent).status_code
    sent["Idempotency-Key"] = "k"
    assert 403 == api.ask("POST", path, content=FILE, headers=sent, scope=Scope.READ).status_code
    assert not Path(backends.settings.data_dir / "uploads").exists()


def test_the_refused_rows_of_an_unknown_run_are_not_found(api: Api) -> None:
    """404 as for anything else that is not there."""
    assert 404 == api.ask("GET", f"/v1/runs/{new_id()}/rejected").status_code
