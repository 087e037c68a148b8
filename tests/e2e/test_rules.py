"""The first version's Makefile rules: what they make, that `clean` removes it and nothing else, and what they say."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import deploy
import pytest
import stacks
from conftest import BUILT, System
from local_aws import REGION, LocalAws, end_lasting, lasting_at, root_of

# Of no organization, and with nothing of the other tests in them: to the rules they are AWS.
ACCOUNT = "666666666666"
TERRAFORMED = "888888888888"
PREFIX = "ecs-updater-sandbox"


class Rules:
    """`tools/deploy/rules.py` with a record of its own, as a person with credentials of ACCOUNT calls it."""

    def __init__(self, system: System, state: Path, account: str = ACCOUNT) -> None:
        self.state = state
        self.environment = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": system.aws.endpoint,
            "AWS_ACCESS_KEY_ID": account,
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __call__(self, rule: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {name: value for name, value in {**self.environment, **environment}.items() if value}
        command = [sys.executable, deploy.ROOT / "tools/deploy" / "rules.py", "--state", self.state]
        return subprocess.run(
            [*command, "--packages", BUILT / "local", rule], env=variables, capture_output=True, text=True, timeout=300
        )

    def record(self) -> dict[str, Any]:
        """What they say they made."""
        return dict(json.loads((self.state / "aws.json").read_text()))


@pytest.fixture
def rules(system: System, tmp_path: Path) -> Rules:
    """The rules, and nothing made yet."""
    return Rules(system, tmp_path / "deployed")


def names(system: System, account: str = ACCOUNT) -> set[str]:
    """The stacks and buckets of the account."""
    found = system.client("cloudformation", account).describe_stacks()["Stacks"]
    buckets = system.client("s3", account).list_buckets()["Buckets"]
    return {stack["StackName"] for stack in found} | {bucket["Name"] for bucket in buckets}


def test_what_the_rules_make_in_aws_is_removed_by_clean_and_nothing_else(system: System, rules: Rules) -> None:
    cloudformation, s3 = system.aws.client("cloudformation", root_of(ACCOUNT)), system.client("s3", ACCOUNT)
    s3.create_bucket(Bucket="somebodys", CreateBucketConfiguration={"LocationConstraint": REGION})
    stacks.put(cloudformation, f"{PREFIX}-somebodys", stacks.source("sandbox-vpc.yaml"), {})
    ecs = system.client("ecs", ACCOUNT)
    other = [{"name": "other", "image": "busybox", "memory": 64}]
    ecs.register_task_definition(family=deploy.SERVICE, containerDefinitions=other)
    before = names(system)

    for rule in ("deploy-ecs-cluster", "deploy-lambda", "deploy-ecs-service", "test-events", "deploy-lambda"):
        ran = rules(rule, DESIRED_COUNT="0")
        assert ran.returncode == 0, (rule, ran.stderr)
    made = {f"{PREFIX}-{what}" for what in ("vpc", "ecs", "hub", "target-role")}
    assert {stack["name"] for stack in rules.record()["stacks"]} == made
    bucket = rules.record()["bucket"]
    # The hub's stack has a bucket of its own.
    assert {one for one in names(system) - before if not one.startswith(f"{PREFIX}-hub-")} == made | {bucket}
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    (service,) = ecs.describe_services(cluster=deploy.CLUSTER, services=[deploy.SERVICE])["services"]
    assert service["desiredCount"] == 0
    tables = set(system.client("dynamodb", ACCOUNT).list_tables()["TableNames"])
    assert len(tables) == 2

    ran = rules("clean")
    assert ran.returncode == 0, ran.stderr
    # What the hub's template keeps, the rule names.
    kept = names(system) - before
    assert all(one.startswith(f"{PREFIX}-hub-") and f"AWS::S3::Bucket {one}" in ran.stdout for one in kept)
    assert before <= names(system)
    assert not (rules.state / "aws.json").exists()
    assert ecs.list_clusters()["clusterArns"] == []
    # Revisions that the updater registered go with the service that it registered them for; others stay.
    (left,) = ecs.list_task_definitions(familyPrefix=deploy.SERVICE)["taskDefinitionArns"]
    left_definition = ecs.describe_task_definition(taskDefinition=left)["taskDefinition"]
    assert left_definition["containerDefinitions"][0]["name"] == "other"
    # The history outlives its stack, and the rule says so.
    assert tables == set(system.client("dynamodb", ACCOUNT).list_tables()["TableNames"])
    assert all(f"AWS::DynamoDB::Table {table}" in ran.stdout for table in tables)
    # Again: nothing to do, and nobody's credentials are asked for.
    assert rules("clean", AWS_ACCESS_KEY_ID="").returncode == 0


def test_what_terraform_makes_in_aws_is_removed_by_clean_but_for_the_history(system: System, tmp_path: Path) -> None:
    if not os.environ.get("SLOW_TESTS"):
        pytest.skip("SLOW_TESTS is not set: Terraform takes a minute or two; .ci/run sets it")
    rules = Rules(system, tmp_path / "deployed", TERRAFORMED)
    there = rules("has-terraform")
    if there.returncode:
        assert there.stdout.startswith("skipped: the rules by Terraform: ")
        pytest.skip(there.stdout.strip())
    dynamodb, ecs = system.client("dynamodb", TERRAFORMED), system.client("ecs", TERRAFORMED)
    before = names(system, TERRAFORMED)
    for rule in ("deploy-ecs-cluster-tf", "deploy-lambda-tf", "test-events"):
        ran = rules(rule, PREFIX="by-terraform")
        assert ran.returncode == 0, (rule, ran.stderr)
    assert "was made by Terraform" in rules("deploy-ecs-cluster", PREFIX="by-terraform").stderr

    ran = rules("clean")
    assert ran.returncode == 0, ran.stderr
    # A part of their names is random.
    kept = [name for name in dynamodb.list_tables()["TableNames"] if name.startswith("by-terraform-")]
    assert {name.split("-")[2] for name in kept} == {"history", "state"}
    assert all(table in ran.stdout for table in kept)
    assert ecs.list_clusters()["clusterArns"] == []
    roles = system.client("iam", TERRAFORMED).list_roles()["Roles"]
    assert [role["Arn"] for role in roles if "/ecs-updater" in role["Arn"]] == []
    for arn in ecs.list_task_definitions(familyPrefix=deploy.SERVICE)["taskDefinitionArns"]:
        assert not ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"].get("executionRoleArn")
    assert names(system, TERRAFORMED) == before
    assert {path.name for path in rules.state.iterdir()} == {"lock"}


def test_a_stack_that_somebody_else_made_is_left_alone(system: System, rules: Rules) -> None:
    cloudformation = system.aws.client("cloudformation", root_of(ACCOUNT))
    theirs = stacks.put(cloudformation, "theirs-vpc", stacks.source("sandbox-vpc.yaml"), {"VpcCidr": "10.9.0.0/16"})
    ran = rules("deploy-ecs-cluster", PREFIX="theirs")
    assert ran.returncode == 1
    assert f"stack theirs-vpc is in account {ACCOUNT} already, and these rules did not make it" in ran.stderr

    # ECS would give us the cluster of somebody else as if it were new.
    ecs = system.client("ecs", ACCOUNT)
    ecs.create_cluster(clusterName=deploy.CLUSTER)
    ran = rules("deploy-ecs-cluster", PREFIX="mine")
    assert f"cluster {deploy.CLUSTER} is in account {ACCOUNT} already, and these rules did not make it" in ran.stderr
    assert not (rules.state / "aws.json").exists()
    ecs.delete_cluster(cluster=deploy.CLUSTER)

    # One that was made here, removed by hand, and made anew by somebody: its name is on the record, it is not.
    assert rules("deploy-ecs-cluster", PREFIX="mine").returncode == 0
    arns = {one["name"]: one["arn"] for one in rules.record()["stacks"]}
    for stack in ("mine-ecs", "mine-vpc"):
        stacks.remove(cloudformation, arns[stack])
    anew = stacks.put(cloudformation, "mine-vpc", stacks.source("sandbox-vpc.yaml"), {})
    assert "did not make it" in rules("deploy-ecs-cluster", PREFIX="mine").stderr
    assert rules("clean").returncode == 0
    for stack in (theirs, anew):
        assert stacks.find(cloudformation, stack.arn)
        stacks.remove(cloudformation, stack.arn)


def test_a_rule_says_what_it_lacks(rules: Rules) -> None:
    def said(rule: str, **environment: str) -> str:
        ran = rules(rule, **environment)
        assert ran.returncode == 1, ran.stdout
        assert "Traceback" not in ran.stderr
        return ran.stderr

    assert "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and" in said("deploy-ecs-cluster", AWS_ACCESS_KEY_ID="")
    assert "LOCAL=1" in said("deploy-ecs-cluster", AWS_ACCESS_KEY_ID="")
    assert "no AWS region: set AWS_REGION" in said("deploy-ecs-cluster", AWS_REGION="")
    assert "no-such-profile" in said("deploy-ecs-cluster", AWS_PROFILE="no-such-profile", AWS_ACCESS_KEY_ID="")
    assert "`make deploy-ecs-cluster` first" in said("deploy-ecs-service")
    assert "`make deploy-lambda-aws` first" in said("test-events")
    assert "`make deploy-lambda-aws` first" in said("test-unittest")
    assert "PREFIX 'A'" in said("deploy-ecs-cluster", PREFIX="A")


def test_clean_needs_the_account_that_the_record_is_of(system: System, rules: Rules) -> None:
    rules.state.mkdir()
    record = {"place": f"AWS account {ACCOUNT}, region {REGION}", "stacks": [], "bucket": ""}
    record |= {"functions": {}, "terraform": {}}
    (rules.state / "aws.json").write_text(json.dumps(record))
    ran = Rules(system, rules.state, account="777777777777")("clean")
    assert ran.returncode == 1
    assert f"what these rules made before is in AWS account {ACCOUNT}, region {REGION}" in ran.stderr
    assert rules.record() == record


def make(tmp_path: Path, rule: str, *variables: str) -> subprocess.CompletedProcess[str]:
    """A rule of the Makefile. What cargo builds is there already: a program that does nothing stands in for it."""
    cargo = tmp_path / "bin" / "cargo"
    cargo.parent.mkdir(exist_ok=True)
    cargo.write_text("#!/bin/sh\n")
    cargo.chmod(0o755)
    (tmp_path / "tmp").mkdir(exist_ok=True)
    environment = {
        "PATH": f"{cargo.parent}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path / "tmp"),
        "AWS_PROFILE": "no-such-profile",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return subprocess.run(
        ["make", rule, f"DEPLOYED={tmp_path}/deployed", *variables],
        cwd=deploy.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def mentioning(text: str) -> set[int]:
    """The processes in whose environment or command this text stands."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
                found.add(int(process.name))
        except OSError:
            continue
    return found - {os.getpid()}


