"""Where the console is: the first part of every path."""

import re
from typing import Final

PREFIX: Final = "/console"
# A second slash or a backslash would lead to another host.
_OURS: Final = re.compile(rf"{PREFIX}/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


def is_ours(path: str) -> bool:
    """Whether a path leads to a page of the console and nowhere else."""
    return _OURS.fullmatch(path) is not None
