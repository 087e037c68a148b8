"""`ecs-updater targets` and `rollout`, as a person of the hub runs them: the real binary, the real roles."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import deploy
import pytest
from conftest import COMMAND_LINE, Service, System
from local_aws import DISTRUSTFUL, HUB, REGION, TARGETS, Credentials

DONE, FAILED, _, NOT_ASKED = range(4)


def environment(system: System, who: Credentials) -> dict[str, str]:
    """Of somebody of the hub who was given a session."""
    settings = deploy.command_line_environment(system.aws, system.deployment, who)
    return {**settings, "AWS_SESSION_TOKEN": who.token or "", "ECS_UPDATER_EXTERNAL_ID": deploy.EXTERNAL_ID}


def run(system: System, who: Credentials, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line."""
    return subprocess.run(
        [COMMAND_LINE, *arguments],
        env={**environment(system, who), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def reader(system: System) -> Credentials:
    """Who may look for services, and do nothing else."""
    return system.assume(deploy.READER)


def services_of(output: str) -> list[list[str]]:
    """The services of each wave of an input."""
    names = ("account_id", "region", "ecs_cluster_name", "ecs_service_name")
    return [["/".join(target[name] for name in names) for target in wave] for wave in json.loads(output)["waves"]]


def test_services_are_found_in_every_account_through_the_reader_role(system: System, reader: Credentials) -> None:
    mark = f"mark-{time.time_ns()}"
    made = [system.service(account) for account in (*TARGETS, TARGETS[0], HUB)]
    made.append(system.service(TARGETS[1], "us-east-1"))
    for service in made:
        ecs = system.client("ecs", service.account, service.region)
        ecs.tag_resource(resourceArn=service.arn, tags=[{"key": "mark", "value": mark}])
    accounts = ",".join((*TARGETS, HUB))
    asked = ["targets", "--account", accounts, "--tagged", f"mark={mark}", "--cluster", "ECS*", "-o", "json"]
    found = run(system, reader, *asked, "--regions", f"{REGION},us-east-1", "--waves", "1,100%", "--image", "nginx:7")
    assert found.returncode == DONE, found.stderr
    waves = services_of(found.stdout)
    assert [len(wave) for wave in waves] == [1, 4]
    assert sorted(sum(waves, [])) == sorted(service.key for service in made)
    assert [key[:12] for key in sum(waves, [])] == [TARGETS[0]] * 2 + [TARGETS[1]] * 2 + [HUB]
    by_name = run(system, reader, "targets", "--account", accounts, "--service", made[0].name, "-o", "json")
    assert services_of(by_name.stdout) == [[made[0].key]]


def test_the_organization_is_listed(system: System, reader: Credentials) -> None:
    """The local Organizations knows its management account only."""
    service = system.service(HUB)
    found = run(system, reader, "targets", "--organization", "--service", service.name, "-o", "json")
    assert found.returncode == DONE, found.stderr
    assert services_of(found.stdout) == [[service.key]]


def test_an_account_that_lets_nobody_in_is_named(system: System, reader: Credentials) -> None:
    service = system.service(TARGETS[0])
    nowhere = "999999999999"
    accounts = f"{nowhere},{TARGETS[0]},{DISTRUSTFUL}"
    found = run(system, reader, "targets", "--account", accounts, "--service", service.name, "-o", "json")
    assert found.returncode == FAILED, found.stdout
    assert services_of(found.stdout) == [[service.key]]
    error = json.loads(found.stderr)["error"]
    assert error["code"] == "Incomplete" and "2 of 3 accounts" in error["message"]
    assert nowhere in error["message"] and DISTRUSTFUL in error["message"]
    without_id = run(system, reader, "targets", "--account", TARGETS[0], ECS_UPDATER_EXTERNAL_ID="wrong")
    assert without_id.returncode == FAILED and "ReaderPrincipalArns" in without_id.stderr


def test_who_is_not_named_finds_nothing(system: System) -> None:
    caller = system.deployment.invoker
    found = run(system, caller, "targets", "--account", TARGETS[0])
    assert found.returncode == FAILED and "sts:AssumeRole" in found.stderr, found.stderr
    listed = run(system, caller, "targets", "--organization")
    assert listed.returncode == NOT_ASKED and "organizations:ListAccounts" in listed.stderr, listed.stderr


# ---- rollout ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state_machine(system: System) -> str:
    """The ARN of the hub's state machine."""
    return system.deployment.waves


@pytest.fixture(scope="module")
def operator(system: System, state_machine: str) -> Credentials:
    """A user of the hub who may start and watch rollouts, and do nothing else: the rights that the docs name."""
    execution = state_machine.replace(":stateMachine:", ":execution:") + ":*"
    map_run = state_machine.replace(":stateMachine:", ":mapRun:") + "/*"
    looks = ("DescribeExecution", "GetExecutionHistory", "ListMapRuns", "StopExecution")
    rights = [
        {"Effect": "Allow", "Action": "states:StartExecution", "Resource": state_machine},
        {"Effect": "Allow", "Action": [f"states:{look}" for look in looks], "Resource": execution},
        {"Effect": "Allow", "Action": "states:DescribeMapRun", "Resource": map_run},
    ]
    iam = system.client("iam")
    iam.create_user(UserName="operator")
    iam.put_user_policy(
        UserName="operator",
        PolicyName="roll-out",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": rights}),
    )
    key = iam.create_access_key(UserName="operator")["AccessKey"]
    return Credentials(key["AccessKeyId"], key["SecretAccessKey"])


def waves_of(tmp_path: Path, *waves: list[Service], **members: Any) -> Path:
    """An input, in a file."""
    targets = [[service.event(region=service.region) for service in wave] for wave in waves]
    file = tmp_path / "waves.json"
    file.write_text(json.dumps({"change": {}, "waves": targets, "bake_seconds": 0, **members}))
    return file


def test_a_rollout_is_started_watched_and_summed_up(
    system: System, state_machine: str, operator: Credentials, tmp_path: Path
) -> None:
    services = [system.service(TARGETS[0]), system.service(TARGETS[1]), system.service(TARGETS[0])]
    file = waves_of(tmp_path, services[:1], services[1:])
    asked = ["rollout", file, "--image", "nginx:7", "--state-machine", state_machine, "--interval", "1"]
    planned = run(system, operator, *asked, "--dry-run")
    assert planned.returncode == DONE and services[2].key in planned.stdout, planned.stderr
    assert {system.running(service)[0] for service in services} == {deploy.IMAGE}
    ran = run(system, operator, *asked, "--reason", "release 7")
    assert ran.returncode == DONE, (ran.stdout, ran.stderr)
    assert {system.running(service)[0] for service in services} == {"nginx:7"}
    for line in ("wave 1 of 2: begins, 1 service", "wave 2 of 2: begins, 2 services", "wave 2 of 2: PASSED, 2 changed"):
        assert line in ran.stderr, ran.stderr
    assert "SUCCEEDED" in ran.stdout and "3 services" in ran.stdout
    # And again, by its ARN, for a program.
    arn = re.findall(r"--follow (\S+)", ran.stdout)[0]
    told = run(system, operator, "rollout", "--follow", arn, "-o", "json")
    assert told.returncode == DONE and json.loads(told.stdout)["changed"] == 3, told.stderr


def test_a_rollout_that_fails_stops_and_says_what_to_restore(
    system: System, state_machine: str, operator: Credentials, tmp_path: Path
) -> None:
    first, last = system.service(TARGETS[0]), system.service(TARGETS[1])
    file = waves_of(tmp_path, [first], [Service(TARGETS[0], REGION, "not-there")], [last])
    asked = ["rollout", file, "--image", "nginx:8", "--state-machine", state_machine, "--interval", "1"]
    ran = run(system, operator, *asked)
    assert ran.returncode == FAILED, (ran.stdout, ran.stderr)
    said = " ".join(ran.stdout.split())
    for shown in ("STOPPED wave 2", "not-there FAILED ServiceNotFound", "NOT_STARTED wave 3", "ecs-updater invoke -", first.key):
        assert shown in said, (said, ran.stderr)
    assert (system.running(first)[0], system.running(last)[0]) == ("nginx:8", deploy.IMAGE)


def test_a_rollout_is_stopped_by_hand(
    system: System, state_machine: str, operator: Credentials, tmp_path: Path
) -> None:
    first, last = system.service(TARGETS[0]), system.service(TARGETS[1])
    file = waves_of(tmp_path, [first], [last], bake_seconds=600)
    asked = ["rollout", file, "--image", "nginx:9", "--state-machine", state_machine, "--detach", "-o", "json"]
    arn = json.loads(run(system, operator, *asked).stdout)["execution"]
    deadline = time.monotonic() + 60
    while system.running(first)[0] != "nginx:9" and time.monotonic() < deadline:
        time.sleep(0.2)
    stopped = run(system, operator, "rollout", "--stop", arn, "--reason", "wrong image")
    assert stopped.returncode == DONE and "ABORTED" in stopped.stdout, stopped.stderr
    told = run(system, operator, "rollout", "--follow", arn)
    assert told.returncode == FAILED and "wrong image" in told.stderr and "ecs-updater history" in told.stderr
    assert (system.running(first)[0], system.running(last)[0]) == ("nginx:9", deploy.IMAGE)
