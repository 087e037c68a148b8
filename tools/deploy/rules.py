#!/usr/bin/env python3
"""The first version's Makefile rules that deploy, try and remove. The Makefile calls this; `make` lists the rules.

    tools/deploy/rules.py [--local] [--state DIR] [--packages DIR] RULE

    deploy-ecs-cluster    a VPC and a cluster              (sandbox-vpc.yaml, sandbox-ecs.yaml)
    deploy-ecs-service    the dummy service in the cluster (sandbox-ecs.yaml)
    deploy-lambda         hub and target role              (hub.yaml, target-role.yaml), from the packages
    deploy-ecs-cluster-tf, deploy-lambda-tf                the same by infrastructure/terraform, in one account
    has-terraform         succeeds where Terraform and its provider are on this machine; else says what is not
    test-events           the eight events of tests/events to the deployed function
    test-unittest         tests/first_version over the deployed function
    clean                 what the rules made, and nothing else

Without --local all of it happens in the AWS account and region of your credentials, which is hub and target at once.
With --local it happens in a local AWS with a hub and a target account. The first rule that needs it starts it; `clean`
ends it, and so does half an hour in which nobody asks it anything (LOCAL_AWS_IDLE_SECONDS), or the removal of --state.

--state (default: .deployed) records by ARN what was made, before anything can go wrong with it. What is not in the
record is neither changed nor removed: a stack of the same name that somebody else made is refused.

| variable | meaning |
|---|---|
| `PREFIX` | what the names of stacks and bucket begin with; default `ecs-updater-sandbox` |
| `DESIRED_COUNT` | tasks of the dummy service; default 1 |
| `ARCH` | what the packages were built for: `x86_64` (default) or `arm64` |
| `ORGANIZATION_ID`, `EXTERNAL_ID` | the parameters of hub.yaml and target-role.yaml; default: none. AWS only |
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import deploy
import eight_events
import stacks
import terraform
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from local_aws import HUB, REGION, TARGETS, Endpoint, LocalAws, end_lasting, forget_aws_settings, lasting_at, root_of

IDLE_SECONDS = 1800
# Roles of sandbox-ecs.yaml, in any account: what the updater may hand to the sandbox's tasks.
SANDBOX_ROLES = "arn:{partition}:iam::*:role/ecs-updater-sandbox/*"


class RuleError(Exception):
    """Why a rule could not be done, for the person who called it."""


def step(text: str) -> None:
    """Says what is done next."""
    print(f"==> {text}", flush=True)


class Record:
    """What the rules made in one place: one account and region of AWS, or one local AWS. Written at once."""

    def __init__(self, file: Path, place: str) -> None:
        self._file = file
        self.place = place
        self.stacks: list[dict[str, str]] = []
        self.bucket = ""
        self.functions: dict[str, str] = {}  # what the updater and the history are invoked by
        self.terraform: dict[str, str] = {}  # the variables of the last apply, where Terraform made something
        if file.exists():
            found = json.loads(file.read_text())
            self.stacks, self.bucket = found["stacks"], found["bucket"]
            self.functions, self.terraform = found["functions"], found["terraform"]
            if found["place"] != place:
                raise RuleError(
                    f"what these rules made before is in {found['place']}, and this is {place}. "
                    f"`make clean` with the credentials of the former removes it ({file} has the list)"
                )

    def save(self) -> None:
        """Writes it whole, or not at all."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        document = {
            "place": self.place,
            "stacks": self.stacks,
            "bucket": self.bucket,
            "functions": self.functions,
            "terraform": self.terraform,
        }
        part.write_text(json.dumps(document, indent=2) + "\n")
        part.replace(self._file)

    def forget(self) -> None:
        """Removes it: nothing that it could name is left."""
        self._file.unlink(missing_ok=True)


@dataclass
class Place:
    """Where the rules work."""

    accounts: tuple[str, ...]  # those with services; the first is the hub
    region: str
    partition: str
    client: Callable[[str, str], Any]  # of a service, in an account
    record: Record
    state: Path
    packages: Path
    hub_parameters: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)  # how a program that is started reaches it
    local: bool = False
    pause: float = 0.1  # between two looks at a stack, in seconds

    @property
    def hub(self) -> str:
        """The account of the functions."""
        return self.accounts[0]


