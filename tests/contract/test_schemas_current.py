"""The JSON Schemas that others read are the ones that our models hold."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.contract import schema_files

EXPECTED = schema_files.expected()


def test_the_folder_holds_every_schema_and_nothing_else() -> None:
    """A schema that nobody exports any more must go."""
    assert sorted(EXPECTED) == sorted(schema_files.FOLDER.iterdir())


@pytest.mark.parametrize("path", list(EXPECTED), ids=lambda path: path.stem)
def test_the_committed_schema_is_the_models_own(path: Path) -> None:
    """Whoever changes a model runs `make schemas` and sees the contract change."""
    assert EXPECTED[path] == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", list(EXPECTED), ids=lambda path: path.stem)
def test_a_schema_is_valid_names_itself_and_accepts_its_own_examples(path: Path) -> None:
    """A reader without our code can trust the file alone."""
    schema = json.loads(EXPECTED[path])
    Draft202012Validator.check_schema(schema)
    name = path.name.removesuffix(".schema.json")
    assert f"urn:number-renewal:{name}:v1" == schema["$id"]
    assert schema["title"]
    assert schema["examples"]
    for example in schema["examples"]:
        Draft202012Validator(schema).validate(example)
