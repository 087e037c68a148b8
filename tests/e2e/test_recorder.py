"""An event on a target's bus ends in the ledger: how a change ended, and what did not come through this door."""

from __future__ import annotations

import json
import time
from typing import Any

from conftest import Service, System
from local_aws import REGION


def put(system: System, service: Service, name: str, deployment_id: str) -> None:
    """Puts an event on the service's account's own bus, in the place of ECS."""
    detail = {
        "eventName": name,
        "eventType": "INFO",
        "deploymentId": deployment_id,
        "updatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "reason": f"ECS deployment {deployment_id}",
    }
    entry = {
        "Source": "aws.ecs",
        "DetailType": "ECS Deployment State Change",
        "Resources": [service.arn],
        "Detail": json.dumps(detail),
    }
    assert system.client("events", service.account).put_events(Entries=[entry])["FailedEntryCount"] == 0


def changes(system: System, service: Service) -> list[dict[str, Any]]:
    """The service's changes as the history function tells them, oldest first."""
    names = service.event()
    query = {name: names[name] for name in ("account_id", "ecs_cluster_name", "ecs_service_name")}
    query |= {"region": REGION, "order": "oldest_first"}
    found: list[dict[str, Any]] = system.ask(query).body["changes"]
    return found


def statuses(system: System, service: Service, wanted: list[str], seconds: float = 30) -> list[str]:
    """The statuses of the service's changes, once they are `wanted` or time is over."""
    deadline = time.monotonic() + seconds
    while (found := [change["status"] for change in changes(system, service)]) != wanted:
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return found


def test_events_end_in_the_ledger_once_and_the_chain_verifies(system: System) -> None:
    service = system.service()
    applied = system.invoke(service.event(ecs_image_name="nginx:1.27")).body
    assert applied["status"] == "APPLIED"
    for _ in range(10):
        put(system, service, "SERVICE_DEPLOYMENT_COMPLETED", applied["deployment_id"])
    assert statuses(system, service, ["COMPLETED"]) == ["COMPLETED"]
    for _ in range(10):
        put(system, service, "SERVICE_DEPLOYMENT_IN_PROGRESS", "ecs-svc/4711")
    assert statuses(system, service, ["COMPLETED", "EXTERNAL"]) == ["COMPLETED", "EXTERNAL"]

    time.sleep(2)
    external = changes(system, service)[1]
    assert (external["deployment_id"], external["outcome"]["reason"]) == ("ecs-svc/4711", "ECS deployment ecs-svc/4711")
    assert [record["kind"] for record in system.records(service)] == ["STARTED", "APPLIED", "COMPLETED", "EXTERNAL"]
    names = {name: external[name] for name in ("account_id", "region", "ecs_cluster_name", "ecs_service_name")}
    assert system.ask({**names, "verify": True}).body == {"ok": True, "verified": 4}


def test_the_sweep_settles_what_no_event_tells(system: System) -> None:
    """As the recorder's own role, which assumes the reader role of the target."""
    service = system.service()
    applied = system.invoke(service.event(ecs_image_name="nginx:1.27")).body
    key = {"id": {"S": f"deployment#{service.account}/{REGION}/{applied['deployment_id']}"}}
    tables = system.client("dynamodb")
    # Rather than wait ten minutes for the first look.
    tables.update_item(
        TableName=system.deployment.state,
        Key=key,
        UpdateExpression="SET check_at = :past",
        ConditionExpression="attribute_exists(check_at)",
        ExpressionAttributeValues={":past": {"S": "2026-01-01T00:00:00.000Z"}},
    )
    # What the rule sends, as it was deployed.
    events = system.client("events")
    (rule,) = [rule["Name"] for rule in events.list_rules()["Rules"] if rule.get("ScheduleExpression")]
    (target,) = events.list_targets_by_rule(Rule=rule)["Targets"]
    answer = system.client("lambda").invoke(FunctionName=target["Arn"], Payload=target["Input"])
    swept = json.loads(answer["Payload"].read())["swept"]
    assert "FunctionError" not in answer, swept
    assert (swept["settled"], swept["failed"]) == (1, 0), swept
    assert statuses(system, service, ["COMPLETED"]) == ["COMPLETED"]
    # Nothing is open any more.
    assert not {"check_shard", "check_at"} & set(tables.get_item(TableName=system.deployment.state, Key=key)["Item"])
