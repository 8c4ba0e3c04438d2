"""`renewal platforms test` and answers that come later: 202, callbacks, polls."""

import contextlib
import itertools
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from backends.signature import new_secret, sign
from ops.conformance.check import Finding, Verdict
from ops.conformance.ear import Ear
from platforms.model import Platform
from schemas.errors import BackendUnavailable
from tests.rehearsed import broken, example_numbers, example_served, not_holding, rehearsed

CALLBACK_SECRET = new_secret()
CHANNELS = {"callback": {"secret": "env:ACME_CALLBACK"}}


class Deferring:
    """The example server, but it takes batches with 202 and answers by callback or poll; `spoil` changes a callback."""

    def __init__(self, module: Any, *, spoil: Callable[[dict[str, Any]], dict[str, Any]] = lambda call: call) -> None:
        self.callbacks: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.port = 0
        self.patient = True
        self._spoil = spoil
        self._decided: dict[str, dict[str, Any]] = {}
        right = module.Handler._send
        module.Handler._send = lambda handler, status, content: right(handler, *self.deferred(status, content))
        self._thread = threading.Thread(target=self._call_back)
        self._thread.start()

    def deferred(self, status: int, content: Any) -> tuple[int, Any]:
        """Take a batch, and plan its callback."""
        if len(content.get("results", ())) <= 1:
            return status, content
        self._decided |= {result["id"]: result for result in content["results"]}
        self.callbacks.put({"results": content["results"]})
        return 202, {"reference": "N-1", "expected_by": "2026-12-02T08:00:00+08:00"}

    def polled(self, body: bytes) -> dict[str, Any]:
        """Answer a poll."""
        return {"results": [self._decided[item["id"]] for item in json.loads(body)["items"]]}

    def close(self) -> None:
        """Call nobody any more."""
        self.callbacks.put(None)
        self._thread.join()

    def _call_back(self) -> None:
        for count in itertools.count():
            body = self.callbacks.get()
            if body is None:
                return
            call = self._spoil(
                {"path": "/v1/callbacks/acme", "secret": CALLBACK_SECRET, "id": f"cb-{count}", "body": body, "times": 1}
            )
            with contextlib.suppress(OSError):
                statuses = [self._send(call) for _ in range(call["times"])]
                if 503 in statuses and self.patient:
                    self._send({**call, **call.get("again", {})})

    def _send(self, call: dict[str, Any]) -> int:
        body, now = json.dumps(call["body"]).encode(), datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": call["id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": sign([call["secret"]], message_id=call["id"], timestamp=now, body=body),
        }
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("POST", call["path"], body=body, headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status


def later(
    record: Path, *, spoil: Callable[[dict[str, Any]], dict[str, Any]] = lambda call: call, patient: bool = True,
    wait_s: float = 0.5, listening: bool = True, poll: bool = False,
) -> tuple[Finding, ...]:  # fmt: skip
    """Rehearse a platform that answers later."""
    keys = (CALLBACK_SECRET,)
    made: list[Deferring] = []
    with ExitStack() as stack:

        def defer(module: Any) -> None:
            made.append(Deferring(module, spoil=spoil))
            made[0].patient = patient
            if poll:
                module.Handler.do_POST = polled(module.Handler.do_POST, made[0])

        platform = stack.enter_context(example_served(record, spoil=defer))
        stack.callback(made[0].close)
        ear = (
            stack.enter_context(Ear("127.0.0.1", 0, keys=keys, clock=lambda: datetime.now(UTC))) if listening else None
        )
        made[0].port = ear.port if ear else 1
        channels: dict[str, Any] = {} if poll else dict(CHANNELS)
        if poll:
            at = platform.endpoint.replace("/v1/renewals", "/v1/polls")
            channels = {"poll": {"endpoint": at, "delays_s": [0.05]}}
        platform = Platform.model_validate(platform.to_yaml_dict() | channels)
        return rehearsed(platform, example_numbers(), callback_keys=keys, ear=ear, wait_s=wait_s)


def polled(right: Callable[[Any], None], platform: Deferring) -> Callable[[Any], None]:
    """Return a handler that answers polls too."""

    def do_post(self: Any) -> None:
        if self.path != "/v1/polls":
            right(self)
            return
        body = json.dumps(platform.polled(self.rfile.read(int(self.headers["content-length"])))).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    return do_post


def test_a_platform_that_accepts_and_calls_back_passes(tmp_path: Path) -> None:
    """The outcomes of its callbacks are judged like answers, and the one that was turned away has come again."""
    findings = later(tmp_path / "record.csv", wait_s=10)
    assert [] == not_holding(findings)
    passed = {finding.check.name for finding in findings if finding.verdict is Verdict.PASSED}
    assert {"accepted-answered", "callback-signature", "callback-again", "cutoff-strict", "old-binding"} <= passed


@pytest.mark.parametrize("way", ["callback", "poll"])
def test_the_example_server_passes_where_it_answers_later(tmp_path: Path, way: str) -> None:
    """Who copies it has callbacks that come again, and an address to be asked at."""

    def put_off(module: Any) -> None:
        module.CALL_AGAIN_S = 0.05
        at = f"http://127.0.0.1:{ear.port}/v1/callbacks/acme" if way == "callback" else ""
        module.Handler.later = module.Later(0.1, url=at, secret=CALLBACK_SECRET)

    keys = (CALLBACK_SECRET,)
    with (
        Ear("127.0.0.1", 0, keys=keys, clock=lambda: datetime.now(UTC)) as ear,
        example_served(tmp_path / "record.csv", spoil=put_off) as platform,
    ):
        at = platform.endpoint.replace("/v1/renewals", "/v1/polls")
        channel = CHANNELS if way == "callback" else {"poll": {"endpoint": at, "delays_s": [0.2]}}
        entry = Platform.model_validate(platform.to_yaml_dict() | channel)
        findings = rehearsed(entry, example_numbers(), callback_keys=keys, ear=ear, wait_s=10)
    assert [] == not_holding(findings)
    assert {} == broken(findings)


def test_a_platform_that_is_polled_passes(tmp_path: Path) -> None:
    """Without callbacks the outcomes come by asking."""
    findings = later(tmp_path / "record.csv", poll=True, listening=False, wait_s=5)
    assert [] == not_holding(findings)
    assert Verdict.PASSED is {finding.check.name: finding.verdict for finding in findings}["poll"]


WRONG_CALLBACKS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], set[str]]] = {
    "another key": (lambda c: {**c, "secret": new_secret()}, {"callback-signature", "accepted-answered"}),
    "another path": (lambda c: {**c, "path": "/hook"}, {"callback-address"}),
    "an unknown field": (lambda c: {**c, "body": {**c["body"], "at": 1}}, {"callback-body", "accepted-answered"}),
    "a foreign id": (
        lambda c: {**c, "body": {"results": [*c["body"]["results"], {"id": f"{'a' * 26}.acme", "code": "OK"}]}},
        {"callback-body"},
    ),
    "half of the items": (lambda c: {**c, "body": {"results": c["body"]["results"][:2]}}, {"accepted-answered"}),
    "a new id each time": (lambda c: {**c, "again": {"id": "other"}}, {"callback-again"}),
    "another body the second time": (
        lambda c: {**c, "again": {"body": {"results": c["body"]["results"][::-1]}}},
        {"callback-again"},
    ),
    "again after it was taken": (lambda c: {**c, "times": 3}, {"callback-once"}),
}


