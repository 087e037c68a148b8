"""Deploys the project into the local AWS as a platform team deploys it into theirs, and something to work on.

Hub: the real template with the real packages. Hub and targets: the real target role. Then, in each account, the
sample cluster and service that the events of tests/events name.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "local_aws"))

import stacks  # noqa: E402
from local_aws import HUB, ORGANIZATION_ID, REGION, TARGETS, Credentials, Endpoint, root_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PACKAGE_BUCKET = "ecs-updater-packages"
# Parameter of hub.yaml -> the package whose key it names.
CODE_KEYS = {"CodeKey": "updater.zip", "HistoryCodeKey": "history.zip", "RecorderCodeKey": "recorder.zip"}
PACKAGES = tuple(CODE_KEYS.values())
EXTERNAL_ID = "local-external-id"
BREAK_GLASS_ROLE = f"arn:aws:iam::{HUB}:role/break-glass"
HUB_PARAMETERS = {
    "OrganizationId": ORGANIZATION_ID,
    "ExternalId": EXTERNAL_ID,
    "BreakGlassRoleArn": BREAK_GLASS_ROLE,
}
# Who may look for services in the targets, as the parameter takes it, and one of them.
READERS = f"arn:aws:iam::{HUB}:role/readers/*"
READER = f"arn:aws:iam::{HUB}:role/readers/platform"

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
    waves: str
    waves_bucket: str
    invoker: Credentials
    outputs: dict[str, str]  # all of the hub's


def deploy(aws: Endpoint, packages: Path, progress: Callable[[str], None]) -> Deployment:
    """Deploys hub and targets from the folder of `packages`; `progress` hears of each step before it is taken."""
    progress(f"hub {HUB}: infrastructure/cloudformation/hub.yaml with {' and '.join(PACKAGES)}")
    outputs = deploy_hub(aws, packages)
    create_reader(aws)
    for account in (HUB, *TARGETS):
        progress(
            f"account {account}: infrastructure/cloudformation/target-role.yaml, cluster {CLUSTER}, service {SERVICE}"
        )
        deploy_target(aws, account, outputs["UpdaterRoleArn"], readers=f"{READERS},{outputs['RecorderRoleArn']}")
        if bus := outputs.get("EventBusArn"):
            deploy_events(aws, account, bus)
    return Deployment(
        function=outputs["UpdaterFunctionName"],
        role_arn=outputs["UpdaterRoleArn"],
        history_function=outputs["HistoryFunctionName"],
        history=outputs["HistoryTableName"],
        state=outputs["StateTableName"],
        waves=outputs["WavesArn"],
        waves_bucket=outputs["WavesBucketName"],
        invoker=create_invoker(aws, outputs),
        outputs=outputs,
    )


def deploy_hub(aws: Endpoint, packages: Path, more: dict[str, str] | None = None) -> dict[str, str]:
    """The hub's stack, with `more` parameters; its outputs."""
    s3 = aws.client("s3", root_of(HUB))
    s3.create_bucket(Bucket=PACKAGE_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    parameters = {**upload(s3, PACKAGE_BUCKET, packages), **HUB_PARAMETERS, **(more or {})}
    return deploy_stack(aws, HUB, "ecs-updater-hub", "hub.yaml", parameters, PACKAGE_BUCKET)


def upload(s3: Any, bucket: str, packages: Path) -> dict[str, str]:
    """Puts the packages into the bucket; gives the parameters of hub.yaml that name them.

    Their keys hold a hash of their content: a stack update takes a new package only where its key is another.
    """
    parameters = {"CodeBucket": bucket}
    for parameter, name in CODE_KEYS.items():
        package = (packages / name).read_bytes()
        parameters[parameter] = f"{hashlib.sha256(package).hexdigest()[:16]}/{name}"
        s3.put_object(Bucket=bucket, Key=parameters[parameter], Body=package)
    return parameters


def deploy_target(
    aws: Endpoint, account: str, updater_role_arn: str, organization: str = ORGANIZATION_ID, readers: str = READERS
) -> None:
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
            "ReaderPrincipalArns": readers,
        },
    )
    create_sample(aws, account)


