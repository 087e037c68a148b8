"""What strict.py mends of CloudFormation: what a stack refuses to make or to delete, and the names that it gives.

MiniStack deletes tables that AWS would not let go, takes over a log group or a table that stands already, and gives a second stack
of a name the same names as the first. So a first deployment left nothing behind. (What a function is refused for: strict_lambda.py.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import ministack.core.iam_evaluator as evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudformation, cloudwatch_logs, dynamodb
from ministack.services.cloudformation import provisioners

Created = tuple[str, dict[str, str]]

original_name: Callable[..., str] = provisioners._physical_name


def physical_name(stack_name: str, logical_id: str, *, max_len: int = 128, lowercase: bool = False, seeded: bool = True) -> str:
    """A generated name. Its end is this very stack's: another stack of the same name gets other names.
    <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html>"""
    name = original_name(stack_name, logical_id, max_len=max_len, seeded=seeded)
    stack = str((cloudformation._stacks.get(stack_name) or {}).get("StackId"))
    suffix = hashlib.sha256(f"{stack} {name}".encode()).hexdigest()[:13].upper()
    name = f"{name[:-13]}{suffix}"
    return name.lower() if lowercase else name


original_table: Callable[..., Created] = provisioners._ddb_create


def put_policy(arn: str, properties: dict[str, Any]) -> None:
    """The table's own policy, which MiniStack drops."""
    if policy := properties.get("ResourcePolicy", {}).get("PolicyDocument"):
        dynamodb._put_resource_policy({"ResourceArn": arn, "Policy": json.dumps(policy)})


def table_create(logical_id: str, properties: dict[str, Any], stack: str) -> Created:
    """A table, where there is none of its name yet; with its policy."""
    name = properties.get("TableName") or provisioners._physical_name(stack, logical_id, max_len=255)
    if name in dynamodb._tables:
        raise ValueError(f"{name} already exists")
    name, attributes = original_table(logical_id, properties, stack)
    put_policy(attributes["Arn"], properties)
    # What else MiniStack drops.
    if backups := properties.get("PointInTimeRecoverySpecification"):
        dynamodb._update_continuous_backups({"TableName": name, "PointInTimeRecoverySpecification": backups})
    if live := properties.get("TimeToLiveSpecification"):
        dynamodb._update_ttl({"TableName": name, "TimeToLiveSpecification": live})
    return name, attributes


original_table_update: Callable[..., Created] = provisioners._ddb_update


def table_update(physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str, logical_id: str) -> Created:
    """A table; its policy where the template's is another one: CloudFormation does not look at the table's."""
    name, attributes = original_table_update(physical_id, old, new, stack, logical_id)
    if old.get("ResourcePolicy") != new.get("ResourcePolicy"):
        put_policy(attributes["Arn"], new)
    return name, attributes


def table_delete(name: str, _: dict[str, Any]) -> None:
    """CloudFormation calls DeleteTable as whoever asked: deletion protection holds, and so does the table's own policy.
    <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/WorkingWithTables.Basics.html#WorkingWithTables.Basics.DeletionProtection>"""
    arn = f"arn:aws:dynamodb:{get_region()}:{get_account_id()}:table/{name}"
    policy = json.loads((dynamodb._resource_policies.get(arn) or {}).get("Policy") or '{"Statement": []}')
    for statement in policy["Statement"]:
        if statement["Effect"] == "Deny" and "dynamodb:DeleteTable" in statement["Action"] and "Condition" not in statement:
            raise ValueError(f"not authorized to perform: dynamodb:DeleteTable on resource: {arn} with an explicit deny")
    status, _, body = dynamodb._delete_table({"TableName": name})
    if status >= 400 and b"ResourceNotFoundException" not in body:
        raise ValueError(json.loads(body)["message"])
    dynamodb._resource_policies.pop(arn, None)


original_log_group: Callable[..., Created] = provisioners._cwlogs_create


def log_group_create(logical_id: str, properties: dict[str, Any], stack: str) -> Created:
    """A log group, where there is none of its name yet; without a name of its own it gets one that nobody else has."""
    name = properties.get("LogGroupName") or provisioners._physical_name(stack, logical_id, max_len=512)
    if name in cloudwatch_logs._log_groups:
        raise ValueError(f"Resource of type 'AWS::Logs::LogGroup' with identifier '{name}' already exists.")
    return original_log_group(logical_id, {**properties, "LogGroupName": name}, stack)


def log_group_update(physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str, logical_id: str) -> Created:
    """A log group; without a name of its own it keeps the one that it got."""
    named = {"LogGroupName": new.get("LogGroupName") or physical_id}
    updated: Created = provisioners._cwlogs_update(physical_id, old, {**new, **named}, stack, logical_id)
    return updated


def mend() -> None:
    """Puts the functions of this file in place of MiniStack's."""
    provisioners._physical_name = physical_name
    handlers = provisioners._RESOURCE_HANDLERS
    handlers["AWS::DynamoDB::Table"] |= {"create": table_create, "update": table_update, "delete": table_delete}
    handlers["AWS::Logs::LogGroup"] |= {"create": log_group_create, "update": log_group_update}
