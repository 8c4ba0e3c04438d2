"""What was kept whole because nothing else could be done with it, for people: read it, and forget it."""

from collections.abc import Iterator
from typing import Any, Final

from backends.actions import Action, What, whoami
from backends.bootstrap import Backends
from backends.kept import KeptItem, Kind
from schemas.errors import Refused

LIST_FIELDS: Final = ("kind", "position", "at", "why", "content")


class KeptDesk:
    """Shows lists, and drops one."""

    def __init__(self, backends: Backends, *, who: str = "") -> None:
        self._backends, self._who = backends, who or whoami()

    def count(self, kind: Kind) -> int:
        """How many there are."""
        return self._backends.kept.count(kind)

    def rows(self, kind: Kind, *, at_most: int, before: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the newest, the newest last; with `before`, of those that are older than that position."""
        return (_row(kind, item) for item in self._backends.kept.newest(kind, at_most=at_most, before=before))

    def drop(self, kind: Kind, *, expected: int, reason: str) -> None:
        """Forget a list that is as long as the person thinks. Raises Refused if it is not."""
        if not self._backends.kept.drop(kind, expected=expected):
            raise Refused(f"more {kind} have come meanwhile, or some are gone: nothing was dropped")
        self._backends.actions.append(
            Action(
                what=What.KEPT_DROP, target=kind, reason=reason, before={"count": expected}, after={"count": 0},
                who=self._who,
            )
        )  # fmt: skip


def _row(kind: Kind, item: KeptItem) -> dict[str, Any]:
    rest = {name: value for name, value in item.content.items() if name not in {"at", "why"}}
    return {
        "kind": kind.value, "position": item.position, "at": item.content.get("at"), "why": item.content.get("why"),
        "content": rest,
    }  # fmt: skip
