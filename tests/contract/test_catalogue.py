"""The sample catalogue is complete and plausible, and the loader names file and field of every mistake."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import yaml

from platforms.catalogue import SAMPLE, Catalogue
from platforms.model import CANONICAL_OUTCOMES, Platform, Refused
from schemas.errors import CatalogueError, NotFound
from schemas.outcome import Outcome, Refusal
from tests.command import write_platform

FILES = sorted(SAMPLE.glob("*.yaml"))
EXAMPLE = Path(__file__).parents[2] / "examples" / "catalogue"
DISCLAIMER = "# Fictitious sample entry: nobody named here is affiliated with this project or has endorsed it."
LOAD_S_MAX = 0.6
# What every platform must be able to say in its own codes. The other two outcomes say "not yet".
ANSWERS = {outcome for outcome in Outcome if outcome not in {Outcome.ACCEPTED, Outcome.PENDING_REVIEW}}
SECRET = "hunter2-must-not-be-repeated"
ENTRY: dict[str, Any] = {
    "key": "acme",
    "name": {"zh": "示例", "en": "Acme"},
    "category": "social",
    "account_domain": "acme",
    "protocol": "bulk-json",
    "endpoint": "https://unbind.acme.example/v1/renewals",
    "auth": {"scheme": "standard-webhooks", "secret": "env:ACME_SECRET"},
}


@pytest.fixture(scope="module")
def sample() -> Catalogue:
    """Return the sample catalogue, read once."""
    return Catalogue.load()


def outcome_of(target: Outcome | Refused) -> Outcome:
    """Return the outcome that a code stands for."""
    return Outcome.REFUSED if isinstance(target, Refused) else target


def refusals_of(platform: Platform) -> set[Refusal]:
    """Return the reasons that a platform has codes for."""
    return {target.REFUSED for target in platform.outcomes.values() if isinstance(target, Refused)}


def code_map(platform: Platform) -> frozenset[tuple[str, str]]:
    """Return a code map that can be compared."""
    return frozenset((code, str(target)) for code, target in platform.outcomes.items())


def write(folder: Path, entry: object, *, name: str = "acme.yaml") -> Path:
    """Write one entry, or a text as it is."""
    path = folder / name
    path.write_text(entry if isinstance(entry, str) else yaml.safe_dump(entry, allow_unicode=True), encoding="utf-8")
    return path


def error_of(folder: Path) -> str:
    """Return what the loader says about a folder."""
    with pytest.raises(CatalogueError) as raised:
        Catalogue.load(folder)
    return str(raised.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: cast("Path", path).stem)
def test_a_sample_file_is_a_fictitious_platform_named_as_its_file(path: Path, sample: Catalogue) -> None:
    """Each file opens with the disclaimer, its key is its name, and its endpoint can belong to nobody."""
    platform = sample.get(path.stem)
    host = urlsplit(platform.endpoint).hostname
    assert path.read_text(encoding="utf-8").splitlines()[0] == DISCLAIMER
    assert f"unbind.{path.stem}.example" == host
    assert platform.endpoint.startswith("https://")


def test_the_sample_has_240_platforms_in_21_categories(sample: Catalogue) -> None:
    """The catalogue is as large as the real service, and no category is empty."""
    assert len(FILES) == len(sample)
    assert len(sample) >= 240
    assert len({platform.category for platform in sample}) == 21


def test_about_seven_of_ten_sample_platforms_take_batches(sample: Catalogue) -> None:
    """The mixture of protocols is the one that the figures of the house are measured with."""
    bulk = sum(platform.protocol == "bulk-json" for platform in sample)
    assert 0.65 <= bulk / len(sample) <= 0.78


def test_every_auth_scheme_and_a_rotation_are_in_the_sample(sample: Catalogue) -> None:
    """Signatures are usual, tokens common, open doors rare; somebody is always changing a key."""
    schemes = Counter(platform.auth.scheme for platform in sample)
    assert ["standard-webhooks", "bearer", "none"] == [scheme for scheme, _ in schemes.most_common()]
    assert any(len(platform.call_refs) == 2 for platform in sample)


def test_some_sample_platforms_answer_later(sample: Catalogue) -> None:
    """By callback, by poll, and one by both; a key with which callbacks are checked is being changed, too."""
    ways = {(platform.callback is not None, platform.poll is not None) for platform in sample}
    assert {(False, False), (True, False), (False, True), (True, True)} == ways
    assert any(len(platform.callback_refs) == 2 for platform in sample)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("callback", {}, "callback.secret"),
        ("callback", {"secret": "whsec_written-down-here"}, "callback.secret"),
        ("callback", {"secret": ["env:A", "env:B", "env:C"]}, "callback.secret"),
        ("poll", {"delays_s": [60]}, "poll.endpoint"),
        ("poll", {"endpoint": "ftp://alpha.example/polls"}, "poll.endpoint"),
        ("poll", {"endpoint": "https://me:secret@alpha.example/polls"}, "poll.endpoint"),
        ("poll", {"endpoint": "https://alpha.example/polls", "delays_s": []}, "poll.delays_s"),
    ],
)
def test_a_wrong_way_for_later_answers_is_named(tmp_path: Path, field: str, value: object, named: str) -> None:
    """By file and field; what may be a secret in the wrong place is not repeated."""
    write_platform(tmp_path, "alpha", **{field: value})
    with pytest.raises(CatalogueError, match=rf"alpha\.yaml: {named}") as raised:
        Catalogue.load(tmp_path)
    assert "written-down" not in str(raised.value)
    assert "me:secret" not in str(raised.value)


def test_no_two_sample_platforms_share_a_secret(sample: Catalogue) -> None:
    """Each secret reference belongs to one platform."""
    owners = Counter(ref for platform in sample for ref in platform.secret_refs)
    assert [] == [ref for ref, count in owners.items() if count > 1]


def test_single_call_platforms_take_a_thousand_numbers_in_less_than_25_seconds(sample: Catalogue) -> None:
    """No platform that is asked one by one would make a demonstration wait for it."""
    slow = [p.key for p in sample if p.protocol == "json" and not 1000 / p.limits.calls_per_s < 25]
    assert [] == slow


def test_some_sample_platforms_share_an_account_domain(sample: Catalogue) -> None:
    """Platforms with one account system are told apart from their account domain."""
    sizes = Counter(platform.account_domain for platform in sample)
    assert sum(count > 1 for count in sizes.values()) >= 5


def test_every_answer_is_reachable_in_every_code_map(sample: Catalogue) -> None:
    """A platform can say each of the five answers in its own codes."""
    missing = {p.key: lost for p in sample if (lost := ANSWERS - {outcome_of(t) for t in p.outcomes.values()})}
    assert {} == missing


def test_every_refusal_reason_is_used_by_some_sample_platform(sample: Catalogue) -> None:
    """The sample exercises the whole closed list, and each own map has between one and five reasons."""
    own = [platform for platform in sample if platform.outcomes != CANONICAL_OUTCOMES]
    assert set(Refusal) == set().union(*(refusals_of(platform) for platform in own))
    assert {} == {p.key: len(refusals_of(p)) for p in own if not 1 <= len(refusals_of(p)) <= 5}


def test_only_the_canonical_map_has_codes_that_mean_not_yet(sample: Catalogue) -> None:
    """Own codes of the sample are final answers, so that a demonstration ends."""
    waiting = {Outcome.ACCEPTED, Outcome.PENDING_REVIEW}
    wrong = [
        p.key
        for p in sample
        if p.outcomes != CANONICAL_OUTCOMES and waiting & {outcome_of(t) for t in p.outcomes.values()}
    ]
    assert [] == wrong


def test_the_code_maps_of_the_sample_differ(sample: Catalogue) -> None:
    """Many maps, some canonical, and the same code means different things at different platforms."""
    meanings: dict[str, set[Outcome]] = {}
    for platform in sample:
        for code, target in platform.outcomes.items():
            meanings.setdefault(code, set()).add(outcome_of(target))
    assert len({code_map(platform) for platform in sample}) >= 100
    assert sum(platform.outcomes == CANONICAL_OUTCOMES for platform in sample) >= 24
    assert any(len(outcomes) > 1 for outcomes in meanings.values())


def test_the_whole_sample_loads_in_less_than_0_6_seconds() -> None:
    """Every command reads the catalogue, so reading it must be quick: the best of three tries counts."""
    took_s = []
    for _ in range(3):
        started = time.perf_counter()
        Catalogue.load()
        took_s.append(time.perf_counter() - started)
    assert min(took_s) < LOAD_S_MAX


def test_the_example_catalogue_loads_and_says_that_it_is_fictitious() -> None:
    """The integrator's example is a valid catalogue of one platform."""
    assert ["acme"] == [platform.key for platform in Catalogue.load(EXAMPLE)]
    assert DISCLAIMER == (EXAMPLE / "acme.yaml").read_text(encoding="utf-8").splitlines()[0]


