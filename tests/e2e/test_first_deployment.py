"""A first deployment that fails can be made again under the same name; what it leaves is what DEPLOY.md says.

The cause is one of the most frequent: a package that is not in the bucket.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import deploy
import pytest
import stacks
from conftest import BUILT
from local_aws import HUB, REGION, LocalAws, forget_aws_settings, root_of

NAME = "ecs-updater"


class Hub:
    """An account in which nothing has been deployed yet."""

    def __init__(self, aws: LocalAws) -> None:
        self._aws = aws
        s3 = self.client("s3")
        s3.create_bucket(Bucket="packages", CreateBucketConfiguration={"LocationConstraint": REGION})
        self._right = {**deploy.upload(s3, "packages", BUILT / "local"), **deploy.HUB_PARAMETERS}

    def client(self, service: str) -> Any:
        """A client that may do everything there."""
        return self._aws.client(service, root_of(HUB))

    def create(self, **parameters: str) -> str:
        """Creates the stack, as `aws cloudformation deploy` does, and waits; how it ended."""
        source = stacks.source("hub.yaml", self.client("s3"), "packages")
        given = {**self._right, **parameters}
        cloudformation = self.client("cloudformation")
        arn = cloudformation.create_stack(
            StackName=NAME,
            **source,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )["StackId"]
        return str(stacks._wait(cloudformation, arn, 0.1)["StackStatus"])

    def delete(self) -> list[str]:
        """Deletes the stack; what it left."""
        found = stacks.find(self.client("cloudformation"), NAME)
        assert found
        return stacks.remove(self.client("cloudformation"), found["StackId"])

    def left(self) -> dict[str, list[str]]:
        """What outlives a stack in this account."""
        buckets = [bucket["Name"] for bucket in self.client("s3").list_buckets()["Buckets"]]
        return {
            "tables": self.client("dynamodb").list_tables()["TableNames"],
            "log groups": [group["logGroupName"] for group in self.client("logs").describe_log_groups()["logGroups"]],
            "buckets": sorted(set(buckets) - {"packages"}),
            "functions": [function["FunctionName"] for function in self.client("lambda").list_functions()["Functions"]],
        }


NOTHING: dict[str, list[str]] = {"tables": [], "log groups": [], "buckets": [], "functions": []}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A fresh account."""
    forget_aws_settings()
    with LocalAws() as aws:
        yield Hub(aws)


def test_a_first_deployment_without_protection_leaves_nothing_and_is_made_again(hub: Hub) -> None:
    assert hub.create(ProtectTables="NO", CodeKey="mistyped/updater.zip") == "ROLLBACK_COMPLETE"
    assert hub.left() == NOTHING
    assert hub.delete() == []
    assert hub.create(ProtectTables="NO") == "CREATE_COMPLETE"

    # And then nobody can delete the tables.
    cloudformation, dynamodb = hub.client("cloudformation"), hub.client("dynamodb")
    protect = [{"ParameterKey": "ProtectTables", "ParameterValue": "YES"}]
    before = [
        {"ParameterKey": name, "UsePreviousValue": True} for name in (*deploy.HUB_PARAMETERS, "CodeBucket", *deploy.CODE_KEYS)
    ]
    arn = cloudformation.update_stack(
        StackName=NAME, UsePreviousTemplate=True, Parameters=[*before, *protect], Capabilities=["CAPABILITY_NAMED_IAM"]
    )["StackId"]
    assert stacks._wait(cloudformation, arn, 0.1)["StackStatus"] == "UPDATE_COMPLETE"
    tables = hub.left()["tables"]
    assert len(tables) == 2
    for table in tables:
        described = dynamodb.describe_table(TableName=table)["Table"]
        assert described["DeletionProtectionEnabled"]
        assert "NobodyDeletesTheTable" in dynamodb.get_resource_policy(ResourceArn=described["TableArn"])["Policy"]
    assert sorted(kind for kind, *_ in map(str.split, hub.delete())).count("AWS::DynamoDB::Table") == 2
    assert hub.left()["tables"] == tables


def test_a_first_deployment_with_protection_leaves_its_tables_and_is_made_again(hub: Hub) -> None:
    assert hub.create(CodeKey="mistyped/updater.zip") == "ROLLBACK_FAILED"
    left = hub.left()
    assert len(left["tables"]) == 2
    assert {**left, "tables": []} == NOTHING
    hub.delete()
    assert hub.create() == "CREATE_COMPLETE"
    # Beside them, and none of them taken over.
    assert len(hub.left()["tables"]) == 4
    assert set(left["tables"]) < set(hub.left()["tables"])


def test_what_a_stack_keeps_is_in_nobodys_way(hub: Hub) -> None:
    assert hub.create() == "CREATE_COMPLETE"
    hub.delete()
    kept = hub.left()
    assert hub.create() == "CREATE_COMPLETE"
    for kind, names in kept.items():
        assert set(names) <= set(hub.left()[kind])
    assert len(hub.left()["log groups"]) == 2 * len(kept["log groups"])
