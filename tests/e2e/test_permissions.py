"""Least privilege, shown from both sides: what is there is needed, and what is not there is refused.

The policies that the system runs under are the rendered ones. Each single action is taken away once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deploy
import pytest
from botocore.exceptions import ClientError
from conftest import Service, System, end_lease
from local_aws import HUB, TARGETS, Credentials

from ledger import assert_chain

POLICIES = deploy.ROOT / "policies"
TARGET = TARGETS[0]
TARGET_ROLE = "ecs-updater-target"
TARGET_ROLE_ARN = f"arn:aws:iam::{TARGET}:role/ecs-updater/{TARGET_ROLE}"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
Replace = Callable[[str, str, str, dict[str, Any]], None]

# (statement, action) -> the code of a change without it. None: an image and tags are changed without it, and why.
UPDATER = {
    ("EnterTargetAccounts", "sts:AssumeRole"): "AssumeRoleFailed",
    ("EnterTargetAccounts", "sts:SetSourceIdentity"): None,  # for callers that the API door vouches for: below
    ("AppendToHistory", "dynamodb:PartiQLInsert"): "HistoryUnavailable",
    ("ReadHistory", "dynamodb:GetItem"): None,  # to resume a change: below; to restore one: test_restore.py
    ("ReadHistory", "dynamodb:Query"): None,  # to restore the previous one: test_restore.py
    ("KeepState", "dynamodb:BatchGetItem"): "HistoryUnavailable",
    ("KeepState", "dynamodb:PartiQLInsert"): "HistoryUnavailable",
    ("KeepState", "dynamodb:PartiQLUpdate"): "HistoryUnavailable",
    ("WriteItsLog", "logs:CreateLogStream"): None,  # by Lambda itself, which the local AWS does without asking
    ("WriteItsLog", "logs:PutLogEvents"): None,  # as above
}
TARGET_ACTIONS = {
    ("ReadServices", "ecs:DescribeServices"): "ServiceReadFailed",
    ("ReadServices", "ecs:ListServiceDeployments"): None,  # to follow a deployment
    ("ReadDeployments", "ecs:DescribeServiceDeployments"): None,  # as above
    ("ReadDeployments", "ecs:DescribeServiceRevisions"): None,  # as above
    ("ChangeServices", "ecs:UpdateService"): "ServiceUpdateFailed",
    ("ChangeServices", "ecs:TagResource"): "TagUpdateFailed",
    ("ChangeServices", "ecs:UntagResource"): "TagUpdateFailed",
    ("StopAndContinueDeployments", "ecs:StopServiceDeployment"): None,  # by an event of its own
    ("StopAndContinueDeployments", "ecs:ContinueServiceDeployment"): None,  # as above
    ("ReadTaskDefinitions", "ecs:DescribeTaskDefinition"): "ServiceReadFailed",
    ("ReadTags", "ecs:ListTagsForResource"): "ServiceReadFailed",
    ("RegisterTaskDefinitions", "ecs:RegisterTaskDefinition"): "TaskDefinitionRejected",
    ("TagTaskDefinitionsOnRegister", "ecs:TagResource"): "TaskDefinitionRejected",
    ("PassTaskRoles", "iam:PassRole"): "TaskDefinitionRejected",
    ("PassInfrastructureRoles", "iam:PassRole"): None,  # for volumes, Service Connect, load balancers, VPC Lattice
}


def actions_of(statement: dict[str, Any]) -> list[str]:
    """A statement's actions."""
    found = statement["Action"]
    return [found] if isinstance(found, str) else list(found)


def in_document(name: str) -> set[tuple[str, str]]:
    """Every (statement, action) of a document of policies/."""
    document = json.loads((POLICIES / name).read_text())
    return {(statement["Sid"], action) for statement in document["Statement"] for action in actions_of(statement)}


def without(document: dict[str, Any], sid: str, action: str) -> dict[str, Any]:
    """The document with one action taken out of one statement."""
    statements = []
    for statement in document["Statement"]:
        left = [each for each in actions_of(statement) if statement["Sid"] != sid or each != action]
        if left:
            statements.append({**statement, "Action": left})
    return {**document, "Statement": statements}


def refused(call: Callable[[], Any]) -> str:
    """The text that IAM refused a call with; fails where it did not."""
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    assert error["Code"] in ("AccessDenied", "AccessDeniedException"), error
    return str(error["Message"])


def in_matrix(name: str) -> set[tuple[str, str]]:
    """What a matrix has of a document: what is proved elsewhere is left out."""
    # Dead letters: test_notices.py. Keys: only where a deployment names one; the local services encrypt nothing.
    # Allowed accounts that are kept elsewhere: test_settings.py.
    # Units of the organization: only where a deployment names some; tests/policies simulates them.
    # Registries: only where a deployment names repositories and secrets; tests/policies simulates them.
    elsewhere = ("KeepDeadLetters", "UseTheTablesKey", "UseTheDataKey", "ReadAllowedAccounts", "ResolveUnits", "LookUpImages", "ReadRegistryCredentials")
    return {(sid, action) for sid, action in in_document(name) if sid not in elsewhere}


