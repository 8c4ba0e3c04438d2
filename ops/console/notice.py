"""What is said once after a change: a word and its values, carried to the next page in a cookie."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final

import orjson
from fastapi import Request, Response

from ops.console.look import Look
from ops.console.place import PREFIX

_COOKIE: Final = "renewal_notice"
_LIFE_S: Final = 60


class Notice:
    """Leave one, read it, forget it."""

    @staticmethod
    def leave(answer: Response, key: str, values: Mapping[str, object]) -> None:
        """Let the next page say this."""
        body = urlsafe_b64encode(orjson.dumps([key, {name: str(value) for name, value in values.items()}]))
        answer.set_cookie(_COOKIE, body.decode(), max_age=_LIFE_S, path=PREFIX, httponly=True, samesite="strict")

    @staticmethod
    def of(request: Request, look: Look) -> str:
        """Return what is to be said here, if anything; a cookie that is none of ours says nothing."""
        try:
            key, values = orjson.loads(urlsafe_b64decode(request.cookies.get(_COOKIE, "")))
            return look.say(f"told.{key}", **values)
        except (ValueError, KeyError, TypeError, IndexError):
            return ""

    @staticmethod
    def forget(answer: Response) -> None:
        """Say it to nobody else."""
        answer.delete_cookie(_COOKIE, path=PREFIX, httponly=True, samesite="strict")
