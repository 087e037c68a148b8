#!/usr/bin/env python3
"""Whether both tables of a hub are as they were deployed: their policies, deletion protection, backups, time to live.

    tools/deploy/check_tables.py STACK                                            of a stack of hub.yaml
    tools/deploy/check_tables.py HISTORY STATE BREAK_GLASS_ROLE_ARN WRITER_ROLE_ARN…   of the module hub: its outputs history_table_name,
                                                                           state_table_name; NONE, or the role; the outputs
                                                                           updater_role_arn, recorder_role_arn

CloudFormation compares its templates with each other, and not with the table: it neither sees nor mends a policy that somebody took
away. This reads, and changes nothing: dynamodb:DescribeTable, GetResourcePolicy, DescribeContinuousBackups, DescribeTimeToLive, and
cloudformation:DescribeStacks. Region and credentials come from the environment. Ends with 1 where something is not as it should be.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import stacks
from botocore.exceptions import ClientError

POLICIES = Path(__file__).resolve().parents[2] / "policies"


@dataclass(frozen=True)
class Hub:
    """What the tables are called, and whom their policies name."""

    history: str
    state: str
    break_glass: str
    writers: tuple[str, ...]


def of_stack(cloudformation: Any, name: str) -> Hub:
    """What a stack of hub.yaml says of itself."""
    found = stacks.find(cloudformation, name)
    if not found:
        raise SystemExit(f"there is no stack {name} in this account and region")
    outputs = stacks.outputs_of(found)
    parameters = {part["ParameterKey"]: part["ParameterValue"] for part in found["Parameters"]}
    writers = tuple(outputs[role] for role in ("UpdaterRoleArn", "RecorderRoleArn") if role in outputs)
    return Hub(outputs["HistoryTableName"], outputs["StateTableName"], parameters["BreakGlassRoleArn"], writers)


def wanted(document: str, hub: Hub) -> dict[str, Any]:
    """A table's policy as it was deployed."""
    text = (POLICIES / document).read_text()
    text = text.replace('"__WRITER_ROLE_ARNS__"', json.dumps(hub.writers))
    text = text.replace("__BREAK_GLASS_ROLE_ARN__", hub.break_glass)
    statements = json.loads(text)["Statement"]
    return {
        statement["Sid"]: plain(statement)
        for statement in statements
        if hub.break_glass != "NONE" or statement["Sid"] != "OnlyBreakGlassChangesThisPolicy"
    }


def plain(node: Any) -> Any:
    """A part of a policy in one of the ways in which it can be written."""
    if isinstance(node, dict):
        return {name: plain(member) for name, member in node.items()}
    if isinstance(node, list):
        items = sorted((plain(item) for item in node), key=json.dumps)
        return items[0] if len(items) == 1 else items
    return node


def faults(dynamodb: Any, table: str, document: str, hub: Hub, *, expires: bool) -> Iterator[str]:
    """What is not as it was deployed."""
    described = dynamodb.describe_table(TableName=table)["Table"]
    try:
        policy = json.loads(dynamodb.get_resource_policy(ResourceArn=described["TableArn"])["Policy"])
        is_ = {str(statement.get("Sid")): plain(statement) for statement in policy["Statement"]}
    except ClientError as error:
        if error.response["Error"]["Code"] != "PolicyNotFoundException":
            raise
        is_ = {}
        yield "it has no policy at all"
    right = wanted(document, hub)
    for sid in sorted(right.keys() | is_.keys()) if is_ else []:
        if sid not in is_:
            yield f"its policy lacks the statement {sid}"
        elif sid not in right:
            yield f"its policy has a statement {sid} that was not deployed: {json.dumps(is_[sid])}"
        elif right[sid] != is_[sid]:
            yield f"the statement {sid} of its policy is another one: {json.dumps(is_[sid])}"
    if not described.get("DeletionProtectionEnabled"):
        yield "deletion protection is off"
    backups = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    if backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") != "ENABLED":
        yield "point-in-time recovery is off"
    live = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    attribute = live.get("AttributeName") if live.get("TimeToLiveStatus", "").startswith("ENABL") else None
    if attribute != ("expires_at" if expires else None):
        yield f"items expire by the attribute {attribute}" if attribute else "items do not expire"


def main(arguments: Sequence[str]) -> int:
    """Says what is wrong with the tables."""
    region = os.environ.get("AWS_REGION")
    match arguments:
        case [stack]:
            hub = of_stack(boto3.client("cloudformation", region_name=region), stack)
        case [history, state, break_glass, *writers] if writers:
            hub = Hub(history, state, break_glass, tuple(writers))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    dynamodb = boto3.client("dynamodb", region_name=region)
    tables = ((hub.history, "history-table.json", False), (hub.state, "state-table.json", True))
    wrong = [
        f"{table}: {fault}"
        for table, document, expires in tables
        for fault in faults(dynamodb, table, document, hub, expires=expires)
    ]
    print("\n".join(wrong) or f"{hub.history} and {hub.state} are as they were deployed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
