"""No cluster runs in CI: what the examples for Kubernetes say of our commands, settings and queues is held here."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.keys import Keys
from backends.settings import Settings
from ops.supervisor import _STOP_S
from schemas.batch import Lane

FOLDER = Path(__file__).parents[2] / "examples" / "kubernetes"
ROLES = ("worker", "recorder", "scheduler", "console")
# What a trigger of KEDA cannot do without, and what else it may say here.
TRIGGERS = {
    "redis": ({"address", "listName", "listLength"}, "listName", "listLength"),
    "rabbitmq": ({"protocol", "mode", "queueName", "value"}, "queueName", "value"),
}


def documents(name: str) -> list[dict[str, Any]]:
    """Return the documents of a file."""
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def deployments() -> dict[str, dict[str, Any]]:
    """Return the pods of each deployment, by role."""
    found = [each for each in documents("renewal.yaml") if each["kind"] == "Deployment"]
    return {each["metadata"]["name"].removeprefix("renewal-"): each["spec"] for each in found}


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_every_document_is_whole(name: str) -> None:
    """An indentation that slipped makes another document, or none."""
    found = documents(name)
    assert found
    for each in found:
        assert {"apiVersion", "kind", "metadata"} <= set(each)
        assert {"data", "spec"} & set(each)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_started_watched_and_given_time_to_stop(role: str) -> None:
    """Who is killed in the middle of its calls leaves them to custody; who is asked for another's pulse dies for it."""
    spec = deployments()[role]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert [role] == container["args"]
    assert ["renewal", "health", role] == container["livenessProbe"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > _STOP_S
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert role == spec["selector"]["matchLabels"]["role"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert not {"hostname", "hostNetwork"} & set(pod), "a host's name tells its workers from those of others"
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_a_setting_and_every_path_is_mounted(role: str) -> None:
    """A misspelt variable would be passed over in silence."""
    (settings,) = [each["data"] for each in documents("renewal.yaml") if each["kind"] == "ConfigMap"]
    (container,) = deployments()[role]["template"]["spec"]["containers"]
    given = set(settings) | {each["name"] for each in container["env"]}
    assert set() == given - {f"RENEWAL_{name.upper()}" for name in Settings.model_fields}
    assert {"RENEWAL_REDIS_URL", "RENEWAL_NUMBER_KEYS_FILE", "RENEWAL_CATALOGUE"} <= given
    mounted = [each["mountPath"] for each in container["volumeMounts"]]
    paths = [value for value in settings.values() if value.startswith("/")]
    assert [] == [path for path in paths if not any(path.startswith(place) for place in mounted)]


@pytest.mark.parametrize("broker", list(TRIGGERS))
def test_the_scaling_looks_at_queues_that_exist(broker: str) -> None:
    """A queue of another name is always empty, so nothing would ever be scaled; KEDA takes text only."""
    authentication, scaled = documents(f"keda-{broker}.yaml")
    assert ("TriggerAuthentication", "ScaledObject") == (authentication["kind"], scaled["kind"])
    spec, needed = scaled["spec"], TRIGGERS[broker]
    assert spec["scaleTargetRef"]["name"].removeprefix("renewal-") in deployments()
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
    keys, seen = Keys("renewal"), set()
    for trigger in spec["triggers"]:
        assert broker == trigger["type"]
        assert authentication["metadata"]["name"] == trigger["authenticationRef"]["name"]
        assert needed[0] == set(trigger["metadata"])
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert 0 < int(trigger["metadata"][needed[2]]) < Settings.model_fields["queue_high_water"].default
        seen.add(trigger["metadata"][needed[1]])
    assert {keys.queue(lane) for lane in Lane} == seen
