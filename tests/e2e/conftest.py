"""One local AWS for the whole run, and the services, principals and wires that tests use on it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tools/deploy", "tools/local_aws", "infrastructure")]

import deploy  # noqa: E402  (found by the line above)
from local_aws import DISTRUSTFUL, HUB, OUTSIDER, REGION, TARGETS, Credentials, LocalAws, forget_aws_settings, root_of  # noqa: E402
from wire import Wire  # noqa: E402

# Cargo's folder, with what `make local-package` builds.
BUILT = Path(os.environ.get("BUILT", ROOT / "target")).absolute()
COMMAND_LINE = BUILT / "debug" / "ecs-updater"
for needed in (*(BUILT / "local" / package for package in deploy.PACKAGES), COMMAND_LINE):
    if not needed.exists():
        pytest.exit(f"{needed} is not there: `make local-package` builds it, and `make test` does so first", 2)

# What tests found and people read: printed after all of them, whether or not pytest shows what tests print.
TABLES = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints them."""
    for table in config.stash.get(TABLES, []):
        terminalreporter.write_line("")
        terminalreporter.write_line(table)


# Imported by more than one test module; their asserts are to be explained as those of tests are.
pytest.register_assert_rewrite("ledger")


@dataclass(frozen=True)
class Service:
    """An ECS service, by its names."""

    account: str
    region: str
    name: str

    @property
    def key(self) -> str:
        """What its ledger is kept under."""
        return f"{self.account}/{self.region}/{deploy.CLUSTER}/{self.name}"

    @property
    def arn(self) -> str:
        """Its ARN."""
        return f"arn:aws:ecs:{self.region}:{self.account}:service/{deploy.CLUSTER}/{self.name}"

    def event(self, **members: Any) -> dict[str, Any]:
        """An event for this service."""
        names = {"account_id": self.account, "ecs_cluster_name": deploy.CLUSTER, "ecs_service_name": self.name}
        return {**names, **({"region": self.region} if self.region != REGION else {}), **members}


class System:
    """The deployed project and the AWS it runs in."""

    def __init__(self, aws: LocalAws, deployment: deploy.Deployment) -> None:
        self.aws = aws
        self.deployment = deployment
        self._count = 0

    def client(self, name: str, account: str = HUB, region: str = REGION) -> Any:
        """A client that may do everything in `account`."""
        return self.aws.client(name, root_of(account), region)

    def service(self, account: str = TARGETS[0], region: str = REGION, **definition: Any) -> Service:
        """A new service that no other test knows."""
        self._count += 1
        service = Service(account, region, f"service-{self._count}")
        deploy.create_service(self.aws, account, service.name, region, **definition)
        return service

    def invoke(self, event: Any) -> deploy.Answer:
        """Sends an event through the Lambda API."""
        return deploy.invoke(self.aws, self.deployment, event)

    def ask(self, query: Any) -> deploy.Answer:
        """Sends a query to the history function through the Lambda API."""
        return deploy.invoke(self.aws, self.deployment, query, self.deployment.history_function)

    def records(self, service: Service) -> list[dict[str, Any]]:
        """The service's records, in the order of their keys."""
        return deploy.history_of(self.aws, self.deployment, service.key)

    def state(self, item: str) -> dict[str, Any] | None:
        """An item of the state table."""
        answer = self.client("dynamodb").get_item(
            TableName=self.deployment.state, Key={"id": {"S": item}}, ConsistentRead=True
        )
        found: dict[str, Any] | None = answer.get("Item")
        return found

    def items(self) -> int:
        """How many items both tables hold, without the notes of events that changed nothing."""
        scan = self.client("dynamodb").scan
        keys = {"FilterExpression": "NOT begins_with(id, :key)", "ExpressionAttributeValues": {":key": {"S": "key#"}}}
        records = scan(TableName=self.deployment.history, Select="COUNT")["Count"]
        return int(records + scan(TableName=self.deployment.state, Select="COUNT", **keys)["Count"])

    def described(self, service: Service) -> dict[str, Any]:
        """The service as ECS has it."""
        ecs = self.client("ecs", service.account, service.region)
        found = ecs.describe_services(cluster=deploy.CLUSTER, services=[service.name], include=["TAGS"])
        return dict(found["services"][0])

    def running(self, service: Service) -> tuple[str, dict[str, str]]:
        """The image and the tags that the service has."""
        described = self.described(service)
        ecs = self.client("ecs", service.account, service.region)
        definition = ecs.describe_task_definition(taskDefinition=described["taskDefinition"])["taskDefinition"]
        tags = {tag["key"]: tag["value"] for tag in described.get("tags", [])}
        return definition["containerDefinitions"][0]["image"], tags

    def revisions(self, service: Service) -> int:
        """How many revisions the service's family has."""
        ecs = self.client("ecs", service.account, service.region)
        return len(ecs.list_task_definitions(familyPrefix=service.name)["taskDefinitionArns"])

    def kill_functions(self) -> None:
        """Ends the processes of all running functions at once, as a crash would."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                group = os.getpgid(int(process.name))
            except ProcessLookupError:
                continue
            if group == self.aws.process_group and int(process.name) != group:
                os.kill(int(process.name), signal.SIGKILL)

    def assume(self, role_arn: str, caller: Credentials | None = None, **parameters: Any) -> Credentials:
        """Credentials of a role. As root, the updater's own too: the local AWS lets root stand in for services."""
        sts = self.aws.client("sts", caller or root_of(HUB))
        got = sts.assume_role(**{"RoleArn": role_arn, "RoleSessionName": "ecsu-test", **parameters})["Credentials"]
        return Credentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])

    @property
    def updater_role(self) -> str:
        """The name of the updater's role."""
        return self.deployment.role_arn.rsplit("/", 1)[-1]

    def updater(self) -> Credentials:
        """Credentials of the updater's role, as the function has them: Lambda names its sessions after the function."""
        return self.assume(self.deployment.role_arn, RoleSessionName=self.deployment.function)

    @property
    def history_role_arn(self) -> str:
        """The role of the history function."""
        functions = self.client("lambda")
        found = functions.get_function_configuration(FunctionName=self.deployment.history_function)
        return str(found["Role"])

    @property
    def history_role(self) -> str:
        """The name of the history function's role."""
        return self.history_role_arn.rsplit("/", 1)[-1]

    def historian(self) -> Credentials:
        """Credentials of the history function's role."""
        return self.assume(self.history_role_arn)