def test_all_local_does_all_of_it_and_leaves_nothing(tmp_path: Path) -> None:
    # Terraform's half is below, and in test_terraform.py.
    ran = make(tmp_path, "all-local", f"CARGO_TARGET_DIR={BUILT}", "TF_RULES=")
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    done = re.findall(r"^==> make (\S+) LOCAL=1$", ran.stdout, re.MULTILINE)
    assert done == [
        "clean-deployed",
        "deploy-ecs-cluster",
        "deploy-lambda-sam",
        "deploy-ecs-service",
        "run-lambda-test-sam",
        "run-lambda-test-aws",
        "run-lambda-test-unittest",
    ]
    for account in ("111111111111", "222222222222"):
        for what in ("vpc", "ecs", "target-role"):
            assert f"==> account {account}: stack {PREFIX}-{what}, " in ran.stdout
            assert f"==> account {account}: remove stack {PREFIX}-{what}\n" in ran.stdout
    assert f"remove stack {PREFIX}-hub\n" in ran.stdout
    assert "Ran 69 tests" in ran.stderr
    assert {path.name for path in (tmp_path / "deployed").iterdir()} == {"lock"}
    assert list((tmp_path / "tmp").iterdir()) == []
    assert mentioning(str(tmp_path)) == set()


def test_clean_keeps_everything_where_what_was_made_cannot_be_removed(tmp_path: Path) -> None:
    (tmp_path / "deployed").mkdir()
    record = tmp_path / "deployed" / "aws.json"
    record.write_text("what it says is asked for last")
    (tmp_path / "target").mkdir()
    # As a link: what the rule must not remove is not the .venv that this test runs in. Nor what linters use meanwhile.
    (tmp_path / "venv").symlink_to(Path(sys.prefix))
    variables = (f"VENV={tmp_path}/venv", f"TOOLS={tmp_path}/tools", f"CARGO_TARGET_DIR={tmp_path}/target")
    ran = make(tmp_path, "clean", *variables)
    assert ran.returncode != 0
    assert "no-such-profile" in ran.stderr
    assert record.exists() and (tmp_path / "target").exists()
    record.unlink()
    assert make(tmp_path, "clean", *variables).returncode == 0
    assert not (tmp_path / "target").exists() and not (tmp_path / "deployed").exists()


def test_a_lasting_local_aws_ends_with_its_file_and_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "local-aws.json"

    def gone(endpoint: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(endpoint.rsplit(":", 1)[-1]))) != 0

    # It outlives the process that started it.
    local = deploy.ROOT / "tools" / "local_aws"
    program = f"import local_aws, pathlib; local_aws.LocalAws(pathlib.Path({str(file)!r}), 600).start()"
    subprocess.run([sys.executable, "-c", program], cwd=local, check=True, timeout=60)
    running = lasting_at(file)
    assert running
    assert running.client("sts", root_of(ACCOUNT)).get_caller_identity()["Account"] == ACCOUNT
    end_lasting(file)
    assert gone(running.endpoint) and list(tmp_path.iterdir()) == []

    # Nobody asks it anything.
    idle = LocalAws(file, 2)
    idle.start()
    deadline = time.monotonic() + 15
    while not gone(idle.endpoint) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gone(idle.endpoint) and list(tmp_path.iterdir()) == []
    assert lasting_at(file) is None
    end_lasting(file)
