"""Deploys the project into the local AWS as a platform team deploys it into theirs, and something to work on.

Hub: the real template with the real packages. Hub and targets: the real target role. Then, in each account, the
sample cluster and service that the events of tests/events name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_aws import HUB, ORGANIZATION_ID, REGION, TARGETS, Credentials, LocalAws, root_of

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "infrastructure" / "cloudformation"
PACKAGE_BUCKET = "ecs-updater-packages"
PACKAGES = UPDATER_PACKAGE, HISTORY_PACKAGE = "updater.zip", "history.zip"
EXTERNAL_ID = "local-external-id"
BREAK_GLASS_ROLE = f"arn:aws:iam::{HUB}:role/break-glass"

CLUSTER = "ECSCluster"
SERVICE = "ecs-dummy-service"
IMAGE = "busybox"
TAGS = {"old-custom-tag-name": "old-custom-tag-value"}


@dataclass(frozen=True)
class Deployment:
    """What was deployed, by the names it got."""

    function: str
    role_arn: str
    history_function: str
    history: str
    state: str
    invoker: Credentials


def deploy(aws: LocalAws, packages: Path, progress: Callable[[str], None]) -> Deployment:
    """Deploys hub and targets from the folder of `packages`; `progress` hears of each step before it is taken."""
    progress(f"hub {HUB}: infrastructure/cloudformation/hub.yaml with {' and '.join(PACKAGES)}")
    outputs = deploy_hub(aws, packages)
    for account in (HUB, *TARGETS):
        progress(
            f"account {account}: infrastructure/cloudformation/target-role.yaml, cluster {CLUSTER}, service {SERVICE}"
        )
        deploy_target(aws, account, outputs["UpdaterRoleArn"])
    return Deployment(
        function=outputs["UpdaterFunctionName"],
        role_arn=outputs["UpdaterRoleArn"],
        history_function=outputs["HistoryFunctionName"],
        history=outputs["HistoryTableName"],
        state=outputs["StateTableName"],
        invoker=create_invoker(aws, outputs["UpdaterFunctionArn"], outputs["HistoryFunctionArn"]),
    )


def deploy_hub(aws: LocalAws, packages: Path) -> dict[str, str]:
    """The hub's stack; its outputs."""
    s3 = aws.client("s3", root_of(HUB))
    s3.create_bucket(Bucket=PACKAGE_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for package in PACKAGES:
        s3.put_object(Bucket=PACKAGE_BUCKET, Key=package, Body=(packages / package).read_bytes())
    return deploy_stack(
        aws,
        HUB,
        "ecs-updater-hub",
        "hub.yaml",
        {
            "CodeBucket": PACKAGE_BUCKET,
            "CodeKey": UPDATER_PACKAGE,
            "HistoryCodeKey": HISTORY_PACKAGE,
            "OrganizationId": ORGANIZATION_ID,
            "ExternalId": EXTERNAL_ID,
            "BreakGlassRoleArn": BREAK_GLASS_ROLE,
        },
    )


def deploy_target(aws: LocalAws, account: str, updater_role_arn: str, organization: str = ORGANIZATION_ID) -> None:
    """The role that the updater assumes in `account`, and a service to change."""
    deploy_stack(
        aws,
        account,
        "ecs-updater-target-role",
        "target-role.yaml",
        {
            "UpdaterRoleArn": updater_role_arn,
            "OrganizationId": organization,
            "ExternalId": EXTERNAL_ID,
            "TaskRoleArns": "arn:aws:iam::*:role/sample/*",
            "InfrastructureRoleArns": "arn:aws:iam::*:role/sample-infrastructure/*",
        },
    )
    create_sample(aws, account)


def deploy_stack(aws: LocalAws, account: str, stack: str, template: str, parameters: dict[str, str]) -> dict[str, str]:
    """Creates a stack, waits for it, and gives its outputs."""
    cloudformation = aws.client("cloudformation", root_of(account))
    cloudformation.create_stack(
        StackName=stack,
        TemplateBody=(TEMPLATES / template).read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    while (found := cloudformation.describe_stacks(StackName=stack)["Stacks"][0])["StackStatus"].endswith(
        "_IN_PROGRESS"
    ):
        time.sleep(0.1)
    if found["StackStatus"] != "CREATE_COMPLETE":
        reasons = [
            f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
            for event in cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
            if event.get("ResourceStatusReason")
        ]
        raise RuntimeError(f"{template} in {account}: {found['StackStatus']}\n" + "\n".join(reasons))
    return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}


def create_sample(aws: LocalAws, account: str) -> None:
    """The sample cluster and service, and the role that the sample's tasks run as."""
    aws.client("iam", root_of(account)).create_role(
        Path="/sample/",
        RoleName="web-task",
        AssumeRolePolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
                ],
            }
        ),
    )
    aws.client("ecs", root_of(account)).create_cluster(clusterName=CLUSTER)
    create_service(aws, account, SERVICE)


