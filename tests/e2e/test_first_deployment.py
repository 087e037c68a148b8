"""A first deployment that fails can be made again under the same name; what it leaves is what DEPLOY.md says.

The causes are among the most frequent: a package that is not in the bucket, and API Gateway without a role for logs. For each
template that keeps something: hub.yaml, trigger.yaml, api.yaml; and for Terraform, which goes on where it failed.
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
        """Creates the hub's stack, and waits; how it ended."""
        return self.create_other(NAME, "hub.yaml", {**self._right, **parameters})

    def create_other(self, name: str, file: str, given: dict[str, str]) -> str:
        """Creates a stack, as `aws cloudformation deploy` does, and waits; how it ended."""
        source = stacks.source(file, self.client("s3"), "packages")
        cloudformation = self.client("cloudformation")
        arn = cloudformation.create_stack(
            StackName=name,
            **source,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )["StackId"]
        return str(stacks._wait(cloudformation, arn, 0.1)["StackStatus"])

    def outputs(self) -> dict[str, str]:
        """What the hub's stack tells."""
        return stacks.outputs_of(stacks.find(self.client("cloudformation"), NAME) or {})

    def trigger(self, package: str) -> dict[str, str]:
        """Parameters of trigger.yaml."""
        self.client("s3").put_object(
            Bucket="packages", Key="right/trigger.zip", Body=(BUILT / "local" / "trigger.zip").read_bytes()
        )
        return {
            "CodeBucket": "packages",
            "CodeKey": package,
            "UpdaterAlias": self.outputs()["UpdaterAliasArn"],
            "RegistryRepositoryArns": f"arn:aws:ecr:{REGION}:{HUB}:repository/team/app",
            "TriggerMapping": "[]",
        }

    def delete(self, name: str = NAME) -> list[str]:
        """Deletes a stack; what it left."""
        found = stacks.find(self.client("cloudformation"), name)
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


def test_a_first_deployment_of_the_trigger_leaves_nothing_and_is_made_again(hub: Hub) -> None:
    assert hub.create(ProtectTables="NO") == "CREATE_COMPLETE"
    before = hub.left()
    assert hub.create_other("trigger", "trigger.yaml", hub.trigger("mistyped/trigger.zip")) == "ROLLBACK_COMPLETE"
    assert hub.left() == before
    assert hub.delete("trigger") == []
    assert hub.create_other("trigger", "trigger.yaml", hub.trigger("right/trigger.zip")) == "CREATE_COMPLETE"
    # What has been there is kept.
    assert [kind.split()[0] for kind in hub.delete("trigger")] == ["AWS::Logs::LogGroup"]


def test_a_first_deployment_of_the_api_leaves_nothing_and_is_made_again(hub: Hub) -> None:
    """The default is a role of the account that there is already. A fresh account has none."""
    assert hub.create(ProtectTables="NO") == "CREATE_COMPLETE"
    before = hub.left()
    functions = {name: hub.outputs()[name] for name in ("UpdaterApiAliasArn", "HistoryAliasArn")}
    assert hub.create_other("api", "api.yaml", functions) == "ROLLBACK_COMPLETE"
    assert hub.left() == before
    assert hub.delete("api") == []
    assert hub.create_other("api", "api.yaml", {**functions, "AccountLogRole": "CREATE"}) == "CREATE_COMPLETE"
    kept = sorted(kind.split()[0] for kind in hub.delete("api"))
    assert kept == ["AWS::ApiGateway::Account", "AWS::IAM::Role", "AWS::Logs::LogGroup"]
