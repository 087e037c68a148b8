"""Going back: wherever a chain of restores leads, the service is what its ledger says, and what it was before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import deploy
import pytest
from conftest import Service, System
from local_aws import HUB
from test_permissions import Replace, updater_policy, without

from ledger import assert_chain


@dataclass(frozen=True)
class State:
    """What a restore puts back."""

    image: str
    tags: dict[str, str]
    parameters: dict[str, Any]


PARAMETERS = ("enableExecuteCommand", "propagateTags")


def running(system: System, service: Service) -> State:
    """What ECS says."""
    image, tags = system.running(service)
    described = system.described(service)
    return State(image, tags, {name: described.get(name) for name in PARAMETERS})


def recorded(system: System, service: Service) -> State:
    """What the last record of a whole ledger says."""
    last = assert_chain(system.records(service), system.state(f"service#{service.key}"))[-1]
    after = json.loads(last["after"])
    tags = {tag["key"]: tag["value"] for tag in after["tags"]}
    return State(after["serviceImage"], tags, {name: after["service"].get(name) for name in PARAMETERS})


def change(system: System, changed: Service, **members: Any) -> tuple[dict[str, Any], State]:
    """Makes a change. Its answer, and the state after it, on which ECS and ledger agree."""
    body = system.invoke(changed.event(**members)).body
    assert body["status"] == "APPLIED"
    state = running(system, changed)
    assert state == recorded(system, changed)
    return body, state


def test_a_chain_of_restores_ends_where_the_ledger_says(system: System) -> None:
    service = system.service()
    start = running(system, service)
    first, between = change(
        system,
        service,
        ecs_image_name="nginx:1",
        ecs_tag={"release": "1"},
        service={"enableExecuteCommand": True, "desiredCount": 5},
    )
    _, last = change(
        system, service, ecs_image_name="nginx:2", ecs_tag={"release": "2"}, service={"propagateTags": "SERVICE"}
    )
    assert start != between != last
    assert between == State("nginx:1", {"release": "1"}, {**start.parameters, "enableExecuteCommand": True})

    undone, state = change(system, service, restore="previous")
    assert state == between
    # Who presses the same button undoes one thing once.
    assert system.invoke(service.event(restore="previous")).body["status"] == "UNCHANGED"
    _, state = change(system, service, restore=undone["change_id"])
    assert state == last, "the restore of a restore is a redo"
    assert system.invoke(service.event(restore=undone["change_id"])).body["status"] == "UNCHANGED"
    # What the first one set is no longer there: it goes with all that came later, or not at all.
    refused = system.invoke(service.event(restore=first["change_id"]))
    assert refused.payload["errorType"] == "RestoreConflict"
    assert running(system, service) == last
    restored, state = change(system, service, restore=first["change_id"], restore_mode="exact")
    assert state == start
    assert restored["restores"] == first["change_id"]
    assert system.described(service)["desiredCount"] == 5, "the autoscaler's"
    assert system.revisions(service) == 3, "going back takes the old revisions"
    again = service.event(restore=first["change_id"], restore_mode="exact")
    assert system.invoke(again).body["status"] == "UNCHANGED"

    (told,) = system.ask({"change_id": restored["change_id"]}).body["changes"]
    assert told["restores"] == first["change_id"]
    assert told["after"]["serviceImage"] == "busybox"


def test_a_deregistered_revision_comes_back_as_its_copy(system: System) -> None:
    service = system.service()
    ecs = system.client("ecs", service.account)
    start = running(system, service)
    old = system.described(service)["taskDefinition"]
    parameters = {"enableExecuteCommand": True}
    body, _ = change(system, service, ecs_image_name="nginx:1", ecs_tag={"release": "1"}, service=parameters)
    first = body["change_id"]
    change(system, service, ecs_image_name="nginx:2")
    ecs.deregister_task_definition(taskDefinition=old)

    planned = system.invoke(service.event(restore=first, restore_mode="exact", dry_run=True)).body
    assert f"{service.name}:1" in json.dumps(planned["notes"])
    body, state = change(system, service, restore=first, restore_mode="exact")
    assert state == start
    assert f"{service.name}:1" in json.dumps(body["notes"])
    definition = ecs.describe_task_definition(
        taskDefinition=system.described(service)["taskDefinition"], include=["TAGS"]
    )
    assert definition["taskDefinition"]["status"] == "ACTIVE"
    assert definition["taskDefinition"]["taskDefinitionArn"] == body["AFTER"]["taskDefinitionArn"]
    assert definition["taskDefinition"]["revision"] == 4
    assert definition["taskDefinition"]["taskRoleArn"] == f"arn:aws:iam::{service.account}:role/sample/web-task"
    assert definition["tags"] == [{"key": "team", "value": "sample"}]

    _, state = change(system, service, restore=body["change_id"])
    assert state.image == "nginx:2"


def test_what_was_never_there_is_not_restored(system: System) -> None:
    service, other = system.service(), system.service()
    nothing = system.invoke(service.event(restore="previous"))
    assert nothing.error
    assert service.key in nothing.payload["errorMessage"]
    of_another = system.invoke(other.event(ecs_image_name="nginx")).body["change_id"]
    assert system.invoke(service.event(restore=of_another)).error
    assert system.records(service) == []
    assert system.running(service) == ("busybox", deploy.TAGS)


@pytest.mark.parametrize("by_id", [False, True])
def test_the_updater_reads_the_history_for_it(system: System, role_policy: Replace, by_id: bool) -> None:
    action = "dynamodb:Query"
    service = system.service()
    body, state = change(system, service, ecs_image_name="nginx")
    policy = without(updater_policy(system), "ReadHistory", action)
    role_policy(HUB, system.updater_role, "updater", policy)
    failed = system.invoke(service.event(restore=body["change_id"] if by_id else "previous"))
    assert failed.payload["errorType"] == "HistoryUnavailable"
    assert action in failed.payload["errorMessage"]
    assert running(system, service) == state
    assert len(system.records(service)) == 2
