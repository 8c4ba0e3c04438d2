"""Who asks, and whether they may: a key in `Authorization: Bearer` (RFC 6750), with one of three scopes."""

import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from backends.api_keys import Scope
from backends.pace import Pace, Paced
from ops.api.door import door_of
from ops.api.problems import Problem

# A pipeline that looks after each of its requests; a person's screen is far below it.
OF_A_KEY: Final = Pace(name="key", per_s=100, burst=200)
# Somebody who mistypes a key, and nobody who tries keys.
OF_BAD_KEYS: Final = Pace(name="bad-keys", per_s=0.1, burst=10)
_IPV6_NEIGHBOURS: Final = 64
_bearer = HTTPBearer(auto_error=False, description="a key made by `renewal keys api create`")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    key_id: str
    name: str
    scope: Scope

    @property
    def who(self) -> str:
        """Their name in the actions log."""
        return f"api:{self.name}"


def caller_of(request: Request) -> Caller:
    """Return whose key came with a request. Raises Problem 401, and 429 for too many requests or bad keys."""
    known = getattr(request.state, "caller", None)
    if isinstance(known, Caller):
        return known
    door = door_of(request)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    key = door.backends.api_keys.find(
        given.strip() if scheme.lower() == "bearer" else "", now=door.backends.clock.now()
    )
    if key is None:
        paced = door.backends.paces.take(OF_BAD_KEYS, address_of(request))
        if not paced.allowed:
            raise too_fast("too many requests without a valid key from this address", OF_BAD_KEYS, paced)
        raise Problem(401, "a valid key is needed", headers={"WWW-Authenticate": 'Bearer realm="number-renewal"'})
    paced = door.backends.paces.take(OF_A_KEY, key.id)
    request.state.headers = limit_headers(OF_A_KEY, paced)
    if not paced.allowed:
        raise too_fast("too many requests with this key", OF_A_KEY, paced)
    caller = request.state.caller = Caller(key_id=key.id, name=key.name, scope=key.scope)
    return caller


def needs(scope: Scope) -> Callable[..., Caller]:
    """Return the dependency of a route that only keys of this scope, or a greater one, may use."""

    def caller(request: Request, _: Credentials) -> Caller:
        found = caller_of(request)
        if not found.scope.covers(scope):
            raise Problem(403, f"this needs a key of the scope {scope}, and this one has {found.scope}")
        return found

    return caller


Reader = Annotated[Caller, Depends(needs(Scope.READ))]
OperatorCaller = Annotated[Caller, Depends(needs(Scope.OPERATE))]
AdminCaller = Annotated[Caller, Depends(needs(Scope.ADMIN))]


def address_of(request: Request) -> str:
    """Return whom to hold an anonymous request against: an address, for IPv6 its network, which one host may own."""
    try:
        address = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network(f"{address}/{_IPV6_NEIGHBOURS}", strict=False).network_address)


def too_fast(detail: str, pace: Pace, paced: Paced) -> Problem:
    """Return the answer to who goes faster than they may: when to come again (RFC 9110, section 10.2.3)."""
    return Problem(
        429, detail, headers={"Retry-After": str(max(1, math.ceil(paced.next_s))), **limit_headers(pace, paced)}
    )


def limit_headers(pace: Pace, paced: Paced) -> dict[str, str]:
    """Return where a caller stands (draft-ietf-httpapi-ratelimit-headers): what is left, and when it is all again."""
    window_s = math.ceil(pace.burst / pace.per_s)
    return {
        "RateLimit-Policy": f'"{pace.name}";q={pace.burst};w={window_s}',
        "RateLimit": f'"{pace.name}";r={paced.more};t={math.ceil(paced.full_s)}',
    }
