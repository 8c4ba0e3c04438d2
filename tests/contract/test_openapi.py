"""docs/unbind-v1.openapi.yaml is valid, its examples are true, and code and example server agree with it."""

import base64
import hmac
import importlib.util
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator
from typing_extensions import override

from backends.bootstrap import Backends
from backends.clock import ManualClock
from backends.manifests import Item
from backends.signature import verify
from ops.callback_desk import CallbackDesk
from platforms.catalogue import Catalogue
from platforms.model import CANONICAL_OUTCOMES
from platforms.model import Platform as Entry
from schemas.batch import JOBS_MAX, Basis, Job
from schemas.ids import ID_PATTERN, derive, job_id
from schemas.outcome import Outcome, Refusal
from schemas.result import DETAIL_CHARS_MAX
from tests.command import wait_until, write_platform
from workers.callback import ITEMS_MAX, read_callback
from workers.connector import build_calls, build_polls, build_withdrawal
from workers.transport import Call

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]
DOC: Json = yaml.safe_load((ROOT / "docs" / "unbind-v1.openapi.yaml").read_text(encoding="utf-8"))
BULK = DOC["paths"]["/v1/renewals"]["post"]
SINGLE = DOC["paths"]["/v1/renewal"]["post"]
POLL = DOC["paths"]["/v1/polls"]["post"]
CALLBACK = DOC["webhooks"]["answersLater"]["post"]
SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four b.").decode()
CUTOFF = "2026-12-01T00:00:00+08:00"


def resolve(node: Json) -> Json:
    """Follow one reference inside the document."""
    found = node
    if "$ref" in node:
        found = DOC
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
    return found


def validator(schema: Json) -> Draft202012Validator:
    """Return a validator for a schema of the document, references and formats included."""
    return Draft202012Validator({**schema, "components": DOC["components"]}, format_checker=FormatChecker())


def named(name: str) -> Draft202012Validator:
    """Return a validator for one of the document's named schemas."""
    return validator({"$ref": f"#/components/schemas/{name}"})


def properties(name: str) -> Json:
    """Return what a named schema says of its members."""
    return cast("Json", DOC["components"]["schemas"][name]["properties"])


def bodies() -> Iterator[tuple[str, Json, object]]:
    """Return every example of a body with its schema."""
    for operation in (BULK, SINGLE, POLL, CALLBACK):
        contents = {"request": operation["requestBody"]["content"]}
        contents |= {status: resolve(r)["content"] for status, r in operation["responses"].items()}
        for place, content in contents.items():
            for media in content.values():
                for name, example in media["examples"].items():
                    yield f"{operation['operationId']}-{place}-{name}", media["schema"], example["value"]


def items(count: int) -> list[Json]:
    """Return items as the dispatcher sends them."""
    cases = [derive("openapi", str(n)) for n in range(count)]
    return [
        {
            "id": job_id(case, "acme"),
            "case": case,
            "number": f"+861380013{n:04d}",
            "cutoff_at": CUTOFF,
            "basis": "planned_release",
        }
        for n, case in enumerate(cases)
    ]


def calls(protocol: str) -> tuple[Call, ...]:
    """Return the dispatcher's calls for three jobs at the example platform."""
    now = datetime.now(UTC)
    told = [
        Item.of(Job(case=item["case"], cutoff_at=CUTOFF, basis=Basis.PLANNED_RELEASE), item["number"], place=place)
        for place, item in enumerate(items(3))
    ]
    entry = Catalogue.load(ROOT / "examples" / "catalogue").get("acme").model_copy(update={"protocol": protocol})
    return build_calls(entry, derive("b"), told, credentials=(SECRET,), now=now)


