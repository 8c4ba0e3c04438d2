"""The desk at which platforms call back: who it is, what they say, and what becomes of it.

What is taken goes the way of every result: to the broker, from there to the recorder. It is answered only then.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from backends.bootstrap import Backends
from backends.signature import SignatureProblem, verify
from platforms.catalogue import Catalogue
from platforms.model import Platform
from schemas.errors import ContractError
from schemas.ids import derive
from schemas.result import ResultEvent
from workers.answers import answered
from workers.callback import Reading, Why, Wrong, read_callback

# A thousand results with all that they may say.
BODY_BYTES_MAX: Final = 768 * 1024
_TAKEN: Final = 202
_STATUS: Final = {
    Why.NO_CHANNEL: 404,
    Why.SIGNATURE: 401,
    Why.REPLAYED: 409,
    Why.TOO_LARGE: 413,
    Why.UNREADABLE: 422,
}
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a platform is answered: 202 and how many answers were taken, or a status and what a problem says."""

    status: int
    content: dict[str, Any]

    @property
    def is_problem(self) -> bool:
        """Whether something was refused."""
        return self.status != _TAKEN


class CallbackDesk:
    """Takes callbacks. `keys` are those of the platforms that call back; `publish` brings events to the recorder."""

    def __init__(
        self, backends: Backends, catalogue: Catalogue, *, keys: Mapping[str, Sequence[str]],
        publish: Callable[[ResultEvent], object] | None = None,
    ) -> None:  # fmt: skip
        self._backends, self._catalogue, self._keys = backends, catalogue, keys
        self._publish = publish or backends.broker.publish_event

    def take(self, key: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Take one callback: names of `headers` in lower case, `body` as it came.

        Raises BackendUnavailable: then the same again is taken as if it were the first.
        """
        if key not in self._keys or key not in self._catalogue:
            # The same for a platform that is not there and for one that does not call back: nobody learns which are.
            return self._refuse("", Why.NO_CHANNEL, "no platform of this name calls back here", body=body)
        if len(body) > BODY_BYTES_MAX:
            return self._refuse(key, Why.TOO_LARGE, f"a callback has at most {BODY_BYTES_MAX} bytes", body=b"")
        try:
            message = verify(self._keys[key], headers, body, now=self._backends.clock.now())
        except SignatureProblem as problem:
            return self._refuse(key, Why.SIGNATURE, str(problem), body=body)
        earlier = self._backends.callbacks.begin(key, message, body)
        if earlier is None:
            return self._take(self._catalogue.get(key), message, body)
        if not earlier.same:
            return self._refuse(key, Why.REPLAYED, "webhook-id: another callback had it before", body=body)
        return Reply(status=earlier.status or _TAKEN, content=earlier.content or {})

    def _take(self, platform: Platform, message: str, body: bytes) -> Reply:
        try:
            reading = read_callback(platform, body)
        except ContractError as error:
            reply = self._refuse(platform.key, Why.UNREADABLE, str(error), body=body)
            return self._end(platform, message, reply, taken=0)
        reading = reading.only(self._known(platform, reading))
        cases = list(reading.said)
        known = dict(zip(cases, self._backends.store.records(platform.key, cases), strict=True))
        events = answered(
            platform.key, reading.said, known, message=derive("callback", platform.key, message), way="callback",
            now=self._backends.clock.now(),
        )  # fmt: skip
        for event in events:
            self._publish(event)
        reply = Reply(status=_TAKEN, content={"taken": len(cases)})
        if reading.wrong:
            reply = self._refuse_items(platform, reading.wrong, taken=len(cases), body=body)
        return self._end(platform, message, reply, taken=len(cases))

    def _known(self, platform: Platform, reading: Reading) -> frozenset[str]:
        found = self._backends.store.whereabouts(reading.said)
        return frozenset(case for part in found if platform.key in part.platforms for case in part.cases.values())

    def _end(self, platform: Platform, message: str, reply: Reply, *, taken: int) -> Reply:
        self._backends.callbacks.end(platform.key, message, status=reply.status, content=reply.content, taken=taken)
        return reply

    def _refuse_items(self, platform: Platform, wrong: Sequence[Wrong], *, taken: int, body: bytes) -> Reply:
        for why, items in Counter(each.why for each in wrong).items():
            self._keep(platform.key, why, items=items, body=body)
        errors = [{"field": each.field, "detail": f"expected {each.expected}"} for each in wrong]
        detail = f"{len(wrong)} results were refused, {taken} were taken"
        return Reply(status=_STATUS[Why.UNREADABLE], content={"detail": detail, "taken": taken, "errors": errors})

    def _refuse(self, key: str, why: Why, detail: str, *, body: bytes) -> Reply:
        self._keep(key, why, items=1, body=body)
        return Reply(status=_STATUS[why], content={"detail": detail})

    def _keep(self, key: str, why: Why, *, items: int, body: bytes) -> None:
        self._backends.callbacks.refuse(key, why, items=items, body=body)
        log.warning("callback.refused", platform=key, reason=why, items=items)