def test_the_matrix_below_has_every_action() -> None:
    assert set(UPDATER) == in_matrix("updater.json")
    assert set(TARGET_ACTIONS) == in_document("target-role.json")


@pytest.fixture
def changed(system: System) -> Service:
    """A service that was changed once, so that the next change finds a ledger."""
    service = system.service(TARGET)
    system.invoke(service.event(ecs_image_name="nginx:1"))
    return service


@pytest.mark.parametrize(("statement", "action", "code"), [(*key, code) for key, code in UPDATER.items()])
def test_the_updater_needs_each_of_its_permissions(
    system: System, changed: Service, role_policy: Replace, statement: str, action: str, code: str | None
) -> None:
    role_policy(HUB, system.updater_role, "updater", without(updater_policy(system), statement, action))
    assert_fails_for_want_of(system, changed, action, code)


@pytest.mark.parametrize(("statement", "action", "code"), [(*key, code) for key, code in TARGET_ACTIONS.items()])
def test_the_target_role_needs_each_of_its_permissions(
    system: System, changed: Service, role_policy: Replace, statement: str, action: str, code: str | None
) -> None:
    document = system.client("iam", TARGET).get_role_policy(RoleName=TARGET_ROLE, PolicyName="target-role")[
        "PolicyDocument"
    ]
    role_policy(TARGET, TARGET_ROLE, "target-role", without(document, statement, action))
    assert_fails_for_want_of(system, changed, action, code)


@pytest.fixture
def boundary(system: System) -> Iterator[Callable[[Callable[[dict[str, Any]], dict[str, Any]]], None]]:
    """Changes the target role's boundary by a function, and puts it back afterwards."""
    iam = system.client("iam", TARGET)
    arn = iam.get_role(RoleName=TARGET_ROLE)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"]

    def version() -> str:
        return str(iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"])

    def put(document: dict[str, Any]) -> None:
        before = version()
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(document), SetAsDefault=True)
        iam.delete_policy_version(PolicyArn=arn, VersionId=before)

    original = iam.get_policy_version(PolicyArn=arn, VersionId=version())["PolicyVersion"]["Document"]
    yield lambda change: put(change(original))
    put(original)


@pytest.mark.parametrize("action", sorted(action for _, action in in_document("target-boundary.json")))
def test_the_boundary_holds_whatever_the_role_is_given(
    system: System, changed: Service, role_policy: Replace, boundary: Callable[..., None], action: str
) -> None:
    role_policy(TARGET, TARGET_ROLE, "target-role", EVERYTHING)
    sid = next(sid for sid, each in in_document("target-boundary.json") if each == action)
    boundary(lambda document: without(document, sid, action))
    codes = [code for (_, each), code in TARGET_ACTIONS.items() if each == action and code]
    # TagResource is needed for the task definition first.
    code = "TaskDefinitionRejected" if action == "ecs:TagResource" else next(iter(codes), None)
    assert_fails_for_want_of(system, changed, action, code)


def updater_policy(system: System) -> dict[str, Any]:
    """The policy that the updater's role has."""
    found = system.client("iam").get_role_policy(RoleName=system.updater_role, PolicyName="updater")
    return dict(found["PolicyDocument"])


def assert_fails_for_want_of(system: System, service: Service, action: str, code: str | None) -> None:
    """A change of image and tags fails with `code` and names the action; without a code, it succeeds."""
    answer = system.invoke(service.event(ecs_image_name="nginx:2", ecs_tag={"new": "tag"}))
    if code is None:
        assert answer.body["status"] == "APPLIED"
        return
    assert answer.error, answer.payload
    assert answer.payload["errorType"] == code, answer.payload
    assert action in answer.payload["errorMessage"]
    records = assert_chain(system.records(service), system.state(f"service#{service.key}"))[2:]
    if code in ("AssumeRoleFailed", "HistoryUnavailable", "ServiceReadFailed"):
        assert records == []
        assert system.running(service) == ("nginx:1", deploy.TAGS)
        assert system.revisions(service) == 2
    else:
        assert [record["kind"] for record in records] == ["STARTED", "FAILED"]
        assert action in records[1]["error"]


