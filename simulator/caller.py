"""Sends the callbacks of all pretended platforms to the dispatcher, as their own programs would."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import requests

from simulator.later import Letter

LOOK_INTERVAL_S: Final = 0.2
_TRIES: Final = 10
_AGAIN_S: Final = 1.0
_TIMEOUT_S: Final = 10.0
_SERVER_ERROR: Final = 500


async def call_back(letters: Callable[[], Sequence[Letter]], *, url: str) -> None:
    """Send what is due until cancelled: one after the other, each again for a while if it was not heard."""
    with requests.Session() as session:
        session.trust_env = False
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            for letter in letters():
                await _deliver(session, letter, url=url)


async def _deliver(session: requests.Session, letter: Letter, *, url: str) -> None:
    for _ in range(_TRIES):
        if await asyncio.to_thread(_is_heard, session, letter, url=url):
            return
        await asyncio.sleep(_AGAIN_S)


def _is_heard(session: requests.Session, letter: Letter, *, url: str) -> bool:
    """Send once. What was refused was heard."""
    address = f"{url.rstrip('/')}/v1/callbacks/{letter.platform}"
    try:
        answer = session.post(address, data=letter.body, headers=letter.headers, timeout=_TIMEOUT_S)
    except requests.RequestException:
        return False
    return answer.status_code < _SERVER_ERROR
