"""What the product is for: one event in, one service changed, the change in the history."""

from __future__ import annotations

import json
import re
from typing import Any

import deploy
import pytest
from conftest import System
from local_aws import DISTRUSTFUL, HUB, OUTSIDER, REGION, TARGETS
from wire import Wire

from ledger import assert_chain

CHANGE_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def tags_of(side: dict[str, Any]) -> dict[str, str]:
    """The tags of BEFORE or AFTER."""
    return {tag["key"]: tag["value"] for tag in side["tags"]}


def test_the_base_event_changes_a_service_of_another_account(system: System) -> None:
    service = system.service()
    base = json.loads((deploy.ROOT / "tests/events/lambda-ecs-updater.testevent-base.json").read_text())
    answer = system.invoke({**base, "account_id": service.account, "ecs_service_name": service.name})

    assert answer.payload["statusCode"] == 200
    body = answer.body
    assert body["status"] == "APPLIED"
    assert CHANGE_ID.fullmatch(body["change_id"])
    assert TIME.fullmatch(body["timestamp"])
    assert body["replayed"] is False
    assert (body["account_id"], body["region"]) == (service.account, REGION)
    before, after = body["BEFORE"], body["AFTER"]
    for side, image, revision, tags in (
        (before, "busybox", 1, deploy.TAGS),
        (after, "nginx", 2, {"updated-tag-name": "updated-tag-value"}),
    ):
        assert side["serviceArn"] == service.arn
        assert side["clusterArn"] == f"arn:aws:ecs:{REGION}:{service.account}:cluster/{deploy.CLUSTER}"
        assert (
            side["taskDefinitionArn"]
            == f"arn:aws:ecs:{REGION}:{service.account}:task-definition/{service.name}:{revision}"
        )
        assert side["taskDefinitionFamily"] == service.name
        assert side["taskDefinitionName"] == "web"
        assert side["serviceImage"] == image
        assert side["images"] == {"web": image}
        assert side["serviceMemory"] == 64
        assert tags_of(side) == tags
        assert TIME.fullmatch(side["updatedOn"])
    assert system.running(service) == ("nginx", {"updated-tag-name": "updated-tag-value"})
    assert body["deployment_id"] == system.described(service)["deployments"][0]["id"]


