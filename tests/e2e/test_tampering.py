"""Whoever changes what the hub's stack made is heard of, by CloudTrail's management events; and nobody else is.

The local AWS has no CloudTrail: the tests put its events on the bus, in the members that AWS documents
(https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html). Those of S3 about objects
are of its own making (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import deploy
import pytest
from conftest import BUILT
from local_aws import HUB, REGION, TARGETS, LocalAws, forget_aws_settings, root_of

CHECK = deploy.ROOT / "tools/deploy" / "check_tables.py"

SERVICES = ("apigateway", "dynamodb", "events", "iam", "kms", "lambda", "s3", "sqs", "ssm")
SOURCES = {service: f"aws.{service}" for service in SERVICES}
# One document of each kind.
DOCUMENTS = {
    "AllowedAccountsArn": "arn:aws:s3:::settings/ecs-updater/accounts",
    "TriggerMappingArn": f"arn:aws:ssm:{REGION}:{HUB}:parameter/ecs-updater/mapping",
}


class Hub:
    """A hub's stack, without target accounts."""

    def __init__(self, aws: LocalAws) -> None:
        self._aws = aws
        outputs = deploy.deploy_hub(aws, BUILT / "local", DOCUMENTS)
        self.queue = outputs["TamperingQueueUrl"]
        watched = {"TamperingQueueArn": outputs["TamperingQueueArn"]}
        deploy.deploy_api(aws, **watched)
        trigger = {
            "CodeBucket": deploy.PACKAGE_BUCKET,
            "CodeKey": "trigger.zip",
            "UpdaterAlias": outputs["UpdaterAliasArn"],
            "RegistryRepositoryArns": arn("ecr", "repository/team/app"),
            "TriggerMapping": "[]",
            **watched,
        }
        package = (BUILT / "local" / "trigger.zip").read_bytes()
        self.client("s3").put_object(Bucket=deploy.PACKAGE_BUCKET, Key="trigger.zip", Body=package)
        deploy.deploy_stack(aws, HUB, "ecs-updater-trigger", "trigger.yaml", trigger)
        self.names = {
            resource["LogicalResourceId"]: str(resource["PhysicalResourceId"])
            for stack in ("ecs-updater-trigger", "ecs-updater-api", "ecs-updater-hub")
            for resource in self.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
        }

    def client(self, service: str) -> Any:
        """A client that may do everything there."""
        return self._aws.client(service, root_of(HUB))

    def check(self, *arguments: str) -> tuple[int, list[str]]:
        """What `tools/deploy/check_tables.py` says of the tables."""
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": self._aws.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": HUB,
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        command = [sys.executable, str(CHECK), *(arguments or ("ecs-updater-hub",))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert not done.stderr
        return done.returncode, done.stdout.splitlines()

    def tell(self, service: str, call: str, parameters: dict[str, Any], **identity: str) -> None:
        """What CloudTrail tells of a call."""
        detail = {
            "eventSource": f"{service}.amazonaws.com",
            "eventName": call,
            "requestParameters": parameters,
            "userIdentity": {"arn": f"arn:aws:iam::{HUB}:user/somebody", **identity},
        }
        entry = {"Source": SOURCES[service], "DetailType": "AWS API Call via CloudTrail", "Detail": json.dumps(detail)}
        assert self.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0

    def heard(self, seconds: float = 5) -> list[dict[str, Any]]:
        """What came of what was told before this: all of it, up to an event that is always heard of."""
        self.tell("iam", "LastOfAll", {"roleName": self.names["HistoryRole"]})
        found: list[dict[str, Any]] = []
        sqs, deadline = self.client("sqs"), time.monotonic() + seconds
        while time.monotonic() < deadline:
            for message in sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", []):
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                detail = json.loads(message["Body"])["detail"]
                if detail.get("eventName") == "LastOfAll":
                    return found
                found.append(detail)
        raise AssertionError(f"nothing more was heard after {found}")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A hub of its own: its alarms are to be quiet."""
    forget_aws_settings()
    with LocalAws() as aws:
        yield Hub(aws)


def arn(service: str, resource: str) -> str:
    """An ARN of the hub."""
    return f"arn:aws:{service}:{REGION}:{HUB}:{resource}"


# Service, call, and its parameters: {Logical} stands for the name of the stack's resource.
HEARD = [
    ("dynamodb", "DeleteResourcePolicy", {"resourceArn": arn("dynamodb", "table/{HistoryTable}")}),
    ("dynamodb", "PutResourcePolicy", {"resourceArn": arn("dynamodb", "table/{StateTable}")}),
    ("dynamodb", "UpdateTable", {"tableName": "{HistoryTable}", "deletionProtectionEnabled": False}),
    ("dynamodb", "UpdateTable", {"tableName": arn("dynamodb", "table/{StateTable}")}),
    ("dynamodb", "UpdateTimeToLive", {"tableName": "{StateTable}"}),
    ("dynamodb", "UpdateContinuousBackups", {"tableName": "{HistoryTable}"}),
    ("dynamodb", "RestoreTableToPointInTime", {"sourceTableName": "{HistoryTable}", "targetTableName": "copy"}),
    ("kms", "PutKeyPolicy", {"keyId": "{NoticesKey}", "policyName": "default"}),
    ("kms", "ScheduleKeyDeletion", {"keyId": arn("kms", "key/{NoticesKey}")}),
    ("lambda", "UpdateFunctionCode20150331v2", {"functionName": "{UpdaterFunction}"}),
    ("lambda", "UpdateFunctionConfiguration20150331v2", {"functionName": arn("lambda", "function:{HistoryFunction}")}),
    ("lambda", "UpdateAlias20150331", {"functionName": "{UpdaterFunction}", "name": "live"}),
    ("lambda", "AddPermission20150331v2", {"functionName": arn("lambda", "function:{RecorderFunction}:live")}),
    ("lambda", "CreateFunctionUrlConfig", {"functionName": f"{HUB}:function:{{UpdaterFunction}}"}),
    ("iam", "UpdateAssumeRolePolicy", {"roleName": "{UpdaterRole}"}),
    ("iam", "PutRolePolicy", {"roleName": "{RecorderRole}", "policyName": "more"}),
    ("iam", "AttachRolePolicy", {"roleName": "{WavesRole}"}),
    ("events", "DisableRule", {"name": "{SweepRule}"}),
    ("events", "DeleteRule", {"name": "{EventsWatch}"}),
    ("events", "RemoveTargets", {"rule": "{TablesWatch}", "ids": ["tampering"]}),
    ("events", "PutRule", {"name": "another", "eventBusName": "ecs-updater-hub"}),
    ("events", "RemovePermission", {"eventBusName": arn("events", "event-bus/ecs-updater-hub")}),
    ("events", "DeleteEventBus", {"name": "ecs-updater-hub"}),
    # Of the trigger, by its own rule: who replaces its code changes every service.
    ("lambda", "UpdateFunctionCode20150331v2", {"functionName": "{TriggerFunction}"}),
    ("lambda", "UpdateFunctionConfiguration20150331v2", {"functionName": arn("lambda", "function:{TriggerFunction}")}),
    ("lambda", "CreateEventSourceMapping20150331", {"functionName": "{TriggerFunction}", "eventSourceArn": "arn:of:another"}),
    # Who switches that off, or lets it bring one push at a time.
    *(
        ("lambda", f"{call}EventSourceMapping20150331", {name: "{TriggerQueueMapping}"})
        for call in ("Update", "Delete")
        for name in ("uUID", "uuid")
    ),
    ("iam", "PutRolePolicy", {"roleName": "{TriggerRole}", "policyName": "more"}),
    ("iam", "UpdateAssumeRolePolicy", {"roleName": "{TriggerRole}"}),
    ("events", "DisableRule", {"name": "{TriggerRule}"}),
    ("events", "PutTargets", {"rule": "{TriggerRule}"}),
    ("sqs", "SetQueueAttributes", {"queueUrl": "{TriggerQueue}"}),
    # Of the API door: who changes its template says whose name is verified.
    ("apigateway", "PutRestApi", {"restApiId": "{Api}"}),
    ("apigateway", "UpdateMethod", {"restApiId": "{Api}", "httpMethod": "POST"}),
    ("apigateway", "CreateDeployment", {"restApiId": "{Api}"}),
    ("lambda", "UpdateFunctionCode20150331v2", {"functionName": "{DeployerFunction}"}),
    ("iam", "AttachRolePolicy", {"roleName": "{DeployerRole}"}),
    # And these rules themselves, by the hub's.
    ("events", "DisableRule", {"name": "{TriggerWatch}"}),
    ("events", "RemoveTargets", {"rule": "{ApiWatch}", "ids": ["tampering"]}),
    ("events", "PutRule", {"name": "ecs-updater-watch-of-somebody"}),
    ("ssm", "PutParameter", {"name": "/ecs-updater/mapping", "type": "String", "overwrite": True}),
    ("ssm", "DeleteParameter", {"name": "/ecs-updater/mapping"}),
    ("ssm", "DeleteParameters", {"names": ["/another", "/ecs-updater/mapping"]}),
    ("s3", "DeleteBucket", {"bucketName": "settings"}),
    ("s3", "PutBucketNotification", {"bucketName": "settings", "notification": ""}),
    ("s3", "PutBucketPolicy", {"bucketName": "settings", "policy": ""}),
]
UNHEARD = [
    ("dynamodb", "PutResourcePolicy", {"resourceArn": arn("dynamodb", "table/another")}),
    ("dynamodb", "ExportTableToPointInTime", {"tableArn": arn("dynamodb", "table/{HistoryTable}")}),
    ("kms", "PutKeyPolicy", {"keyId": "another"}),
    ("lambda", "UpdateFunctionCode20150331v2", {"functionName": "another"}),
    ("iam", "PutRolePolicy", {"roleName": "another"}),
    ("events", "DisableRule", {"name": "another"}),
    ("apigateway", "PutRestApi", {"restApiId": "another"}),
    ("sqs", "SetQueueAttributes", {"queueUrl": "another"}),
    ("ssm", "PutParameter", {"name": "/ecs-updater/another"}),
    ("ssm", "PutParameter", {"name": "/ecs-updater/accounts"}),
    ("ssm", "GetParameter", {"name": "/ecs-updater/mapping"}),
    ("ssm", "DeleteParameters", {"names": ["/another"]}),
    ("s3", "PutBucketPolicy", {"bucketName": "another"}),
    ("s3", "PutBucketTagging", {"bucketName": "settings"}),
]


def filled(node: Any, names: dict[str, str]) -> Any:
    """Parameters with the names of the stack."""
    if isinstance(node, dict):
        return {name: filled(member, names) for name, member in node.items()}
    return node.format(**names) if isinstance(node, str) else node


def test_whoever_changes_the_hub_is_heard_of(hub: Hub) -> None:
    for service, name, parameters in HEARD:
        hub.tell(service, name, filled(parameters, hub.names))
        (told,) = hub.heard()
        assert (told["eventName"], told["requestParameters"]) == (name, filled(parameters, hub.names))
        assert told["userIdentity"]["arn"].endswith("somebody")


def test_what_a_stack_changes_is_heard_of_as_what_anybody_does(hub: Hub) -> None:
    """Whoever may update the stack may change functions and roles by it: by way of CloudFormation is no excuse
    (https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html on invokedBy)."""
    for service, name, parameters in HEARD:
        hub.tell(service, name, filled(parameters, hub.names), invokedBy="cloudformation.amazonaws.com")
    told = hub.heard(30)
    assert sorted(each["eventName"] for each in told) == sorted(name for _, name, _ in HEARD)
    assert {each["userIdentity"]["invokedBy"] for each in told} == {"cloudformation.amazonaws.com"}


def test_what_others_do_is_not_heard_of(hub: Hub) -> None:
    for service, name, parameters in UNHEARD:
        hub.tell(service, name, filled(parameters, hub.names))
    assert hub.heard() == []


def test_whoever_writes_the_allowed_accounts_is_heard_of_where_their_bucket_tells(hub: Hub) -> None:
    s3, bucket, key = hub.client("s3"), "settings", "ecs-updater/accounts"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=bucket, Key=key, Body=b"before the bucket tells EventBridge")
    assert hub.heard() == []
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}})
    s3.put_object(Bucket=bucket, Key="ecs-updater/updater.zip", Body=b"")
    s3.put_object(Bucket=bucket, Key=key, Body=TARGETS[0].encode())
    s3.delete_object(Bucket=bucket, Key=key)
    told = hub.heard()
    assert [(each["bucket"]["name"], each["object"]["key"], each["reason"]) for each in told] == [
        (bucket, key, "PutObject"),
        (bucket, key, "DeleteObject"),
    ]


def test_operators_are_told(hub: Hub) -> None:
    table = arn("dynamodb", f"table/{hub.names['HistoryTable']}")
    hub.tell("dynamodb", "DeleteResourcePolicy", {"resourceArn": table})
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        (alarm,) = hub.client("cloudwatch").describe_alarms(AlarmNames=[hub.names["TamperingAlarm"]])["MetricAlarms"]
        if alarm["StateValue"] == "ALARM":
            assert alarm["AlarmActions"] == [hub.names["NoticesTopic"]]
            return
        time.sleep(0.1)
    raise AssertionError(alarm)


def test_tables_that_are_not_as_they_were_deployed_are_found(hub: Hub) -> None:
    """CloudFormation would find nothing of it: its templates are the same."""
    history, state = hub.names["HistoryTable"], hub.names["StateTable"]
    assert hub.check() == (0, [f"{history} and {state} are as they were deployed"])
    roles = [arn("iam", f"role/ecs-updater/{hub.names[role]}").replace(REGION, "") for role in ("UpdaterRole", "RecorderRole")]
    assert hub.check(history, state, deploy.BREAK_GLASS_ROLE, *roles)[0] == 0

    dynamodb = hub.client("dynamodb")
    table = arn("dynamodb", f"table/{history}")
    policy = dynamodb.get_resource_policy(ResourceArn=table)["Policy"]
    dynamodb.delete_resource_policy(ResourceArn=table)
    assert hub.check() == (1, [f"{history}: it has no policy at all"])

    changed = json.loads(policy)
    assert changed["Statement"].pop(0)["Sid"] == "NobodyRewritesHistory"
    changed["Statement"][1]["Condition"]["ArnNotEquals"]["aws:PrincipalArn"].append(f"arn:aws:iam::{HUB}:role/somebody")
    changed["Statement"].append({"Sid": "More", "Effect": "Allow", "Principal": "*", "Action": "dynamodb:GetItem", "Resource": "*"})
    dynamodb.put_resource_policy(ResourceArn=table, Policy=json.dumps(changed))
    dynamodb.update_table(TableName=state, DeletionProtectionEnabled=False)
    code, said = hub.check()
    assert code == 1
    assert [line.split(": {")[0] for line in said] == [
        f"{history}: its policy has a statement More that was not deployed",
        f"{history}: its policy lacks the statement NobodyRewritesHistory",
        f"{history}: the statement OnlyTheWritersAppend of its policy is another one",
        f"{state}: deletion protection is off",
    ]
