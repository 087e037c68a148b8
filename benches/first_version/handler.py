"""The first version's behaviour, written anew to measure against: one service, in the function's own account.

FAIR=1 in the environment adds what the project does beyond it: AssumeRole, and a write before and one after the change.
Clients are made as the module is loaded, as is usual in Lambda: what that costs is part of the start and of no invocation.
Those of a session that was assumed for one change can only be made then.
"""

from __future__ import annotations

import json
import os
from typing import Any

import boto3
import jsonschema

SCHEMA = {
    "type": "object",
    "properties": {
        "account_id": {"type": "string", "pattern": "^[0-9]{12}$"},
        "ecs_cluster_name": {"type": "string", "minLength": 1},
        "ecs_service_name": {"type": "string", "minLength": 1},
        "ecs_image_name": {"type": "string", "minLength": 1},
        "ecs_tag": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["ecs_cluster_name", "ecs_service_name", "ecs_image_name", "ecs_tag"],
}
FAIR = os.environ.get("FAIR") == "1"

ecs = boto3.client("ecs")
if FAIR:
    sts, dynamodb = boto3.client("sts"), boto3.client("dynamodb")


def assumed(account_id: str, request_id: str) -> Any:
    """A client with a session in the target account."""
    credentials = sts.assume_role(
        RoleArn=f"arn:aws:iam::{account_id}:role/ecs-updater/ecs-updater-target", RoleSessionName=f"ecsu-{request_id}"
    )["Credentials"]
    return boto3.client(
        "ecs",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )


def record(kind: str, request_id: str, event: dict[str, Any]) -> None:
    """A row of the history."""
    dynamodb.put_item(
        TableName="history",
        Item={"service": {"S": event["ecs_service_name"]}, "record": {"S": f"{request_id}#{kind}"}, "event": {"S": json.dumps(event)}},
    )


def state(service: dict[str, Any], definition: dict[str, Any], tags: list[dict[str, str]]) -> dict[str, Any]:
    """What `BEFORE` and `AFTER` hold."""
    container = definition["containerDefinitions"][0]
    return {
        "clusterArn": service["clusterArn"],
        "serviceArn": service["serviceArn"],
        "taskDefinitionName": container["name"],
        "taskDefinitionFamily": definition["family"],
        "taskDefinitionArn": definition["taskDefinitionArn"],
        "serviceImage": container["image"],
        "serviceMemory": container.get("memory"),
        "tags": tags,
        "updatedOn": str(service["deployments"][0]["updatedAt"]),
    }


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """One change."""
    try:
        jsonschema.validate(event, SCHEMA)
    except jsonschema.ValidationError as error:
        raise Exception(f"[ERROR][json_validation] wrong input event format: {error.message}") from error
    client = assumed(event["account_id"], context.aws_request_id) if FAIR else ecs
    cluster, name = event["ecs_cluster_name"], event["ecs_service_name"]
    services = client.describe_services(cluster=cluster, services=[name], include=["TAGS"])["services"]
    if not services:
        raise Exception(f"[ERROR][ecs_service_read] ecs_service_name {name} not found")
    service = services[0]
    definition = client.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    if FAIR:
        record("STARTED", context.aws_request_id, event)
    container = definition["containerDefinitions"][0]
    new = client.register_task_definition(
        family=definition["family"],
        containerDefinitions=[
            {"name": container["name"], "image": event["ecs_image_name"], "memory": container["memory"]}
        ],
    )["taskDefinition"]
    updated = client.update_service(cluster=cluster, service=name, taskDefinition=new["taskDefinitionArn"])["service"]
    tags = [{"key": key, "value": value} for key, value in event["ecs_tag"].items()]
    client.tag_resource(resourceArn=service["serviceArn"], tags=tags)
    if FAIR:
        record("APPLIED", context.aws_request_id, event)
    body = {"BEFORE": state(service, definition, service.get("tags", [])), "AFTER": state(updated, new, tags)}
    return {"statusCode": 200, "body": body}