def deploy_events(aws: Endpoint, account: str, bus_arn: str) -> dict[str, str]:
    """What sends the account's deployment events to the hub; its outputs."""
    return deploy_stack(aws, account, "ecs-updater-target-events", "target-events.yaml", {"HubEventBusArn": bus_arn})


def deploy_stack(
    aws: Endpoint, account: str, stack: str, template: str, parameters: dict[str, str], bucket: str = ""
) -> dict[str, str]:
    """Makes a stack of one of the project's templates, waits for it, and gives its outputs."""
    source = stacks.source(template, aws.client("s3", root_of(account)), bucket)
    return stacks.put(aws.client("cloudformation", root_of(account)), stack, source, parameters).outputs


def create_sample(aws: Endpoint, account: str) -> None:
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


def create_service(aws: Endpoint, account: str, service: str, region: str = REGION, **definition: Any) -> None:
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


def create_invoker(aws: Endpoint, outputs: dict[str, str]) -> Credentials:
    """An IAM user of the hub who may invoke the functions and run waves: what a caller needs, and no more."""
    waves, bucket = outputs["WavesArn"], f"arn:aws:s3:::{outputs['WavesBucketName']}"
    executions = waves.replace(":stateMachine:", ":execution:") + ":*"
    watch = ["states:DescribeExecution", "states:GetExecutionHistory", "states:ListMapRuns", "states:StopExecution"]
    rights = {
        "lambda:InvokeFunction": [outputs["UpdaterFunctionArn"], outputs["HistoryFunctionArn"]],
        "states:StartExecution": waves,
        "states:DescribeMapRun": waves.replace(":stateMachine:", ":mapRun:") + "/*",
        "s3:PutObject": f"{bucket}/inputs/*",
        "s3:GetObject": f"{bucket}/rollouts/*",
        **dict.fromkeys(watch, executions),
    }
    iam = aws.client("iam", root_of(HUB))
    iam.create_user(UserName="caller")
    iam.put_user_policy(
        UserName="caller",
        PolicyName="invoke-the-functions",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in rights.items()
                ],
            }
        ),
    )
    key = iam.create_access_key(UserName="caller")["AccessKey"]
    return Credentials(key["AccessKeyId"], key["SecretAccessKey"])


def create_reader(aws: LocalAws) -> None:
    """A role of the hub that may look for services and do nothing else: what `ecs-updater targets` needs."""
    iam, name = aws.client("iam", root_of(HUB)), READER.rsplit("/", 1)[-1]
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{HUB}:root"}, "Action": "sts:AssumeRole"}
    listing = [f"organizations:List{what}" for what in ("Accounts", "AccountsForParent", "OrganizationalUnitsForParent")]
    rights = [
        {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Resource": "arn:aws:iam::*:role/ecs-updater/ecs-updater-reader",
        },
        {"Effect": "Allow", "Action": listing, "Resource": "*"},
    ]
    iam.create_role(
        Path="/readers/",
        RoleName=name,
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    iam.put_role_policy(
        RoleName=name,
        PolicyName="find-services",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": rights}),
    )


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


def send(lambda_api: Any, function: str, event: Any) -> Answer:
    """Sends an event, or any bytes, to a function."""
    payload = event if isinstance(event, bytes) else json.dumps(event).encode()
    answer = lambda_api.invoke(FunctionName=function, Payload=payload)
    return Answer(json.loads(answer["Payload"].read()), "FunctionError" in answer)


def invoke(aws: Endpoint, deployment: Deployment, event: Any, function: str = "") -> Answer:
    """Sends an event to the updater, or to another function, through the Lambda API, signed by the caller."""
    return send(aws.client("lambda", deployment.invoker), function or deployment.function, event)


def command_line_environment(aws: Endpoint, deployment: Deployment, who: Credentials | None = None) -> dict[str, str]:
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


def history_of(aws: Endpoint, deployment: Deployment, service_key: str) -> list[dict[str, Any]]:
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
