"""Messages that were ever sent parse for ever, and a message that does not parse gives nothing of itself away."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.batch import Batch
from schemas.errors import ContractError
from schemas.result import ResultEvent

GOLDEN = Path(__file__).parent / "golden"
NUMBER = "13800001234"
Message = type[Batch] | type[ResultEvent]


def model_of(path: Path) -> Message:
    """Tell by its name what a golden file holds."""
    return Batch if path.name.startswith("batch") else ResultEvent


def golden(name: str) -> dict[str, Any]:
    """Read one golden message."""
    message: dict[str, Any] = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    return message


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_golden_message_parses_and_keeps_every_field(path: Path) -> None:
    """A golden file is never edited: a new version of the contract adds a file."""
    body = path.read_bytes()
    model = model_of(path)
    message = model.parse(body)
    assert message == model.parse(json.loads(body))
    assert message == model.parse(message.model_dump_json())
    assert json.loads(body) == message.model_dump(mode="json", exclude_unset=True)


def test_a_result_event_has_the_required_attributes_of_cloudevents() -> None:
    """CloudEvents 1.0 asks for these four, and a sender may not leave them empty."""
    event = ResultEvent.parse(golden("result-event-v1.json")).model_dump(mode="json")
    assert event["specversion"] == "1.0"
    assert event["type"] == "renewal.attempted.v1"
    assert event["source"]
    assert event["id"]


@pytest.mark.parametrize("name", ["batch-v1.json", "result-event-v1.json"])
@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '"13800001234"', "{}", '{"13800001234": 1}', b"\xff\xfe13800001234"], ids=repr
)
def test_what_is_not_a_message_is_a_contract_error_that_repeats_nothing(name: str, body: str | bytes) -> None:
    """A poison letter is named by what was expected, not by what it holds."""
    with pytest.raises(ContractError) as caught:
        model_of(GOLDEN / name).parse(body)
    assert NUMBER not in str(caught.value)


def leaves(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return where each single value of a message stands."""
    if isinstance(value, dict):
        return [found for key, part in value.items() for found in leaves(part, (*at, key))]
    if isinstance(value, list):
        return [found for index, part in enumerate(value) for found in leaves(part, (*at, index))]
    return [at]


def replaced(message: dict[str, Any], at: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Return the message with one value exchanged, or one field added."""
    copy: dict[str, Any] = json.loads(json.dumps(message))
    part: Any = copy
    for step in at[:-1]:
        part = part[step]
    part[at[-1]] = value
    return copy


def complaint(model: Message, body: str | bytes | dict[str, Any]) -> str | None:
    """Return what the error says, or None where the message is read after all."""
    try:
        model.parse(body)
    except ContractError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["batch-v1.json", "result-event-v1.json"])
@pytest.mark.parametrize("wrong", [NUMBER, f"+86{NUMBER}", int(NUMBER), [NUMBER], {NUMBER: NUMBER}], ids=repr)
def test_a_number_in_a_wrong_field_is_never_repeated(name: str, wrong: object) -> None:
    """Whatever field it got into, the error says where and what was expected."""
    message = golden(name)
    said = {at: complaint(model_of(GOLDEN / name), replaced(message, at, wrong)) for at in leaves(message)}
    assert [] == [at for at, text in said.items() if text and NUMBER in text]
    assert len([text for text in said.values() if text]) > 5


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("batch-v1.json", (NUMBER,)),
        ("batch-v1.json", ("jobs", 0, NUMBER)),
        ("result-event-v1.json", (NUMBER,)),
        ("result-event-v1.json", ("data", "http_statuses", NUMBER)),
        ("result-event-v1.json", ("data", "jobs", 0, NUMBER)),
    ],
)
def test_a_number_as_the_name_of_a_field_is_never_repeated(name: str, at: tuple[str | int, ...]) -> None:
    """A field that nobody knows is an error too, and its name came from outside."""
    with pytest.raises(ContractError) as caught:
        model_of(GOLDEN / name).parse(replaced(golden(name), at, "x"))
    assert NUMBER not in str(caught.value)


def test_a_message_of_a_later_version_is_refused_by_name() -> None:
    """Nobody guesses at a contract that is not known yet."""
    with pytest.raises(ContractError, match="schema_version"):
        Batch.parse(replaced(golden("batch-v1.json"), ("schema_version",), 2))