class Platform:
    """The example server in this process, and a client that signs."""

    def __init__(self, record: Path) -> None:
        spec = importlib.util.spec_from_file_location("platform_server", ROOT / "examples" / "platform_server.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        handler = module.Handler
        handler.record, handler.secret = module.Record(record), SECRET
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.unbind, self.signed, self.later = module.unbind, module.signed, module.Later
        self.close_record = handler.record._file.close
        self.call_nobody: Callable[[], None] = lambda: None

    def answer_later(self, after_s: float, *, url: str) -> None:
        """Let it answer 202 from now on."""
        handler: Any = self.server.RequestHandlerClass
        handler.later = self.later(after_s, url=url, secret=SECRET)
        self.call_nobody = handler.later.close

    def post(
        self, body: object, *, secret: str = SECRET, late_s: int = 0, path: str = "/v1/renewals"
    ) -> tuple[int, Any]:
        """Call as the dispatcher does; return status and body."""
        raw, stamp = json.dumps(body).encode(), str(int(time.time()) - late_s)
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signature = base64.b64encode(hmac.digest(key, f"m1.{stamp}.".encode() + raw, "sha256")).decode()
        headers = {
            "content-type": "application/json",
            "webhook-id": "m1",
            "webhook-timestamp": stamp,
            # During a rotation the signature by the other key may come first.
            "webhook-signature": f"v1,AAAA v1,{signature}",
        }
        connection = HTTPConnection("127.0.0.1", self.server.server_port, timeout=5)
        connection.request("POST", path, body=raw, headers=headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        return response.status, answer


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """Serve the example platform on a free port."""
    platform = Platform(tmp_path / "record.csv")
    thread = threading.Thread(target=platform.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield platform
    platform.server.shutdown()
    thread.join()
    platform.server.server_close()
    platform.call_nobody()
    platform.close_record()


def test_the_document_is_valid_openapi_3_1() -> None:
    """Any generator can read it."""
    assert [] == [error.message for error in OpenAPIV31SpecValidator(DOC).iter_errors()]
    assert "3.1.0" == DOC["openapi"]


@pytest.mark.parametrize(("schema", "value"), [pytest.param(s, v, id=name) for name, s, v in bodies()])
def test_every_example_of_a_body_fits_its_schema(schema: Json, value: object) -> None:
    """An example that is wrong is copied all the same."""
    assert [] == [error.message for error in validator(schema).iter_errors(value)]


@pytest.mark.parametrize("group", ["parameters", "headers"])
def test_every_example_of_a_header_fits_its_schema(group: str) -> None:
    """The headers of the examples are those of a real call."""
    wrong = [name for name, h in DOC["components"][group].items() if not validator(h["schema"]).is_valid(h["example"])]
    assert [] == wrong


def test_the_example_of_a_body_belongs_to_the_example_of_its_header() -> None:
    """Idempotency-Key is the batch of a bulk call and the id of a single one."""
    bulk = BULK["requestBody"]["content"]["application/json"]["examples"]["twoItems"]["value"]
    single = SINGLE["requestBody"]["content"]["application/json"]["examples"]["oneItem"]["value"]
    keys = DOC["components"]["parameters"]
    assert bulk["batch"] == keys["IdempotencyKeyBatch"]["example"]
    assert single["id"] == keys["IdempotencyKeyItem"]["example"]
    assert [job_id(item["case"], "acme") for item in bulk["items"]] == [item["id"] for item in bulk["items"]]


def test_the_codes_and_reasons_are_those_of_the_code() -> None:
    """The closed lists exist twice, and must not part."""
    schemas = DOC["components"]["schemas"]
    assert [outcome.value for outcome in Outcome] == schemas["Outcome"]["enum"]
    assert [reason.value for reason in Refusal] == schemas["RefusalReason"]["enum"]
    assert [basis.value for basis in Basis] == properties("Item")["basis"]["enum"]
    assert set(CANONICAL_OUTCOMES) == set(schemas["Outcome"]["enum"])


def test_the_bounds_are_those_of_the_code() -> None:
    """A platform sizes its columns and buffers by these."""
    schemas = DOC["components"]["schemas"]
    assert properties("BulkRequest")["items"]["maxItems"] == JOBS_MAX
    assert DETAIL_CHARS_MAX == schemas["Reference"]["maxLength"]
    assert ID_PATTERN == schemas["CaseId"]["pattern"] == schemas["BatchId"]["pattern"]


def test_both_protocols_answer_the_same_statuses() -> None:
    """What an HTTP status means does not depend on the protocol."""
    assert BULK["responses"].keys() == SINGLE["responses"].keys()


@pytest.mark.parametrize("extra", ["name", "id_number", "new_owner"])
def test_nothing_but_the_number_and_the_cut_off_is_told_of_a_person(extra: str) -> None:
    """The schema of a request forbids what requirement 8 forbids."""
    item = items(1)[0]
    assert named("Item").is_valid(item)
    assert not named("Item").is_valid({**item, extra: "x"})


@pytest.mark.parametrize(
    "change",
    [
        {"number": "13800138000"},
        {"number": "+85291234567"},
        {"cutoff_at": "2026-12-01"},
        {"cutoff_at": "2026-12-01T00:00:00"},
        {"basis": "owner_says_so"},
        {"case": "x"},
        {"id": "igzzas2ml7j55qivgohh2en2pu"},
    ],
)
def test_a_request_that_the_dispatcher_never_sends_does_not_fit(change: Json) -> None:
    """A platform that validates by the schema is not stricter or laxer than the dispatcher."""
    assert not named("Item").is_valid({**items(1)[0], **change})


@pytest.mark.parametrize(("protocol", "schema", "key"), [("bulk-json", "BulkRequest", "batch"), ("json", "Item", "id")])
def test_what_the_dispatcher_sends_is_what_the_document_promises(
    platform: Platform, protocol: str, schema: str, key: str
) -> None:
    """Body, Idempotency-Key and signature of each call, as the example server checks them."""
    sent = calls(protocol)
    assert {"bulk-json": 1, "json": 3}[protocol] == len(sent)
    for call in sent:
        body, headers = json.loads(call.body), {name.lower(): value for name, value in call.headers.items()}
        assert [] == [error.message for error in named(schema).iter_errors(body)]
        assert body[key] == headers["idempotency-key"] == headers["webhook-id"]
        assert "application/json" == headers["content-type"]
        assert platform.signed(headers, call.body, SECRET)
        assert not platform.signed(headers, call.body + b" ", SECRET)


def test_the_answers_of_the_example_server_fit_the_schema(platform: Platform) -> None:
    """The example is what an integrator copies."""
    sent = items(200)
    status, answer = platform.post({"batch": derive("b"), "items": sent})
    assert 200 == status
    assert [] == [error.message for error in named("BulkAnswer").iter_errors(answer)]
    assert [item["id"] for item in sent] == [result["id"] for result in answer["results"]]
    status, single = platform.post(sent[0])
    assert 200 == status
    assert named("Answer").is_valid(single)
    assert answer["results"][0]["code"] == single["code"]


def test_the_example_server_says_every_code_of_its_catalogue_entry(platform: Platform) -> None:
    """Its codes and the map in acme.yaml are one contract."""
    _, answer = platform.post({"batch": derive("b"), "items": items(400)})
    entry = Catalogue.load(ROOT / "examples" / "catalogue").get("acme")
    assert set(entry.outcomes) == {result["code"] for result in answer["results"]}


def test_the_example_server_answers_an_id_once_and_for_all(platform: Platform, tmp_path: Path) -> None:
    """A repeat has no second effect, even where the cut-off were another, and after a restart."""
    sent = items(20)
    _, first = platform.post({"batch": derive("b"), "items": sent})
    _, second = platform.post({"batch": derive("c"), "items": [{**item, "number": "+8613900000000"} for item in sent]})
    again = Platform(tmp_path / "record.csv")
    third = [again.server.RequestHandlerClass.record.answer(item) for item in sent]  # type: ignore[attr-defined]
    again.server.server_close()
    again.close_record()
    assert first == second
    assert first["results"] == third
    lines = (tmp_path / "record.csv").read_text(encoding="utf-8").splitlines()
    assert ["id,case,code", *(f"{i['id']},{i['case']},{r['code']}" for i, r in zip(sent, third, strict=True))] == lines


def test_a_binding_made_at_the_cut_off_is_the_new_owners(platform: Platform) -> None:
    """Strictly before: the rule that no platform may get wrong."""
    codes = {item["number"]: platform.post(item)[1]["code"] for item in items(60)}
    assert "LATER" in codes.values()
    module = platform.unbind.__globals__
    late = next(number for number, code in codes.items() if code == "OK")
    old = module["datetime"].fromisoformat("2019-05-01T00:00:00+00:00")
    assert "LATER" == platform.unbind(late, old)
    assert "OK" == platform.unbind(late, old.replace(second=1))


@pytest.mark.parametrize(("secret", "late_s"), [("whsec_" + "A" * 32, 0), (SECRET, 301), (SECRET, -310)])
def test_the_example_server_refuses_a_call_that_is_not_signed_now(platform: Platform, secret: str, late_s: int) -> None:
    """Another key, and a call that was recorded and is played again."""
    status, answer = platform.post(items(1)[0], secret=secret, late_s=late_s)
    assert 401 == status
    assert named("Problem").is_valid(answer)


@pytest.mark.parametrize(
    "body", [[], "x", {"items": [{}]}, {"items": 1}, {**items(1)[0], "cutoff_at": "2026-12-01T00:00:00"}]
)
def test_the_example_server_names_a_wrong_body_without_its_values(platform: Platform, body: object) -> None:
    """400 and no number in the answer."""
    status, answer = platform.post(body)
    assert 400 == status
    assert "138" not in json.dumps(answer)


@pytest.mark.parametrize("reference", [None, "R-77"])
def test_a_withdrawal_is_what_the_document_says(reference: str | None) -> None:
    """Who builds the address from the document takes what the dispatcher sends."""
    entry = Catalogue.load().get("didi").model_copy(update={"withdraw": "https://didi.example/v1/withdrawals"})
    job = job_id(derive("openapi"), "didi")
    call = build_withdrawal(
        entry, job=job, number="+8613800138000", reference=reference, credentials=(SECRET,), now=datetime.now(UTC)
    )
    named("Withdrawal").validate(json.loads(call.body))
    assert len(call.headers["Idempotency-Key"]) <= 80
    example = DOC["paths"]["/v1/withdrawals"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    named("Withdrawal").validate(example["goesBack"]["value"])


# -- answers that come later -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["json", "bulk-json"])
def test_a_poll_is_what_the_document_says(protocol: str) -> None:
    """No number, no case: an id and the platform's own reference."""
    poll = {"endpoint": "https://acme.example/v1/polls", "delays_s": [60]}
    entry = platform_of(protocol=protocol, poll=poll)
    one, two = items(2)
    jobs = {one["id"]: "N-1", two["id"]: None}
    calls = build_polls(entry, jobs, message=derive("m"), credentials=(), now=datetime.now(UTC))
    assert {"json": 2, "bulk-json": 1}[protocol] == len(calls)
    schema = POLL["requestBody"]["content"]["application/json"]["schema"]
    for call in calls:
        assert poll["endpoint"] == call.url
        assert validator(schema).is_valid(json.loads(call.body))
        assert call.headers["Idempotency-Key"].startswith("poll.")
        assert "138" not in call.body.decode()


def platform_of(**fields: object) -> Entry:
    """Return the example platform's entry with other fields."""
    entry = Catalogue.load(ROOT / "examples" / "catalogue").get("acme")
    return Entry.model_validate(entry.model_dump() | {"auth": {"scheme": "none"}, "limits": {}} | fields)


@pytest.mark.parametrize("example", CALLBACK["requestBody"]["content"]["application/json"]["examples"].values())
def test_a_callback_of_the_document_is_understood(example: Json) -> None:
    """What an integrator copies is taken, each result of it."""
    body = json.dumps(example["value"]).encode()
    reading = read_callback(platform_of(outcomes=CANONICAL_OUTCOMES | {"OK": "UNBOUND"}), body)
    assert () == reading.wrong
    assert len(example["value"].get("results", [1])) == len(reading.said)


def test_the_bounds_of_a_callback_are_those_of_the_code() -> None:
    """Who collects results knows when to send them."""
    many = DOC["components"]["schemas"]["Callback"]["anyOf"][1]["properties"]["results"]
    assert ITEMS_MAX == many["maxItems"]
    assert {"id", "code", "reason", "reference", "next"} == set(properties("CallbackResult"))


def test_the_example_server_answers_later_by_callback_and_by_poll(platform: Platform) -> None:
    """202 with a reference; then the very answers of its record, signed, sent again until they are taken."""
    heard: list[tuple[Json, bytes]] = []
    listener = ThreadingHTTPServer(("127.0.0.1", 0), listening(heard))
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        platform.answer_later(1.0, url=f"http://127.0.0.1:{listener.server_port}/v1/callbacks/acme")
        sent = items(3)
        status, accepted = platform.post({"batch": derive("b"), "items": sent})
        assert (202, True) == (status, named("Accepted").is_valid(accepted))
        asked = {"items": [{"id": item["id"], "reference": None} for item in sent]}
        assert (200, {"results": []}) == platform.post(asked, path="/v1/polls")
        wait_until(lambda: heard, what="a callback", seconds=20)
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
    ((headers, body),) = heard
    assert "msg_" in verify([SECRET], headers, body, now=datetime.now(UTC))
    assert [] == [error.message for error in named("Callback").iter_errors(json.loads(body))]
    _, polled = platform.post(asked, path="/v1/polls")
    assert json.loads(body) == polled
    assert [item["id"] for item in sent] == [result["id"] for result in polled["results"]]


def listening(heard: list[tuple[Json, bytes]]) -> type[BaseHTTPRequestHandler]:
    """Return a server that takes callbacks."""

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(202)
            self.end_headers()

        @override
        def log_message(self, *args: object) -> None:
            """Stay quiet."""

    return Listener


def test_the_callback_of_the_guide_is_taken(backends: Backends, tmp_path: Path) -> None:
    """The commands of docs/integrate.md make a callback, as the shell of an integrator does, and the desk takes it."""
    guide = (ROOT / "docs" / "integrate.md").read_text(encoding="utf-8")
    _, _, rest = guide.partition("To try it by hand, with a job that your platform has accepted:\n```\n")
    block = rest.partition("```")[0]
    # What curl is given is printed instead of sent: the desk stands in this process.
    script = 'curl() { printf "%s\\0" "$@"; }\n' + block
    environment = {"PATH": os.environ["PATH"], "ACME_CALLBACK_SECRET": SECRET}
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env=environment)
    arguments = done.stdout.decode().split("\0")[:-1]
    headers = dict(arguments[at + 1].split(": ", 1) for at, word in enumerate(arguments) if word == "-H")
    body = arguments[arguments.index("-d") + 1].encode()
    write_platform(tmp_path, "acme", callback={"secret": "env:ACME_CALLBACK_SECRET"}, outcomes={"OK": "UNBOUND"})
    desk = CallbackDesk(backends, Catalogue.load(tmp_path), keys={"acme": (SECRET,)}, publish=backends.store.apply)
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(datetime.now(UTC))
    reply = desk.take("acme", {name.lower(): value for name, value in headers.items()}, body)
    # The job of the guide is nobody's here: that it was understood and not found says that all before it was right.
    assert (422, "id") == (reply.status, reply.content["errors"][0]["field"])
    assert "foreign" == backends.callbacks.newest(at_most=1)[0].why
