"""`backends/keys.py`: every key says its type and how long it lives, and what it says is what is enforced."""

import inspect
import re
from collections.abc import Callable
from typing import Any, cast

import pytest

from backends import keys as module
from backends.keys import PERMANENT, Keys

# Queues belong to the broker, and a prefix is no key.
NO_KEYS = {"queue", "results_queue", "unacked", "unacked_index", "unreadable", "rest"}
NO_KEYS |= {"run_prefix", "dead_at_prefix", "trail_prefix", "case_prefix", "jobs_prefix", "details_prefix"}
NO_KEYS |= {"run_prefix", "dead_at_prefix", "trail_prefix", "beat_prefix"}
DOCUMENTED = re.compile(
    r"(?P<type>String|Hash|Set|Sorted set|List|Stream): \S.*; (?:(?P<permanent>permanent)|TTL (?P<ttl>\w+))\."
)
MEMBERS = {name: member for name, member in vars(Keys).items() if not name.startswith("_") and name != "namespace"}
FAMILIES = sorted(set(MEMBERS) - NO_KEYS)


def function_of(name: str) -> Callable[..., str]:
    """Return what spells a key, method or property."""
    member = MEMBERS[name]
    function: Any = member.fget if isinstance(member, property) else member
    return cast("Callable[..., str]", function)


def spelled(name: str, *, namespace: str = "ns") -> str:
    """Spell a key with `x` for whatever it is about."""
    function = function_of(name)
    return function(Keys(namespace), *["x"] * (len(inspect.signature(function).parameters) - 1))


def documented(name: str) -> re.Match[str]:
    """Return what a key's docstring says."""
    doc = inspect.getdoc(function_of(name)) or ""
    found = DOCUMENTED.fullmatch(doc)
    assert found, f"{name}: expected `<type>: <what>; permanent.` or `<type>: <what>; TTL <NAME>.`, found: {doc}"
    return found


def family(key: str) -> str:
    """Return the family of a key, as `PERMANENT` names it."""
    return key.split(":")[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_key_says_its_type_and_how_long_it_lives(name: str) -> None:
    """Who looks at the store must not have to guess; a TTL is a constant of the same file."""
    found = documented(name)
    assert (found["permanent"] is not None) == (family(spelled(name)) in PERMANENT)
    if found["ttl"]:
        assert 0 < getattr(module, found["ttl"])


def test_everything_that_is_declared_permanent_is_a_key() -> None:
    """A name that no key has would excuse a leak later."""
    assert sorted(PERMANENT) == sorted({family(spelled(name)) for name in FAMILIES} & PERMANENT)


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_every_name_begins_with_the_namespace(name: str) -> None:
    """Two systems on one Redis must not meet."""
    assert re.match(r"other[:.]", spelled(name, namespace="other"))


def test_no_two_keys_are_the_same() -> None:
    """Not even where the thing that one is about has the name of the other."""
    spellings = [spelled(name) for name in FAMILIES]
    assert sorted(set(spellings)) == sorted(spellings)


def test_a_run_is_where_the_script_looks_for_it() -> None:
    """`record.lua` is given the prefix and puts the run id behind it."""
    assert Keys("ns").run("abc") == Keys("ns").run_prefix + "abc"