def test_an_entry_with_only_what_is_needed_gets_the_defaults(tmp_path: Path) -> None:
    """Limits, retry, promised time and codes may be left out."""
    write(tmp_path, ENTRY)
    platform = Catalogue.load(tmp_path).get("acme")
    assert CANONICAL_OUTCOMES == platform.outcomes
    assert 5 == platform.sla.working_days


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("nickname", {"nickname": SECRET}),
        ("limits.calls_per_second", {"limits": {"calls_per_second": 5}}),
        ("limits.calls_per_s", {"limits": {"calls_per_s": SECRET}}),
        ("limits.in_flight", {"limits": {"in_flight": 0}}),
        ("limits.items_per_call", {"limits": {"items_per_call": 1001}}),
        ("limits.timeout_s", {"limits": {"timeout_s": -1}}),
        ("limits.items_per_call", {"protocol": "json", "limits": {"items_per_call": 2}}),
        ("name.en", {"name": {"zh": "示例"}}),
        ("category", {"category": "Social Media"}),
        ("account_domain", {"account_domain": 58}),
        ("protocol", {"protocol": SECRET}),
        ("endpoint", {"endpoint": f"ftp://{SECRET}.example/"}),
        ("endpoint", {"endpoint": f"https://user:{SECRET}@unbind.acme.example/v1"}),
        ("endpoint", {"endpoint": f"https://unbind.acme.example/v1#{SECRET}"}),
        ("auth", {"auth": {"scheme": SECRET}}),
        ("auth.standard-webhooks.secret", {"auth": {"scheme": "standard-webhooks", "secret": SECRET}}),
        ("auth.bearer.token", {"auth": {"scheme": "bearer", "token": SECRET}}),
        ("auth.none.token", {"auth": {"scheme": "none", "token": SECRET}}),
        ("retry.delays_s", {"retry": {"delays_s": []}}),
        ("retry.attempts_max", {"retry": {"attempts_max": 0}}),
        ("sla.working_days", {"sla": {"working_days": -1}}),
        ("outcomes", {"outcomes": {}}),
        ("outcomes.OK", {"outcomes": {"OK": "DONE"}}),
        ("outcomes.OK", {"outcomes": {"OK": {"REFUSED": SECRET}}}),
        ("outcomes.0", {"outcomes": {0: "UNBOUND"}}),
    ],
)
def test_a_wrong_field_is_named_with_its_file_and_without_its_value(
    tmp_path: Path, field: str, change: dict[str, object]
) -> None:
    """The message says where to look; the value may be a secret in the wrong place."""
    path = write(tmp_path, {**ENTRY, **change})
    message = error_of(tmp_path)
    assert str(path) in message
    assert field in message
    assert SECRET not in message