# ---- the two places --------------------------------------------------------------------------------------------------


def local_place(state: Path, packages: Path) -> Place:
    """The local AWS that earlier rules used, or a new one."""
    endpoint: Endpoint | None = lasting_at(state / "local-aws.json")
    if endpoint is None:
        forget_local(state)  # what was there went with it
        step(f"local AWS: hub account {HUB}, target account {TARGETS[0]}, region {REGION}, IAM enforced")
        started = LocalAws(state / "local-aws.json", int(os.environ.get("LOCAL_AWS_IDLE_SECONDS", IDLE_SECONDS)))
        started.start()
        endpoint = started
    at = endpoint
    who = root_of(HUB)
    return Place(
        accounts=(HUB, TARGETS[0]),
        region=REGION,
        partition="aws",
        client=lambda service, account: at.client(service, root_of(account)),
        record=Record(state / "local.json", at.endpoint),
        state=state / "local",
        packages=packages,
        local=True,
        hub_parameters=deploy.HUB_PARAMETERS,
        environment={
            "AWS_ENDPOINT_URL": at.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": who.access_key,
            "AWS_SECRET_ACCESS_KEY": who.secret_key,
        },
    )


def forget_local(state: Path) -> None:
    """Removes what was noted about a local AWS that has ended."""
    (state / "local.json").unlink(missing_ok=True)
    shutil.rmtree(state / "local", ignore_errors=True)


def aws_place(state: Path, packages: Path) -> Place:
    """The account and region of the caller's credentials."""
    # boto3 itself looks at AWS_DEFAULT_REGION alone, other SDKs at AWS_REGION.
    session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))
    if session.get_credentials() is None:
        raise RuleError(
            "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and "
            "AWS_SESSION_TOKEN where they are temporary). Without an account: the same rule with LOCAL=1"
        )
    if not session.region_name:
        raise RuleError("no AWS region: set AWS_REGION, or `region` of the profile")
    region = str(session.region_name)
    # An invocation may last as long as the function's timeout, 900 seconds.
    config = Config(read_timeout=930, retries={"mode": "standard", "total_max_attempts": 5})
    clients: dict[str, Any] = {}

    def client(service: str, _: str) -> Any:
        return clients.setdefault(service, session.client(service, config=config))

    who = client("sts", "").get_caller_identity()
    account = str(who["Account"])
    parameters = {
        "OrganizationId": os.environ.get("ORGANIZATION_ID", ""),
        "ExternalId": os.environ.get("EXTERNAL_ID", ""),
        "Architecture": os.environ.get("ARCH", "x86_64"),
        "BreakGlassRoleArn": "NONE",  # a trial
    }
    return Place(
        accounts=(account,),
        region=region,
        partition=str(who["Arn"]).split(":")[1],
        client=client,
        record=Record(state / "aws.json", f"AWS account {account}, region {region}"),
        state=state / "aws",
        packages=packages,
        hub_parameters=parameters,
        environment={"AWS_REGION": region},
        pause=0.1 if "AWS_ENDPOINT_URL" in os.environ else 5,
    )


# ---- what rules make -------------------------------------------------------------------------------------------------


def name(what: str) -> str:
    """The name of a stack, or what a bucket's begins with."""
    prefix = os.environ.get("PREFIX", "ecs-updater-sandbox")
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,23}", prefix):
        raise RuleError(f"PREFIX {prefix!r}: 2 to 24 lower-case letters, digits and -, a letter first")
    return f"{prefix}-{what}"


def made(place: Place, account: str, stack: str) -> str:
    """The ARN of a stack that the rules made; empty where they did not."""
    return next((one["arn"] for one in place.record.stacks if (one["account"], one["name"]) == (account, stack)), "")


