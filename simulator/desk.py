"""The desk of one pretended platform: a call comes in, its items are decided, a reply goes out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from platforms.model import Platform
from schemas.ids import derive, job_id
from schemas.outcome import Outcome
from simulator.behaviour import Behaviour, Later, concerns, delay_s, fault_of, left_out_every, refusal, spoiled
from simulator.gate import Gate, Headers
from simulator.later import Accepted, Letter
from simulator.ledger import Ledger
from simulator.meter import Meter
from simulator.reply import (
    HTML,
    Manner,
    Reply,
    json_response,
    page_response,
    problem_response,
    response,
    too_many_response,
)
from simulator.request import Item, Rejected, read_poll, read_request, read_withdrawal
from simulator.scenario import Fate, Fault, Fortune
from simulator.world import Answer, World

BODY_BYTES_MAX: Final = 1024 * 1024
# A dripped answer is padded to this length, so that no patience of a client lasts to its end.
_DRIP_BYTES_MIN: Final = 400
WITHDRAWALS: Final = b"/v1/withdrawals"
POLLS: Final = b"/v1/polls"
_WITH_REFERENCE: Final = frozenset({Outcome.UNBOUND, Outcome.REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request that has come in whole; header names in lower case."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes


class Desk:
    """Serves one platform. Whatever goes wrong on the wire, a job is decided once and has at most one effect.

    `behaviour` stands above the scenario while it is set.
    """

    def __init__(
        self,
        platform: Platform,
        *,
        world: World,
        fortune: Fortune,
        ledger: Ledger,
        gate: Gate,
        callback_secrets: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.meter = Meter()
        self.behaviour: Behaviour | None = None
        self.withdrawn: set[str] = set()
        self._platform = platform
        self._world = world
        self._fortune = fortune
        self._ledger = ledger
        self._book = ledger.books[platform.key]
        self._answers = answers_of(world, fortune)
        self._accepted = Accepted(platform.key, secrets=callback_secrets)
        self._gate = gate
        self._clock = clock
        # By place, so that an item costs no look at an enum: a call of 500 items decides and says it 500 times.
        self._phrases = tuple(_phrase(answer) for answer in self._answers)
        self._unbinding = frozenset(p for p, a in enumerate(self._answers) if a.outcome is Outcome.UNBOUND)
        self._referenced = frozenset(p for p, a in enumerate(self._answers) if a.outcome in _WITH_REFERENCE)
        self._failed: dict[str, int] = {}
        # An invented item claims the most that it can: a dispatcher that believes it is caught.
        self._boldest = next((a for a in self._answers if a.outcome is Outcome.UNBOUND), self._answers[0]).code

    def handle(self, call: Call) -> Reply:
        """Return the reply to one call; everything the call does at the platform is done then."""
        now_s = self._clock()
        self.meter.enter(now_s)
        try:
            self._check(call, now_s=now_s)
            key = call.headers.get(b"idempotency-key", b"").decode("latin-1")
            aside = self._aside(call, key=key, now_s=now_s)
            if aside is not None:
                return aside
            items = read_request(self._platform, call.body, key=key)
        except Rejected as rejected:
            self.meter.rejected += 1
            return Reply(payload=problem_response(rejected.status, rejected.problem), meter=self.meter)
        self.meter.items += len(items)
        fate = self._fortune.fate(key, failed_before=self._failed.get(key, 0))
        if self.behaviour is not None and concerns(self.behaviour, ((item["id"], item["case"]) for item in items)):
            self.meter.faults[self.behaviour.kind] += 1
            self._failed[key] = self._failed.get(key, 0) + 1
            return self._misbehave(self.behaviour, items, fate=fate, now_s=now_s)
        if fate.fault is not None:
            self.meter.faults[fate.fault.value] += 1
            self._failed[key] = self._failed.get(key, 0) + 1
            if fate.fault.before_effect:
                return self._fail(fate.fault, fate=fate, now_s=now_s)
        elif fate.deferred_s is not None:
            return self._accept(items, due_s=now_s + fate.deferred_s, manner="once", fate=fate)
        return self._serve(items, fate=fate)

    def letters(self) -> list[Letter]:
        """Return the callbacks that are due now."""
        return list(self._accepted.letters(self._say_later, now_s=self._clock()))

    def _accept(self, items: list[Item], *, due_s: float, manner: str, fate: Fate) -> Reply:
        """Answer 202: what becomes of the items is decided, and told later."""
        for item in items:
            self._decide(item, told=False)
        reference = self._accepted.add(items, due_s=due_s, manner=manner)
        payload = json_response(202, {"reference": reference})
        return Reply(payload=payload, delay_s=fate.latency_s, meter=self.meter)

    def _tell(self, cases: list[str], *, now_s: float) -> Reply:
        """Answer a poll: what is decided, and nothing of the rest."""
        decided = [case for case in cases if self._accepted.is_decided(case, now_s=now_s)]
        said = [{"id": job_id(case, self._platform.key), **self._say_later(case, lie=False)} for case in decided]
        if self._platform.protocol == "bulk-json":
            return Reply(payload=json_response(200, {"results": said}), meter=self.meter)
        return Reply(payload=json_response(200, said[0]) if said else json_response(202, {}), meter=self.meter)

    def _say_later(self, case: str, *, lie: bool) -> dict[str, str]:
        place = self._book.place_of(case)
        if place is None:
            raise AssertionError("only what was decided is told later")
        if lie:
            return self._phrases[(place + 1) % len(self._world.answers)]
        self._book.write(case, place, told=True)
        return self._phrases[place]

    def _aside(self, call: Call, *, key: str, now_s: float) -> Reply | None:
        """Return the reply to what is no renewal: a withdrawal or a poll. Raises Rejected."""
        if call.target.endswith(WITHDRAWALS):
            return self._withdraw(read_withdrawal(self._platform, call.body, key=key))
        if call.target.endswith(POLLS):
            return self._tell(read_poll(self._platform, call.body), now_s=now_s)
        return None

    def _withdraw(self, job: str) -> Reply:
        """Note that a number went back; the same one twice is noted once."""
        self.withdrawn.add(job)
        return Reply(payload=json_response(200, {"id": job, "code": "WITHDRAWN"}), meter=self.meter)

    def _check(self, call: Call, *, now_s: float) -> None:
        if call.method != b"POST":
            raise Rejected(405, "only POST is served here")
        if len(call.body) > BODY_BYTES_MAX:
            raise Rejected(413, f"body: more than {BODY_BYTES_MAX} bytes")
        if not self._gate(call.headers, call.body, now_s):
            self.meter.auth_failures += 1
            raise Rejected(401, f"authentication failed; this platform asks for {self._platform.auth.scheme}")
        key = call.headers.get(b"idempotency-key")
        if call.headers.get(b"webhook-id", key) != key:
            raise Rejected(422, "webhook-id: expected the value of Idempotency-Key")
        if not call.headers.get(b"content-type", b"").startswith(b"application/json"):
            raise Rejected(415, "Content-Type: expected application/json")

    def _misbehave(self, behaviour: Behaviour, items: list[Item], *, fate: Fate, now_s: float) -> Reply:
        """Return the reply of a call that met what was ordered."""
        if isinstance(behaviour, Later):
            return self._accept(items, due_s=now_s + behaviour.seconds, manner=behaviour.callback, fate=fate)
        turned_away = refusal(behaviour, now_s=now_s, as_date=_as_date(fate))
        if turned_away is not None:
            return Reply(payload=turned_away, delay_s=fate.latency_s, meter=self.meter)
        fault = fault_of(behaviour)
        fate = replace(fate, fault=fault, left_out_every=left_out_every(behaviour) or fate.left_out_every)
        if fault is not None:
            return self._fail(fault, fate=fate, now_s=now_s) if fault.before_effect else self._serve(items, fate=fate)
        payload = response(200, spoiled(behaviour, self._body(items, fate=fate, heard=True)))
        return Reply(payload=payload, delay_s=max(fate.latency_s, delay_s(behaviour)), meter=self.meter)

    def _fail(self, fault: Fault, *, fate: Fate, now_s: float) -> Reply:
        """Return the reply of a call that did nothing."""
        if fault is Fault.RESET:
            return Reply(manner=Manner.RESET, delay_s=fate.latency_s, meter=self.meter)
        if fault is Fault.UNAVAILABLE:
            payload = problem_response(503, "try again later")
        elif fault is Fault.TOO_MANY:
            payload = too_many_response(now_s=now_s, as_date=_as_date(fate))
        else:
            payload = page_response(500 if fault is Fault.SERVER_ERROR else 200)
        return Reply(payload=payload, delay_s=fate.latency_s, meter=self.meter)

    def _serve(self, items: list[Item], *, fate: Fate) -> Reply:
        """Decide every item and return the reply, hurt by the faults that come after the effect."""
        fault = fate.fault
        heard = fault is not Fault.LOST_ANSWER and fault is not Fault.SLOW_DRIP
        body = self._body(items, fate=fate, heard=heard)
        if fault is Fault.LOST_ANSWER:
            return Reply(manner=Manner.RESET, delay_s=fate.latency_s, meter=self.meter)
        if fault is Fault.SLOW_DRIP:
            payload, manner = response(200, body.rjust(_DRIP_BYTES_MIN)), Manner.DRIP
        elif fault is Fault.WRONG_TYPE:
            payload, manner = response(200, body, content_type=HTML), Manner.WHOLE
        else:
            payload, manner = response(200, body), Manner.WHOLE
        return Reply(payload=payload, manner=manner, delay_s=fate.latency_s, meter=self.meter)

    def _body(self, items: list[Item], *, fate: Fate, heard: bool) -> bytes:
        if self._platform.protocol == "json":
            return orjson.dumps(self._said(items[0], told=heard))
        return orjson.dumps({"results": self._results(items, fate=fate, heard=heard)})

    def _results(self, items: list[Item], *, fate: Fate, heard: bool) -> list[dict[str, str]]:
        results = []
        left_out = _left_out(len(items), fate) if fate.fault is Fault.LEFT_OUT else ()
        for position, item in enumerate(items):
            told = heard and position not in left_out
            said = self._said(item, told=told)
            if told:
                results.append({"id": item["id"], **said})
        if fate.fault is Fault.INVENTED:
            stranger = job_id(derive("invented", items[0]["case"]), self._platform.key)
            results.insert(fate.dice % (len(results) + 1), {"id": stranger, "code": self._boldest})
        return results

    def _said(self, item: Item, *, told: bool) -> dict[str, str]:
        """Decide a job and return what its answer says."""
        place = self._decide(item, told=told)
        if place in self._referenced:
            return {**self._phrases[place], "reference": f"R-{item['case'][:12].upper()}"}
        return self._phrases[place]

    def _decide(self, item: Item, *, told: bool) -> int:
        """Return the place of the job's answer: decided the first time, with its effect, and the same ever after."""
        case = item["case"]
        place = self._book.place_of(case)
        effect_on = None
        if place is None:
            place, effect_on = self._decide_first(item["number"])
        self._book.write(case, place, told=told, effect_on=effect_on)
        return place

    def _decide_first(self, number: str) -> tuple[int, int | None]:
        pair = self._world.pair(number)
        unknown = self._fortune.unknown_answer(pair)
        if unknown is not None:
            return len(self._world.answers) + unknown, None
        place = self._world.place_of(pair)
        if place not in self._unbinding:
            return place, None
        if pair in self._ledger.unbound:
            self._ledger.repeat_pairs += 1
            return self._world.place_of_nothing, None
        return place, pair


def answers_of(world: World, fortune: Fortune) -> tuple[Answer, ...]:
    """Return everything a desk can say, the answers of its world first."""
    return (*world.answers, *fortune.unknown_answers)


def _phrase(answer: Answer) -> dict[str, str]:
    return {"code": answer.code} if answer.reason is None else {"code": answer.code, "reason": answer.reason.value}


def _as_date(fate: Fate) -> bool:
    return bool(fate.dice & 0x100)


def _left_out(count: int, fate: Fate) -> range:
    """Return the positions that the answer forgets: at least one, about every tenth or as ordered."""
    step = min(count, fate.left_out_every)
    return range(fate.dice % step, count, step)
