"""What several questions need of the account: a cluster, services, a network, a queue with ECS's events, a function that answers its event."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from typing import Any

from account import PREFIX, Account, code
from botocore.exceptions import ClientError
from question import NotHere

IMAGE = "public.ecr.aws/docker/library/busybox:stable"
SLEEP = ["sh", "-c", "trap exit TERM; sleep 3600 & wait"]


def cluster(account: Account) -> str:
    """The run's cluster; its name."""

    def make() -> str:
        name = account.name("cluster")
        account.client("ecs").create_cluster(clusterName=name, tags=account.tag_list("key", "value"))
        return name

    return account.shared("cluster", make)


def definition(account: Account, what: str, **members: Any) -> str:
    """A new revision for Fargate that sleeps, or whose members are others; its ARN."""
    container = {"name": "main", "image": IMAGE, "essential": True, "command": SLEEP, **members.pop("container", {})}
    registered = account.client("ecs").register_task_definition(
        **{
            "family": account.name(what),
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "cpu": "256",
            "memory": "512",
            "containerDefinitions": [container],
            "tags": account.tag_list("key", "value"),
            **members,
        }
    )
    return str(registered["taskDefinition"]["taskDefinitionArn"])


def network(account: Account) -> dict[str, Any]:
    """The default VPC's subnets, with public addresses: whatever runs there must reach a registry."""

    def make() -> dict[str, Any]:
        found = account.client("ec2").describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        if not found:
            raise NotHere("the account has no default VPC in this region")
        subnets = [subnet["SubnetId"] for subnet in found][:3]
        return {"awsvpcConfiguration": {"subnets": subnets, "assignPublicIp": "ENABLED"}}

    return account.shared("network", make)


def service(account: Account, what: str, task_definition: str = "", **members: Any) -> dict[str, Any]:
    """A new service on Fargate, without tasks unless `desiredCount` says so; as ECS answered it."""
    request = {
        "cluster": cluster(account),
        "serviceName": account.name(what),
        "taskDefinition": task_definition or definition(account, what),
        "desiredCount": 0,
        "launchType": "FARGATE",
        "networkConfiguration": network(account),
        "tags": account.tag_list("key", "value"),
        **members,
    }

    def attempt() -> dict[str, Any] | None:
        try:
            return dict(account.client("ecs").create_service(**request)["service"])
        except ClientError as error:
            # In an account that never had a cluster, ECS makes its service-linked role first; a new role of ours takes some seconds, too.
            if "service linked role" in str(error) or "Unable to assume" in str(error) or "assume the role" in str(error):
                return None
            raise

    return account.wait(attempt, 60, "ECS cannot assume its service-linked role in this account")


def described(account: Account, name: str, **members: Any) -> dict[str, Any]:
    """A service as it is now."""
    answer = account.client("ecs").describe_services(cluster=cluster(account), services=[name], **members)
    return dict(answer["services"][0])


def update(account: Account, name: str, **members: Any) -> dict[str, Any]:
    """UpdateService; the service as it answers."""
    return dict(account.client("ecs").update_service(cluster=cluster(account), service=name, **members)["service"])


def deployments_of(account: Account, name: str) -> list[dict[str, Any]]:
    """The service deployments that ECS lists of a service, the newest first."""
    answer = account.client("ecs").list_service_deployments(cluster=cluster(account), service=name)
    return sorted(answer["serviceDeployments"], key=lambda each: str(each.get("createdAt")), reverse=True)


def first_deployment(account: Account, name: str, seconds: float = 60) -> dict[str, Any]:
    """The first service deployment of a new service, at last. A local AWS that has none has no others either."""
    return account.wait(
        lambda: next(iter(deployments_of(account, name)), None), seconds, "there are no service deployments here", local=0
    )


def running(account: Account, name: str, count: int = 1) -> None:
    """Waits until the service has this many tasks, and nothing else going on."""

    def steady() -> bool | None:
        now = described(account, name)
        return now["runningCount"] == count and len(now["deployments"]) == 1 or None

    account.wait(steady, 420, f"the service {name} never had {count} running tasks here", pause=5)


