"""The status store: cases, the packed record of every job, and the counters of runs and platforms.

Only the recorder changes a job (through `apply`); intake only adds cases. Both are one atomic script call.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from itertools import islice
from typing import Any, cast

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from backends.manifests import Manifests
from backends.record_arguments import arguments, states_for_lua
from backends.scripts import script
from backends.vault import Vault
from schemas.batch import Job
from schemas.case import Case
from schemas.errors import NotFound
from schemas.ids import ID_CHARS, derive, job_id
from schemas.manifest import MANIFEST_JOBS_MAX
from schemas.record import RECORD_BYTES, JobRecord, Roll
from schemas.result import ResultEvent
from schemas.state import State, Verdict, verdict

_PAGE = 500
_CASE_FIELDS = 7
# So many cases of one manifest are read with all of it, and fewer are cut out of it first.
_WHOLE_MIN = 20


class Known(IntEnum):
    """What the store knew of a case that was handed in."""

    NEW = 0
    UNQUEUED = 1
    DUPLICATE = 2
    SAME_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A case that was handed in: what was known of it, which run owns it, and where its jobs are."""

    known: Known
    run: str
    manifest: str
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What one result event changed; `duplicate` says that it had been applied before."""

    changed: int = 0
    unchanged: int = 0
    disputed: int = 0
    orphaned: int = 0
    duplicate: bool = False
    cases: tuple[str, ...] = ()  # those that changed, where the change was asked for by `only_from`


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Cases of one manifest, by their places in its columns."""

    manifest: str
    platforms: frozenset[str]
    cases: dict[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """A case as the store keeps it; the number stays sealed."""

    id: str
    run: str
    line: int
    manifest: str
    place: int
    sealed: bytes
    mask: str
    cutoff_at: str
    basis: str
    cycle: str
    reference: str
    accepted_s: int
    queued: bool  # every batch of it has reached the broker once
    platforms: tuple[str, ...]  # those that are asked
    settled: dict[str, str]  # those that are not, with the one whose answer settles them too
    verdict: Verdict
    records: dict[str, JobRecord]

    def record(self, platform: str) -> JobRecord:
        """Return what is known of one platform; a job nobody has tried is QUEUED."""
        return self.records.get(self.settled.get(platform, platform), _UNTRIED)


_UNTRIED = JobRecord()
# What a list of platforms says: which are asked, and who settles the others.
_Wanted = tuple[tuple[str, ...], dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """Jobs of a manifest as Redis keeps them. `rows` says where in its columns the wanted cases stand, by place."""

    wanted: str
    rolls: bytes
    columns: dict[bytes, bytes]
    rows: dict[int, int]


class StatusStore:
    """Reads and writes of the status store. With `tells`, the outbox learns of every case that is settled."""

    def __init__(self, client: Redis, keys: Keys, vault: Vault, manifests: Manifests, *, tells: bool = False) -> None:
        self._client, self._keys, self._vault, self._manifests = client, keys, vault, manifests
        self._tells = tells
        layout = f"local ID_BYTES, RECORD_BYTES = {ID_CHARS}, {RECORD_BYTES}\n"
        self._accept = script(client, "accept")
        self._record = script(client, "record", prelude=layout + states_for_lua())
        self._records = script(client, "records", prelude=layout)
        self._rows = script(client, "rows", prelude=layout)
        self._wanted: dict[str, _Wanted] = {}

    # -- intake ----------------------------------------------------------------------------------------------------

    def accept(self, run: str, cases: Sequence[Case], *, now: datetime) -> list[Accepted]:
        """Record cases, each once, those with the same platforms in one manifest. Returns what was known of each.

        The manifest is written first: a case that is known has its place.
        """
        first: dict[str, int] = {}
        together: dict[str, list[int]] = defaultdict(list)
        repeated: list[int] = []
        for index, case in enumerate(cases):
            if first.setdefault(case.id, index) == index:
                together[self._want(case)].append(index)
            else:
                repeated.append(index)
        found: dict[int, Accepted] = {}
        for wanted, alike in together.items():
            for start in range(0, len(alike), MANIFEST_JOBS_MAX):
                indexes = alike[start : start + MANIFEST_JOBS_MAX]
                part = [cases[index] for index in indexes]
                found |= zip(indexes, self._accept_part(run, part, wanted=wanted, now=now), strict=True)
        if repeated:
            # Behind all others: the first row that names a case keeps it, whatever platforms a later one names.
            found |= zip(repeated, self.accept(run, [cases[index] for index in repeated], now=now), strict=True)
        return [found[index] for index in range(len(cases))]

    def _accept_part(self, run: str, cases: Sequence[Case], *, wanted: str, now: datetime) -> list[Accepted]:
        jobs = [Job(case=case.id, cutoff_at=case.cutoff_at, basis=case.basis) for case in cases]
        manifest = self._manifests.put(jobs, [case.number for case in cases], run=run, wanted=wanted)
        keys = [
            self._keys.run(run),
            self._keys.run_cases(run),
            self._keys.manifest(manifest),
            self._keys.jobs(manifest),
            self._keys.totals,
        ]
        args: list[Any] = [run, manifest, wanted, len(cases[0].platforms), _CASE_FIELDS]
        accepted_s = int(now.timestamp())
        for case in cases:
            reference = self._keys.reference(self._vault.token(case.reference)) if case.reference else ""
            keys += [self._keys.case(case.id), self._keys.token(case.token), reference]
            args += [case.id, case.line]
            args += self._fields(case, accepted_s)
        answer = patiently(lambda: self._accept(keys=keys, args=args))
        return [
            Accepted(known=Known(known), run=text(owner), manifest=text(owned_by), place=place)
            for known, owner, owned_by, place in zip(*answer, strict=True)
        ]

    def _fields(self, case: Case, accepted_s: int) -> list[Any]:
        sealed = self._vault.seal(case.number.encode(), context=case_context(case.id))
        national = case.number.removeprefix("+86")
        return [
            "sealed", sealed,
            "mask", f"{national[:3]}****{national[-4:]}",
            "cutoff", case.cutoff_at,
            "basis", case.basis.value,
            "cycle", case.cycle,
            "reference", case.reference,
            "accepted", accepted_s,
        ]  # fmt: skip

    def _want(self, case: Case) -> str:
        """Return the name of a case's list of platforms; each different list is stored once."""
        digest = derive(*case.platforms, "", *(key for pair in case.settled for key in pair))
        if digest not in self._wanted:

            def write() -> None:
                pipe = self._client.pipeline(transaction=True)
                pipe.set(self._keys.wanted(digest), orjson.dumps(case.platforms))
                if case.settled:
                    pipe.hset(self._keys.settled(digest), mapping={**dict(case.settled)})
                pipe.execute()

            patiently(write)
            self._wanted[digest] = case.platforms, dict(case.settled)
        return digest

    def mark_queued(self, cases: Iterable[str]) -> None:
        """Say that every batch of these cases has reached the broker."""

        def mark() -> None:
            pipe = self._client.pipeline(transaction=False)
            for case in cases:
                pipe.hdel(self._keys.case(case), "unqueued")
            pipe.execute()

        patiently(mark)

    # -- results ---------------------------------------------------------------------------------------------------

    def apply(self, event: ResultEvent, *, pipe: Any = None) -> Applied | None:
        """Apply one event atomically; again it changes nothing. On a pipeline the answer comes with `applied`."""
        answer = self._apply(event, pipe=pipe)
        return None if pipe is not None else applied(answer)

    def decide(self, event: ResultEvent, *, only_from: frozenset[State]) -> Applied:
        """Apply what a person decided, job by job only where its state is still one of `only_from`.

        It is no attempt: nothing is counted but the change of state, and the batch's custody goes on.
        """
        return applied(patiently(lambda: self._apply(event, counted=False, only_from=only_from)))

    def _apply(
        self, event: ResultEvent, *, counted: bool = True, pipe: Any = None, only_from: frozenset[State] = frozenset()
    ) -> Any:
        keys, args = arguments(event, self._keys, counted=counted, only_from=only_from, tells=self._tells)
        return self._record(keys=keys, args=args, client=pipe)

    def pipeline(self) -> Any:
        """Open a pipeline for several `apply` calls in one round trip."""
        return self._client.pipeline(transaction=False)

    # -- look-ups --------------------------------------------------------------------------------------------------

    def whereabouts(self, cases: Iterable[str]) -> list[Whereabouts]:
        """Return where the jobs of those cases are that exist, for reading them a platform at a time."""
        found: dict[str, Whereabouts] = {}
        rest = iter(cases)
        while page := list(islice(rest, _PAGE)):
            pipe = self._client.pipeline(transaction=False)
            for case in page:
                pipe.hmget(self._keys.case(case), "manifest", "place")
            for case, (manifest, place) in zip(page, pipe.execute(), strict=True):
                if manifest is not None:
                    name = text(manifest)
                    if name not in found:
                        about: Any = self._client.hget(self._keys.jobs(name), "@")
                        platforms, _ = self._wanted_of(text(about[ID_CHARS:]))
                        found[name] = Whereabouts(manifest=name, platforms=frozenset(platforms), cases={})
                    found[name].cases[int(place)] = case
        return list(found.values())

    def column(self, manifest: str, platform: str) -> bytes:
        """Return the records of a manifest's cases at one platform, for `JobRecord.at`; empty if nobody tried any."""
        column: Any = patiently(lambda: self._client.hget(self._keys.jobs(manifest), platform))
        return column or b""

    def records(self, platform: str, cases: Sequence[str]) -> list[JobRecord]:
        """Return what is known of each case's job at one platform."""
        return self.records_of([job_id(case, platform) for case in cases])

    def records_of(self, jobs: Sequence[str]) -> list[JobRecord]:
        """Return what is known of each job, in one round trip."""
        args = [self._keys.case_prefix, self._keys.jobs_prefix, "\n".join(("", *jobs))]
        tried = patiently(lambda: self._records(keys=[], args=args))
        found = [_UNTRIED] * len(jobs)
        for place, packed in zip(tried[::2], tried[1::2], strict=True):
            found[place] = JobRecord.unpack(packed)
        return found

    def case(self, case: str) -> CaseView:
        """Return one case. Raises NotFound."""
        found = next(self.cases([case]), None)
        if found is None:
            raise NotFound(f"no case {case}")
        return found

    def cases(self, ids: Iterable[str]) -> Iterator[CaseView]:
        """Return the cases that exist, in order, a page at a time."""
        rest = iter(ids)
        while page := list(islice(rest, _PAGE)):
            yield from self._page(page)

    def _page(self, ids: list[str]) -> Iterator[CaseView]:
        pipe = self._client.pipeline(transaction=False)
        for ident in ids:
            pipe.hgetall(self._keys.case(ident))
        found = [(ident, info) for ident, info in zip(ids, pipe.execute(), strict=True) if info]
        places: dict[bytes, list[int]] = defaultdict(list)
        for _, info in found:
            places[info[b"manifest"]].append(int(info[b"place"]))
        sheets = {manifest: self._sheet(text(manifest), found_at) for manifest, found_at in places.items()}
        for ident, info in found:
            yield self._view(ident, info, sheets[info[b"manifest"]])

    def _sheet(self, manifest: str, places: list[int]) -> _Sheet:
        key = self._keys.jobs(manifest)
        whole = len(places) >= _WHOLE_MIN
        flat: dict[bytes, bytes] = {}
        if whole:
            flat |= cast("dict[bytes, bytes]", self._client.hgetall(key))
        else:
            cut = self._rows(keys=[key], args=places)
            flat |= zip(cut[::2], cut[1::2], strict=True)
        rows = {place: place if whole else row for row, place in enumerate(places)}
        return _Sheet(wanted=text(flat[b"@"][ID_CHARS:]), rolls=flat[b"#"], columns=flat, rows=rows)

    def _view(self, ident: str, info: dict[bytes, bytes], sheet: _Sheet) -> CaseView:
        row = sheet.rows[int(info[b"place"])]
        roll = Roll.at(sheet.rolls, row)
        platforms, settled = self._wanted_of(sheet.wanted)
        records = {key: JobRecord.at(sheet.columns.get(key.encode(), b""), row) for key in platforms}
        return CaseView(
            id=ident,
            run=info[b"run"].decode(),
            line=int(info[b"line"]),
            manifest=info[b"manifest"].decode(),
            place=int(info[b"place"]),
            sealed=info[b"sealed"],
            mask=info[b"mask"].decode(),
            cutoff_at=info[b"cutoff"].decode(),
            basis=info[b"basis"].decode(),
            cycle=info[b"cycle"].decode(),
            reference=info[b"reference"].decode(),
            accepted_s=int(info[b"accepted"]),
            queued=b"unqueued" not in info,
            platforms=platforms,
            settled=settled,
            verdict=verdict(open_jobs=roll.open_jobs, exceptions=roll.exceptions),
            records={platform: record for platform, record in records.items() if record},
        )

    def _wanted_of(self, digest: str) -> _Wanted:
        if digest not in self._wanted:
            stored = self._client.get(self._keys.wanted(digest))
            settled = self._client.hgetall(self._keys.settled(digest))
            platforms = tuple(orjson.loads(stored)) if stored else ()
            self._wanted[digest] = platforms, {text(key): text(by) for key, by in settled.items()}
        return self._wanted[digest]

    def details(self, case: str) -> dict[str, dict[str, Any]]:
        """Return what is known beyond the record, by platform: only of jobs that are not plain."""
        found = self._client.hgetall(self._keys.details(case))
        return {text(platform): orjson.loads(body) for platform, body in found.items()}

    def find_by_number(self, e164: str) -> list[str]:
        """Return the cases of a number."""
        return self._members(self._keys.token(self._vault.token(e164)))

    def find_by_reference(self, reference: str) -> list[str]:
        """Return the cases of an operator's reference."""
        return self._members(self._keys.reference(self._vault.token(reference)))

    def _members(self, key: str) -> list[str]:
        return sorted(map(text, self._client.smembers(key)))

    def open_number(self, case: CaseView) -> str:
        """Return the number itself. Raises ContractError if the keys do not open it."""
        return self._vault.open(case.sealed, context=case_context(case.id)).decode()


def applied(answer: list[Any]) -> Applied:
    """Read what `record.lua` returned."""
    if answer[0] < 0:
        return Applied(duplicate=True)
    changed, unchanged, disputed, orphaned, *cases = answer
    return Applied(
        changed=changed,
        unchanged=unchanged,
        disputed=disputed,
        orphaned=orphaned,
        cases=tuple(map(text, cases)),
    )


def epoch(seconds: int) -> datetime:
    """Return the instant of a stored time."""
    return datetime.fromtimestamp(seconds, UTC)


def case_context(case: str) -> bytes:
    """Return what the sealed number of a case is bound to."""
    return f"renewal/case/{case}".encode()