def test_a_result_that_cannot_be_written_is_completed_by_the_same_key(system: System, role_policy: Replace) -> None:
    """A first change begins with inserts alone; its result needs an update."""
    service = system.service(TARGET)
    event = service.event(ecs_image_name="nginx", idempotency_key="unwritten")
    with_all = updater_policy(system)
    role_policy(HUB, system.updater_role, "updater", without(with_all, "KeepState", "dynamodb:PartiQLUpdate"))
    failed = system.invoke(event)
    assert failed.payload["errorType"] == "HistoryUnavailable"
    assert "dynamodb:PartiQLUpdate" in failed.payload["errorMessage"]
    assert system.running(service)[0] == "nginx"
    assert [record["kind"] for record in system.records(service)] == ["STARTED"]
    role_policy(HUB, system.updater_role, "updater", with_all)
    end_lease(system, service)
    # Resuming reads the STARTED record: what GetItem is for.
    role_policy(HUB, system.updater_role, "updater", without(with_all, "ReadHistory", "dynamodb:GetItem"))
    assert "dynamodb:GetItem" in system.invoke(event).payload["errorMessage"]
    role_policy(HUB, system.updater_role, "updater", with_all)
    body = system.invoke(event).body
    assert (body["BEFORE"]["serviceImage"], body["AFTER"]["serviceImage"]) == ("busybox", "nginx")
    kinds = [record["kind"] for record in assert_chain(system.records(service), system.state(f"service#{service.key}"))]
    assert kinds == ["STARTED", "STARTED", "APPLIED"], "each attempt has its STARTED"
    assert system.revisions(service) == 2


# ---- who gets in -----------------------------------------------------------------------------------------------------


def test_only_the_updater_enters_and_only_as_itself(system: System) -> None:
    updater = system.updater()
    accepted = {"RoleSessionName": "ecsu-1", "ExternalId": deploy.EXTERNAL_ID}
    system.assume(TARGET_ROLE_ARN, updater, **accepted)
    for change in ({"RoleSessionName": "somebody"}, {"ExternalId": "another"}):
        assert "sts:AssumeRole" in refused(lambda: system.assume(TARGET_ROLE_ARN, updater, **{**accepted, **change}))
    del accepted["ExternalId"]
    refused(lambda: system.assume(TARGET_ROLE_ARN, updater, **accepted))


def test_an_administrator_of_the_hub_does_not_enter(system: System, administrator: Credentials) -> None:
    refused(lambda: system.assume(TARGET_ROLE_ARN, administrator, ExternalId=deploy.EXTERNAL_ID))


