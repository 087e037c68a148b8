"""The lists of free texts of tests/it/secrets.rs have what the service model of ECS has: a new member is hidden or looked through.

Each text that is no enumeration may hold what its author likes. The Rust tests plant one in every member that these lists have, and
say which of them plans and records show. A member that a newer model has (tools/model/requirements.txt) fails here, until it is in a list.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.model import ServiceModel, Shape

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "model"))

import models  # noqa: E402

IT = ROOT / "tests" / "it"
# Not the one of .venv, which is as old as the local AWS wants it.
MODEL = ServiceModel(models.installed(ROOT / ".tools" / "model").service(models.ECS), "ecs")
MARKER = "MARKER "

# What records have of a task definition anyhow, and what is no text that somebody writes freely: names, images, roles, sizes, and the
# names of values (of which the values are in the list).
OF_RECORDS = {
    "containerDefinitions-image",
    "containerDefinitions-name",
    "containerDefinitions-environment-name",
    "containerDefinitions-secrets-name",
    "cpu",
    "executionRoleArn",
    "family",
    "memory",
    "tags-key",
    "tags-value",
    "taskRoleArn",
}
# Ids, ARNs and states by which ECS and the updater know a service.
MADE_BY_ECS = {
    "clusterArn",
    "currentServiceDeployment",
    "currentServiceRevisions-arn",
    "deployments-id",
    "deployments-status",
    "deployments-taskDefinition",
    "serviceArn",
    "serviceName",
    "status",
    "tags-key",
    "tags-value",
    "taskDefinition",
}
# What an event names the service by, and its revision.
NAMES = {"cluster", "service", "taskDefinition"}


def free_texts(shape: Shape, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Paths of all texts that are no enumeration, and of documents of any shape."""
    if getattr(shape, "is_document_type", False):
        yield "-".join(path)
    elif shape.type_name == "structure":
        for name, member in shape.members.items():
            yield from free_texts(member, (*path, name))
    elif shape.type_name == "list":
        yield from free_texts(shape.member, path)
    elif shape.type_name == "map":
        yield from free_texts(shape.value, path)
    elif shape.type_name == "string" and not shape.enum:
        yield "-".join(path)


def planted(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Paths of the markers in a list, each of which says itself where it stands."""
    if isinstance(value, list):
        for item in value:
            yield from planted(item, path)
    elif isinstance(value, dict):
        for name, member in value.items():
            # A map's only key.
            yield from planted(member, path if name == "key" and isinstance(member, str) and not in_list(member, path) else (*path, name))
    elif isinstance(value, str) and value.startswith(MARKER):
        assert value == MARKER + "-".join(path), value
        yield "-".join(path)


def in_list(text: str, path: tuple[str, ...]) -> bool:
    """Whether a member `key` is a member of that name: its marker says so."""
    return text == MARKER + "-".join((*path, "key"))


def listed(name: str) -> dict[str, Any]:
    """One of the lists."""
    return json.loads((IT / name).read_text())


def test_each_free_text_of_a_task_definition_is_listed():
    """RegisterTaskDefinition takes what DescribeTaskDefinition answers, but for what ECS makes."""
    model = set(free_texts(MODEL.operation_model("RegisterTaskDefinition").input_shape))
    assert set(planted(listed("free_texts.json"))) == model - OF_RECORDS
    assert model >= OF_RECORDS


def test_each_free_text_of_a_service_is_listed():
    """Parameters of UpdateService, and what DescribeServices shows beside them."""
    lists = listed("free_service.json")
    parameters, rest = set(planted(lists["parameters"])), set(planted(lists["service"]))
    model = set(free_texts(MODEL.operation_model("UpdateService").input_shape))
    assert parameters == model - NAMES
    shown = set(free_texts(MODEL.shape_for("Service")))
    assert rest == {text for text in shown - MADE_BY_ECS if text.removeprefix("deployments-") not in parameters}
    assert shown >= MADE_BY_ECS


def test_a_member_that_is_missing_is_seen():
    """As a newer model has one more: else nothing would be proved."""
    parameters = listed("free_service.json")["parameters"]
    del parameters["serviceConnectConfiguration"]["logConfiguration"]["options"]
    missing = set(free_texts(MODEL.operation_model("UpdateService").input_shape)) - NAMES - set(planted(parameters))
    assert missing == {"serviceConnectConfiguration-logConfiguration-options"}