def create_service(aws: LocalAws, account: str, service: str, region: str = REGION, **definition: Any) -> None:
    """A service of the sample's kind. `definition` replaces or adds members of its task definition."""
    ecs = aws.client("ecs", root_of(account), region)
    registered = ecs.register_task_definition(
        **{
            "family": service,
            "containerDefinitions": [{"name": "web", "image": IMAGE, "memory": 64, "essential": True}],
            "taskRoleArn": f"arn:aws:iam::{account}:role/sample/web-task",
            "tags": [{"key": "team", "value": "sample"}],
            **definition,
        }
    )
    ecs.create_service(
        cluster=CLUSTER,
        serviceName=service,
        taskDefinition=registered["taskDefinition"]["taskDefinitionArn"],
        desiredCount=1,
        tags=[{"key": key, "value": value} for key, value in TAGS.items()],
    )


def create_invoker(aws: LocalAws, *function_arns: str) -> Credentials:
    """An IAM user of the hub who may invoke the functions and do nothing else: what a caller needs, and no more."""
    iam = aws.client("iam", root_of(HUB))
    iam.create_user(UserName="caller")
    iam.put_user_policy(
        UserName="caller",
        PolicyName="invoke-the-functions",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": function_arns}],
            }
        ),
    )
    key = iam.create_access_key(UserName="caller")["AccessKey"]
    return Credentials(key["AccessKeyId"], key["SecretAccessKey"])


@dataclass(frozen=True)
class Answer:
    """What the Lambda API gave back: a response, or a function error."""

    payload: dict[str, Any]
    error: bool

    @property
    def body(self) -> dict[str, Any]:
        """The response's body; fails where there was an error."""
        assert not self.error, self.payload
        return dict(self.payload["body"])


def invoke(aws: LocalAws, deployment: Deployment, event: Any, function: str = "") -> Answer:
    """Sends an event to the updater, or to another function, through the Lambda API, signed by the caller."""
    payload = event if isinstance(event, bytes) else json.dumps(event).encode()
    lambda_api = aws.client("lambda", deployment.invoker)
    answer = lambda_api.invoke(FunctionName=function or deployment.function, Payload=payload)
    return Answer(json.loads(answer["Payload"].read()), "FunctionError" in answer)


def command_line_environment(aws: LocalAws, deployment: Deployment, who: Credentials | None = None) -> dict[str, str]:
    """What `ecs-updater`, the command line, needs in its environment: where the functions are, and who asks."""
    who = who or deployment.invoker
    return {
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": who.access_key,
        "AWS_SECRET_ACCESS_KEY": who.secret_key,
        "ECS_UPDATER_FUNCTION": deployment.function,
        "ECS_UPDATER_HISTORY_FUNCTION": deployment.history_function,
    }


def history_of(aws: LocalAws, deployment: Deployment, service_key: str) -> list[dict[str, Any]]:
    """A service's records, in the order of their keys."""
    dynamodb = aws.client("dynamodb", root_of(HUB))
    pages = dynamodb.get_paginator("query").paginate(
        TableName=deployment.history,
        KeyConditionExpression="#service = :service",
        ExpressionAttributeNames={"#service": "service"},
        ExpressionAttributeValues={":service": {"S": service_key}},
    )
    return [
        {name: int(value["N"]) if "N" in value else value["S"] for name, value in item.items()}
        for page in pages
        for item in page["Items"]
    ]


def deploy_api(aws: LocalAws, stack: str = "ecs-updater-api", **parameters: str) -> dict[str, str]:
    """The API door in front of the hub's functions; the outputs of its stack."""
    hub = aws.client("cloudformation", root_of(HUB)).describe_stacks(StackName="ecs-updater-hub")["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in hub["Outputs"]}
    functions = {name: outputs[name] for name in ("UpdaterApiAliasArn", "HistoryAliasArn")}
    return deploy_stack(aws, HUB, stack, "api.yaml", {**functions, "AccountLogRole": "CREATE", **parameters})
