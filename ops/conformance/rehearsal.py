"""Plays a plan against an endpoint, through the product's own transport, and keeps everything that comes back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from ops.conformance.check import Finding
from ops.conformance.ear import Ear
from ops.conformance.form import FORM
from ops.conformance.later import LATER
from ops.conformance.meaning import MEANING
from ops.conformance.plan import Plan, Step
from ops.conformance.played import Handshake, Heard, Played
from ops.conformance.proof import PROOF
from ops.conformance.reading import GOOD
from schemas.ids import derive
from workers.connector import Answered, retry_after_s
from workers.transport import Answer, Call, Transport

CHECKS: Final = (*FORM.all, *MEANING.all, *PROOF.all, *LATER.all)
_LATER: Final = frozenset({429, 503})
# Who asks for more than this is taken at his word: he does not want to be tried now.
_OBEYED_S_MAX: Final = 10.0
_OBEYED_TIMES: Final = 2
_AFTER_WORDS: Final = (Step.POLLED, Step.WITHDRAWN, Step.WITHDRAWN_AGAIN, Step.WITHDRAWN_UNSIGNED, Step.BURST)
_POLLS_MAX: Final = 20


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    """One rehearsal. `pause` waits for seconds, `clock` tells the time, `ear` hears callbacks if there is one."""

    plan: Plan
    transport: Transport
    clock: Callable[[], datetime]
    pause: Callable[[float], object]
    wait_s: float
    ear: Ear | None = None
    callback_keys: tuple[str, ...] = field(default=(), repr=False)
    handshake: Handshake | None = None
    _answers: dict[Step, tuple[Answer, ...]] = field(default_factory=dict, init=False)
    _turned_away: list[Answer] = field(default_factory=list, init=False)

    def play(self) -> Played:
        """Send everything that has a meaning for this entry; after a first call without an answer, nothing more."""
        self._step(Step.FIRST)
        if not any(answer.status in GOOD for answer in self._answers[Step.FIRST]):
            return self._played()
        for step in Step:
            if step is not Step.FIRST and step not in _AFTER_WORDS and self.plan.needs(step):
                self._step(step)
        self._listen()
        self._poll()
        self._withdraw()
        self._send_all(Step.BURST, self.plan.calls(Step.BURST, now=self.clock()), interval_s=0.0)
        return self._played()

    def _step(self, step: Step) -> None:
        """Send the calls of a step; who asks for a moment gets it."""
        self._send_all(step, self.plan.calls(step, now=self.clock()))
        for _ in range(_OBEYED_TIMES):
            waits = [self._asked_for(answer) for answer in self._answers[step]]
            wanted = max((wait for wait in waits if wait is not None), default=None)
            if wanted is None or wanted > _OBEYED_S_MAX:
                return
            self._turned_away += [answer for answer in self._answers[step] if answer.status in _LATER]
            self.pause(wanted)
            self._send_all(step, self.plan.calls(step, now=self.clock()))

    def _asked_for(self, answer: Answer) -> float | None:
        return retry_after_s(answer.headers, now=self.clock()) if answer.status in _LATER else None

    def _send_all(self, step: Step, calls: Sequence[Call], *, interval_s: float | None = None) -> None:
        limits = self.plan.platform.limits
        apart_s = 1 / limits.calls_per_s if interval_s is None else interval_s
        self.pause(apart_s)
        deadline_s = len(calls) * (limits.timeout_s + apart_s) + 1
        places = {id(call): place for place, call in enumerate(calls)}
        answers = self.transport.send(calls, in_flight=limits.in_flight, deadline_s=deadline_s, interval_s=apart_s)
        self._answers[step] = tuple(sorted(answers, key=lambda answer: places[id(answer.call)]))

    def _listen(self) -> None:
        """Wait until every accepted job was heard of, and the callback that was turned away has come again."""
        played = self._played()
        accepted = played.accepted().keys()
        if self.ear is None or not accepted or self.plan.platform.callback is None:
            return

        def enough(heard: tuple[Heard, ...]) -> bool:
            said = replace(played, heard=heard).said_later()
            proved = [each.ident for each in heard if each.proved]
            return accepted <= said.keys() and proved.count(proved[0]) > 1

        self.ear.wait(enough, seconds=self.wait_s)

    def _poll(self) -> None:
        """Ask until every accepted job has an outcome, or the time is over."""
        poll = self.plan.platform.poll
        references = {job: entry.reference for job, entry in self._played().accepted().items()}
        if poll is None or not references:
            return
        waited_s = 0.0
        for count in range(_POLLS_MAX):
            delay_s = poll.delays_s[min(count, len(poll.delays_s) - 1)]
            if waited_s + delay_s > self.wait_s:
                return
            self.pause(delay_s)
            waited_s += delay_s
            message = derive("conformance", self.plan.run, "poll", str(count))
            earlier = self._answers.get(Step.POLLED, ())
            self._send_all(Step.POLLED, self.plan.polls(references, message=message, now=self.clock()))
            self._answers[Step.POLLED] = earlier + self._answers[Step.POLLED]
            references = {job: said for job, said in references.items() if job not in self._played().said_later()}
            if not references:
                return

    def _withdraw(self) -> None:
        first = self.plan.asked[0].job
        entry = self._played().verdicts().get(first)
        reference = entry.reference if isinstance(entry, Answered) else None
        for step in (Step.WITHDRAWN, Step.WITHDRAWN_AGAIN, Step.WITHDRAWN_UNSIGNED):
            if self.plan.needs(step):
                self._send_all(step, [self.plan.withdrawal(step, reference=reference, now=self.clock())])

    def _played(self) -> Played:
        return Played(
            platform=self.plan.platform,
            asked=self.plan.asked,
            answers=dict(self._answers),
            turned_away=tuple(self._turned_away),
            handshake=self.handshake,
            callback_keys=self.callback_keys,
            listened=self.ear is not None,
            heard=self.ear.heard if self.ear is not None else (),
            ended_at=self.clock(),
        )


def judge(played: Played) -> tuple[Finding, ...]:
    """Hold a rehearsal against every check, in their order. Pure."""
    return tuple(check.finding(played) for check in CHECKS)
