"""The actions log: what people changed stays known, in order, without a number, whatever happens later."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from backends.actions import Action, Actions, What, whoami
from backends.bootstrap import Backends
from schemas.errors import BackendUnavailable
from tests.command import free_port
from tests.fixtures_valkey import stored

NUMBER = "13812345678"


def act(backends: Backends, target: str = "alpha", *, what: What = What.PLATFORM_PAUSE, reason: str = "why") -> str:
    """Write one action down."""
    return backends.actions.append(Action(what=what, target=target, reason=reason, before={"n": 1}, after={"n": 2}))


def test_an_action_is_read_back_as_it_was_written(backends: Backends) -> None:
    """Who asks later wants all of it: who, what, when, why, before and after."""
    action = Action(
        what=What.PLATFORM_LIMIT, target="alpha", reason="their wish", before={"limit": None},
        after={"limit": 2.5}, who="li@desk",
    )  # fmt: skip
    ident = backends.actions.append(action)
    (found,) = backends.actions.list()
    assert (ident, action) == (found.id, found.action)
    assert datetime.now(UTC) - found.at < timedelta(minutes=1)


def test_the_person_is_the_user_of_the_machine_unless_named(backends: Backends) -> None:
    """An entry without a person is no entry."""
    act(backends)
    assert whoami() == backends.actions.list()[0].action.who
    assert "@" in whoami()


def test_the_newest_come_last_and_are_the_ones_kept_by_a_limit(backends: Backends) -> None:
    """On a screen the last line is the one seen; more than one page of the log is read through."""
    written = [act(backends, f"p{index}") for index in range(450)]
    assert written[-3:] == [found.id for found in backends.actions.list(limit=3)]
    assert written == [found.id for found in backends.actions.list(limit=1000)]


def test_the_log_is_filtered_by_what_target_and_time(backends: Backends) -> None:
    """What was done to this platform tonight is the usual question; one of several targets is found too."""
    act(backends, "alpha")
    act(backends, "beta", what=What.PLATFORM_RESUME)
    both = act(backends, "alpha, gamma", what=What.RETRIES_CANCEL)
    targets = [found.action.target for found in backends.actions.list(target="alpha")]
    assert ["alpha", "alpha, gamma"] == targets
    assert [both] == [found.id for found in backends.actions.list(target="gamma")]
    assert [] == backends.actions.list(target="gam")
    assert ["beta"] == [found.action.target for found in backends.actions.list(what=What.PLATFORM_RESUME)]
    assert 3 == len(backends.actions.list(since=datetime.now(UTC) - timedelta(minutes=5)))
    assert [] == backends.actions.list(since=datetime.now(UTC) + timedelta(minutes=5))


def test_a_filter_finds_what_lies_beyond_the_newest_page(backends: Backends) -> None:
    """A rare action must not vanish behind many ordinary ones."""
    act(backends, "rare")
    for index in range(250):
        act(backends, f"p{index}")
    assert 1 == len(backends.actions.list(target="rare", limit=1))


def test_no_number_gets_into_the_log(backends: Backends, capfd: pytest.CaptureFixture[str]) -> None:
    """People write numbers into reasons; the log is kept for ever (rule 8)."""
    said: dict[str, Any] = {"wanted": f"number {NUMBER}", "deep": {"er": NUMBER}}
    backends.actions.append(
        Action(what=What.DEAD_REPLAY, target="alpha", reason=f"for {NUMBER}", before=said, after=said, who=NUMBER)
    )
    everything = b"".join(body for _, body in stored(backends).values())
    assert NUMBER.encode() not in everything
    assert NUMBER not in "".join(capfd.readouterr())
    assert "138****78" in backends.actions.list()[0].action.reason


def test_an_action_that_cannot_be_written_down_is_an_error(backends: Backends) -> None:
    """Whoever changes something must know that it is not on record."""
    nobody = Redis(port=free_port(), socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
    with pytest.raises(BackendUnavailable, match=r"platform\.pause could not be written down"):
        Actions(nobody, backends.keys).append(
            Action(what=What.PLATFORM_PAUSE, target="alpha", reason="", before={}, after={})
        )
