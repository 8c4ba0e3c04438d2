"""Which dead letters are meant: said by filters, by causes or one by one, in an address or a form."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from starlette.datastructures import ImmutableMultiDict

from backends.dead import DeadFilter, DeadJob
from ops.dead_letters import DeadDesk, instant_ms
from ops.when import parse_ago
from schemas.errors import InputError
from schemas.ids import split_job_id
from schemas.outcome import REASONS, reason_of

SINCE: Final = ("1h", "6h", "24h", "7d", "30d")
_WORDS: Final = ("platform", "since", "until", "run")
_CHOSEN_MAX: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What fits all of it. `causes` are pairs of platform and reason, as groups have them; no platform is any."""

    platform: str = ""
    since: str = ""
    until: str = ""
    run: str = ""
    causes: tuple[tuple[str, str], ...] = ()
    jobs: tuple[str, ...] = ()

    @classmethod
    def asked(cls, query: ImmutableMultiDict[str, Any]) -> "Choice":
        """Read it from an address, where `reason` is that of a letter. Raises InputError."""
        choice, reason = cls.said(query), str(query.get("reason", ""))
        return replace(choice, causes=(*choice.causes, (choice.platform, _known(reason)))) if reason else choice

    @classmethod
    def said(cls, words: ImmutableMultiDict[str, Any]) -> "Choice":
        """Read it from a form, where `reason` is that of a person. Raises InputError for what is none of ours."""
        pairs = (str(cause).partition(":") for cause in words.getlist("cause"))
        choice = cls(
            **{name: str(words.get(name, "")).strip() for name in _WORDS},
            causes=tuple((platform, _known(reason)) for platform, _, reason in pairs),
            jobs=tuple(map(str, words.getlist("job"))),
        )
        if len(choice.jobs) + len(choice.causes) > _CHOSEN_MAX:
            raise InputError(f"job: expected at most {_CHOSEN_MAX}")
        for job in choice.jobs:
            try:
                split_job_id(job)
            except ValueError:
                raise InputError("job: expected the id of a job") from None
        return choice

    def fields(self) -> Iterator[tuple[str, str]]:
        """Yield it as the fields of a form, or of an address."""
        yield from ((name, value) for name in _WORDS if (value := getattr(self, name)))
        yield from (("cause", f"{platform}:{reason}") for platform, reason in self.causes)
        yield from (("job", job) for job in self.jobs)

    def pinned(self, *, now: datetime) -> "Choice":
        """Return it with instants for spans, and without what is still to come: what is counted stays what is meant."""
        since = parse_ago(self.since, option="since", now=now).isoformat() if self.since else ""
        # Letters that are named one by one need no end: none can be added to them.
        until = self.until or ("" if self.jobs else (now + timedelta(seconds=1)).isoformat())
        return replace(self, since=since, until=until)

    def filter(self, *, now: datetime) -> DeadFilter:
        """Return it as the desk takes it; of several causes or single jobs as near as a filter comes."""
        named = {split_job_id(job)[1] for job in self.jobs} or {platform for platform, _ in self.causes}
        platforms = named - {""} if named and "" not in named else {self.platform} - {""}
        reasons = {reason for _, reason in self.causes}
        return DeadFilter(
            platforms=frozenset(platforms),
            # A cause may have no reason, which a filter cannot say.
            reasons=frozenset() if "" in reasons else frozenset(map(reason_of, reasons)),
            since_ms=instant_ms(parse_ago(self.since, option="since", now=now)) if self.since else None,
            until_ms=instant_ms(parse_ago(self.until, option="until", now=now)) if self.until else None,
            cases=frozenset(split_job_id(job)[0] for job in self.jobs) or None,
            run=self.run or None,
        )

    def letters(self, desk: DeadDesk) -> list[DeadJob]:
        """Return the letters that are meant, the newest first. Raises InputError."""
        jobs = frozenset(self.jobs)
        return [
            letter
            for letter in desk.select(self.filter(now=desk.now))
            if (not jobs or letter.job in jobs) and (not self.causes or self._is_cause(letter))
        ]

    def _is_cause(self, letter: DeadJob) -> bool:
        return any(
            platform in {"", letter.platform} and reason == (letter.reason or "") for platform, reason in self.causes
        )


def _known(reason: str) -> str:
    if reason and reason not in REASONS:
        raise InputError("reason: expected one that dead letters have")
    return reason
