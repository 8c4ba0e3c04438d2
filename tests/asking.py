"""What tests of the HTTP API ask with: the app itself, without a socket."""

import asyncio

import httpx
from fastapi import FastAPI

from backends.bootstrap import Backends
from ops.api.app import make_app
from ops.api.door import Door
from platforms.catalogue import Catalogue


class Asker:
    """Somebody who asks, with a key if one is given."""

    def __init__(self, backends: Backends, catalogue: Catalogue, *, key: str = "") -> None:
        self._app: FastAPI = make_app(Door(backends=backends, catalogue=catalogue))
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Return the answer to one GET."""
        return asyncio.run(self._get(path, headers))

    async def _get(self, path: str, headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=self._headers) as client:
            return await client.get(path, headers=headers)
