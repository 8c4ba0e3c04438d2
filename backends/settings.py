"""Settings from the environment. This is the only file that reads it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import ConfigurationError

_PREFIX = "RENEWAL_"
CONSOLE_OFF = "off"


class Settings(BaseSettings):
    """Every setting, each read from `RENEWAL_<NAME>`.

    Without `redis_url` a Valkey server is started beside `data_dir`, and with it number keys are made.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    redis_url: Annotated[str | None, Field(description="status store; embedded when not set", repr=False)] = None
    broker_url: Annotated[
        str | None, Field(description="redis://… or amqp://…; the same as redis_url when not set", repr=False)
    ] = None
    namespace: Annotated[
        Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")],
        Field(description="first part of every key and queue name"),
    ] = "renewal"
    data_dir: Annotated[Path, Field(description="embedded data, keys, logs and runs")] = Path("renewal-data")
    catalogue: Annotated[Path | None, Field(description="folder of platforms; the sample when not set")] = None
    sweeps: Annotated[Path | None, Field(description="folder of sweeps; none when not set")] = None
    subscribers: Annotated[
        Path | None, Field(description="file of the systems that are told what happens; nobody is when not set")
    ] = None
    operator: Annotated[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")],
        Field(description="who renews; part of every case id"),
    ] = "operator"
    number_keys: Annotated[SecretStr | None, Field(description="the keys themselves, as in the file")] = None
    number_keys_file: Annotated[Path | None, Field(description="file made by `renewal keys create`")] = None
    private_endpoints: Annotated[
        Literal["deny", "allow"], Field(description="whether loopback and private addresses may be called")
    ] = "deny"
    client_certificate: Annotated[
        Path | None, Field(description="PEM file with key and chain, shown to platforms that ask for a certificate")
    ] = None
    console: Annotated[
        Annotated[str, StringConstraints(pattern=rf"^([0-9A-Za-z.:\[\]-]+:[0-9]{{1,5}}|{CONSOLE_OFF})$")],
        Field(description="address and port of the HTTP API and the console, or `off`"),
    ] = "127.0.0.1:8088"
    public_url: Annotated[
        Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#]+[^\s?#/]$")] | None,
        Field(description="how people and platforms reach it from outside; http and `console` when not set"),
    ] = None
    queue_high_water: Annotated[
        int, Field(ge=10, le=1_000_000, description="batches in a lane at which producers stop and wait")
    ] = 2000
    failpoint: Annotated[
        str | None,
        Field(pattern=r"^[a-z_]+\.[a-z0-9_-]+(:[1-9][0-9]{0,5})?$", description="for tests: the step at which to die"),
    ] = None

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _is_a_url(cls, url: str | None) -> str | None:
        try:
            _ = urlsplit(url or "").port
        except ValueError:
            # Said without the value: what looks like a wrong port may be half a password.
            raise ValueError("not a URL with a port; in a password, write / # ? and @ as %2F %23 %3F and %40") from None
        return url

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises ConfigurationError that names each wrong variable."""
        try:
            return cls()
        except ValidationError as error:
            problems = [f"{_PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()]
            raise ConfigurationError("\n".join(problems)) from None

    @property
    def embedded(self) -> bool:
        """Whether this machine's own Valkey is used."""
        return self.redis_url is None

    def environment(self) -> dict[str, str]:
        """Return the environment for a child process that shall have these settings."""
        values = {
            f"{_PREFIX}{name.upper()}": str(value.get_secret_value() if isinstance(value, SecretStr) else value)
            for name, value in self
            if value is not None
        }
        # What is not set here must not come in by the back door.
        ours = {f"{_PREFIX}{name.upper()}" for name in type(self).model_fields}
        return {name: value for name, value in os.environ.items() if name not in ours} | values


@contextmanager
def unheard(name: str) -> Iterator[None]:
    """Hide an environment variable from a library that obeys it when it is imported."""
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


def resolve_secret(reference: str, *, folder: Path) -> str:
    """Return the secret behind `env:NAME` or `file:PATH` (relative to `folder`).

    Raises ConfigurationError that names the variable or file, never a value.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name, "")
        if not value:
            raise ConfigurationError(f"secret missing: set the environment variable {name}")
        return value
    path = folder / name
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"secret missing: {path} cannot be read ({type(error).__name__})") from None
    if not value:
        raise ConfigurationError(f"secret missing: {path} is empty")
    return value
