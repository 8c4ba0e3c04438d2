"""Gathering: small retries for one platform travel together again, as one call takes many items."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from backends.manifests import Manifests
from backends.waiting import Waiter, Why
from platforms.catalogue import Catalogue
from schemas.batch import Batch
from schemas.ids import derive


def gather(waiters: Sequence[Waiter], catalogue: Catalogue, manifests: Manifests) -> Iterator[Batch]:
    """Yield batches that carry the same jobs, in as few as their platforms' calls take.

    Only retries of one run, lane, generation and attempt are put together: halves of a split batch would find the bad
    item no more, and what waits for its turn is full already.
    """
    together: dict[tuple[object, ...], list[Batch]] = defaultdict(list)
    for waiter in waiters:
        batch = waiter.batch
        entry = catalogue.get(batch.platform) if batch.platform in catalogue else None
        if waiter.why is not Why.RETRY or entry is None or entry.protocol != "bulk-json":
            yield batch
            continue
        together[batch.platform, batch.run, batch.lane, batch.generation, batch.attempt, batch.first_attempt].append(
            batch
        )
    for batches in together.values():
        for part in _filled(batches, catalogue.get(batches[0].platform).jobs_per_batch):
            yield _merged(part, manifests)


def _filled(batches: list[Batch], jobs_max: int) -> Iterator[list[Batch]]:
    """Yield the batches again, as many together as have `jobs_max` jobs."""
    part: list[Batch] = []
    size = 0
    for batch in batches:
        if part and size + batch.size > jobs_max:
            yield part
            part, size = [], 0
        part.append(batch)
        size += batch.size
    if part:
        yield part


def _merged(part: list[Batch], manifests: Manifests) -> Batch:
    """Return one batch for all of them; one that is alone stays as it is. Raises ContractError."""
    if len(part) == 1:
        return part[0]
    merged = manifests.together(part, ident=derive("gathered", *(batch.id for batch in part)))
    return merged.model_copy(update={"deadline": min(batch.deadline for batch in part)})
