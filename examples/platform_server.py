"""A platform of your own in one file: Unbind protocol v1 (docs/integrate.md), standard library only.

    ACME_SECRET=whsec_… python3 examples/platform_server.py --port 8901 --record acme-record.csv

It takes one item (`json`) or many (`bulk-json`) at POST /v1/renewals, and writes every answer to the record file. With
`--later SECONDS` it answers 202 and tells what it did so much later: at POST /v1/polls, and by callback where it has an
address for it:

    ACME_CALLBACK_SECRET=whsec_… … --later 120 --callback http://127.0.0.1:8088/v1/callbacks/acme
"""

import argparse
import base64
import csv
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BODY_BYTES_MAX = 1_000_000
CLOCK_TOLERANCE_S = 300
CALLBACK_ITEMS_MAX = 1000
CALL_AGAIN_S = 5
NOT_NOW = {408, 425, 429}


def unbind(number: str, cutoff_at: datetime) -> str:
    """Stand in for your accounts. The rule is real: only a binding made strictly before the cut-off may go."""
    dice = hashlib.sha256(number.encode()).digest()[0]
    for limit, code in ((200, "NONE"), (210, "HELD"), (220, "UNSUPPORTED")):
        if dice < limit:
            return code
    bound_at = datetime(2019, 5, 1, tzinfo=UTC) if dice < 245 else cutoff_at  # noqa: PLR2004 - made up as well
    return "OK" if bound_at < cutoff_at else "LATER"


