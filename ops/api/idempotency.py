"""`Idempotency-Key` on POST (draft-ietf-httpapi-idempotency-key-header): asked again, answered again, not done again.

A router with `route_class=OnceRoute` has it; each POST says by its dependency whether the key may be left out. A key
belongs to one caller and to one request: method, path, query and body.
"""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from typing_extensions import override

from backends.idempotency import Answer, Asked, Standing
from ops.api.access import caller_of
from ops.api.door import door_of
from ops.api.problems import Problem

_KEPT_HEADERS: Final = ("content-type", "location")
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$",
        description="any text of your own, new for each thing to be done; kept for 24 hours",
    ),
]  # fmt: skip
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def _may_be_repeated(key: Key = None) -> None:
    """Take the key where one is given."""


def _must_be_repeatable(key: Key = None) -> None:
    """Ask for a key: done twice, it would make two."""
    if key is None:
        raise Problem(400, "the header Idempotency-Key is needed: a text of your own, new for each request")


def _must_be_repeatable_unread(key: Key = None) -> None:
    """Ask for a key; the body is too large to be compared, only its length, type and digest are."""
    _must_be_repeatable(key)


KEY_TAKEN = Depends(_may_be_repeated)
KEY_NEEDED = Depends(_must_be_repeatable)
KEY_NEEDED_UNREAD = Depends(_must_be_repeatable_unread)


class OnceRoute(APIRoute):
    """A route whose POST is done once for each caller and key."""

    @override
    def get_route_handler(self) -> Handler:
        """Return the handler, with the keeping of answers around it."""
        handle = super().get_route_handler()
        unread = KEY_NEEDED_UNREAD in self.dependencies

        async def once(request: Request) -> Response:
            key = request.headers.get("idempotency-key")
            if request.method != "POST" or not key:
                return await handle(request)
            caller = await run_in_threadpool(caller_of, request)
            said = await _said(request, read=not unread)
            store = door_of(request).backends.idempotency
            asked = await run_in_threadpool(store.begin, caller=caller.key_id, key=key, request=said)
            if asked.standing is not Standing.BEGUN:
                return _known(asked)
            try:
                response = await handle(request)
            except BaseException:
                # Whatever was refused or failed may be asked again; what had been done by then is found done.
                await run_in_threadpool(store.give_up, asked)
                raise
            await run_in_threadpool(store.finish, asked, _answer(response))
            return response

        return once


async def _said(request: Request, *, read: bool) -> str:
    head = [request.method, request.url.path, request.url.query]
    if not read:
        names = ("content-length", "content-type", "content-digest")
        return "\0".join([*head, *(request.headers.get(name, "") for name in names)])
    return "\0".join([*head, hashlib.sha256(await request.body()).hexdigest()])


def _known(asked: Asked) -> Response:
    if asked.answer is None:
        if asked.standing is Standing.OTHER:
            raise Problem(422, "this Idempotency-Key was used for another request")
        raise Problem(
            409, "another request with this Idempotency-Key is not answered yet", headers={"Retry-After": "1"}
        )
    headers = asked.answer.headers | {"Idempotency-Replayed": "true"}
    return Response(asked.answer.body, asked.answer.status, headers=headers)


def _answer(response: Response) -> Answer:
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    return Answer(status=response.status_code, headers=headers, body=bytes(response.body))