def end_lease(system: System, service: Service) -> None:
    """Makes the service's lease one that has ended, rather than wait two minutes."""
    system.client("dynamodb").update_item(
        TableName=system.deployment.state,
        Key={"id": {"S": f"service#{service.key}"}},
        UpdateExpression="SET lease_until = :past",
        ConditionExpression="attribute_exists(lease_until)",
        ExpressionAttributeValues={":past": {"S": "2026-01-01T00:00:00.000Z"}},
    )


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """The local AWS with everything deployed."""
    forget_aws_settings()
    with LocalAws() as aws:
        deployment = deploy.deploy(aws, BUILT / "local", lambda step: None)
        deploy.deploy_target(aws, OUTSIDER, deployment.role_arn)
        deploy.deploy_target(aws, DISTRUSTFUL, deployment.role_arn, organization="o-another000")
        yield System(aws, deployment)


@pytest.fixture
def wire(system: System) -> Iterator[Wire]:
    """The function's calls to AWS, seen and held up on their way."""
    functions = system.client("lambda")
    name = system.deployment.function
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    with Wire(system.aws.endpoint) as wire:
        endpoints = {f"AWS_ENDPOINT_URL_{service}": wire.endpoint for service in ("STS", "ECS", "DYNAMODB")}
        functions.update_function_configuration(
            FunctionName=name, Environment={"Variables": {**variables, **endpoints}}
        )
        yield wire
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})


@pytest.fixture
def role_policy(system: System) -> Iterator[Callable[[str, str, str, dict[str, Any]], None]]:
    """Sets an inline policy of a role (account, role, policy name, document), and puts the old one back afterwards."""
    undo: list[Callable[[], Any]] = []

    def replace(account: str, role: str, policy: str, document: dict[str, Any]) -> None:
        iam = system.client("iam", account)
        names = {"RoleName": role, "PolicyName": policy}
        before = json.dumps(iam.get_role_policy(**names)["PolicyDocument"])
        undo.append(lambda: iam.put_role_policy(**names, PolicyDocument=before))
        iam.put_role_policy(**names, PolicyDocument=json.dumps(document))

    yield replace
    for put_back in reversed(undo):
        put_back()