class Record:
    """Every answer ever given. The same id gets the same answer and no second effect, after a restart too."""

    def __init__(self, path: Path) -> None:
        self._lock, new = threading.Lock(), not path.exists()
        self._file = path.open("a+", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        if new:
            self._writer.writerow(("id", "case", "code"))
        self._file.seek(0)
        self._codes = {row["id"]: row["code"] for row in csv.DictReader(self._file)}

    def answer(self, item: dict[str, str]) -> dict[str, str]:
        """Answer one item: from the record if its id was here before."""
        with self._lock:
            if item["id"] not in self._codes:
                code = unbind(item["number"], datetime.fromisoformat(item["cutoff_at"]))
                self._writer.writerow((item["id"], item["case"], code))
                self._file.flush()
                self._codes[item["id"]] = code
            return {"id": item["id"], "code": self._codes[item["id"]]}

    def answers(self) -> list[dict[str, str]]:
        """Return every answer ever given."""
        with self._lock:
            return [{"id": ident, "code": code} for ident, code in self._codes.items()]


class Later:
    """Answers that are told later: to who asks, and by callback where there is an address."""

    def __init__(self, after_s: float, *, url: str, secret: str) -> None:
        self._after_s, self._url, self._secret = after_s, url, secret
        self._due: dict[str, float] = {}
        self._over = threading.Event()

    def close(self) -> None:
        """Call nobody any more. What was not taken is told again after the next start, from the record."""
        self._over.set()

    def promise(self, answers: list[dict[str, str]]) -> None:
        """Let these answers be told when their time has come."""
        for answer in answers:
            self._due.setdefault(answer["id"], time.time() + self._after_s)
        self.tell(answers, after_s=self._after_s)

    def tell(self, answers: list[dict[str, str]], *, after_s: float = 0) -> None:
        """Call back with these answers, in a thread of its own. Told twice they do no harm."""
        for start in range(0, len(answers) if self._url else 0, CALLBACK_ITEMS_MAX):
            part = answers[start : start + CALLBACK_ITEMS_MAX]
            threading.Thread(target=self._call_back, args=(part, after_s), daemon=True).start()

    def is_decided(self, ident: str) -> bool:
        """Whether an answer may be told."""
        return self._due.get(ident, 0) <= time.time()

    def _call_back(self, answers: list[dict[str, str]], after_s: float) -> None:
        self._over.wait(after_s)
        # One id and one body for all tries: so the operator knows a repeat. The timestamp is that of each try.
        ident, body = f"msg_{secrets.token_hex(12)}", json.dumps({"results": answers}).encode()
        while not self._over.is_set() and not self._taken(ident, body):
            self._over.wait(CALL_AGAIN_S)

    def _taken(self, ident: str, body: bytes) -> bool:
        """Send one callback; whether it is over, taken or refused for good."""
        sent_at = str(int(time.time()))
        headers = {"content-type": "application/json", "webhook-id": ident, "webhook-timestamp": sent_at,
                   "webhook-signature": signature(self._secret, ident, sent_at, body)}  # fmt: skip
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - main has checked it
        try:
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - main has checked it
        except urllib.error.HTTPError as error:
            with error:
                if error.code >= 500 or error.code in NOT_NOW:  # noqa: PLR2004 - HTTP's own number
                    return False
                print(f"callback refused: {error.code} {error.read(1000).decode(errors='replace')}", flush=True)
        except OSError:
            return False
        return True


def signature(secret: str, ident: str, sent_at: str, body: bytes) -> str:
    """Return a Standard Webhooks v1 signature over the very bytes that travel."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{ident}.{sent_at}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def signed(headers: Any, body: bytes, secret: str) -> bool:
    """Tell whether one of the Standard Webhooks v1 signatures fits; in a rotation there are two."""
    ident, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > CLOCK_TOLERANCE_S:
        return False
    expected = signature(secret, ident, sent_at, body).encode()
    return any(hmac.compare_digest(expected, s.encode()) for s in headers.get("webhook-signature", "").split())


class Handler(BaseHTTPRequestHandler):
    """One call. `record`, `secret` and `later` are set by main."""

    record: Record
    secret: str
    later: Later | None = None
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body leave in one packet

    def do_POST(self) -> None:
        """Read, check, answer."""
        size = self.headers.get("content-length", "")
        if not size.isdecimal() or int(size) > BODY_BYTES_MAX:
            self.close_connection = True
            return self._send(413, {"title": f"at most {BODY_BYTES_MAX} bytes, with content-length"})
        body = self.rfile.read(int(size))
        if self.path not in {"/v1/renewals", "/v1/polls"}:
            return self._send(404, {"title": "expected POST /v1/renewals or /v1/polls"})
        if self.secret and not signed(self.headers, body, self.secret):
            return self._send(401, {"title": "no valid signature"})
        try:
            content = json.loads(body)
            answer = self._tell if self.path == "/v1/polls" else self._renew
            return answer(content.get("items", [content]), alone="items" not in content)
        except (KeyError, TypeError, ValueError, AttributeError):
            return self._send(400, {"title": "expected a body of Unbind protocol v1"})  # never repeats the number

    def _renew(self, items: list[dict[str, str]], *, alone: bool) -> None:
        """Do what is asked, and say so now or later."""
        answers = [self.record.answer(item) for item in items]
        if self.later is not None:
            self.later.promise(answers)
            return self._send(202, {"reference": f"N-{secrets.token_hex(4)}"})
        return self._send(200, {"code": answers[0]["code"]} if alone else {"results": answers})

    def _tell(self, items: list[dict[str, str]], *, alone: bool) -> None:
        """Answer a poll: what is decided. What is left out is asked about again."""
        asked = {item["id"] for item in items}
        known = [answer for answer in self.record.answers() if answer["id"] in asked]
        decided = [a for a in known if self.later is None or self.later.is_decided(a["id"])]
        if alone and not decided:
            return self._send(202, {})
        return self._send(200, decided[0] if alone else {"results": decided})

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json" if status < 300 else "application/problem+json")  # noqa: PLR2004 - HTTP's own number
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Stay quiet: the record file says what happened."""


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="An example platform that speaks Unbind protocol v1.")
    parser.add_argument("--port", type=int, default=8901, help="0 takes a free one (default: 8901)")
    parser.add_argument("--record", type=Path, default=Path("acme-record.csv"), help="answers: id,case,code")
    parser.add_argument("--later", type=float, metavar="SECONDS", help="answer 202, and what was done so much later")
    parser.add_argument(
        "--callback", default="", metavar="URL", help="where to call back with it; else it is asked for"
    )
    options = parser.parse_args()
    Handler.record, Handler.secret = Record(options.record), os.environ.get("ACME_SECRET", "")
    if options.callback and not options.callback.startswith(("http://", "https://")):
        parser.exit(1, "--callback: expected an http or https URL\n")
    if options.callback and not os.environ.get("ACME_CALLBACK_SECRET"):
        parser.exit(1, "set ACME_CALLBACK_SECRET: callbacks are signed with it\n")
    if options.later is not None:
        Handler.later = Later(options.later, url=options.callback, secret=os.environ.get("ACME_CALLBACK_SECRET", ""))
        # Who was ended may have promised: what is told twice does no harm, what is never told does.
        Handler.later.tell(Handler.record.answers())
    try:
        server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    except OSError as error:
        parser.exit(1, f"cannot listen on port {options.port}: {error.strerror}\n")
    checked = "signatures are checked" if Handler.secret else "ACME_SECRET is not set: signatures are not checked"
    print(f"listening on http://127.0.0.1:{server.server_port}/v1/renewals; {checked}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
