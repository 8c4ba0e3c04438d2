"""Fixtures: the HTTP API in this process, over the backends of the test."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI

from backends.api_keys import Scope
from backends.bootstrap import Backends
from ops.api.app import make_app
from ops.api.door import Door
from platforms.catalogue import Catalogue

with warnings.catch_warnings():
    # It asks for the successor of httpx, which has not come to our other packages yet.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

PLATFORMS = ("alipay", "wechat")


@dataclass(frozen=True, kw_only=True)
class Api:
    """The app, and one client of it with a key of each scope."""

    app: FastAPI
    client: TestClient
    keys: dict[Scope, str]

    def ask(self, method: str, path: str, *, scope: Scope | None = Scope.ADMIN, **words: Any) -> Any:
        """Send one request with the key of a scope, or with none. Returns the response."""
        headers = dict(words.pop("headers", {}))
        if scope is not None:
            headers["Authorization"] = f"Bearer {self.keys[scope]}"
        return self.client.request(method, path, headers=headers, **words)

    def get(self, path: str, **words: Any) -> Any:
        """Read something that must be there. Returns its JSON."""
        answer = self.ask("GET", path, **words)
        assert 200 == answer.status_code, answer.text
        return answer.json()


@pytest.fixture
def api(backends: Backends) -> Iterator[Api]:
    """The API of a catalogue of two platforms, with a key of each scope."""
    app = make_app(Door(backends=backends, catalogue=Catalogue.load().select(list(PLATFORMS))))
    now = backends.clock.now()
    keys = {scope: backends.api_keys.create(scope, scope, by="test", now=now)[1] for scope in Scope}
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Api(app=app, client=client, keys=keys)