def test_the_updater_enters_no_other_role(system: System) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{HUB}:root"}, "Action": "sts:AssumeRole"}
        ],
    }
    arns = [
        system.client("iam", TARGET).create_role(**name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        for name in ({"RoleName": "open"}, {"Path": "/ecs-updater/", "RoleName": "ecs-updater-target-2"})
    ]
    for arn in arns:
        assert "sts:AssumeRole" in refused(lambda: system.assume(arn, system.updater()))


def test_a_caller_that_the_api_door_vouches_for_is_named_in_the_target(system: System, role_policy: Replace) -> None:
    functions = system.client("lambda")
    name = system.deployment.function

    def change(service: Service) -> dict[str, Any]:
        event = service.event(ecs_image_name="nginx", requested_by="ann")
        answer = functions.invoke(FunctionName=name, Qualifier="api", Payload=json.dumps(event))
        return dict(json.loads(answer["Payload"].read()))

    service = system.service(TARGET)
    assert change(service)["body"]["status"] == "APPLIED"
    assert {record["identity"] for record in system.records(service)} == {"verified"}
    unnamed = without(updater_policy(system), "EnterTargetAccounts", "sts:SetSourceIdentity")
    role_policy(HUB, system.updater_role, "updater", unnamed)
    failed = change(system.service(TARGET))
    assert failed["errorType"] == "AssumeRoleFailed"
    assert "sts:SetSourceIdentity" in failed["errorMessage"]
    functions.delete_alias(FunctionName=name, Name="api")


def test_a_target_role_has_to_let_the_caller_be_named(system: System) -> None:
    """AWS asks the role's trust policy for it too
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html)."""
    functions, iam = system.client("lambda"), system.client("iam", TARGET)
    name = system.deployment.function
    trust = iam.get_role(RoleName="ecs-updater-target")["Role"]["AssumeRolePolicyDocument"]

    def change(alias: str) -> dict[str, Any]:
        event = system.service(TARGET).event(ecs_image_name="nginx", requested_by="ann")
        answer = functions.invoke(FunctionName=name, Qualifier=alias, Payload=json.dumps(event))
        return dict(json.loads(answer["Payload"].read()))

    unnamed = [statement for statement in trust["Statement"] if statement["Action"] != "sts:SetSourceIdentity"]
    assert len(unnamed) == len(trust["Statement"]) - 1
    aliases = functions.list_aliases(FunctionName=name)["Aliases"]
    if "api" not in {alias["Name"] for alias in aliases}:
        functions.create_alias(FunctionName=name, Name="api", FunctionVersion=aliases[0]["FunctionVersion"])
    try:
        iam.update_assume_role_policy(
            RoleName="ecs-updater-target", PolicyDocument=json.dumps({**trust, "Statement": unnamed})
        )
        failed = change("api")
        assert failed.get("errorType") == "AssumeRoleFailed", failed
        # Whom nobody vouches for is named in no session.
        assert change("live")["body"]["status"] == "APPLIED"
    finally:
        iam.update_assume_role_policy(RoleName="ecs-updater-target", PolicyDocument=json.dumps(trust))
    assert change("api")["body"]["status"] == "APPLIED"


# ---- what a session in a target account may do -----------------------------------------------------------------------

LAYERS = ("session", "role", "boundary")
# What is tried in a session for one service -> the action that is refused, and by which layers, each on its own: a hole
# in one must not hide behind another.
TRIED: dict[str, tuple[str, set[str]]] = {
    "read the service": ("ecs:DescribeServices", set()),
    "update the service": ("ecs:UpdateService", set()),
    "tag the service": ("ecs:TagResource", set()),
    "untag the service": ("ecs:UntagResource", set()),
    "register with tags and a task role": ("ecs:RegisterTaskDefinition", set()),
    "tag the service by its old, short ARN": ("ecs:TagResource", {"session"}),
    "read the service's tags": ("ecs:ListTagsForResource", set()),
    "read the task definition": ("ecs:DescribeTaskDefinition", set()),
    "read the task definition's tags": ("ecs:ListTagsForResource", set()),
    "read the cluster's tags": ("ecs:ListTagsForResource", {"role"}),
    "list its deployments": ("ecs:ListServiceDeployments", set()),
    "read a deployment": ("ecs:DescribeServiceDeployments", set()),
    "read a revision": ("ecs:DescribeServiceRevisions", set()),
    "stop a deployment": ("ecs:StopServiceDeployment", set()),
    "continue a deployment": ("ecs:ContinueServiceDeployment", set()),
    "stop another service's deployment": ("ecs:StopServiceDeployment", {"session"}),
    "continue another service's deployment": ("ecs:ContinueServiceDeployment", {"session"}),
    "read another service": ("ecs:DescribeServices", set()),
    "update another service": ("ecs:UpdateService", {"session"}),
    "update its namesake in another region": ("ecs:UpdateService", {"session"}),
    "tag another service": ("ecs:TagResource", {"session"}),
    "tag another service by its short ARN": ("ecs:TagResource", {"session"}),
    "untag another service": ("ecs:UntagResource", {"session"}),
    "tag a task definition that is there": ("ecs:TagResource", {"session", "role"}),
    "tag the cluster": ("ecs:TagResource", {"session", "role"}),
    "pass an administrator's role to tasks": ("iam:PassRole", {"role"}),
    "pass it for starting tasks": ("iam:PassRole", {"role"}),
    "pass a task role to ECS itself": ("iam:PassRole", {"role"}),
    "pass an infrastructure role to ECS itself": ("iam:PassRole", set()),
    "pass an infrastructure role to tasks": ("iam:PassRole", {"role"}),
    "delete the service": ("ecs:DeleteService", set(LAYERS)),
    "deregister the task definition": ("ecs:DeregisterTaskDefinition", set(LAYERS)),
    "run a task": ("ecs:RunTask", set(LAYERS)),
    "read a role": ("iam:GetRole", set(LAYERS)),
}


def attempts(system: System, session: Credentials, own: Service, other: Service) -> dict[str, Callable[[], Any]]:
    """The calls of TRIED."""
    ecs, elsewhere = (system.aws.client("ecs", session, region) for region in (own.region, "us-east-1"))
    tags = [{"key": "a", "value": "b"}]
    web = {"name": "web", "image": "nginx", "memory": 64}
    definition = {"family": own.name, "containerDefinitions": [web]}
    running = system.described(own)["taskDefinition"]
    names = ("sample/web-task", "sample-infrastructure/volumes", "administrator")
    task_role, infrastructure_role, administrator = (f"arn:aws:iam::{TARGET}:role/{name}" for name in names)

    def update(client: Any, service: Service, **parameters: Any) -> Callable[[], Any]:
        return lambda: client.update_service(cluster=deploy.CLUSTER, service=service.name, desiredCount=2, **parameters)

    def hand_over(role: str) -> Callable[[], Any]:
        return update(ecs, own, volumeConfigurations=[{"name": "v", "managedEBSVolume": {"roleArn": role}}])

    def read(service: Service) -> Callable[[], Any]:
        return lambda: ecs.describe_services(cluster=deploy.CLUSTER, services=[service.name])

    def tags_of(arn: str) -> Callable[[], Any]:
        return lambda: ecs.list_tags_for_resource(resourceArn=arn)

    def short(service: Service) -> str:
        return service.arn.replace(f":service/{deploy.CLUSTER}/", ":service/")

    def tag(arn: str) -> Callable[[], Any]:
        return lambda: ecs.tag_resource(resourceArn=arn, tags=tags)

    def untag(arn: str) -> Callable[[], Any]:
        return lambda: ecs.untag_resource(resourceArn=arn, tagKeys=["a"])

    def stop(service: Service) -> Callable[[], Any]:
        arn = service.arn.replace(":service/", ":service-deployment/") + "/d"
        return lambda: ecs.stop_service_deployment(serviceDeploymentArn=arn, stopType="ROLLBACK")

    def proceed(service: Service) -> Callable[[], Any]:
        arn = service.arn.replace(":service/", ":service-deployment/") + "/d"
        return lambda: ecs.continue_service_deployment(serviceDeploymentArn=arn, hookId="h", action="CONTINUE")

    def register(**members: Any) -> Callable[[], Any]:
        return lambda: ecs.register_task_definition(**definition, **members)

    return {
        "read the service": read(own),
        "update the service": update(ecs, own),
        "tag the service": tag(own.arn),
        "untag the service": untag(own.arn),
        "register with tags and a task role": register(tags=tags, taskRoleArn=task_role, executionRoleArn=task_role),
        "tag the service by its old, short ARN": tag(short(own)),
        "read the service's tags": tags_of(own.arn),
        "read the task definition": lambda: ecs.describe_task_definition(taskDefinition=running),
        "read the task definition's tags": tags_of(running),
        "read the cluster's tags": tags_of(f"arn:aws:ecs:{own.region}:{TARGET}:cluster/{deploy.CLUSTER}"),
        "list its deployments": lambda: ecs.list_service_deployments(cluster=deploy.CLUSTER, service=own.name),
        "read a deployment": lambda: ecs.describe_service_deployments(
            serviceDeploymentArns=[own.arn.replace(":service/", ":service-deployment/") + "/d"]
        ),
        "read a revision": lambda: ecs.describe_service_revisions(
            serviceRevisionArns=[own.arn.replace(":service/", ":service-revision/") + "/1"]
        ),
        "stop a deployment": stop(own),
        "continue a deployment": proceed(own),
        "stop another service's deployment": stop(other),
        "continue another service's deployment": proceed(other),
        "read another service": read(other),
        "update another service": update(ecs, other),
        "update its namesake in another region": update(elsewhere, own),
        "tag another service": tag(other.arn),
        "tag another service by its short ARN": tag(short(other)),
        "untag another service": untag(other.arn),
        "tag a task definition that is there": tag(running),
        "tag the cluster": tag(f"arn:aws:ecs:{own.region}:{TARGET}:cluster/{deploy.CLUSTER}"),
        "pass an administrator's role to tasks": register(taskRoleArn=administrator),
        "pass it for starting tasks": register(executionRoleArn=administrator),
        "pass a task role to ECS itself": hand_over(task_role),
        "pass an infrastructure role to ECS itself": hand_over(infrastructure_role),
        "pass an infrastructure role to tasks": register(taskRoleArn=infrastructure_role),
        "delete the service": lambda: ecs.delete_service(cluster=deploy.CLUSTER, service=own.name),
        "deregister the task definition": lambda: ecs.deregister_task_definition(taskDefinition=running),
        "run a task": lambda: ecs.run_task(cluster=deploy.CLUSTER, taskDefinition=running),
        "read a role": lambda: system.aws.client("iam", session).get_role(RoleName=TARGET_ROLE),
    }


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_alone_refuses_what_is_its_to_refuse(
    system: System, role_policy: Replace, boundary: Callable[..., None], layer: str
) -> None:
    own, other = system.service(TARGET), system.service(TARGET)
    deploy.create_service(system.aws, TARGET, own.name, "us-east-1")
    policy = (POLICIES / "session.json").read_text()
    for token, value in (("__REGION__", own.region), ("__CLUSTER__", deploy.CLUSTER), ("__SERVICE__", own.name)):
        policy = policy.replace(token, value)
    if layer != "role":
        role_policy(TARGET, TARGET_ROLE, "target-role", EVERYTHING)
    if layer != "boundary":
        boundary(lambda document: EVERYTHING)
    narrowed = {"Policy": policy} if layer == "session" else {}
    session = system.assume(TARGET_ROLE_ARN, system.updater(), ExternalId=deploy.EXTERNAL_ID, **narrowed)

    calls = attempts(system, session, own, other)
    assert calls.keys() == TRIED.keys()
    for tried, (action, refusing) in TRIED.items():
        try:
            calls[tried]()
            verdict = ""
        except ClientError as error:
            verdict = str(error) if "AccessDenied" in error.response["Error"]["Code"] else ""
        assert bool(verdict) == (layer in refusing), f"{layer}: {tried}: {verdict or 'was let through'}"
        assert not verdict or action in verdict


# ---- the reader role -------------------------------------------------------------------------------------------------

READER_ROLE = "ecs-updater-reader"
READER_ROLE_ARN = f"arn:aws:iam::{TARGET}:role/ecs-updater/{READER_ROLE}"


def reading(system: System, session: Credentials, service: Service) -> dict[str, Callable[[], Any]]:
    """What the reader role is for, by the action that IAM is asked for."""
    ecs, names = system.aws.client("ecs", session), {"cluster": deploy.CLUSTER, "service": service.name}
    running = system.described(service)["taskDefinition"]
    return {
        "ecs:ListClusters": ecs.list_clusters,
        "ecs:ListServices": lambda: ecs.list_services(cluster=deploy.CLUSTER),
        "ecs:DescribeServices": lambda: ecs.describe_services(cluster=deploy.CLUSTER, services=[service.name]),
        "ecs:ListServiceDeployments": lambda: ecs.list_service_deployments(**names),
        "ecs:DescribeServiceDeployments": lambda: ecs.describe_service_deployments(
            serviceDeploymentArns=[service.arn.replace(":service/", ":service-deployment/") + "/d"]
        ),
        "ecs:DescribeServiceRevisions": lambda: ecs.describe_service_revisions(
            serviceRevisionArns=[service.arn.replace(":service/", ":service-revision/") + "/1"]
        ),
        "ecs:DescribeTaskDefinition": lambda: ecs.describe_task_definition(taskDefinition=running),
        "ecs:ListTagsForResource": lambda: ecs.list_tags_for_resource(resourceArn=service.arn),
    }


def is_refused(call: Callable[[], Any]) -> bool:
    """Whether IAM refuses the call. What the service itself has to say does not matter."""
    try:
        call()
    except ClientError as error:
        return "AccessDenied" in error.response["Error"]["Code"]
    return False


def reader(system: System) -> Credentials:
    """A session of the reader role, entered as a named role of the hub."""
    return system.assume(READER_ROLE_ARN, system.assume(deploy.READER), ExternalId=deploy.EXTERNAL_ID)


def test_the_reader_reads_and_nothing_else(system: System) -> None:
    own, other = system.service(TARGET), system.service(TARGET)
    session = reader(system)
    calls = reading(system, session, own)
    assert calls.keys() == {action for _, action in in_document("target-reader.json")}
    assert [action for action, call in calls.items() if is_refused(call)] == []
    for tried, call in attempts(system, session, own, other).items():
        action, refusing = TRIED[tried]
        assert is_refused(call) == (action not in calls or "role" in refusing), tried


@pytest.mark.parametrize(("statement", "action"), sorted(in_document("target-reader.json")))
def test_each_permission_of_the_reader_is_for_something(
    system: System, role_policy: Replace, statement: str, action: str
) -> None:
    iam = system.client("iam", TARGET)
    document = iam.get_role_policy(RoleName=READER_ROLE, PolicyName="target-reader")["PolicyDocument"]
    role_policy(TARGET, READER_ROLE, "target-reader", without(document, statement, action))
    calls = reading(system, reader(system), system.service(TARGET))
    assert [action for action, call in calls.items() if is_refused(call)] == [action]


def test_only_who_is_named_enters_as_reader(system: System, administrator: Credentials) -> None:
    named = system.assume(deploy.READER)
    accepted = {"RoleSessionName": "ecsu-1", "ExternalId": deploy.EXTERNAL_ID}
    system.assume(READER_ROLE_ARN, named, **accepted)
    for change in ({"RoleSessionName": "somebody"}, {"ExternalId": "another"}):
        assert "sts:AssumeRole" in refused(lambda: system.assume(READER_ROLE_ARN, named, **{**accepted, **change}))
    # Neither who may do everything in the hub, nor the updater, nor who may read changes anything.
    refused(lambda: system.assume(READER_ROLE_ARN, administrator, **accepted))
    refused(lambda: system.assume(READER_ROLE_ARN, system.updater(), **accepted))
    refused(lambda: system.assume(TARGET_ROLE_ARN, named, **accepted))


# ---- the history table -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def administrator(system: System) -> Iterator[Credentials]:
    """A user of the hub who may do everything that a policy can allow."""
    iam = system.client("iam")
    iam.create_user(UserName="administrator")
    iam.put_user_policy(UserName="administrator", PolicyName="everything", PolicyDocument=json.dumps(EVERYTHING))
    key = iam.create_access_key(UserName="administrator")["AccessKey"]
    yield Credentials(key["AccessKeyId"], key["SecretAccessKey"])


def history_writes(system: System, who: Credentials) -> dict[str, Callable[[], Any]]:
    """Every way to write into the history table, by the action that IAM is asked for."""
    dynamodb, table = system.aws.client("dynamodb", who), system.deployment.history
    key = {"service": {"S": "s"}, "record": {"S": "r"}}
    insert = f"INSERT INTO \"{table}\" VALUE {{'service': 's', 'record': 'r'}}"
    where = "WHERE service = 's' AND record = 'r'"
    return {
        "dynamodb:PutItem": lambda: dynamodb.put_item(TableName=table, Item=key),
        "dynamodb:UpdateItem": lambda: dynamodb.update_item(TableName=table, Key=key),
        "dynamodb:DeleteItem": lambda: dynamodb.delete_item(TableName=table, Key=key),
        "dynamodb:BatchWriteItem": lambda: dynamodb.batch_write_item(
            RequestItems={table: [{"PutRequest": {"Item": key}}]}
        ),
        "dynamodb:PartiQLUpdate": lambda: dynamodb.execute_statement(
            Statement=f"UPDATE \"{table}\" SET kind = 'X' {where}"
        ),
        "dynamodb:PartiQLDelete": lambda: dynamodb.execute_transaction(
            TransactStatements=[{"Statement": f'DELETE FROM "{table}" {where}'}]
        ),
        "dynamodb:PartiQLInsert": lambda: dynamodb.execute_statement(Statement=insert),
        "dynamodb:UpdateTimeToLive": lambda: dynamodb.update_time_to_live(
            TableName=table, TimeToLiveSpecification={"AttributeName": "at", "Enabled": True}
        ),
        "dynamodb:DeleteTable": lambda: dynamodb.delete_table(TableName=table),
    }


def test_history_is_not_rewritten_by_anybody(system: System, administrator: Credentials) -> None:
    for action, call in history_writes(system, administrator).items():
        message = refused(call)
        assert action in message
        assert "explicit deny in a resource-based policy" in message


def test_history_is_appended_to_by_the_updater_only_and_in_transactions_only(
    system: System, administrator: Credentials
) -> None:
    statement = f"INSERT INTO \"{system.deployment.history}\" VALUE {{'service': 'appended', 'record': 'r'}}"
    transaction = [{"Statement": statement}]
    refused(lambda: system.aws.client("dynamodb", administrator).execute_transaction(TransactStatements=transaction))
    dynamodb = system.aws.client("dynamodb", system.updater())
    assert "dynamodb:PartiQLInsert" in refused(lambda: dynamodb.execute_statement(Statement=statement))
    refused(lambda: dynamodb.batch_execute_statement(Statements=transaction))
    dynamodb.execute_transaction(TransactStatements=transaction)
    for action, call in history_writes(system, system.updater()).items():
        assert action in refused(call)


def test_heads_are_written_by_nobody_else(system: System, administrator: Credentials) -> None:
    """By the state table's own policy: the administrator may do everything else."""
    state = system.deployment.state
    dynamodb = system.aws.client("dynamodb", administrator)
    item = {"id": {"S": "service#x"}}
    for action, call in (
        ("dynamodb:PutItem", lambda: dynamodb.put_item(TableName=state, Item=item)),
        ("dynamodb:UpdateItem", lambda: dynamodb.update_item(TableName=state, Key=item)),
        ("dynamodb:DeleteItem", lambda: dynamodb.delete_item(TableName=state, Key=item)),
        ("dynamodb:PartiQLInsert", lambda: dynamodb.execute_statement(Statement=f"INSERT INTO \"{state}\" VALUE {{'id': 'service#x'}}")),
        ("dynamodb:PartiQLUpdate", lambda: dynamodb.execute_statement(Statement=f"UPDATE \"{state}\" SET seq = 1 WHERE id = 'service#x'")),
        ("dynamodb:DeleteTable", lambda: dynamodb.delete_table(TableName=state)),
    ):
        message = refused(call)
        assert action in message
        assert "explicit deny in a resource-based policy" in message
    dynamodb.scan(TableName=state)


def test_the_writers_roles_write_as_their_functions_only(system: System) -> None:
    """Whoever gets into the role in another way than as the function reads, and no more."""
    for role in (system.deployment.role_arn, system.deployment.outputs["RecorderRoleArn"]):
        stolen = system.assume(role)
        dynamodb = system.aws.client("dynamodb", stolen)
        for action, statement in (
            ("dynamodb:PartiQLInsert", f"INSERT INTO \"{system.deployment.history}\" VALUE {{'service': 'stolen', 'record': 'r'}}"),
            ("dynamodb:PartiQLInsert", f"INSERT INTO \"{system.deployment.state}\" VALUE {{'id': 'service#stolen'}}"),
            ("dynamodb:PartiQLUpdate", f"UPDATE \"{system.deployment.state}\" SET seq = 1 WHERE id = 'service#stolen'"),
        ):
            message = refused(
                lambda statement=statement, dynamodb=dynamodb: dynamodb.execute_transaction(TransactStatements=[{"Statement": statement}])
            )
            assert action in message
        for target in (TARGET_ROLE_ARN, READER_ROLE_ARN):
            refused(lambda stolen=stolen, target=target: system.assume(target, stolen, ExternalId=deploy.EXTERNAL_ID))


def test_only_the_break_glass_role_changes_the_tables_policy(system: System, administrator: Credentials) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{HUB}:root"}, "Action": "sts:AssumeRole"}
        ],
    }
    iam = system.client("iam")
    role = deploy.BREAK_GLASS_ROLE.rsplit("/", 1)[-1]
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName=role, PolicyName="everything", PolicyDocument=json.dumps(EVERYTHING))
    table = system.client("dynamodb").describe_table(TableName=system.deployment.history)["Table"]["TableArn"]
    policy = system.client("dynamodb").get_resource_policy(ResourceArn=table)["Policy"]
    dynamodb = system.aws.client("dynamodb", administrator)
    assert "dynamodb:PutResourcePolicy" in refused(
        lambda: dynamodb.put_resource_policy(ResourceArn=table, Policy=policy)
    )
    assert "dynamodb:DeleteResourcePolicy" in refused(lambda: dynamodb.delete_resource_policy(ResourceArn=table))
    broken = system.aws.client("dynamodb", system.assume(deploy.BREAK_GLASS_ROLE, administrator))
    broken.put_resource_policy(ResourceArn=table, Policy=policy)


