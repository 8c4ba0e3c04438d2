"""What was kept because nothing else could be done with it is shown whole, and goes only when a person says so."""

from typing import Any

import pytest

from backends.bootstrap import Backends
from backends.kept import Kind
from tests.fixtures_valkey import NOON


def keep(backends: Backends, count: int) -> None:
    """Bury some messages."""
    for number in range(count):
        backends.kept.bury_message(f"message {number}", why="not JSON", queue="bulk", now=NOON)


def test_the_newest_are_shown_whole_with_their_reason(backends: Backends) -> None:
    """Who has to mend it needs the message as it came."""
    keep(backends, 5)
    found = backends.kept.newest(Kind.POISON, at_most=2)
    assert [(4, "message 3"), (5, "message 4")] == [(item.position, item.content["body"]) for item in found]
    assert {"not JSON"} == {item.content["why"] for item in found}
    assert 5 == backends.kept.count(Kind.POISON)


@pytest.mark.parametrize("kind", Kind)
def test_every_list_may_be_empty(backends: Backends, kind: Kind) -> None:
    """The usual case."""
    assert (0, []) == (backends.kept.count(kind), backends.kept.newest(kind, at_most=3))


@pytest.mark.parametrize("body", [b"\xff\x00", b"[1]", b"{"])
def test_an_item_that_is_no_object_is_shown_all_the_same(backends: Backends, body: bytes) -> None:
    """The broker keeps what it found, whatever that is."""
    redis: Any = backends.redis
    redis.rpush(backends.keys.unreadable, body)
    (item,) = backends.kept.newest(Kind.UNREADABLE, at_most=1)
    assert {"body"} == set(item.content)


def test_only_the_list_that_was_looked_at_is_dropped(backends: Backends) -> None:
    """What has come since must not go unseen."""
    keep(backends, 2)
    assert not backends.kept.drop(Kind.POISON, expected=1)
    assert 2 == backends.kept.count(Kind.POISON)
    assert backends.kept.drop(Kind.POISON, expected=2)
    assert 0 == backends.kept.count(Kind.POISON)
