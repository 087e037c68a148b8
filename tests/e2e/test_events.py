"""The first version's eight events, sent as they are, give what the first version promised."""

from __future__ import annotations

import json
from collections.abc import Iterator

import deploy
import pytest
from conftest import Service, System
from local_aws import HUB, REGION

EVENTS = deploy.ROOT / "tests" / "events"
SAMPLE = Service(HUB, REGION, deploy.SERVICE)


def event(name: str) -> bytes:
    """An event's file, byte for byte."""
    return (EVENTS / f"lambda-ecs-updater.testevent-{name}.json").read_bytes()


@pytest.fixture(autouse=True)
def sample_service(system: System) -> Iterator[None]:
    """The hub's sample service as the first version's tests found it."""
    ecs = system.client("ecs")
    ecs.delete_service(cluster=deploy.CLUSTER, service=deploy.SERVICE, force=True)
    deploy.create_service(system.aws, HUB, deploy.SERVICE)
    yield


def test_all_eight_are_here() -> None:
    assert {path.name for path in EVENTS.glob("*.json")} == {
        f"lambda-ecs-updater.testevent-{name}.json"
        for name in (
            "base",
            "MISSING_ECS_CLUSTER",
            "MISSING_ECS_SERVICE",
            "MULTIPLE_TAGS",
            "WRONG_IMAGE_NAME",
            "SAME_INITIAL_VALUES",
            "MISSING_JSON_FIELD",
            "WRONG_JSON_FORMAT",
        )
    }


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("base", {"updated-tag-name": "updated-tag-value"}),
        ("MULTIPLE_TAGS", {"updated-tag-name-1": "updated-tag-value-1", "updated-tag-name-2": "updated-tag-value-2"}),
    ],
)
def test_image_and_tags_are_set(system: System, name: str, tags: dict[str, str]) -> None:
    body = system.invoke(event(name)).body
    assert body["status"] == "APPLIED"
    assert body["BEFORE"]["serviceImage"] == "busybox"
    assert body["BEFORE"]["tags"] == [{"key": "old-custom-tag-name", "value": "old-custom-tag-value"}]
    assert body["AFTER"]["serviceImage"] == "nginx"
    assert body["AFTER"]["tags"] == [{"key": key, "value": value} for key, value in sorted(tags.items())]
    assert system.running(SAMPLE) == ("nginx", tags)


def test_the_same_values_change_nothing(system: System) -> None:
    revision = system.described(SAMPLE)["taskDefinition"]
    body = system.invoke(event("SAME_INITIAL_VALUES")).body
    assert body["status"] == "UNCHANGED"
    assert body["BEFORE"] == body["AFTER"]
    assert system.described(SAMPLE)["taskDefinition"] == revision


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        (
            "MISSING_ECS_CLUSTER",
            "ClusterNotFound",
            "[ERROR][ecs_service_read] ecs_cluster_name ProductionFAKE not found",
        ),
        (
            "MISSING_ECS_SERVICE",
            "ServiceNotFound",
            "[ERROR][ecs_service_read] ecs_service_name ecs-dummy-serviceFAKE not found",
        ),
        ("WRONG_IMAGE_NAME", "InvalidImage", "[ERROR][ecs_service_update] new task_definition could not be created "),
        ("MISSING_JSON_FIELD", "JsonValidation", "[ERROR][json_validation] wrong input event format: "),
        ("WRONG_JSON_FORMAT", "JsonValidation", "[ERROR][json_validation] wrong input event format: "),
    ],
)
def test_a_wrong_event_is_refused_in_the_first_versions_words(system: System, name: str, code: str, text: str) -> None:
    items = system.items()
    answer = system.invoke(event(name))
    assert answer.error
    assert answer.payload["errorType"] == code
    assert answer.payload["errorMessage"].startswith(text)
    assert system.running(SAMPLE) == ("busybox", deploy.TAGS)
    assert system.items() == items


def test_a_missing_field_is_named_with_what_is_needed(system: System) -> None:
    message = system.invoke(event("MISSING_JSON_FIELD")).payload["errorMessage"]
    assert '"ecs_image_name" is a required property' in message
    assert "MISSING" in message
    needed = message.split("\n[ERROR][json_validation] Needed: ")[1]
    assert all(field in needed for field in ("ecs_cluster_name", "ecs_service_name", "ecs_image_name"))


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"[]", id="no object"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"ecs_cluster_name": "\\ud800"}', id="lone surrogate"),
        pytest.param(
            json.dumps({"ecs_cluster_name": "a\0b", "ecs_service_name": "s", "ecs_image_name": "i"}).encode(), id="NUL"
        ),
        pytest.param(json.dumps(SAMPLE.event(ecs_image_name="x" * 5_000_000)).encode(), id="5 MB"),
        pytest.param(b'{"a":' * 2000 + b"1" + b"}" * 2000, id="deep"),
        pytest.param(json.dumps(SAMPLE.event(ecs_image_name="nginx", unknown=1)).encode(), id="unknown field"),
        pytest.param(
            json.dumps(SAMPLE.event(ecs_image_name="nginx") | {"account_id": "1111111111111"}).encode(), id="13 digits"
        ),
        pytest.param(
            json.dumps(SAMPLE.event(ecs_image_name="nginx") | {"ecs_service_name": SAMPLE.arn}).encode(), id="ARN"
        ),
        pytest.param(json.dumps(SAMPLE.event(ecs_tag={"AWS:x": "y"})).encode(), id="aws: tag"),
        pytest.param(json.dumps(SAMPLE.event(ecs_tag={f"k{n}": "v" for n in range(51)})).encode(), id="51 tags"),
        pytest.param(json.dumps(SAMPLE.event(restore="last")).encode(), id="restore of no change"),
    ],
)
def test_what_is_no_event_changes_nothing(system: System, payload: bytes) -> None:
    items = system.items()
    answer = system.invoke(payload)
    assert answer.error
    assert answer.payload["errorType"] == "JsonValidation", answer.payload
    assert answer.payload["errorMessage"].startswith("[ERROR][json_validation] wrong input event format: ")
    assert len(answer.payload["errorMessage"]) < 20_000
    assert system.running(SAMPLE) == ("busybox", deploy.TAGS)
    assert system.items() == items