def test_the_updater_reads_and_keeps_state_and_no_more(system: System) -> None:
    dynamodb, state = system.aws.client("dynamodb", system.updater()), system.deployment.state
    history = system.deployment.history
    record = {"service": {"S": "s"}, "record": {"S": "r"}}
    dynamodb.get_item(TableName=history, Key=record)
    dynamodb.batch_get_item(RequestItems={state: {"Keys": [{"id": {"S": "x"}}]}})
    for action, call in (
        ("dynamodb:GetItem", lambda: dynamodb.get_item(TableName=state, Key={"id": {"S": "x"}})),
        ("dynamodb:BatchGetItem", lambda: dynamodb.batch_get_item(RequestItems={history: {"Keys": [record]}})),
        ("dynamodb:PartiQLSelect", lambda: dynamodb.execute_statement(Statement=f'SELECT * FROM "{history}"')),
        ("dynamodb:Scan", lambda: dynamodb.scan(TableName=system.deployment.history)),
        ("dynamodb:Scan", lambda: dynamodb.scan(TableName=state)),
        ("dynamodb:DeleteItem", lambda: dynamodb.delete_item(TableName=state, Key={"id": {"S": "x"}})),
        ("dynamodb:PutItem", lambda: dynamodb.put_item(TableName=state, Item={"id": {"S": "x"}})),
        (
            "dynamodb:PartiQLDelete",
            lambda: dynamodb.execute_statement(Statement=f"DELETE FROM \"{state}\" WHERE id = 'x'"),
        ),
        (
            "ecs:DescribeServices",
            lambda: system.aws.client("ecs", system.updater()).describe_services(
                cluster=deploy.CLUSTER, services=[deploy.SERVICE]
            ),
        ),
    ):
        assert action in refused(call)


