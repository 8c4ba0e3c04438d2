"""Whom we trust, and who we say we are, in the words that every client understands."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import certifi

from schemas.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What both ends of a TLS connection are judged by. TLS 1.2 and newer, host names always checked.

    `authorities` is a PEM file of who may vouch for a platform: that of certifi where none is given, and nobody else.
    `client_certificate` is a PEM file with our private key, not encrypted, and our chain; it is shown to who asks.
    """

    authorities: Path = Path(certifi.where())
    client_certificate: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return this for Python's own TLS. Raises ConfigurationError that names the file that cannot be used."""
        # Not `create_default_context`: that one writes the session keys where an environment variable tells it to.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cafile=self.authorities)
        except OSError as error:
            raise ConfigurationError(f"authorities {self.authorities}: {_why(error)}") from None
        if self.client_certificate:
            try:
                # An empty password: nobody is there to be asked for one.
                context.load_cert_chain(self.client_certificate, password="")
            except OSError as error:
                raise ConfigurationError(f"client certificate {self.client_certificate}: {_why(error)}") from None
        return context


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "expected certificates in PEM, and for our own its key, not encrypted, in the same file"
    return error.strerror or type(error).__name__