def test_the_change_is_in_the_history(system: System) -> None:
    service = system.service()
    event = service.event(ecs_image_name="nginx:1.27", requested_by="ann", reason="ticket 7 — “why” \u0001 \U0001f600")
    body = system.invoke(event).body

    head = system.state(f"service#{service.key}")
    started, applied = assert_chain(system.records(service), head)
    assert (started["kind"], applied["kind"]) == ("STARTED", "APPLIED")
    assert [record["record"] for record in (started, applied)] == [f"{body['change_id']}#{n}" for n in (0, 1)]
    for record in (started, applied):
        assert record["service"] == service.key
        assert record["change_id"] == body["change_id"]
        assert (record["account_id"], record["region"]) == (service.account, service.region)
        assert (record["cluster"], record["service_name"]) == (deploy.CLUSTER, service.name)
        assert (record["requested_by"], record["reason"]) == (event["requested_by"], event["reason"])
        assert record["identity"] == "claimed"
        assert record["session"] == f"ecsu-{record['request_id']}"
        assert TIME.fullmatch(record["at"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d#[0-7]", record["day"])
        assert re.fullmatch(r"nginx#[0-7]", record["image"])
    assert TIME.fullmatch(started["lease_until"])
    assert json.loads(applied["before"])["serviceImage"] == "busybox"
    assert json.loads(applied["after"])["serviceImage"] == "nginx:1.27"
    assert applied["deployment_id"] == body["deployment_id"]
    # Strings and one integer, so that DynamoDB cannot give back another number than it was given.
    assert {name for name, value in applied.items() if not isinstance(value, str)} == {"seq"}


@pytest.mark.parametrize(("index", "key"), [("by-account", "account_id"), ("by-day", "day"), ("by-image", "image")])
def test_the_change_is_found_through_every_index(system: System, index: str, key: str) -> None:
    service = system.service()
    change = system.invoke(service.event(ecs_image_name=f"registry.example/{service.name}:1")).body["change_id"]
    value = system.records(service)[0][key]
    found = system.client("dynamodb").query(
        TableName=system.deployment.history,
        IndexName=index,
        KeyConditionExpression="#key = :value and begins_with(#record, :change)",
        ExpressionAttributeNames={"#key": key, "#record": "record"},
        ExpressionAttributeValues={":value": {"S": value}, ":change": {"S": change}},
    )
    assert [item["record"]["S"] for item in found["Items"]] == [f"{change}#0", f"{change}#1"]


def test_changes_of_one_service_are_one_chain(system: System) -> None:
    service = system.service()
    for image in ("nginx:1", "nginx:2", "nginx:2", "nginx:3"):
        system.invoke(service.event(ecs_image_name=image))
    chain = assert_chain(system.records(service), system.state(f"service#{service.key}"))
    kinds = [record["kind"] for record in chain]
    assert kinds == ["STARTED", "APPLIED"] * 2 + ["UNCHANGED"] + ["STARTED", "APPLIED"]
    assert [record["record"] for record in chain] == sorted(record["record"] for record in chain)


def test_a_changed_record_breaks_the_chain(system: System) -> None:
    """The check itself can fail."""
    service = system.service()
    system.invoke(service.event(ecs_image_name="nginx"))
    records, head = system.records(service), system.state(f"service#{service.key}")
    assert_chain(records, head)
    with pytest.raises(AssertionError):
        assert_chain([{**records[0], "reason": "another"}, records[1]], head)
    with pytest.raises(AssertionError):
        assert_chain(records[:1], head)


def test_nothing_is_done_where_nothing_differs(system: System) -> None:
    service = system.service()
    before = system.described(service)
    body = system.invoke(service.event(ecs_image_name="busybox", ecs_tag=deploy.TAGS)).body
    assert body["status"] == "UNCHANGED"
    assert body["deployment_id"] is None
    assert body["BEFORE"] == body["AFTER"]
    assert system.revisions(service) == 1
    assert system.described(service) == before
    (record,) = assert_chain(system.records(service), system.state(f"service#{service.key}"))
    assert (record["kind"], record["record"]) == ("UNCHANGED", f"{body['change_id']}#1")


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(system: System, wire: Wire) -> None:
    service = system.service()
    items = system.items()
    event = service.event(ecs_image_name="nginx", ecs_tag={"a": "b"}, dry_run=True)
    body = system.invoke(event).body
    assert body["status"] == "PLANNED"
    assert body["changes"]
    assert system.invoke(service.event(ecs_image_name="busybox", dry_run=True)).body["changes"] == []
    assert system.items() == items
    assert system.revisions(service) == 1
    assert system.running(service) == ("busybox", deploy.TAGS)
    assert set(wire.calls) == {"AssumeRole", "DescribeServices", "DescribeTaskDefinition"}


def test_a_change_of_image_and_tags_costs_as_many_calls_as_promised(system: System, wire: Wire) -> None:
    service = system.service()
    system.invoke(service.event(ecs_image_name="nginx", ecs_tag={"new": "tag"}))
    assert sorted(wire.calls) == sorted(
        [
            "AssumeRole",
            "BatchGetItem",
            "DescribeServices",
            "DescribeTaskDefinition",
            "ExecuteTransaction",
            "RegisterTaskDefinition",
            "UpdateService",
            "TagResource",
            "UntagResource",
            "ExecuteTransaction",
        ]
    )
    mutating = ("RegisterTaskDefinition", "UpdateService", "TagResource", "UntagResource")
    assert wire.calls.index("ExecuteTransaction") < min(wire.calls.index(call) for call in mutating)
    assert wire.calls.index("BatchGetItem") < wire.calls.index("DescribeServices")
    wire.calls.clear()
    system.invoke(service.event(ecs_image_name="nginx", ecs_tag={"new": "tag"}))
    assert sorted(wire.calls) == sorted(
        [
            "AssumeRole",
            "BatchGetItem",
            "DescribeServices",
            "DescribeTaskDefinition",
            "ExecuteTransaction",
        ]
    )


def test_a_service_of_the_hub_itself_is_changed_through_its_role(system: System, wire: Wire) -> None:
    service = system.service(HUB)
    event = service.event(ecs_image_name="nginx")
    del event["account_id"]
    body = system.invoke(event).body
    assert body["account_id"] == HUB
    assert system.running(service)[0] == "nginx"
    assert wire.calls.count("AssumeRole") == 1


def test_accounts_and_regions_are_kept_apart(system: System) -> None:
    here, there = system.service(TARGETS[0]), system.service(TARGETS[1], "us-east-1")
    assert system.invoke(there.event(ecs_image_name="nginx")).body["region"] == "us-east-1"
    assert system.running(there)[0] == "nginx"
    assert system.running(here)[0] == "busybox"
    assert [record["region"] for record in system.records(there)] == ["us-east-1"] * 2


@pytest.mark.parametrize(
    "account",
    [
        pytest.param(OUTSIDER, id="the account is in no organization"),
        pytest.param(DISTRUSTFUL, id="its role trusts another organization"),
    ],
)
def test_no_account_of_another_organization_is_entered(system: System, account: str) -> None:
    service = system.service(account)
    items = system.items()
    answer = system.invoke(service.event(ecs_image_name="nginx"))
    assert answer.error
    assert answer.payload["errorType"] == "AssumeRoleFailed"
    role = f"arn:aws:iam::{account}:role/ecs-updater/ecs-updater-target"
    message = answer.payload["errorMessage"]
    assert message.startswith(f"[ERROR][assume_role] role {role} in account {account} could not be assumed: ")
    assert "sts:AssumeRole" in message
    assert system.running(service)[0] == "busybox"
    assert system.items() == items


def test_an_account_without_the_role_is_said_so(system: System) -> None:
    answer = system.invoke(
        {"account_id": "999999999999", "ecs_cluster_name": "a", "ecs_service_name": "b", "ecs_image_name": "c"}
    )
    assert answer.payload["errorType"] == "AssumeRoleFailed"


def test_tags_of_the_task_definition_and_its_role_are_kept(system: System) -> None:
    service = system.service(tags=[{"key": "team", "value": "edge"}, {"key": "cost", "value": "7"}])
    system.invoke(service.event(ecs_image_name="nginx"))
    ecs = system.client("ecs", service.account)
    found = ecs.describe_task_definition(taskDefinition=f"{service.name}:2", include=["TAGS"])
    assert {tag["key"]: tag["value"] for tag in found["tags"]} == {"team": "edge", "cost": "7"}
    assert found["taskDefinition"]["taskRoleArn"] == f"arn:aws:iam::{service.account}:role/sample/web-task"


def test_several_containers_change_together(system: System) -> None:
    containers = [{"name": name, "image": f"{name}:1", "memory": 64} for name in ("web", "proxy", "log")]
    service = system.service(containerDefinitions=containers)
    body = system.invoke(service.event(images={"web": "web:2", "log": "log:2"})).body
    assert body["AFTER"]["images"] == {"web": "web:2", "proxy": "proxy:1", "log": "log:2"}
    ambiguous = system.invoke(service.event(ecs_image_name="nginx"))
    assert ambiguous.payload["errorType"] == "AmbiguousContainer"
    named = system.invoke(service.event(ecs_image_name="nginx", container_name="proxy")).body
    assert named["AFTER"]["images"]["proxy"] == "nginx"
    assert_chain(system.records(service), system.state(f"service#{service.key}"))


def test_parameters_of_the_service_are_set(system: System) -> None:
    service = system.service()
    body = system.invoke(service.event(service={"desiredCount": 3, "enableExecuteCommand": True})).body
    assert body["status"] == "APPLIED"
    described = system.described(service)
    assert (described["desiredCount"], described["enableExecuteCommand"]) == (3, True)
    assert system.revisions(service) == 1
    assert system.invoke(service.event(service={"desiredCount": 3})).body["status"] == "UNCHANGED"


def test_merged_tags_leave_the_others_alone(system: System) -> None:
    service = system.service()
    body = system.invoke(service.event(ecs_tag={"new": "1"}, tag_mode="merge")).body
    assert tags_of(body["AFTER"]) == {**deploy.TAGS, "new": "1"}
    assert body["deployment_id"] is None
    assert system.running(service)[1] == {**deploy.TAGS, "new": "1"}
    assert system.invoke(service.event(ecs_tag={})).body["AFTER"]["tags"] == []
    assert system.running(service)[1] == {}


def test_a_change_against_another_revision_than_expected_is_refused(system: System) -> None:
    service = system.service()
    refused = system.invoke(service.event(ecs_image_name="nginx", expected_task_definition=f"{service.name}:7"))
    assert refused.payload["errorType"] == "TaskDefinitionChanged"
    assert refused.payload["errorMessage"].startswith("[ERROR][ecs_service_update] ")
    assert system.revisions(service) == 1
    accepted = system.invoke(service.event(ecs_image_name="nginx", expected_task_definition=f"{service.name}:1"))
    assert accepted.body["status"] == "APPLIED"


def test_a_new_deployment_is_forced_where_nothing_differs(system: System) -> None:
    service = system.service()
    before = system.described(service)["deployments"][0]["id"]
    body = system.invoke(service.event(force_new_deployment=True)).body
    assert body["status"] == "APPLIED"
    assert body["deployment_id"] not in (None, before)
    assert system.revisions(service) == 1


def test_the_log_tells_of_the_change_and_counts_it(system: System) -> None:
    service = system.service()
    body = system.invoke(service.event(ecs_image_name="nginx")).body
    logs = system.client("logs")
    group = system.client("lambda").get_function_configuration(FunctionName=system.deployment.function)[
        "LoggingConfig"
    ]["LogGroup"]
    found = logs.filter_log_events(logGroupName=group, filterPattern="")["events"]
    lines = [json.loads(line) for event in found for line in event["message"].splitlines() if line.startswith("{")]
    assert any(body["change_id"] in json.dumps(line) and service.key in json.dumps(line) for line in lines)
    assert any("_aws" in line for line in lines), "no embedded metrics"
