"""The command line `ecs-updater`, as a person runs it: the real binary, the real functions, nobody's AWS profile."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import deploy
import pytest
from conftest import COMMAND_LINE, Service, System
from local_aws import HUB, Credentials
from wire import Wire

DONE, FAILED, USAGE, NOT_ASKED, BROKEN, LATER, DIFFERS = range(7)
CHANGE_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Person:
    """Someone at a terminal, who may invoke the two functions and nothing else."""

    def __init__(self, system: System) -> None:
        self._environment = deploy.command_line_environment(system.aws, system.deployment)

    def run(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the command line."""
        return subprocess.run(
            [COMMAND_LINE, *arguments],
            env={**self._environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def ask(self, *arguments: str | Path) -> dict[str, Any]:
        """What it prints for programs, where it ends well."""
        ran = self.run(*arguments, "--output", "json")
        assert ran.returncode == DONE, ran.stderr
        return dict(json.loads(ran.stdout))


@pytest.fixture(scope="module")
def person(system: System) -> Person:
    """The caller of the examples."""
    return Person(system)


def fails(ran: subprocess.CompletedProcess[str], exit_code: int, *texts: str) -> None:
    """Fails where a command did not fail so, with these texts in its message."""
    assert ran.returncode == exit_code, (ran.stdout, ran.stderr)
    said = " ".join(ran.stderr.split())  # the message is wrapped
    for text in texts:
        assert text in said, said


def test_a_service_is_planned_updated_and_told_about(system: System, person: Person) -> None:
    service = system.service()
    asked = [service.key, "--image", "nginx:1.27", "--tag", "release=7", "--set", "desiredCount=3"]

    plan = person.run("plan", *asked)
    assert plan.returncode == DONE, plan.stderr
    for shown in ("busybox", "nginx:1.27", "release", "desiredCount"):
        assert shown in plan.stdout
    assert person.run("plan", *asked, "--exit-code").returncode == DIFFERS
    assert system.running(service) == ("busybox", deploy.TAGS)
    assert system.records(service) == []

    body = person.ask("update", *asked, "--requested-by", "ann", "--reason", "release 7")
    assert body["status"] == "APPLIED"
    assert system.running(service) == ("nginx:1.27", {**deploy.TAGS, "release": "7"})
    assert system.described(service)["desiredCount"] == 3
    assert person.run("plan", *asked, "--exit-code").returncode == DONE

    told = person.run("history", service.key)
    assert told.returncode == DONE, told.stderr
    for shown in (service.key, body["change_id"], "APPLIED", "busybox", "nginx:1.27", "ann", "release 7"):
        assert shown in told.stdout
    assert "\x1b" not in told.stdout, "colours are for terminals"


def test_a_change_is_found_by_account_image_id_and_requester(system: System, person: Person) -> None:
    service = system.service(HUB)
    image = f"registry.example:5000/{service.name}-of-the-hub"
    who = f"ann of {service.name}"
    change = person.ask("update", service.key, "--image", f"web={image}:1", "--requested-by", who)["change_id"]
    for question in (
        [service.key],
        ["--account", HUB, "--requested-by", who],
        ["--image", image],
        ["--image", f"{image}:1"],
        ["--change", change],
        ["--requested-by", who],
    ):
        changes = person.ask("history", *question, "--all")["changes"]
        assert [each["change_id"] for each in changes] == [change], question


def test_a_restore_puts_back_what_was_there(system: System, person: Person) -> None:
    service = system.service()
    first = person.ask("update", service.key, "--image", "nginx:1", "--tag", "a=1", "--replace-tags")
    person.ask("update", service.key, "--image", "nginx:2")
    looked = person.run("restore", service.key, "--previous", "--dry-run")
    assert looked.returncode == DONE, looked.stderr
    assert "nginx:1" in looked.stdout
    assert system.running(service)[0] == "nginx:2"
    assert person.run("restore", service.key, "--previous").returncode == DONE
    assert system.running(service) == ("nginx:1", {"a": "1"})
    # The service is looked up in the history.
    restored = person.run("restore", "--change", first["change_id"])
    assert restored.returncode == DONE, restored.stderr
    assert system.running(service) == ("busybox", deploy.TAGS)
    assert first["change_id"] in person.run("history", service.key, "--limit", "1").stdout


def test_an_event_is_sent_as_it_is(system: System, person: Person, tmp_path: Path) -> None:
    service = system.service()
    event = tmp_path / "event.json"
    event.write_text(json.dumps(service.event(ecs_image_name="nginx")))
    ran = person.run("invoke", event)
    assert ran.returncode == DONE, ran.stderr
    assert json.loads(ran.stdout)["body"]["status"] == "APPLIED"
    event.write_text(json.dumps({"account_id": service.account, "limit": 1}))
    ran = person.run("invoke", "--function", "history", event)
    assert len(json.loads(ran.stdout)["body"]["changes"]) == 1


# ---- verify ----------------------------------------------------------------------------------------------------------


def changed_twice(system: System) -> Service:
    """A service with two changes, one of them of two images: four records and its pointer items."""
    containers = [{"name": name, "image": f"{name}:1", "memory": 64} for name in ("web", "log")]
    service = system.service(containerDefinitions=containers)
    for images in ({"web": "web:2", "log": "log:2"}, {"web": "web:3"}):
        system.invoke(service.event(images=images, reason="„ÄÖ“ \U0001f600"))
    return service


def items_of(system: System, *services: Service) -> list[dict[str, Any]]:
    """The services' items of the history table, as DynamoDB writes them into an export, in its own order."""
    found: list[dict[str, Any]] = []
    for page in system.client("dynamodb").get_paginator("scan").paginate(TableName=system.deployment.history):
        found += [item for item in page["Items"] if item["service"]["S"] in {service.key for service in services}]
    return found


def export(path: Path, items: list[dict[str, Any]]) -> Path:
    """Writes items as an export does: DynamoDB JSON, a line each."""
    path.write_text("".join(json.dumps({"Item": item}, ensure_ascii=False) + "\n" for item in items))
    return path


def test_a_ledger_is_verified_online_and_from_an_export(system: System, person: Person, tmp_path: Path) -> None:
    services = changed_twice(system), changed_twice(system)
    for service in services:
        ran = person.run("verify", service.key)
        assert ran.returncode == DONE, ran.stderr
        assert "4 records" in ran.stdout
    items = items_of(system, *services)
    assert len(items) > 8, "no pointer items"
    # Offline: without credentials, and without anybody to ask.
    dump = export(tmp_path / "whole.json", items)
    ran = person.run("verify", "--export", dump, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_ACCESS_KEY_ID="")
    assert ran.returncode == DONE, (ran.stdout, ran.stderr)
    for service in services:
        assert service.key in ran.stdout
    told = person.ask("verify", "--export", dump)
    assert told["ok"] is True
    assert {each["service"]: each["verified"] for each in told["services"]} == {service.key: 4 for service in services}


def test_an_edited_export_is_broken_at_its_place(system: System, person: Person, tmp_path: Path) -> None:
    service = changed_twice(system)
    items = items_of(system, service)
    chain = sorted((item for item in items if "seq" in item), key=lambda item: int(item["seq"]["N"]))
    pointers = [item for item in items if "seq" not in item]
    for edited in (
        [{**chain[0], "reason": {"S": "another"}}, *chain[1:]],
        [chain[0], *chain[2:]],
        [chain[0], {**chain[1], "seq": chain[2]["seq"]}, {**chain[2], "seq": chain[1]["seq"]}, chain[3]],
    ):
        ran = person.run("verify", "--export", export(tmp_path / "edited.json", [*edited, *pointers]), "-o", "json")
        assert ran.returncode == BROKEN, (ran.stdout, ran.stderr)
        told = json.loads(ran.stdout)
        assert told["ok"] is False
        (verdict,) = told["services"]
        assert CHANGE_ID.match(verdict["fault"]["record"]), verdict
    not_there = person.run("verify", "--export", tmp_path / "nowhere.json")
    fails(not_there, USAGE, "nowhere.json")
    nothing = person.run("verify", "--export", export(tmp_path / "empty.json", []))
    fails(nothing, FAILED, "no record")


def test_a_ledger_without_its_end_is_broken(system: System, person: Person) -> None:
    """What only the head can tell."""
    service = changed_twice(system)
    last = max((record for record in system.records(service) if "seq" in record), key=lambda record: record["seq"])
    # By root, whom no policy of the local AWS stops.
    system.client("dynamodb").delete_item(
        TableName=system.deployment.history, Key={name: {"S": last[name]} for name in ("service", "record")}
    )
    ran = person.run("verify", service.key)
    assert ran.returncode == BROKEN, (ran.stdout, ran.stderr)
    assert "BROKEN" in ran.stdout


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_failed_change_says_why(system: System, person: Person) -> None:
    service = system.service()
    missing = Service(service.account, service.region, "not-there")
    fails(person.run("update", missing.key, "--image", "nginx"), FAILED, "ServiceNotFound", missing.key)
    nowhere = Service("999999999999", service.region, service.name)
    fails(person.run("update", nowhere.key, "--image", "nginx"), FAILED, "AssumeRoleFailed", "999999999999")
    error = person.run("update", missing.key, "--image", "nginx", "-o", "json")
    assert json.loads(error.stderr)["error"]["code"] == "ServiceNotFound"


def test_a_wrong_command_is_told_from_a_failed_one(system: System, person: Person) -> None:
    service = system.service()
    for arguments in (
        ["update", service.key, "--image", "nginx:a:b"],
        ["update", service.key],
        ["update", "web", "--image", "nginx"],
        ["history", "--day", "2026-13-01"],
        ["restore", service.key],
    ):
        fails(person.run(*arguments), USAGE)
    assert system.records(service) == []


@pytest.fixture(scope="module")
def stranger(system: System) -> Iterator[Credentials]:
    """A user of the hub who may do nothing."""
    iam = system.client("iam")
    iam.create_user(UserName="stranger")
    key = iam.create_access_key(UserName="stranger")["AccessKey"]
    yield Credentials(key["AccessKeyId"], key["SecretAccessKey"])


def test_who_may_not_ask_is_told_so(system: System, person: Person, stranger: Credentials) -> None:
    service = system.service()
    keys = {"AWS_ACCESS_KEY_ID": stranger.access_key, "AWS_SECRET_ACCESS_KEY": stranger.secret_key}
    for arguments in (["update", service.key, "--image", "nginx"], ["history", service.key], ["verify", service.key]):
        fails(person.run(*arguments, **keys), NOT_ASKED, "lambda:InvokeFunction")
    assert system.running(service)[0] == "busybox"
    fails(person.run("history", "--history-function", "nobody"), NOT_ASKED, "nobody")
    fails(person.run("history", "--endpoint-url", "http://127.0.0.1:9"), NOT_ASKED, "not reached")


def test_endpoint_and_region_may_be_options(system: System, person: Person) -> None:
    options = ["--endpoint-url", system.aws.endpoint, "--region", "eu-west-1"]
    nothing = {"AWS_ENDPOINT_URL": "", "AWS_REGION": ""}
    ran = person.run("history", "--limit", "1", *options, **nothing)
    assert ran.returncode == DONE, ran.stderr


def test_a_service_that_is_being_changed_is_for_later(system: System, person: Person, wire: Wire) -> None:
    service = system.service()
    with ThreadPoolExecutor(1) as pool:
        with wire.holding("UpdateService") as held:
            first = pool.submit(person.run, "update", service.key, "--image", "nginx:1")
            assert held.arrived.wait(20), "the first change never came to UpdateService"
            fails(person.run("update", service.key, "--image", "nginx:2"), LATER, "ChangeInProgress", service.key)
            under_way = person.run("history", service.key)
            assert "STARTED" in under_way.stdout
        assert first.result().returncode == DONE
    assert person.run("update", service.key, "--image", "nginx:2").returncode == DONE


def test_the_command_line_has_no_rights_of_its_own(system: System, person: Person) -> None:
    """It asks the two functions, and no other API: neither ECS nor the tables."""
    service = system.service()
    with Wire(system.aws.endpoint) as beside:
        elsewhere = {f"AWS_ENDPOINT_URL_{name}": beside.endpoint for name in ("ECS", "STS", "DYNAMODB")}
        assert person.run("update", service.key, "--image", "nginx", **elsewhere).returncode == DONE
        assert person.run("verify", service.key, **elsewhere).returncode == DONE
        assert beside.calls == []
