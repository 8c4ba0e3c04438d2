"""A case: one number in one cycle, to be renewed at a set of platforms."""

from dataclasses import dataclass

from schemas.batch import Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case as intake makes it. `number` is E.164 and leaves the process only sealed.

    `platforms` are asked; `settled` are the others, each with the one whose answer settles it too.
    """

    id: str
    number: str
    token: str
    line: int
    cutoff_at: str
    basis: Basis
    cycle: str
    reference: str
    platforms: tuple[str, ...]
    settled: tuple[tuple[str, str], ...] = ()