@pytest.mark.parametrize("wrong", WRONG_CALLBACKS)
def test_a_callback_that_is_wrong_in_one_thing_is_named(tmp_path: Path, wrong: str) -> None:
    """Who calls back badly hears it here, and not from an operator who waits."""
    spoil, expected = WRONG_CALLBACKS[wrong]
    found = broken(later(tmp_path / "record.csv", spoil=spoil))
    assert expected <= set(found) <= expected | {"callback-again", "callback-once"}, found


def test_a_platform_that_does_not_call_again_is_told(tmp_path: Path) -> None:
    """The dispatcher may be restarting when a callback comes."""
    assert {"callback-again"} == set(broken(later(tmp_path / "record.csv", patient=False)))


def test_without_an_ear_callbacks_are_not_tried_and_do_not_hold(tmp_path: Path) -> None:
    """What was not seen is not promised."""
    findings = later(tmp_path / "record.csv", listening=False)
    assert {} == broken(findings)
    assert any(
        line.startswith("callback-signature: not tried callbacks were not listened for")
        for line in not_holding(findings)
    )


def test_what_comes_to_the_ear_is_bounded_and_its_signature_looked_at_first() -> None:
    """It is open to the net while it listens: a stranger gets 401, and nobody more than a mebibyte."""
    with Ear("127.0.0.1", 0, keys=(CALLBACK_SECRET,), clock=lambda: datetime.now(UTC)) as ear:
        sent = {"webhook-id": "m", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
        statuses = []
        for body, headers in ((b"{}", sent), (b"{}", {}), (b"x", {"content-length": str(2**20 + 1)})):
            connection = HTTPConnection("127.0.0.1", ear.port, timeout=5)
            connection.request("POST", "/v1/callbacks/acme", body=body, headers=headers)
            statuses.append(connection.getresponse().status)
            connection.close()
        assert [401, 401, 413] == statuses
        assert [False, False] == [heard.proved for heard in ear.heard]
        with pytest.raises(BackendUnavailable, match=r"--listen 127\.0\.0\.1:"):
            Ear("127.0.0.1", ear.port, keys=(), clock=lambda: datetime.now(UTC))
