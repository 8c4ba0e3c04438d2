"""What every route stands on."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from backends.bootstrap import Backends
from ops.inspector import Inspector
from platforms.catalogue import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The stores, the catalogue, and the inspector through which they are looked at.

    `callback_keys` are those with which callbacks are checked; a platform without any does not call back.
    `ending` is set when the process is told to stop: what would go on without end ends then.
    """

    backends: Backends
    catalogue: Catalogue
    callback_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ending: threading.Event = field(default_factory=threading.Event)

    @property
    def inspector(self) -> Inspector:
        """Answers questions; changes nothing."""
        return Inspector(self.backends, self.catalogue)


def door_of(request: Request) -> Door:
    """Return the door of the app that a request came to."""
    return cast("Door", request.app.state.door)


TheDoor = Annotated[Door, Depends(door_of)]
