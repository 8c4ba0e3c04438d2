"""Letting cases go: their jobs become CANCELLED wherever they are, and nothing more is sent of them.

A worker looks at the record just before it calls, so a batch that is on its way finds nothing left to do. A call that
is under way is not stopped; its answer is kept as any other that contradicts what is recorded.
"""

from collections import defaultdict
from collections.abc import Sequence

from backends.bootstrap import Backends
from backends.store import CaseView
from producers.decision import decision
from schemas.ids import new_id
from schemas.outcome import Hold
from schemas.state import State


def let_go(
    backends: Backends, views: Sequence[CaseView], *, only_from: frozenset[State], why: Hold, detail: str, who: str
) -> int:
    """Let the jobs of these cases that are in one of these states be CANCELLED. Returns how many were.

    Done twice it changes nothing. Raises BackendUnavailable.
    """
    together: dict[tuple[str, str], list[str]] = defaultdict(list)
    for view in views:
        for platform in view.platforms:
            if view.record(platform).state in only_from:
                together[view.run, platform].append(view.id)
    changed = 0
    for (run, platform), cases in together.items():
        event = decision(
            cases,
            platform=platform,
            run=run,
            batch=new_id(),
            state=State.CANCELLED,
            reason=why,
            detail=detail,
            who=who,
            now=backends.clock.now(),
        )
        changed += backends.store.decide(event, only_from=only_from).changed
    return changed
