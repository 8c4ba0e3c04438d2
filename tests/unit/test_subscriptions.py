"""The file of subscribers is read whole or not at all, and what is wrong with it is said by field."""

from pathlib import Path

import pytest
import yaml

from schemas.errors import ConfigurationError
from schemas.notice import NoticeType
from workers.subscriptions import TOPIC, Subscriptions

CRM = {"name": "crm", "url": "https://crm.example/renewal", "secret": "env:CRM_SECRET"}
SECRET = "whsec_czNjcmV0LXMzY3JldC1zM2NyZXQ="


def written(folder: Path, content: object) -> Path:
    """Write a file."""
    path = folder / "subscribers.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_webhooks_and_a_topic_are_read(tmp_path: Path) -> None:
    """Who names no types is told everything that happens, and no test."""
    found = Subscriptions.load(written(tmp_path, {"webhooks": [CRM], "topic": "renewal.events"}))
    assert ["crm", TOPIC] == found.names
    assert set(NoticeType) - {NoticeType.TEST} == set(found.webhooks[0].types)


def test_without_a_file_nobody_is_told() -> None:
    """Nothing is written for nobody."""
    assert [] == Subscriptions.load(None).names


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- a", "expected a mapping"),
        ("a: [", "not YAML"),
        ({}, "expected webhooks or a topic"),
        ({"webhooks": [CRM, CRM]}, "crm stands there twice"),
        ({"webhooks": [CRM | {"name": "topic"}]}, "webhooks.0.name"),
        ({"webhooks": [CRM | {"url": "ftp://crm.example"}]}, "webhooks.0.url: Value error, expected an http"),
        ({"webhooks": [CRM | {"url": "https://me:s3cret@crm.example"}]}, "webhooks.0.url"),
        ({"webhooks": [CRM | {"secret": "s3cret"}]}, "webhooks.0.secret"),
        ({"webhooks": [CRM | {"types": ["renewal.s3cret"]}]}, "webhooks.0.types.0"),
        ({"webhooks": [CRM | {"s3cret": 1}]}, "webhooks.0"),
        ({"topic": "amq.topic"}, "topic"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_field(tmp_path: Path, content: object, said: str) -> None:
    """A subscriber that is misspelt would be waited for in vain; a value in a message may be a secret."""
    path = written(tmp_path, content)
    with pytest.raises(ConfigurationError) as caught:
        Subscriptions.load(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value).replace("webhooks.0.s3cret", "")


def test_secrets_are_read_when_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only looks needs none; two overlap while one is changed."""
    (tmp_path / "old").write_text(SECRET, encoding="utf-8")
    crm = CRM | {"secret": ["env:CRM_SECRET", "file:old"]}
    found = Subscriptions.load(written(tmp_path, {"webhooks": [crm]}))
    with pytest.raises(
        ConfigurationError, match="webhook crm: secret missing: set the environment variable CRM_SECRET"
    ):
        found.secrets(found.webhooks[0])
    monkeypatch.setenv("CRM_SECRET", SECRET)
    assert (SECRET, SECRET) == found.secrets(found.webhooks[0])


def test_a_public_key_signs_nothing(tmp_path: Path) -> None:
    """Found out at the start, and not by the first notice."""
    (tmp_path / "key").write_text("whpk_" + "A" * 43 + "=", encoding="utf-8")
    found = Subscriptions.load(written(tmp_path, {"webhooks": [CRM | {"secret": "file:key"}]}))
    with pytest.raises(ConfigurationError, match="cannot sign"):
        found.secrets(found.webhooks[0])
