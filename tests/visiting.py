"""What tests of the console build on: a browser without a screen, with a session of the scope that a test wants."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from starlette.routing import Mount

from backends.api_keys import Scope
from backends.bootstrap import Backends
from ops.api.app import make_app
from ops.api.door import Door
from ops.console.lookout import Lookout
from ops.console.place import PREFIX
from platforms.catalogue import Catalogue

ORIGIN = "http://testserver"
_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{32})"')


class Visit:
    """One browser. Paths are those below `/console`."""

    def __init__(self, backends: Backends, catalogue: Catalogue) -> None:
        self.backends = backends
        self.app: FastAPI = make_app(Door(backends=backends, catalogue=catalogue))
        self._client = AsyncClient(transport=ASGITransport(self.app), base_url=ORIGIN)
        self.cookies = self._client.cookies

    @property
    def lookout(self) -> Lookout:
        """What the pages see the whole with."""
        (console,) = [route.app for route in self.app.routes if isinstance(route, Mount) and route.path == PREFIX]
        return cast("Lookout", cast("FastAPI", console).state.lookout)

    def ask(self, method: str, path: str, **said: Any) -> Response:
        """Ask for any path of the app, as nobody in particular but for the cookies."""
        return asyncio.run(self._client.request(method, path, **said))

    def enter(self, key: str, *, origin: str = ORIGIN, **fields: str) -> Response:
        """Send the login form."""
        return self.ask("POST", "/console/login", data={"key": key, **fields}, headers={"Origin": origin})

    def key(self, scope: Scope = Scope.READ, *, name: str = "night") -> str:
        """Return the text of a new key."""
        return self.backends.api_keys.create(name, scope, by="test", now=self.backends.clock.now())[1]

    def log_in(self, scope: Scope = Scope.ADMIN, *, name: str = "night") -> str:
        """Come in with a new key of a scope; returns the id of the key."""
        key, text = self.backends.api_keys.create(name, scope, by="test", now=self.backends.clock.now())
        entered = self.enter(text)
        assert 303 == entered.status_code, entered.text
        return key.id

    def get(self, path: str, *, language: str = "en", **headers: str) -> Response:
        """Ask for a page."""
        return self.ask("GET", f"/console{path}", headers={"Accept-Language": language, **headers})

    def page(self, path: str, *, language: str = "en") -> str:
        """Return the text of a page that must be there."""
        answer = self.get(path, language=language)
        assert 200 == answer.status_code, (answer.status_code, answer.headers.get("location"), answer.text)
        return answer.text

    @property
    def token(self) -> str:
        """The token that this session's forms carry."""
        found = _TOKEN.search(self.page("/"))
        assert found is not None
        return found[1]

    def send(
        self, path: str, fields: Mapping[str, object] | None = None, *, token: str | None = None,
        origin: str | None = ORIGIN,
    ) -> Response:  # fmt: skip
        """Send a form as a page of ours does, or as somebody else would."""
        said = {name: value if isinstance(value, list) else str(value) for name, value in (fields or {}).items()}
        token = self.token if token is None else token
        headers = {"Accept-Language": "en"} | ({"Origin": origin} if origin else {})
        return self.ask("POST", f"/console{path}", data={**said, "form_token": token}, headers=headers)
