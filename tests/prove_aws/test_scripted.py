"""The questions that no local AWS can answer, asked of one that answers as a script says, with requests that AWS's models allow.

So it is seen here that they come to an answer, and which. What AWS really answers, they are there to find out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools" / folder) for folder in ("prove_aws", "local_aws")]

import prove  # noqa: E402, F401  (registers the questions)
from account import Account  # noqa: E402
from question import QUESTIONS, Answer, Verdict  # noqa: E402

ACCOUNT = "210987654321"
CLUSTER = "ecs-updater-prove-00000000-cluster"


class Client:
    """A client whose calls are checked by the service's model, and answered by a function of the script, or with nothing."""

    def __init__(self, service: str, script: dict[str, Callable[..., Any]], calls: list[str]) -> None:
        self._real = boto3.client(service, region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
        self._service, self._script, self._calls = service, script, calls
        self.meta = self._real.meta

    def __getattr__(self, operation: str) -> Any:
        model = self._real.meta.service_model.operation_model(self._real.meta.method_to_api_mapping[operation])

        def call(**arguments: Any) -> Any:
            report = ParamValidator().validate(arguments, model.input_shape)
            assert not report.has_errors(), f"{self._service}.{operation}: {report.generate_report()}"
            self._calls.append(f"{self._service}.{operation}")
            return self._script.get(f"{self._service}.{operation}", lambda **_: {})(**arguments)

        return call

    def get_paginator(self, operation: str) -> Any:
        """Pages: one."""
        call = getattr(self, operation)

        class Pages:
            def paginate(self, **arguments: Any) -> list[Any]:
                return [call(**arguments)]

        return Pages()


class Scripted(Account):
    """An account in which time passes only where a question waits."""

    def __init__(self, script: dict[str, Callable[..., Any]]) -> None:
        self.now = 0.0
        self.made: list[str] = []
        self._script = {"sts.get_caller_identity": lambda **_: {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me"}, **COMMON, **script}
        super().__init__(boto3.session.Session("a", "b"), "eu-west-1")
        self.run = "00000000"

    def client(self, service: str, credentials: dict[str, str] | None = None) -> Any:
        return Client(service, self._script, self.made)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def service(name: str, *deployments: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A service as ECS answers it."""
    arn = f"arn:aws:ecs:eu-west-1:{ACCOUNT}:service/{CLUSTER}/{name}"
    counts = {"runningCount": 1, "pendingCount": 0, "desiredCount": 1, "status": "ACTIVE"}
    return {"serviceName": name, "serviceArn": arn, "deployments": list(deployments), "deploymentConfiguration": {}, **counts, **members}


def deployment(number: int, status: str = "PRIMARY", **members: Any) -> dict[str, Any]:
    """One of its deployments."""
    return {"id": f"ecs-svc/{number}", "status": status, "taskDefinition": f"arn:aws:ecs:eu-west-1:{ACCOUNT}:task-definition/a:{number}", **members}


def listed(number: int, status: str) -> dict[str, Any]:
    """A service deployment as ECS lists it."""
    revision = f"arn:aws:ecs:eu-west-1:{ACCOUNT}:service-revision/{CLUSTER}/a/{number}"
    arn = f"arn:aws:ecs:eu-west-1:{ACCOUNT}:service-deployment/{CLUSTER}/a/d{number}"
    return {"serviceDeploymentArn": arn, "status": status, "createdAt": number, "targetServiceRevisionArn": revision}


def event(name: str, what: str, number: int, reason: str = "") -> dict[str, Any]:
    """An event as it lies in a queue."""
    detail = {"eventName": what, "deploymentId": f"ecs-svc/{number}", "reason": reason, "updatedAt": f"2026-11-30T12:00:0{number}Z"}
    resources = [f"arn:aws:ecs:eu-west-1:{ACCOUNT}:service/{CLUSTER}/{name}"]
    return {"detail-type": "ECS Deployment State Change", "resources": resources, "detail": detail}


def messages(*events: dict[str, Any]) -> Callable[..., Any]:
    """A queue that has these, once."""
    left = list(events)

    def receive(**_: Any) -> Any:
        found, left[:] = left[:], []
        return {"Messages": [{"Body": json.dumps(each), "ReceiptHandle": "r"} for each in found]} if found else {}

    return receive


def after(calls: int, before: Any, then: Any) -> Callable[..., Any]:
    """One answer for some calls, and another from then on."""
    count = [0]

    def answer(**_: Any) -> Any:
        count[0] += 1
        return before if count[0] <= calls else then

    return answer


COMMON: dict[str, Callable[..., Any]] = {
    "ec2.describe_subnets": lambda **_: {"Subnets": [{"SubnetId": "subnet-1"}]},
    "ecs.register_task_definition": lambda **_: {"taskDefinition": {"taskDefinitionArn": "arn:aws:ecs:eu-west-1:1:task-definition/a:1"}},
    "ecs.create_service": lambda **asked: {"service": service(asked["serviceName"], deployment(1))},
    "sqs.create_queue": lambda **_: {"QueueUrl": "https://queue"},
    "iam.create_role": lambda **asked: {"Role": {"Arn": f"arn:aws:iam::{ACCOUNT}:role/{asked['RoleName']}"}},
    "dynamodb.describe_table": lambda **asked: {"Table": {"TableStatus": "ACTIVE", "TableArn": f"arn:aws:dynamodb:::table/{asked['TableName']}"}},
}


def ask(name: str, script: dict[str, Callable[..., Any]]) -> tuple[Answer, Scripted]:
    """A question's answer."""
    account = Scripted(script)
    return prove.ask(QUESTIONS[name], account), account


def rollback(number: int, *events: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    """A deployment 2 that is rolled back by deployment `number`."""
    own = "ecs-updater-prove-00000000-rollback"
    before = service(own, deployment(1))
    back = service(own, deployment(number), deployment(2, "ACTIVE", rolloutState="FAILED"))
    looks = iter([before, before])
    return {
        "ecs.describe_services": lambda **_: {"services": [next(looks, back)], "failures": []},
        "ecs.update_service": lambda **_: {"service": service(own, deployment(2), deployment(1, "ACTIVE"))},
        "ecs.list_service_deployments": lambda **_: {"serviceDeployments": [listed(1, "SUCCESSFUL"), listed(2, "ROLLBACK_SUCCESSFUL")]},
        "sqs.receive_message": messages(*events),
    }


@pytest.mark.parametrize(("number", "which"), [(1, "that of the deployment it goes back to"), (3, "a new one")])
def test_the_id_of_a_rollback(number: int, which: str) -> None:
    own = "ecs-updater-prove-00000000-rollback"
    begins = event(own, "SERVICE_DEPLOYMENT_IN_PROGRESS", number, "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.")
    answer, account = ask("rollback-ids", rollback(number, event(own, "SERVICE_DEPLOYMENT_FAILED", 2), begins))
    assert answer.verdict is Verdict.AS_BELIEVED, answer
    assert which in answer.text
    assert len(answer.facts["events"]) == 2
    assert "sqs.delete_message" in account.made


def test_a_rollback_without_its_words_is_another_answer() -> None:
    own = "ecs-updater-prove-00000000-rollback"
    answer, _ = ask("rollback-ids", rollback(1, event(own, "SERVICE_DEPLOYMENT_IN_PROGRESS", 1, "going home")))
    assert answer.verdict is Verdict.OTHER


@pytest.mark.parametrize(
    ("status", "told", "verdict"),
    [
        ("ROLLBACK_SUCCESSFUL", "SERVICE_DEPLOYMENT_FAILED", Verdict.AS_BELIEVED),
        ("ROLLBACK_SUCCESSFUL", "SERVICE_DEPLOYMENT_COMPLETED", Verdict.OTHER),
        ("STOPPED", "SERVICE_DEPLOYMENT_FAILED", Verdict.OTHER),
    ],
)
def test_a_deployment_that_is_stopped(status: str, told: str, verdict: Verdict) -> None:
    own = "ecs-updater-prove-00000000-stopped"
    first, under_way = {"serviceDeployments": [listed(1, "SUCCESSFUL")]}, {"serviceDeployments": [listed(1, "SUCCESSFUL"), listed(2, "IN_PROGRESS")]}
    answers = iter([first, first, under_way, under_way])
    answer, account = ask("stop-rollback", {
        "ecs.describe_services": lambda **_: {"services": [service(own, deployment(1))]},
        "ecs.update_service": lambda **_: {"service": service(own, deployment(2), deployment(1, "ACTIVE"))},
        "ecs.list_service_deployments": lambda **_: next(answers, {"serviceDeployments": [listed(2, status)]}),
        "ecs.describe_service_deployments": lambda **_: {"serviceDeployments": [listed(2, status)]},
        "sqs.receive_message": messages(event(own, told, 2)),
    })
    assert answer.verdict is verdict, answer
    assert "ecs.stop_service_deployment" in account.made


def test_events_of_a_blue_green_deployment() -> None:
    own = "ecs-updater-prove-00000000-blue-green"
    answer, _ = ask("blue-green-events", {
        "ecs.describe_services": lambda **_: {"services": [service(own, deployment(1))]},
        "ecs.update_service": lambda **_: {"service": service(own, deployment(2), deployment(1, "ACTIVE"))},
        "ecs.list_service_deployments": lambda **_: {"serviceDeployments": [listed(1, "SUCCESSFUL"), listed(2, "SUCCESSFUL")]},
        "sqs.receive_message": messages(event(own, "SERVICE_DEPLOYMENT_COMPLETED", 2), event("another", "SERVICE_DEPLOYMENT_FAILED", 3)),
    })
    assert answer.verdict is Verdict.AS_BELIEVED, answer
    assert "['ECS Deployment State Change: SERVICE_DEPLOYMENT_COMPLETED']" in answer.text


@pytest.mark.parametrize(("state", "verdict"), [({}, Verdict.AS_BELIEVED), ({"rolloutState": "COMPLETED"}, Verdict.OTHER)])
def test_the_rollout_state_behind_a_classic_load_balancer(state: dict[str, str], verdict: Verdict) -> None:
    answer, account = ask("rollout-state-clb", {"ecs.describe_services": lambda **_: {"services": [service("clb", deployment(1, **state))]}})
    assert answer.verdict is verdict, answer
    assert "elb.create_load_balancer" in account.made


@pytest.mark.parametrize(("members", "verdict"), [({"resourceManagementType": "ECS"}, Verdict.AS_BELIEVED), ({}, Verdict.OTHER)])
def test_an_express_service(members: dict[str, str], verdict: Verdict) -> None:
    def refuses(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "InvalidParameterException", "Message": "use UpdateExpressGatewayService"}}, "UpdateService")

    answer, account = ask("express", {
        "ecs.create_express_gateway_service": lambda **asked: {"service": {"serviceName": asked["serviceName"], "serviceArn": "arn"}},
        "ecs.describe_services": lambda **_: {"services": [service("express", deployment(1), **members)]},
        "ecs.describe_task_definition": lambda **_: {"taskDefinition": {"containerDefinitions": [{"name": "Main"}], "status": "ACTIVE"}},
        "ecs.update_service": refuses,
    })
    assert answer.verdict is verdict, answer
    assert "UpdateService with a revision: InvalidParameterException: use UpdateExpressGatewayService" in answer.text
    assert "iam.attach_role_policy" in account.made


@pytest.mark.parametrize(("calls", "number", "verdict"), [(1, 2, Verdict.AS_BELIEVED), (40, 2, Verdict.OTHER), (1, 7, Verdict.OTHER)])
def test_which_service_deployment_is_named(calls: int, number: int, verdict: Verdict) -> None:
    first, second = listed(1, "SUCCESSFUL"), listed(number, "IN_PROGRESS")
    old, new = (service("named", deployment(1), currentServiceDeployment=each["serviceDeploymentArn"]) for each in (first, second))
    looks = iter([old] * calls)
    lists = iter([{"serviceDeployments": [first]}] * calls)
    answer, _ = ask("named-deployment", {
        "ecs.describe_services": lambda **_: {"services": [next(looks, new)]},
        "ecs.list_service_deployments": lambda **_: next(lists, {"serviceDeployments": [second, first]}),
        "ecs.update_service": lambda **_: {"service": service("named", deployment(2), deployment(1, "ACTIVE"))},
    })
    assert answer.verdict is verdict, answer


@pytest.mark.parametrize(("starts", "shown", "verdict"), [
    (True, True, Verdict.AS_BELIEVED), (False, False, Verdict.AS_BELIEVED), (True, False, Verdict.OTHER),
])
def test_monitoring(starts: bool, shown: bool, verdict: Verdict) -> None:
    before = service("m", deployment(1), currentServiceRevisions=[{"arn": "revision"}])
    then = service("m", deployment(2 if starts else 1), currentServiceRevisions=[{"arn": "revision"}])
    answer, _ = ask("monitoring", {
        "ecs.describe_services": after(1, {"services": [before]}, {"services": [then]}),
        "ecs.update_service": lambda **_: {"service": then},
        "ecs.list_service_deployments": lambda **_: {"serviceDeployments": [listed(1, "SUCCESSFUL")]},
        "ecs.describe_service_revisions": lambda **_: {"serviceRevisions": [{"serviceRevisionArn": "r", **({"monitoring": {}} if shown else {})}]},
    })
    assert answer.verdict is verdict, answer


@pytest.mark.parametrize(("gone", "verdict"), [
    ({"minute"}, Verdict.AS_BELIEVED), (set(), Verdict.NOT_HERE), ({"minute", "years"}, Verdict.OTHER), ({"minute", "later"}, Verdict.OTHER),
])
def test_ttl(gone: set[str], verdict: Verdict) -> None:
    answer, account = ask("ttl", {"dynamodb.get_item": lambda **asked: {} if asked["Key"]["id"]["S"] in gone else {"Item": {}}})
    assert answer.verdict is verdict, answer
    assert account.now < 50 * 60


@pytest.mark.parametrize(("elsewhere", "verdict"), [("TaskFailedToStart", Verdict.AS_BELIEVED), ("EssentialContainerExited", Verdict.OTHER)])
def test_the_trust_of_tasks(elsewhere: str, verdict: Verdict) -> None:
    ended = iter(["EssentialContainerExited", elsewhere])
    answer, account = ask("source-account-tasks", {
        "ecs.run_task": lambda **_: {"tasks": [{"taskArn": "task"}], "failures": []},
        "ecs.describe_tasks": lambda **_: {"tasks": [{"lastStatus": "STOPPED", "stopCode": next(ended), "stoppedReason": ""}]},
    })
    assert answer.verdict is verdict, answer
    assert account.made.count("ecs.run_task") == 2


@pytest.mark.parametrize(("minutes", "verdict"), [(3, Verdict.AS_BELIEVED), (20, Verdict.OTHER), (60, Verdict.OTHER)])
def test_late_metrics(minutes: float, verdict: Verdict) -> None:
    clock: list[Scripted] = []

    def statistics(**asked: Any) -> Any:
        came = clock[0].now >= minutes * 60
        return {"Datapoints": [{asked["Statistics"][0]: 1.0, "Timestamp": "2026-11-30"}] if came else []}

    account = Scripted({
        "cloudwatch.get_metric_statistics": statistics,
        "lambda.create_function": lambda **_: {"FunctionArn": "arn:aws:lambda:eu-west-1:1:function:echo"},
        "lambda.get_function_configuration": lambda **_: {"State": "Active"},
    })
    clock.append(account)
    answer = prove.ask(QUESTIONS["metrics-late"], account)
    assert answer.verdict is verdict, answer
