"""Re-drive: batches for jobs that the status store still holds and the broker has lost.

The broker is not the only record. A message can vanish when a process dies between two commands of the broker's
client; the case still knows its sealed number and what is open. Sent once more, a job that was not lost after all is
recognised: by its record before the call, by its idempotency key at the platform.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta

from backends.bootstrap import Backends
from backends.store import CaseView
from platforms.catalogue import Catalogue
from schemas.batch import Basis, Batch, Job, root_batch_id, seal_context
from schemas.ids import derive
from schemas.state import DISPATCHER_STATES

_CASES_AT_ONCE = 1000


def redrive(backends: Backends, catalogue: Catalogue, *, runs: Iterable[str]) -> int:
    """Publish every job of these runs that the dispatcher still holds. Returns how many batches that were.

    Raises BackendUnavailable.
    """
    published = 0
    for run in runs:
        chunk: list[CaseView] = []
        for case in backends.store.cases(backends.runs.cases(run)):
            if any(case.record(platform).state in DISPATCHER_STATES for platform in case.platforms):
                chunk.append(case)
            if len(chunk) == _CASES_AT_ONCE:
                published += backends.broker.publish_batches(_batches(backends, catalogue, run=run, cases=chunk))
                chunk = []
        published += backends.broker.publish_batches(_batches(backends, catalogue, run=run, cases=chunk))
    return published


def _batches(backends: Backends, catalogue: Catalogue, *, run: str, cases: list[CaseView]) -> Iterator[Batch]:
    """Yield the open jobs of these cases; those that ask for the same attempt at the same platform travel together."""
    numbers = {case.id: backends.store.open_number(case) for case in cases}
    together: dict[tuple[str, int, int], list[CaseView]] = defaultdict(list)
    for case in cases:
        for platform in case.platforms:
            record = case.record(platform)
            if record.state in DISPATCHER_STATES and platform in catalogue:
                together[platform, record.generation, record.attempts + 1].append(case)
    for (key, generation, attempt), wanted in together.items():
        platform_entry = catalogue.get(key)
        for start in range(0, len(wanted), platform_entry.jobs_per_batch):
            part = wanted[start : start + platform_entry.jobs_per_batch]
            ids = tuple(case.id for case in part)
            yield Batch(
                id=derive("redrive", root_batch_id(platform=key, cases=list(ids)), str(attempt)),
                run=run,
                platform=key,
                attempt=attempt,
                generation=generation,
                deadline=backends.clock.now() + timedelta(seconds=platform_entry.retry.total_s),
                jobs=tuple(Job(case=case.id, cutoff_at=case.cutoff_at, basis=Basis(case.basis)) for case in part),
                sealed=backends.vault.seal_numbers([numbers[ident] for ident in ids], context=seal_context(ids)),
            )
