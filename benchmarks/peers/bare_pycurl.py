"""libcurl's multi interface with nothing around it: the limit of what one process can call here.

Makes every N-th of the jobs (BENCH_SHARE is `first/N`), asks again at once where it is told to come later.
"""

import os
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from typing import Any

import orjson
import pycurl

from benchmarks.peers.job import IN_FLIGHT, LATER, endpoint, jobs

_WAIT_S = 1.0


class Calls:
    """All calls of one process, over a fixed number of handles."""

    def __init__(self, bodies: Iterator[bytes]) -> None:
        self._bodies = bodies
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, IN_FLIGHT)
        self._open = 0

    def run(self) -> None:
        """Make them."""
        for _ in range(IN_FLIGHT):
            self._next(self._handle())
        while self._open:
            while self._multi.perform()[0] == pycurl.E_CALL_MULTI_PERFORM:
                pass
            self._take()
            if self._open:
                self._multi.select(_WAIT_S)

    def _handle(self) -> Any:
        handle: Any = pycurl.Curl()
        handle.setopt(pycurl.URL, endpoint())
        handle.setopt(pycurl.POST, 1)
        handle.setopt(pycurl.HTTPHEADER, ["Content-Type: application/json", "Expect:"])
        return handle

    def _next(self, handle: Any, body: bytes | None = None) -> None:
        body = body if body is not None else next(self._bodies, None)
        if body is None:
            return
        handle.body, handle.answer = body, BytesIO()
        handle.setopt(pycurl.POSTFIELDS, body)
        handle.setopt(pycurl.WRITEFUNCTION, handle.answer.write)
        self._multi.add_handle(handle)
        self._open += 1

    def _take(self) -> None:
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            if failed:
                raise RuntimeError(f"a call failed: {failed[0][2]}")
            for handle in done:
                self._multi.remove_handle(handle)
                self._open -= 1
                again = handle.getinfo(pycurl.RESPONSE_CODE) == LATER
                self._next(handle, handle.body if again else None)


def main() -> None:
    """Make this process's share of the calls."""
    first, _, step = os.environ["BENCH_SHARE"].partition("/")
    bodies = jobs(int(os.environ["BENCH_COUNT"]), seed=int(os.environ["BENCH_SEED"]))
    Calls(orjson.dumps(body) for body in islice(bodies, int(first), None, int(step))).run()


if __name__ == "__main__":
    main()