def put(place: Place, account: str, what: str, template: str, parameters: dict[str, str]) -> dict[str, str]:
    """Makes a stack or brings it up to date, and gives its outputs; refuses one that the rules did not make."""
    stack = name(what)
    cloudformation = place.client("cloudformation", account)
    found = stacks.find(cloudformation, stack)
    if found and found["StackId"] != made(place, account, stack):
        raise RuleError(
            f"stack {stack} is in account {account} already, and these rules did not make it: they leave it alone. "
            "Another PREFIX gives other names"
        )

    def note(arn: str) -> None:
        others = [one for one in place.record.stacks if (one["account"], one["name"]) != (account, stack)]
        place.record.stacks = [*others, {"account": account, "name": stack, "arn": arn}]
        place.record.save()

    step(f"account {account}: stack {stack}, infrastructure/cloudformation/{template}")
    source = stacks.source(template, place.client("s3", account), place.record.bucket)
    return stacks.put(cloudformation, stack, source, parameters, made=note, pause=place.pause).outputs


def bucket(place: Place) -> str:
    """The private bucket for packages."""
    s3 = place.client("s3", place.hub)
    if place.record.bucket:
        return place.record.bucket
    wanted = f"{name('packages')}-{place.hub}-{place.region}"
    with contextlib.suppress(ClientError):
        s3.head_bucket(Bucket=wanted)
        raise RuleError(
            f"bucket {wanted} is there already, and these rules did not make it: they leave it alone. "
            "Another PREFIX gives another name"
        )
    step(f"account {place.hub}: bucket {wanted}")
    where = {} if place.region == "us-east-1" else {"LocationConstraint": place.region}
    s3.create_bucket(Bucket=wanted, **({"CreateBucketConfiguration": where} if where else {}))
    place.record.bucket = wanted
    place.record.save()
    blocked = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=wanted, PublicAccessBlockConfiguration=dict.fromkeys(blocked, True))
    return wanted


def upload(place: Place) -> dict[str, str]:
    """Puts the packages into the bucket; gives the parameters of hub.yaml that name them."""
    for package in deploy.PACKAGES:
        if not (place.packages / package).exists():
            raise RuleError(f"{place.packages / package} is not there: `make build-lambda-package` first")
    return deploy.upload(place.client("s3", place.hub), bucket(place), place.packages)


# ---- the rules -------------------------------------------------------------------------------------------------------


def deploy_ecs_cluster(place: Place) -> None:
    """A VPC and a cluster in each account."""
    one_maker(place, terraform=False)
    no_foreign_cluster(place)
    for account in place.accounts:
        put(place, account, "vpc", "sandbox-vpc.yaml", {})
        put_sandbox(place, account, service=False)


def one_maker(place: Place, terraform: bool) -> None:
    """Refuses what CloudFormation and Terraform would both make."""
    if place.record.stacks if terraform else place.record.terraform:
        other = "CloudFormation" if terraform else "Terraform"
        raise RuleError(f"what is there was made by {other}: `make clean-deployed` first")


def no_foreign_cluster(place: Place) -> None:
    """Refuses a cluster of somebody else: ECS would give it to us as if it were new, and `clean` would remove it."""
    for account in place.accounts:
        if made(place, account, name("ecs")) or place.record.terraform.get("sandbox") == "true":
            continue
        found = place.client("ecs", account).describe_clusters(clusters=[deploy.CLUSTER])["clusters"]
        if any(cluster["status"] == "ACTIVE" for cluster in found):
            raise RuleError(
                f"cluster {deploy.CLUSTER} is in account {account} already, and these rules did not make it: "
                "they leave it alone"
            )


def deploy_ecs_service(place: Place) -> None:
    """The dummy service in each account's cluster."""
    if place.record.terraform:
        raise RuleError("Terraform made the cluster, and the service with it")
    for account in place.accounts:
        if not made(place, account, name("ecs")):
            raise RuleError("there is no cluster for the service: `make deploy-ecs-cluster` first")
        put_sandbox(place, account, service=True)