def test_the_updater_writes_its_own_log_and_no_other(system: System) -> None:
    functions = system.client("lambda")
    own = functions.get_function_configuration(FunctionName=system.deployment.function)["LoggingConfig"]["LogGroup"]
    system.client("logs").create_log_group(logGroupName="another")
    logs = system.aws.client("logs", system.updater())
    events = [{"timestamp": int(time.time() * 1000), "message": "m"}]
    logs.create_log_stream(logGroupName=own, logStreamName="s")
    logs.put_log_events(logGroupName=own, logStreamName="s", logEvents=events)
    for action, call in (
        ("logs:CreateLogStream", lambda: logs.create_log_stream(logGroupName="another", logStreamName="s")),
        ("logs:PutLogEvents", lambda: logs.put_log_events(logGroupName="another", logStreamName="s", logEvents=events)),
        ("logs:CreateLogGroup", lambda: logs.create_log_group(logGroupName="third")),
        ("logs:DeleteLogStream", lambda: logs.delete_log_stream(logGroupName=own, logStreamName="s")),
        ("logs:DeleteLogGroup", lambda: logs.delete_log_group(logGroupName=own)),
        ("logs:PutRetentionPolicy", lambda: logs.put_retention_policy(logGroupName=own, retentionInDays=1)),
    ):
        assert action in refused(call)


