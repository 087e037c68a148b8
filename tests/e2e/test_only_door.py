"""The sample service control policy: nobody but the updater changes services, and everything else goes on. It is simulated as what
it is in tests/policies/cases/only-door.yaml.

The local AWS has no organizations. As an inline policy beside "everything", a document that only denies decides the
same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import deploy
import pytest
from botocore.exceptions import ClientError
from conftest import System
from local_aws import TARGETS, root_of

ACCOUNT = TARGETS[1]
TEXT = (deploy.ROOT / "infrastructure" / "organizations" / "only-door.json").read_text()
DOCUMENT: dict[str, Any] = json.loads(TEXT)
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"},
    ],
}


def made(system: System, role: str) -> str:
    """A role with all rights but what the policy denies; its ARN."""
    iam = system.client("iam", ACCOUNT)
    arn = str(iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"])
    iam.put_role_policy(RoleName=role, PolicyName="everything", PolicyDocument=json.dumps(EVERYTHING))
    iam.put_role_policy(RoleName=role, PolicyName="only-door", PolicyDocument=TEXT)
    return arn


@pytest.fixture(scope="module")
def roles(system: System) -> Iterator[dict[str, str]]:
    """A developer, break-glass, what StackSets deploys as, and who makes services."""
    iam = system.client("iam", ACCOUNT)
    names = ("developer", "break-glass", "stacksets-exec-0123", "ecs-service-maker")
    arns = {role: made(system, role) for role in names}
    yield arns
    for role in arns:
        for policy in ("everything", "only-door"):
            iam.delete_role_policy(RoleName=role, PolicyName=policy)
        iam.delete_role(RoleName=role)


def client(system: System, roles: dict[str, str], role: str, service: str) -> Any:
    """A client that signs as the role."""
    return system.aws.client(service, system.assume(roles[role], root_of(ACCOUNT)))


def test_it_fits(system: System) -> None:
    # Quotas of Organizations: 5,120 characters.
    assert len(TEXT) <= 5120
    assert {statement["Effect"] for statement in DOCUMENT["Statement"]} == {"Deny"}


def test_services_change_through_the_updater_or_break_glass_only(system: System, roles: dict[str, str]) -> None:
    service = system.service(ACCOUNT)
    names = {"cluster": deploy.CLUSTER, "service": service.name}
    tags = [{"key": "k", "value": "v"}]
    developer = client(system, roles, "developer", "ecs")
    deployment = f"{service.arn.replace(':service/', ':service-deployment/')}/0123456789"
    new = {"cluster": deploy.CLUSTER, "serviceName": "developers", "taskDefinition": service.name}
    for call in (
        lambda: developer.update_service(**names, desiredCount=2),
        lambda: developer.tag_resource(resourceArn=service.arn, tags=tags),
        lambda: developer.untag_resource(resourceArn=service.arn, tagKeys=["k"]),
        # What would change it by another name, or by making it anew.
        lambda: developer.stop_service_deployment(serviceDeploymentArn=deployment),
        lambda: developer.create_task_set(**names, taskDefinition=service.name),
        lambda: developer.delete_service(**names, force=True),
        lambda: developer.create_service(**new, desiredCount=0),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            call()
    # Who makes services makes them, with tags, and deletes them, and no more.
    maker = client(system, roles, "ecs-service-maker", "ecs")
    maker.create_service(**new, desiredCount=0, tags=tags)
    with pytest.raises(ClientError, match="AccessDenied"):
        maker.update_service(cluster=deploy.CLUSTER, service="developers", desiredCount=2)
    maker.delete_service(cluster=deploy.CLUSTER, service="developers", force=True)
    # All else goes on; other things have tags of their own.
    assert developer.describe_services(cluster=deploy.CLUSTER, services=[service.name])["services"]
    cluster = developer.describe_clusters(clusters=[deploy.CLUSTER])["clusters"][0]["clusterArn"]
    developer.tag_resource(resourceArn=cluster, tags=tags)
    developer.untag_resource(resourceArn=cluster, tagKeys=["k"])

    client(system, roles, "break-glass", "ecs").update_service(**names, desiredCount=2)
    iam = system.client("iam", ACCOUNT)
    iam.put_role_policy(RoleName="ecs-updater-target", PolicyName="only-door", PolicyDocument=TEXT)
    try:
        body = system.invoke(service.event(ecs_image_name="nginx", ecs_tag={"k": "v"})).body
    finally:
        iam.delete_role_policy(RoleName="ecs-updater-target", PolicyName="only-door")
    assert body["status"] == "APPLIED"


def test_its_roles_are_made_by_stacksets_or_break_glass_only(system: System, roles: dict[str, str]) -> None:
    def attempts(role: str) -> list[bool]:
        iam, done = client(system, roles, role, "iam"), []
        for name, path in (("ecs-updater-target-2", "/ecs-updater/"), ("stacksets-exec-1", "/"), ("another", "/")):
            try:
                iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps(TRUST))
                system.client("iam", ACCOUNT).delete_role(RoleName=name)
                done.append(True)
            except ClientError as error:
                assert error.response["Error"]["Code"] == "AccessDenied"
                done.append(False)
        return done

    assert attempts("developer") == [False, False, True]
    assert attempts("break-glass") == [True, False, True]
    assert attempts("stacksets-exec-0123") == [True, False, True]
    with pytest.raises(ClientError, match="AccessDenied"):
        client(system, roles, "developer", "iam").update_assume_role_policy(
            RoleName="ecs-updater-target", PolicyDocument=json.dumps(TRUST)
        )