def put_sandbox(place: Place, account: str, service: bool) -> None:
    """The cluster, and the service where it is asked for or there already."""
    cloudformation = place.client("cloudformation", account)
    vpc = stacks.find(cloudformation, name("vpc")) or {}
    network = stacks.outputs_of(vpc)
    if not network:
        raise RuleError(f"stack {name('vpc')} is gone from account {account}: `make deploy-ecs-cluster` first")
    there = "ServiceName" in stacks.outputs_of(stacks.find(cloudformation, name("ecs")) or {})
    parameters = {
        "SubnetIds": network["SubnetIds"],
        "SecurityGroupId": network["SecurityGroupId"],
        "DummyService": "present" if service or there else "absent",
        # The events say what the service begins with: Docker Hub's `busybox`, under its short name.
        "Image": deploy.IMAGE,
        "DesiredCount": os.environ.get("DESIRED_COUNT", "1"),
    }
    put(place, account, "ecs", "sandbox-ecs.yaml", parameters)


def deploy_lambda(place: Place) -> None:
    """The hub, and the target role in each account."""
    one_maker(place, terraform=False)
    uploaded = upload(place)
    outputs = put(place, place.hub, "hub", "hub.yaml", {**uploaded, **place.hub_parameters})
    for account in place.accounts:
        parameters = {
            "UpdaterRoleArn": outputs["UpdaterRoleArn"],
            "OrganizationId": place.hub_parameters["OrganizationId"],
            "ExternalId": place.hub_parameters["ExternalId"],
            "TaskRoleArns": SANDBOX_ROLES.format(partition=place.partition),
        }
        put(place, account, "target-role", "target-role.yaml", parameters)
    # Callers go by the functions' aliases, where the template has them.
    updater, history = (
        outputs.get(f"{function}AliasArn", outputs[f"{function}FunctionName"]) for function in ("Updater", "History")
    )
    note_functions(place, updater, history)


def note_functions(place: Place, updater: str, history: str) -> None:
    """Records what was deployed, and says how the command line gets there."""
    place.record.functions = {"updater": updater, "history": history}
    place.record.save()
    step("deployed. For the command line:")
    variables = {"ECS_UPDATER_FUNCTION": updater, "ECS_UPDATER_HISTORY_FUNCTION": history, **place.environment}
    print("    export " + " ".join(f"{variable}={value}" for variable, value in variables.items()), flush=True)


def deployed(place: Place) -> dict[str, str]:
    """The functions that the rules deployed."""
    if not place.record.functions:
        raise RuleError("no function was deployed: `make deploy-lambda-aws` first")
    return place.record.functions


def deploy_ecs_cluster_tf(place: Place) -> None:
    """The sandbox of infrastructure/terraform: a VPC, a cluster, and the dummy service with it."""
    one_maker(place, terraform=True)
    no_foreign_cluster(place)
    variables = {"image": deploy.IMAGE, "desired_count": os.environ.get("DESIRED_COUNT", "1")}
    Terraform(place).apply({"sandbox": "true", **variables})


def deploy_lambda_tf(place: Place) -> None:
    """The hub and the target role of infrastructure/terraform."""
    one_maker(place, terraform=True)
    terraform = Terraform(place)
    # As Terraform writes names: CodeKey is code_key.
    named = {
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", parameter).lower(): value
        for parameter, value in {**upload(place), **place.hub_parameters}.items()
    }
    outputs = terraform.apply(named)
    note_functions(place, outputs["updater_alias_arn"], outputs["history_alias_arn"])


