"""The OpenAPI document is what the API does: asked in thousands of ways, it answers as it says it does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis.config import SchemathesisConfig
from schemathesis.python import asgi

from backends.api_keys import Scope
from backends.bootstrap import Backends, open_backends
from backends.clock import ManualClock
from backends.embedded import EmbeddedValkey
from backends.pace import Pace
from ops.api.app import describe, make_app
from ops.api.door import Door
from platforms.catalogue import Catalogue
from schemas.ids import new_id
from tests.contract import schema_files
from tests.fixtures_valkey import NOON, settings_of
from tests.fixtures_web import PLATFORMS, known_of

_APP = make_app(cast("Door", None))
_EXAMPLES = 7
# 400 is for what no schema can say: that a text is no number, that a cursor is of another list.
_ACCEPTED = ["2xx", "400", "404", "409"]
_CONFIG = SchemathesisConfig.from_dict(
    {
        "base-url": "http://testserver",
        "generation": {"mode": "all"},
        "checks": {"positive_data_acceptance": {"expected-statuses": _ACCEPTED}},
    }
)
_SCHEMA = schemathesis.openapi.from_dict(describe(_APP), config=_CONFIG)
_FOUND: list[Any] = list(_SCHEMA.get_all_operations())
_OPERATIONS = [pytest.param(found.ok(), id=found.ok().label) for found in _FOUND]


@pytest.fixture(scope="module")
def stocked(
    valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, dict[str, str], dict[str, list[str]]]]:
    """A client of an API over a store that holds something of everything, the headers of a key, and names in it."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "sweeps").mkdir()
    opened = settings_of(valkey, folder).model_copy(update={"sweeps": folder / "sweeps"})
    backends = open_backends(opened, clock=ManualClock(NOON))
    known = known_of(backends, folder)
    app = make_app(Door(backends=backends, catalogue=Catalogue.load().select(list(PLATFORMS))))
    _, key = backends.api_keys.create("schema", Scope.ADMIN, by="test", now=NOON)
    with pytest.MonkeyPatch.context() as patch, asgi.get_client(cast("Any", app)) as client:
        patch.setattr("ops.api.access.OF_A_KEY", Pace(name="key", per_s=1e5, burst=100_000))
        patch.setattr("ops.api.access.OF_BAD_KEYS", Pace(name="bad-keys", per_s=1e5, burst=100_000))
        yield client, {"Authorization": f"Bearer {key}"}, known
    _forget(backends)


def _forget(backends: Backends) -> None:
    for key in list(backends.redis.scan_iter(match=f"{backends.settings.namespace}*", count=1000)):
        backends.redis.delete(key)
    backends.close()


@pytest.mark.parametrize("operation", _OPERATIONS)
def test_every_answer_is_one_that_the_document_describes(operation: Any, stocked: Any) -> None:
    """No 500, no status, type or field that is not written down; what is wrong is refused, what is right is not."""
    client, headers, known = stocked
    # Checks ask by themselves too, and must find this app.
    operation.app = _SCHEMA.app = client.app

    @settings(
        max_examples=_EXAMPLES, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(), data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        for name in sorted(set(case.path_parameters or {}) & set(known)):
            if data.draw(st.booleans()):
                case.path_parameters[name] = data.draw(st.sampled_from(known[name]))
        if "Idempotency-Key" in (case.headers or {}) and case.meta.generation.mode.is_positive:
            # One key for two requests is refused, and that is another test's matter.
            case.headers["Idempotency-Key"] = new_id()
        case.call_and_validate(session=client, headers=headers)

    ask()


def test_the_committed_document_is_the_apis_own() -> None:
    """Whoever changes a route runs `make schemas` and sees the contract change."""
    for path, text in schema_files.expected_api().items():
        assert text == path.read_text(encoding="utf-8")


def test_the_document_is_a_valid_one() -> None:
    """Generators of clients read it."""
    document = json.loads(next(iter(schema_files.expected_api().values())))
    validate(document)
    assert "3.1.0" == document["openapi"]


def test_every_operation_says_what_it_is_for() -> None:
    """The document is what an integrator has."""
    for path, operations in describe(_APP)["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary"), f"{method} {path}"
            assert operation.get("description"), f"{method} {path}"
            assert operation.get("tags"), f"{method} {path}"


def test_no_path_or_query_takes_a_number() -> None:
    """Addresses end in logs of every machine on the way (rule 8)."""
    for path, operations in describe(_APP)["paths"].items():
        for operation in operations.values():
            names = {parameter["name"] for parameter in operation.get("parameters", ())}
            assert not names & {"number", "reference", "msisdn", "phone"}, path
    assert Path(schema_files.API).is_file()
