"""Who is told what: one YAML file, strict like an entry of the catalogue, named by RENEWAL_SUBSCRIBERS."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from backends.settings import resolve_secret
from backends.signature import check_key
from platforms.model import SecretRef
from schemas.errors import ConfigurationError
from schemas.notice import NoticeType

# The subscriber by which the topic is told.
TOPIC: Final = "topic"
_FILE_BYTES_MAX: Final = 64 * 1024
_PROBLEMS_SHOWN_MAX: Final = 20
_EVERY: Final = tuple(kind for kind in NoticeType if kind is not NoticeType.TEST)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Webhook(_Strict):
    """One system that is called. `secret` is one key or, during a rotation, two: each signs."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    url: Annotated[str, StringConstraints(max_length=500)]
    secret: SecretRef | Annotated[tuple[SecretRef, ...], Field(min_length=1, max_length=2)]
    types: Annotated[tuple[NoticeType, ...], Field(min_length=1, max_length=len(NoticeType))] = _EVERY

    @field_validator("url")
    @classmethod
    def _is_a_plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("expected an http or https URL")
        if parts.username or parts.password or parts.fragment:
            raise ValueError("a URL must hold neither credentials nor a fragment")
        return url

    @field_validator("name")
    @classmethod
    def _is_not_the_topic(cls, name: str) -> str:
        if name == TOPIC:
            raise ValueError(f"{TOPIC} is the name of the broker's topic")
        return name


class _File(_Strict):
    webhooks: Annotated[tuple[Webhook, ...], Field(max_length=50)] = ()
    # The name of a topic exchange; the routing key of a message is its type.
    topic: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None

    @field_validator("topic")
    @classmethod
    def _is_not_the_broker_s(cls, topic: str | None) -> str | None:
        if topic is not None and topic.startswith("amq."):
            raise ValueError("names that begin with amq. are the broker's own")
        return topic

    @model_validator(mode="after")
    def _tells_somebody(self) -> Self:
        if not self.webhooks and self.topic is None:
            raise ValueError("expected webhooks or a topic")
        names = Counter(webhook.name for webhook in self.webhooks)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"webhooks: {', '.join(twice)} stands there twice")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriptions:
    """Who is told."""

    path: Path
    webhooks: tuple[Webhook, ...]
    topic: str | None

    @classmethod
    def load(cls, path: Path | None) -> "Subscriptions":
        """Read the file; nobody is told without one. Raises ConfigurationError that names file and field."""
        if path is None:
            return cls(path=Path(), webhooks=(), topic=None)
        read = _read(path)
        return cls(path=path, webhooks=read.webhooks, topic=read.topic)

    @property
    def names(self) -> list[str]:
        """Every subscriber."""
        return [webhook.name for webhook in self.webhooks] + ([TOPIC] if self.topic else [])

    def secrets(self, webhook: Webhook) -> tuple[str, ...]:
        """Return the keys that sign for a webhook. Raises ConfigurationError that names it, never a key."""
        references = (webhook.secret,) if isinstance(webhook.secret, str) else webhook.secret
        try:
            secrets = tuple(resolve_secret(reference, folder=self.path.parent) for reference in references)
            for secret in secrets:
                check_key(secret, signs=True)
        except ConfigurationError as error:
            raise ConfigurationError(f"{self.path}: webhook {webhook.name}: {error}") from None
        return secrets


def _read(path: Path) -> _File:
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise ConfigurationError(f"{path}: larger than {_FILE_BYTES_MAX} bytes")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({type(error).__name__})") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        # The library's own words repeat the file.
        raise ConfigurationError(f"{path}: not YAML") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected a mapping with webhooks or topic")
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        problems = [f"{path}: {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        raise ConfigurationError("\n".join(problems[:_PROBLEMS_SHOWN_MAX])) from None
