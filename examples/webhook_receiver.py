"""A system of your own that is told what happens, in one file: docs/events.md, standard library only.

    CRM_SECRET=whsec_… python3 examples/webhook_receiver.py --port 8902

It takes events at POST /events, checks who sent them, prints each once, and answers 204.
"""

import argparse
import base64
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BODY_BYTES_MAX = 100_000
CLOCK_TOLERANCE_S = 300
REMEMBERED_MAX = 100_000


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
    """One event. `secret` is set by main."""

    secret: str
    # Yours is a table with the id as its key: an event may come again, also after a restart.
    seen: dict[str, None] = {}  # noqa: RUF012 - one for the whole server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Check, print what is new, answer."""
        size = self.headers.get("content-length", "")
        if not size.isdecimal() or int(size) > BODY_BYTES_MAX:
            self.close_connection = True
            return self._answer(413)
        body = self.rfile.read(int(size))
        if self.path != "/events":
            return self._answer(404)
        if not signed(self.headers, body, self.secret):
            return self._answer(401)
        event = json.loads(body)
        if event["id"] not in self.seen:
            self.seen[event["id"]] = None
            if len(self.seen) > REMEMBERED_MAX:
                del self.seen[next(iter(self.seen))]
            print(event["time"], event["type"], json.dumps(event["data"]), flush=True)
        return self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Stay quiet: what is printed are the events."""


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="An example receiver of number-renewal's events.")
    parser.add_argument("--port", type=int, default=8902, help="0 takes a free one (default: 8902)")
    options = parser.parse_args()
    Handler.secret = os.environ.get("CRM_SECRET", "")
    if not Handler.secret:
        parser.exit(1, "CRM_SECRET is not set: without it nobody can tell who sends\n")
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}/events", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