# ---- events ----------------------------------------------------------------------------------------------------------


def queue(account: Account, what: str, allow: dict[str, Any] | None = None) -> tuple[str, str]:
    """A queue into which rules may send, or whose policy is another; its URL and its ARN."""
    name = account.name(what)
    arn = account.arn("sqs", name)
    rules = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow or rules]})
    made = account.client("sqs").create_queue(QueueName=name, Attributes={"Policy": policy}, tags=account.tags)
    return made["QueueUrl"], arn


class Events:
    """ECS's events about the services of the run's cluster, as EventBridge delivers them."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._seen: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        name = account.name("ecs-events")
        self._url, arn = queue(account, "ecs-events")
        events = account.client("events")
        in_cluster = {"detail": {"clusterArn": [account.arn("ecs", f"cluster/{cluster(account)}")]}}
        services = {"resources": [{"prefix": account.arn("ecs", f"service/{cluster(account)}/")}]}
        pattern = {"source": ["aws.ecs"], "$or": [in_cluster, services]}
        events.put_rule(Name=name, EventPattern=json.dumps(pattern), Tags=account.tag_list())
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])

    def of(self, service_name: str) -> list[dict[str, Any]]:
        """Those about this service that have come until now, in the order of their times."""
        with self._lock:
            while messages := self._account.client("sqs").receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages"):
                self._seen += [json.loads(message["Body"]) for message in messages]
                for message in messages:
                    self._account.client("sqs").delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        own = [event for event in self._seen if any(arn.endswith(f"/{service_name}") for arn in event.get("resources", []))]
        return sorted(own, key=lambda event: str(event.get("detail", {}).get("updatedAt") or event.get("time")))


def ecs_events(account: Account) -> Events:
    """The run's ear."""
    return account.shared("events", lambda: Events(account))


def told(event: dict[str, Any]) -> dict[str, Any]:
    """What an event says of a deployment."""
    detail = event.get("detail", {})
    return {
        "detail-type": event.get("detail-type"),
        **{name: detail[name] for name in ("eventName", "deploymentId", "reason", "updatedAt", "eventType") if name in detail},
        "members": sorted(detail),
    }


# ---- a function ------------------------------------------------------------------------------------------------------

ECHO = """
def handler(event, context):
    if event.get("fail"):
        raise ValueError("as it was asked to")
    return {"statusCode": 200, "body": event}
"""


def echo(account: Account) -> str:
    """A function that answers the event that it gets; its ARN."""

    def make() -> str:
        name = account.name("echo")
        groups = account.arn("logs", f"log-group:/aws/lambda/{PREFIX}-*")
        rights = {"Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": groups}
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        role = account.role("echo", [rights], [trust])
        # Made before the function would make it, without tag and for ever.
        account.client("logs").create_log_group(logGroupName=f"/aws/lambda/{name}", tags=account.tags)
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            file = zipfile.ZipInfo("echo.py")
            file.external_attr = 0o644 << 16
            archive.writestr(file, ECHO)
        functions = account.client("lambda")

        def attempt() -> str | None:
            try:
                made = functions.create_function(
                    FunctionName=name, Runtime="python3.13", Role=role, Handler="echo.handler", Code={"ZipFile": package.getvalue()},
                    Timeout=10, Tags=account.tags,
                )
            except ClientError as error:
                if code(error) == "InvalidParameterValueException" and "assume" in str(error):
                    return None  # IAM does not tell Lambda of a new role at once
                raise
            return str(made["FunctionArn"])

        arn = account.wait(attempt, 60, "Lambda cannot assume a new role")
        account.wait(
            lambda: functions.get_function_configuration(FunctionName=name)["State"] == "Active" or None, 60, "the function never got active"
        )
        return arn

    return account.shared("echo", make)
