"""Lua scripts: loaded from `lua/`, run by their hash, sent again when the server has forgotten them."""

from importlib.resources import files

from redis import Redis
from redis.commands.core import Script

_FOLDER = files("backends") / "lua"


def script(client: Redis, name: str, *, prelude: str = "") -> Script:
    """Return `lua/<name>.lua`, ready to be called with keys and args; `prelude` is put before its text."""
    text = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    return client.register_script(prelude + text)