@pytest.mark.parametrize("field", sorted(ENTRY))
def test_a_missing_field_is_named_with_its_file(tmp_path: Path, field: str) -> None:
    """Every field of the smallest entry is needed."""
    path = write(tmp_path, {name: value for name, value in ENTRY.items() if name != field})
    message = error_of(tmp_path)
    assert f"{path}: {field}:" in message


def test_a_key_other_than_the_file_name_is_refused(tmp_path: Path) -> None:
    """The file of a platform is found by its key."""
    path = write(tmp_path, ENTRY, name="other.yaml")
    assert f"{path}: key:" in error_of(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        f"key: [{SECRET}",
        f"key: *{SECRET}",
        f"key: {SECRET}: more",
        f"secret: !!python/name:{SECRET}",
        f"a: b\n\t{SECRET}",
        "day: 2026-13-45",
    ],
    ids=range(6),
)
def test_a_file_that_is_not_yaml_is_named_without_its_content(tmp_path: Path, text: str) -> None:
    """A broken file may hold a secret too."""
    path = write(tmp_path, text)
    message = error_of(tmp_path)
    assert f"{path}: not YAML" in message
    assert SECRET not in message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", SECRET])
def test_a_file_without_fields_is_named(tmp_path: Path, text: str) -> None:
    """An empty file, a list and a single word are not entries."""
    path = write(tmp_path, text)
    message = error_of(tmp_path)
    assert f"{path}: expected a mapping of fields" in message
    assert SECRET not in message


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    """Entries are UTF-8."""
    path = tmp_path / "acme.yaml"
    path.write_bytes("name: 示例".encode("gb18030"))
    assert f"{path}: cannot be read" in error_of(tmp_path)


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    """A catalogue entry is small; anything else is the wrong file."""
    path = write(tmp_path, "# " + "x" * 70_000)
    assert f"{path}: larger than 65536 bytes" in error_of(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """No platform at all is a mistake, not a quick run."""
    assert f"{tmp_path}: no <key>.yaml file" in error_of(tmp_path)


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.write_text("key: acme")], ids=["missing", "file"]
)
def test_a_folder_that_is_none_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """The message says what a catalogue is."""
    path = tmp_path / "catalogue"
    make(path)
    assert f"{path}: not a folder" in error_of(path)


def test_all_wrong_files_are_named_at_once(tmp_path: Path) -> None:
    """A person who mends a catalogue sees every file, and nothing is loaded meanwhile."""
    write(tmp_path, ENTRY)
    wrong = [write(tmp_path, {**ENTRY, "key": key, "protocol": "xml"}, name=f"{key}.yaml") for key in ("a", "b")]
    message = error_of(tmp_path)
    assert [] == [path for path in wrong if f"{path}: protocol:" not in message]
    assert "acme.yaml" not in message


def test_an_unknown_platform_is_answered_with_the_keys_that_come_near(sample: Catalogue) -> None:
    """A slip of the pen is easy to mend."""
    with pytest.raises(NotFound, match=r"did you mean .*wechat"):
        sample.get("wechatt")
