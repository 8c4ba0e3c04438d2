"""The key of who starts the system on their own machine: they may do everything there anyway."""

from pathlib import Path
from typing import Final

from backends.api_keys import Scope
from backends.bootstrap import Backends
from backends.vault import write_key_file
from ops.key_desk import KeyDesk

_NAME: Final = "local"


def local_key(backends: Backends, data_dir: Path) -> Path:
    """Return the file with a key of the scope admin, made where none is or the one there is not valid any more.

    Only its owner can read the file.
    """
    path = data_dir / "console-key"
    if backends.api_keys.find(_text(path), now=backends.clock.now()) is None:
        _, text = KeyDesk(backends).create(_NAME, Scope.ADMIN)
        write_key_file(path, f"{text}\n")
    return path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
