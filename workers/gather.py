"""Gathering: small retries for one platform travel together again, as one call takes many items."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from backends.vault import Vault
from backends.waiting import Waiter, Why
from platforms.catalogue import Catalogue
from schemas.batch import Batch, Job, seal_context
from schemas.errors import ContractError
from schemas.ids import derive


def gather(waiters: Sequence[Waiter], catalogue: Catalogue, vault: Vault) -> Iterator[Batch]:
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
        yield from _fill(batches, catalogue.get(batches[0].platform).jobs_per_batch, vault)


def _fill(batches: list[Batch], jobs_max: int, vault: Vault) -> Iterator[Batch]:
    """Yield batches of at most `jobs_max` jobs; one that fits in with no other stays as it is."""
    part: list[Batch] = []
    size = 0
    for batch in batches:
        if part and size + len(batch.jobs) > jobs_max:
            yield _merge(part, vault)
            part, size = [], 0
        part.append(batch)
        size += len(batch.jobs)
    if part:
        yield _merge(part, vault)


def _merge(part: list[Batch], vault: Vault) -> Batch:
    if len(part) == 1:
        return part[0]
    found: dict[str, tuple[Job, str]] = {}
    for batch in part:
        cases = tuple(job.case for job in batch.jobs)
        numbers = vault.open_numbers(batch.sealed, context=seal_context(cases))
        if len(numbers) != len(cases):
            raise ContractError(f"batch {batch.id} holds another number of numbers than jobs")
        found |= {job.case: (job, number) for job, number in zip(batch.jobs, numbers, strict=True)}
    cases = tuple(found)
    return part[0].model_copy(
        update={
            "id": derive("gathered", *(batch.id for batch in part)),
            "jobs": tuple(job for job, _ in found.values()),
            "sealed": vault.seal_numbers([number for _, number in found.values()], context=seal_context(cases)),
            "deadline": min(batch.deadline for batch in part),
        }
    )
