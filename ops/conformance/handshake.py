"""A look at the TLS of an endpoint, with the words that a mere failed call does not have."""

import socket
import ssl
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from ops.conformance.played import Handshake
from workers.connection import is_public
from workers.tls import Tls

_HTTPS_PORT: Final = 443
_PATIENCE_S: Final = 5.0


def shake_hands(endpoint: str, *, tls: Tls, private_endpoints: bool) -> Handshake | None:
    """Connect to an https endpoint as a call would, and say what was found; None for http."""
    parts = urlsplit(endpoint)
    if parts.scheme != "https" or parts.hostname is None:
        return None
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or _HTTPS_PORT, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Handshake(problem="the host has no address")
    host, port = str(found[0][4][0]), int(found[0][4][1])
    # Judged and connected to is one and the same address: a second look-up could say something else.
    if not private_endpoints and not is_public(host):
        return Handshake(problem="the address is private")
    return _shaken(host, port, name=parts.hostname, tls=tls)


def _shaken(host: str, port: int, *, name: str, tls: Tls) -> Handshake:
    try:
        with (
            socket.create_connection((host, port), timeout=_PATIENCE_S) as plain,
            tls.context().wrap_socket(plain, server_hostname=name) as sock,
        ):
            certificate = sock.getpeercert() or {}
            return Handshake(version=sock.version() or "", expires_at=_end_of(certificate.get("notAfter")))
    except ssl.SSLCertVerificationError as error:
        return Handshake(problem=f"certificate: {error.verify_message}")
    except ssl.SSLError as error:
        return Handshake(problem=f"TLS 1.2 or newer: {(error.reason or 'failed').replace('_', ' ').lower()}")
    except OSError:
        return Handshake(problem="no connection")


def _end_of(not_after: object) -> datetime | None:
    if not isinstance(not_after, str):
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(not_after), UTC)