def test_the_caller_of_the_examples_may_invoke_and_no_more(system: System) -> None:
    functions = system.aws.client("lambda", system.deployment.invoker)
    assert "lambda:GetFunction" in refused(lambda: functions.get_function(FunctionName=system.deployment.function))


def test_every_document_is_one_that_the_system_ran_under() -> None:
    """No document stands in policies/ that nothing here is about."""
    assert {path.name for path in Path(POLICIES).glob("*.json")} == {
        "updater.json",
        "history.json",  # test_history.py
        "lambda-trust.json",
        "history-table.json",
        "state-table.json",
        "tampering-queue.json",
        "global-events.json",
        "api-caller.json",  # test_api.py, as the next four
        "api-deployer.json",
        "api-reader.json",
        "api-organization.json",
        "api-log-trust.json",
        "session.json",
        "target-role.json",
        "target-boundary.json",
        "target-trust.json",
        # test_waves.py
        "waves.json",
        "waves-children.json",
        "waves-trust.json",
        "waves-bucket.json",
        # test_notices.py
        "recorder.json",
        "dead-letters.json",
        "notices-key.json",
        "notices-topic.json",
        "event-bus.json",
        "target-events.json",
        "target-events-trust.json",
        "target-dead-letters.json",
        # There is no chat in the local AWS.
        "chat.json",
        "chat-trust.json",
        "trigger.json",  # test_trigger.py
        "trigger-queue.json",  # test_trigger.py
        "sandbox-execution.json",  # test_sandbox.py
        "sandbox-execution-trust.json",  # test_sandbox.py
        "target-reader.json",
        "target-reader-trust.json",
    }
