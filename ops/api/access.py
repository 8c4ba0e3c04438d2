"""Who asks, and whether they may: a key in `Authorization: Bearer` (RFC 6750), with one of three scopes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from backends.api_keys import Scope
from ops.api.door import TheDoor
from ops.api.problems import Problem

_bearer = HTTPBearer(auto_error=False, description="a key made by `renewal keys api create`")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks; `name` is what the actions log says."""

    key_id: str
    name: str
    scope: Scope


def needs(scope: Scope) -> Callable[..., Caller]:
    """Return the dependency of a route that only keys of this scope, or a greater one, may use."""

    def caller(door: TheDoor, credentials: Credentials) -> Caller:
        given = credentials.credentials if credentials else ""
        key = door.backends.api_keys.find(given, now=door.backends.clock.now())
        if key is None:
            raise Problem(401, "a valid key is needed", headers={"WWW-Authenticate": 'Bearer realm="number-renewal"'})
        if not key.scope.covers(scope):
            raise Problem(403, f"this needs a key of the scope {scope}, and this one has {key.scope}")
        return Caller(key_id=key.id, name=key.name, scope=key.scope)

    return caller


Reader = Annotated[Caller, Depends(needs(Scope.READ))]
OperatorCaller = Annotated[Caller, Depends(needs(Scope.OPERATE))]
AdminCaller = Annotated[Caller, Depends(needs(Scope.ADMIN))]
