"""A platform of your own in one file: Unbind protocol v1 (docs/integrate.md), standard library only.

    ACME_SECRET=whsec_… python3 examples/platform_server.py --port 8901 --record acme-record.csv

It takes one item (`json`) or many (`bulk-json`) at POST /v1/renewals, and writes every answer to the record file.
"""

import argparse
import base64
import csv
import hashlib
import hmac
import json
import os
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BODY_BYTES_MAX = 1_000_000
CLOCK_TOLERANCE_S = 300


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


def signed(headers: Any, body: bytes, secret: str) -> bool:
    """Tell whether one of the Standard Webhooks v1 signatures fits; in a rotation there are two."""
    ident, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > CLOCK_TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{ident}.{sent_at}.".encode() + body, "sha256")
    expected = b"v1," + base64.b64encode(digest)
    return any(hmac.compare_digest(expected, s.encode()) for s in headers.get("webhook-signature", "").split())


class Handler(BaseHTTPRequestHandler):
    """One call. `record` and `secret` are set by main."""

    record: Record
    secret: str
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body leave in one packet

    def do_POST(self) -> None:
        """Read, check, answer."""
        size = self.headers.get("content-length", "")
        if not size.isdecimal() or int(size) > BODY_BYTES_MAX:
            self.close_connection = True
            return self._send(413, {"title": f"at most {BODY_BYTES_MAX} bytes, with content-length"})
        body = self.rfile.read(int(size))
        if self.path != "/v1/renewals":
            return self._send(404, {"title": "expected POST /v1/renewals"})
        if self.secret and not signed(self.headers, body, self.secret):
            return self._send(401, {"title": "no valid signature"})
        try:
            content = json.loads(body)
            if "items" in content:
                return self._send(200, {"results": [self.record.answer(item) for item in content["items"]]})
            return self._send(200, {"code": self.record.answer(content)["code"]})
        except (KeyError, TypeError, ValueError, AttributeError):
            return self._send(400, {"title": "expected a body of Unbind protocol v1"})  # never repeats the number

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json" if status == 200 else "application/problem+json")  # noqa: PLR2004 - HTTP's own number
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
    options = parser.parse_args()
    Handler.record, Handler.secret = Record(options.record), os.environ.get("ACME_SECRET", "")
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