class Terraform:
    """infrastructure/terraform in this place: its state, and what it was last given, are kept with the record."""

    def __init__(self, place: Place) -> None:
        try:
            self._terraform = terraform.Terraform(place.state / "terraform")
        except terraform.Missing as missing:
            raise RuleError(f"{missing}. The rules without -tf do the same by CloudFormation") from missing
        self._place = place

    def apply(self, variables: dict[str, str]) -> dict[str, str]:
        """Makes what these variables and those of earlier rules ask for; all outputs."""
        record = self._place.record
        # What the local AWS has goes with it.
        keep = "false" if self._place.local else "true"
        given = {"sandbox": "false", "name": name("")[:-1], "keep_records": keep, **record.terraform, **variables}
        record.terraform = given  # before anything can go wrong with what it makes
        record.save()
        step(f"account {self._place.hub}: infrastructure/terraform")
        self._run("apply", *self._variables())
        return self._outputs()

    def _outputs(self) -> dict[str, str]:
        return {output: found["value"] for output, found in json.loads(self._run("output", "-json")).items()}

    def destroy(self) -> list[str]:
        """Removes what it made; names what is kept."""
        kept: list[str] = []
        outputs = self._outputs()
        if self._place.record.terraform["keep_records"] == "true":
            # Their deletion protection would make the destruction fail: Terraform lets go of them first.
            kept = [
                address
                for address in self._run("state", "list").split()
                if re.search(r"^module\.hub\b.*\.aws_(dynamodb_|cloudwatch_log_group\b)", address)
            ]
            if kept:
                self._run("state", "rm", *kept)
                kept.append(f"that is, tables {outputs['history_table_name']} and {outputs['state_table_name']}")
        step(f"account {self._place.hub}: remove what infrastructure/terraform made")
        ecs = self._place.client("ecs", self._place.hub)
        role = execution_role(ecs, outputs.get("cluster_name"), outputs.get("service_name"))
        self._run("destroy", *self._variables())
        if role:
            deregister(ecs, outputs["service_name"], role)
        return kept

    def _variables(self) -> list[str]:
        # A sandbox alone has no tables, but Terraform wants the variable. With a hub, it comes with the hub's parameters.
        given = {"break_glass_role_arn": "NONE", **self._place.record.terraform}
        return [f"-var={variable}={value}" for variable, value in given.items()]

    def _run(self, command: str, *more: str) -> str:
        """Runs a command to its end; what it printed."""
        words, arguments = [command], list(more)
        if command == "state":
            words.append(arguments.pop(0))
        # Not in the data folder, where a file of this name is Terraform's own.
        options = self._terraform.options(command, self._place.state / "terraform.tfstate")
        done = self._terraform.run(
            *words, "-no-color", *options, *arguments, capture=True, environment=self._place.environment
        )
        if done.returncode:
            raise RuleError(f"terraform {' '.join(words)} failed:\n{done.stdout[-4000:]}{done.stderr}")
        return done.stdout


def test_events(place: Place) -> None:
    """The eight events: as they are, which is to the hub's own services; then to each further account."""
    function = deployed(place)["updater"]
    lambda_api = place.client("lambda", place.hub)

    def send(event: bytes) -> deploy.Answer:
        return deploy.send(lambda_api, function, event)

    wrong = eight_events.send_all(send, step)
    # Terraform deploys into one account.
    for account in () if place.record.terraform else place.accounts[1:]:
        wrong += eight_events.send_all(send, step, account_id=account)
    if wrong:
        raise RuleError("\n".join(wrong))


def test_unittest(place: Place) -> None:
    """The first version's checks."""
    functions = deployed(place)
    environment = {
        **os.environ,
        **place.environment,
        "ECS_UPDATER_FUNCTION": functions["updater"],
        "ECS_UPDATER_HISTORY_FUNCTION": functions["history"],
    }
    suite = [sys.executable, "-m", "unittest", "discover", "--verbose", "--start-directory", "tests/first_version"]
    if subprocess.run(suite, cwd=deploy.ROOT, env=environment, check=False).returncode:
        raise RuleError("tests/first_version: not every check holds")


def clean(place: Place) -> None:
    """Removes what the record has, the last first. What is gone is off the record at once."""
    record = place.record
    kept = []
    if record.terraform:
        kept += Terraform(place).destroy()
        shutil.rmtree(place.state)
        record.terraform = {}
        record.save()
    while record.stacks:
        stack = record.stacks[-1]
        step(f"account {stack['account']}: remove stack {stack['name']}")
        cloudformation = place.client("cloudformation", stack["account"])
        outputs = stacks.outputs_of(stacks.find(cloudformation, stack["arn"]) or {})
        kept += stacks.remove(cloudformation, stack["arn"], pause=place.pause)
        if role := outputs.get("ExecutionRoleArn"):
            deregister(place.client("ecs", stack["account"]), outputs["ServiceName"], role)
        record.stacks.pop()
        record.save()
    if record.bucket:
        step(f"account {place.hub}: remove bucket {record.bucket}")
        s3 = place.client("s3", place.hub)
        with contextlib.suppress(s3.exceptions.NoSuchBucket):
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=record.bucket):
                for item in page.get("Contents", []):
                    s3.delete_object(Bucket=record.bucket, Key=item["Key"])
            s3.delete_bucket(Bucket=record.bucket)
    record.forget()
    if kept:
        step("kept, because its template says so: the history outlives its stack")
        print("\n".join(f"    {resource}" for resource in kept), flush=True)


