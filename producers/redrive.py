"""Re-drive from the status store: batches for jobs that are open and in nobody's hands.

The last net (rule 1): custody sends again what a broker lost; this sends what custody has never had or has lost itself.
Sent once more, a job that was not lost after all is recognised: by its record before the call, by its idempotency key
at the platform.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice

from backends.bootstrap import Backends
from backends.store import CaseView
from platforms.catalogue import Catalogue
from schemas.batch import Basis, Batch, Job, seal_context
from schemas.ids import derive
from schemas.state import DISPATCHER_STATES

_JOBS_AT_ONCE = 20_000


def redrive(backends: Backends, catalogue: Catalogue, *, jobs: Iterable[tuple[str, str]]) -> int:
    """Send those of these jobs (case, platform) that are still open. Returns how many batches that were.

    Jobs of platforms that the catalogue lacks stay as they are. Raises BackendUnavailable.
    """
    sent, rest = 0, iter(jobs)
    while part := list(islice(rest, _JOBS_AT_ONCE)):
        wanted: dict[str, list[str]] = defaultdict(list)
        for case, platform in part:
            wanted[case].append(platform)
        cases = list(backends.store.cases(wanted))
        sent += backends.dispatch.send(_batches(backends, catalogue, cases=cases, wanted=wanted))
        backends.store.mark_queued(case.id for case in cases if not case.queued)
    return sent


def _batches(
    backends: Backends, catalogue: Catalogue, *, cases: list[CaseView], wanted: dict[str, list[str]]
) -> Iterator[Batch]:
    """Yield the open ones of these jobs; those that ask for the same attempt at the same platform travel together."""
    numbers = {case.id: backends.store.open_number(case) for case in cases}
    together: dict[tuple[str, str, int, int], list[CaseView]] = defaultdict(list)
    for case in cases:
        for platform in wanted[case.id]:
            record = case.record(platform)
            if record.state in DISPATCHER_STATES and platform in catalogue:
                together[platform, case.run, record.generation, record.attempts + 1].append(case)
    for (key, run, generation, attempt), found in together.items():
        entry = catalogue.get(key)
        for start in range(0, len(found), entry.jobs_per_batch):
            part = found[start : start + entry.jobs_per_batch]
            ids = tuple(case.id for case in part)
            yield Batch(
                id=derive("redrive", key, *ids, str(generation), str(attempt)),
                run=run,
                platform=key,
                attempt=attempt,
                first_attempt=attempt,
                generation=generation,
                deadline=backends.clock.now() + timedelta(seconds=entry.retry.total_s),
                jobs=tuple(Job(case=case.id, cutoff_at=case.cutoff_at, basis=Basis(case.basis)) for case in part),
                sealed=backends.vault.seal_numbers([numbers[ident] for ident in ids], context=seal_context(ids)),
            )
