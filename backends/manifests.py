"""Manifests: the cases that batches name, read and opened once in each process however many batches name them.

As permanent as the cases themselves, and a hundredth of their size: a batch may wait for as long as its platform is
paused, and its manifest must still be there then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any, Final, Self, TypeVar

import orjson
from redis import Redis

from backends.connect import patiently
from backends.keys import Keys
from backends.vault import Vault
from schemas.batch import Batch, Job, ManifestPart, seal_context, spans_of
from schemas.errors import ContractError
from schemas.manifest import Manifest

# The batches of one manifest follow each other, one platform after the other.
_HELD_MAX: Final = 16
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item:
    """One job of an open batch. `rest` is the JSON of all that a platform is told but its own id of the job."""

    place: int
    job: Job
    number: str = field(repr=False)
    rest: bytes = field(repr=False)

    @classmethod
    def of(cls, job: Job, number: str, *, place: int) -> Self:
        """Return the item of a job."""
        told = {"case": job.case, "number": number, "cutoff_at": job.cutoff_at, "basis": job.basis}
        return cls(place, job, number, orjson.dumps(told)[1:])


class Manifests:
    """Write down, open, take apart. Safe to use from many threads."""

    def __init__(self, client: Redis, keys: Keys, vault: Vault) -> None:
        self._client, self._keys, self._vault = client, keys, vault
        self._read = _once_each(self._load)
        self._opened = _once_each(self._open_whole)

    def put(self, jobs: Sequence[Job], numbers: Sequence[str], *, run: str, wanted: str) -> str:
        """Write down cases and their numbers, which go in sealed. Returns the manifest's id."""
        sealed = self._vault.seal_numbers(list(numbers), context=seal_context([job.case for job in jobs]))
        manifest = Manifest(run=run, wanted=wanted, jobs=tuple(jobs), sealed=sealed)
        body = manifest.model_dump_json().encode()
        # Sealed anew it would say the same in other bytes: what is there stays.
        patiently(lambda: self._client.set(self._keys.manifest(manifest.id), body, nx=True))
        return manifest.id

    def open(self, batch: Batch) -> list[Item]:
        """Return the jobs of a batch with their numbers. Raises ContractError, BackendUnavailable."""
        if batch.manifest is None:
            return _items(batch.jobs, sealed=batch.sealed, vault=self._vault)
        items = self._opened(batch.manifest.id)
        return _picked(items, batch.manifest)

    def cases(self, batch: Batch) -> list[str]:
        """Return the cases of a batch; their numbers stay sealed. Raises ContractError, BackendUnavailable."""
        jobs = batch.jobs if batch.manifest is None else _picked(self._read(batch.manifest.id).jobs, batch.manifest)
        return [job.case for job in jobs]

    def cases_of(self, body: Mapping[str, Any]) -> list[str]:
        """Return the cases that the JSON of a batch names, whatever else is wrong with it; none if it names none."""
        try:
            if body.get("manifest"):
                part = ManifestPart.model_validate_json(orjson.dumps(body["manifest"]))
                return [job.case for job in _picked(self._read(part.id).jobs, part)]
            return [str(job["case"]) for job in body["jobs"]]
        except (ContractError, ValueError, KeyError, TypeError):
            return []

    def child(self, batch: Batch, label: str, *, items: Sequence[Item], attempt: int) -> Batch:
        """Return the batch that carries on with these jobs of `batch`. The same label gives the same id."""
        cases = [item.job.case for item in items]
        if batch.manifest is not None:
            part = ManifestPart(id=batch.manifest.id, spans=spans_of(item.place for item in items))
            return batch.child(label, cases=cases, attempt=attempt, manifest=part)
        sealed = self._vault.seal_numbers([item.number for item in items], context=seal_context(cases))
        return batch.child(label, cases=cases, attempt=attempt, jobs=tuple(item.job for item in items), sealed=sealed)

    def together(self, batches: Sequence[Batch], *, ident: str) -> Batch:
        """Return one batch that carries the jobs of all of them. Raises ContractError, BackendUnavailable."""
        found = {item.job.case: item for batch in batches for item in self.open(batch)}
        sealed = self._vault.seal_numbers([item.number for item in found.values()], context=seal_context(found))
        jobs = tuple(item.job for item in found.values())
        return batches[0].model_copy(update={"id": ident, "jobs": jobs, "sealed": sealed, "manifest": None})

    def _load(self, ident: str) -> Manifest:
        body: Any = patiently(lambda: self._client.get(self._keys.manifest(ident)))
        if body is None:
            raise ContractError(f"the manifest {ident} of the batch is not there")
        return Manifest.parse(body)

    def _open_whole(self, ident: str) -> list[Item]:
        manifest = self._read(ident)
        return _items(manifest.jobs, sealed=manifest.sealed, vault=self._vault)


def _items(jobs: Sequence[Job], *, sealed: str, vault: Vault) -> list[Item]:
    numbers = vault.open_numbers(sealed, context=seal_context([job.case for job in jobs]))
    if len(numbers) != len(jobs):
        raise ContractError("the batch holds another number of numbers than jobs")
    return [Item.of(job, number, place=place) for place, (job, number) in enumerate(zip(jobs, numbers, strict=True))]


def _picked(of: Sequence[T], part: ManifestPart) -> list[T]:
    if part.spans[-1][1] > len(of):
        raise ContractError(f"manifest {part.id}: has {len(of)} jobs, the batch names one beyond")
    return [one for start, end in part.spans for one in of[start:end]]


def _once_each(load: Callable[[str], T]) -> Callable[[str], T]:
    """Return `load` with a memory of its newest answers; threads that want the same one let one of them load it."""
    lock, remembered = Lock(), lru_cache(_HELD_MAX)(load)

    def of(ident: str) -> T:
        with lock:
            return remembered(ident)

    return of