def execution_role(ecs: Any, cluster: str | None, service: str | None) -> str:
    """The role that starts the service's tasks; empty where there is no such service."""
    if not cluster or not service:
        return ""
    found = ecs.describe_services(cluster=cluster, services=[service])["services"]
    if not found:
        return ""
    definition = ecs.describe_task_definition(taskDefinition=found[0]["taskDefinition"])["taskDefinition"]
    return str(definition.get("executionRoleArn", ""))


def deregister(ecs: Any, family: str, role: str) -> None:
    """Deregisters what the updater made of the dummy service's task definition: known by the role in it."""
    for page in ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family):
        for arn in page["taskDefinitionArns"]:
            definition = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
            if definition.get("executionRoleArn") == role:
                ecs.deregister_task_definition(taskDefinition=arn)


def clean_local(state: Path, packages: Path) -> None:
    """Removes what is in the local AWS as in AWS, and ends it: what AWS would keep goes with it."""
    try:
        if lasting_at(state / "local-aws.json"):
            clean(local_place(state, packages))
    finally:
        end_lasting(state / "local-aws.json")
        forget_local(state)
    step("the local AWS has ended")


def has_terraform(state: Path) -> bool:
    """Whether this machine has Terraform with its provider; says so where it does not."""
    try:
        terraform.Terraform(state / "has-terraform")
        return True
    except terraform.Missing as missing:
        print(f"skipped: the rules by Terraform: {missing}", flush=True)
        return False
    finally:
        shutil.rmtree(state / "has-terraform", ignore_errors=True)


RULES: dict[str, Callable[[Place], None]] = {
    "deploy-ecs-cluster": deploy_ecs_cluster,
    "deploy-ecs-service": deploy_ecs_service,
    "deploy-lambda": deploy_lambda,
    "deploy-ecs-cluster-tf": deploy_ecs_cluster_tf,
    "deploy-lambda-tf": deploy_lambda_tf,
    "test-events": test_events,
    "test-unittest": test_unittest,
    "clean": clean,
}


@contextlib.contextmanager
def alone(state: Path) -> Iterator[None]:
    """One rule at a time: `make -j` may start two."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(arguments: argparse.Namespace) -> bool:
    """Does one rule in its place; false where the answer is no."""
    state, rule = arguments.state, arguments.rule
    if rule == "has-terraform":
        return has_terraform(state)
    if rule == "clean":
        if arguments.local:
            clean_local(state, arguments.packages)
            return True
        if not (state / "aws.json").exists():
            return True  # nothing was made there, so that no credentials are needed
    place = (local_place if arguments.local else aws_place)(state, arguments.packages)
    RULES[rule](place)
    return True


def main(arguments: list[str]) -> int:
    """Reads the command line; 1 where the rule could not be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rule", choices=[*RULES, "has-terraform"])
    parser.add_argument("--local", action="store_true", help="in the local AWS")
    parser.add_argument("--state", type=Path, default=deploy.ROOT / ".deployed", help="folder of the record")
    parser.add_argument("--packages", type=Path, default=deploy.ROOT / "target" / "local", help="folder of the zips")
    parsed = parser.parse_args(arguments)
    if parsed.local:
        forget_aws_settings()
    try:
        with alone(parsed.state):
            return 0 if run(parsed) else 1
    except (RuleError, stacks.StackError, ClientError, BotoCoreError) as error:
        print(f"{parsed.rule}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
