"""The sandbox's templates: a place to try the project in, that goes again without a trace."""

from __future__ import annotations

import json
from typing import Any

import deploy
import pytest
import stacks
from botocore.exceptions import ClientError
from conftest import System
from local_aws import REGION, TARGETS, root_of

ACCOUNT = TARGETS[1]
NAMES = {"ClusterName": "Sandbox", "ServiceName": "dummy"}


def traces(system: System) -> dict[str, Any]:
    """What the account has of all that the templates make."""
    ec2, ecs, iam = (system.client(service, ACCOUNT) for service in ("ec2", "ecs", "iam"))
    return {
        "vpcs": {vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"]},
        "subnets": {subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]},
        "gateways": {gateway["InternetGatewayId"] for gateway in ec2.describe_internet_gateways()["InternetGateways"]},
        "groups": {group["GroupId"] for group in ec2.describe_security_groups()["SecurityGroups"]},
        "clusters": set(ecs.list_clusters()["clusterArns"]),
        "roles": {role["Arn"] for role in iam.list_roles()["Roles"]},
        "logs": {group["arn"] for group in system.client("logs", ACCOUNT).describe_log_groups()["logGroups"]},
    }


def tasks_write_their_log_and_nothing_else(system: System, outputs: dict[str, str]) -> None:
    """What the execution role may do, and who may have it. The local AWS runs no tasks: root stands in for them."""
    iam, logs = system.client("iam", ACCOUNT), system.client("logs", ACCOUNT)
    arn = outputs["ExecutionRoleArn"]
    role = arn.rsplit("/", 1)[-1]
    (trust,) = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    # Root stands in for ECS of its own account; for tasks of another one it must not do.
    elsewhere = {**trust, "Condition": {"StringEquals": {"aws:SourceAccount": "999999999999"}}}
    for statement, may in ((elsewhere, False), (trust, True)):
        document = {"Version": "2012-10-17", "Statement": [statement]}
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(document))
        if not may:
            with pytest.raises(ClientError, match="AccessDenied"):
                system.assume(arn, root_of(ACCOUNT))
    logs.create_log_group(logGroupName="another")
    task = system.assume(arn, root_of(ACCOUNT))
    own = system.aws.client("logs", task)
    own.create_log_stream(logGroupName=outputs["LogGroupName"], logStreamName="web/1")
    for refused in (
        lambda: own.create_log_stream(logGroupName="another", logStreamName="web/1"),
        lambda: system.aws.client("ecs", task).list_clusters(),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused()
    logs.delete_log_group(logGroupName="another")


def test_a_service_in_the_sandbox_can_be_changed_and_the_sandbox_removed(system: System) -> None:
    before = traces(system)
    cloudformation = system.aws.client("cloudformation", root_of(ACCOUNT))

    def put(name: str, template: str, **parameters: str) -> stacks.Stack:
        return stacks.put(cloudformation, name, stacks.source(template), parameters)

    vpc = put("sandbox-vpc", "sandbox-vpc.yaml")
    network = {name: vpc.outputs[name] for name in ("SubnetIds", "SecurityGroupId")}
    cluster = put("sandbox-ecs", "sandbox-ecs.yaml", **NAMES, **network, DummyService="absent")
    assert cluster.outputs == {"ClusterName": "Sandbox"}

    # The service comes by an update of the same stack; the same again is no update.
    for _ in range(2):
        again = put("sandbox-ecs", "sandbox-ecs.yaml", **NAMES, **network, Image="busybox", DesiredCount="2")
        assert again.arn == cluster.arn
        assert again.outputs["ServiceName"] == "dummy"
    ecs = system.client("ecs", ACCOUNT)
    (service,) = ecs.describe_services(cluster="Sandbox", services=["dummy"], include=["TAGS"])["services"]
    assert service["desiredCount"] == 2
    assert service["deploymentConfiguration"]["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
    own_tags = {tag["key"]: tag["value"] for tag in service["tags"] if not tag["key"].startswith("aws:")}
    assert own_tags == deploy.TAGS
    # No way in, and out by HTTPS alone.
    (group,) = system.client("ec2", ACCOUNT).describe_security_groups(GroupIds=[network["SecurityGroupId"]])[
        "SecurityGroups"
    ]
    assert group["IpPermissions"] == []
    assert [(rule["FromPort"], rule["ToPort"]) for rule in group["IpPermissionsEgress"]] == [(443, 443)]

    tasks_write_their_log_and_nothing_else(system, again.outputs)
    for stack in (again, vpc):
        assert stacks.remove(cloudformation, stack.arn) == []
    assert traces(system) == before


def test_a_stack_that_fails_says_why_and_can_be_made_again(system: System) -> None:
    cloudformation = system.aws.client("cloudformation", root_of(ACCOUNT))
    made: list[str] = []

    def put(wants: str) -> stacks.Stack:
        resource = {"Type": "AWS::EC2::InternetGateway"}
        if wants == "trouble":
            resource["Type"] = "AWS::Lambda::Url"  # of no function, which is refused
        body = json.dumps({"Resources": {"Only": resource}})
        return stacks.put(cloudformation, "sandbox-fails", {"TemplateBody": body}, {}, made=made.append)

    with pytest.raises(stacks.StackError, match=r"^stack sandbox-fails: ROLLBACK_COMPLETE\nOnly: .+"):
        put("trouble")
    # What it left is known by its ARN, and gives way to the next attempt.
    assert len(made) == 1
    stack = put("no trouble")
    assert made == [made[0], stack.arn] and made[0] != stack.arn
    assert stacks.remove(cloudformation, stack.arn) == []
    assert stacks.find(cloudformation, "sandbox-fails") is None
    assert stacks.remove(cloudformation, stack.arn) == []


def test_a_long_template_goes_by_way_of_a_bucket(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    s3, cloudformation = system.client("s3", ACCOUNT), system.aws.client("cloudformation", root_of(ACCOUNT))
    s3.create_bucket(Bucket="long-templates", CreateBucketConfiguration={"LocationConstraint": REGION})
    assert list(stacks.source("sandbox-vpc.yaml", s3, "long-templates")) == ["TemplateBody"]
    monkeypatch.setattr(stacks, "MAX_BODY_BYTES", 100)
    source = stacks.source("sandbox-vpc.yaml", s3, "long-templates")
    assert list(source) == ["TemplateURL"]
    stack = stacks.put(cloudformation, "sandbox-long", source, {})
    assert stack.outputs["VpcId"].startswith("vpc-")
    stacks.remove(cloudformation, stack.arn)
