"""The trigger's real template and function: a push of an image changes the services that are mapped, in two accounts, and
nothing else; of a hundred pushes the newest wins; one repository holds up no other."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import deploy
import pytest
from conftest import BUILT, Service, System
from local_aws import HUB, REGION, TARGETS
from test_permissions import Replace

REPOSITORY = "team/app"
OTHER = "team/other"
# Its service is not there.
BROKEN = "team/broken"


def images(repository: str) -> str:
    """What its images are called."""
    return f"{HUB}.dkr.ecr.{REGION}.amazonaws.com/{repository}"


IMAGES = images(REPOSITORY)


@dataclass(frozen=True)
class Pushes:
    """The deployed trigger, and the services that get what is pushed."""

    system: System
    mapped: tuple[Service, ...]
    other: Service
    bystander: Service

    def push(self, tag: str, content: str, repository: str = REPOSITORY) -> str:
        """Puts an image into the repository, without an event; its digest."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": content, "size": 1},
            "layers": [],
        }
        answer = self.system.client("ecr").put_image(
            repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag
        )
        return str(answer["image"]["imageId"]["imageDigest"])

    def tell(self, tag: str, digests: list[str], detail_type: str = "ECR Image Action", **more: str) -> None:
        """The events of pushes, as ECR puts them on the account's bus."""
        entries = [
            {
                "Source": "aws.ecr",
                "DetailType": detail_type,
                "Detail": json.dumps({**detail(tag, digest), **more}),
            }
            for digest in digests
        ]
        events = self.system.client("events")
        for start in range(0, len(entries), 10):
            assert events.put_events(Entries=entries[start : start + 10])["FailedEntryCount"] == 0

    def late(self, tag: str, digest: str, pushed_at: datetime) -> None:
        """The event of a push of then, which comes into the queue now. The local bus gives every event its own time."""
        event = {
            "version": "0",
            "id": f"late-{tag}",
            "detail-type": "ECR Image Action",
            "source": "aws.ecr",
            "account": HUB,
            "time": pushed_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": REGION,
            "resources": [],
            "detail": detail(tag, digest),
        }
        self.system.client("sqs").send_message(QueueUrl=self.queue(), MessageBody=json.dumps(event), MessageGroupId="pushes")

    def queue(self) -> str:
        """The URL of the trigger's queue."""
        return next(url for url in self.system.client("sqs").list_queues()["QueueUrls"] if "TriggerQueue" in url)

    def left(self) -> tuple[int, int]:
        """How many messages of the queue are at work or in their time-out, and how many wait."""
        counts = ["ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessages"]
        asked = self.system.client("sqs").get_queue_attributes(QueueUrl=self.queue(), AttributeNames=counts)
        hidden, waiting = (int(asked["Attributes"][count]) for count in counts)
        return hidden, waiting

    def function(self) -> dict[str, Any]:
        """The trigger's function."""
        stack = self.system.client("cloudformation").describe_stack_resource(
            StackName="ecs-updater-trigger", LogicalResourceId="TriggerFunction"
        )
        name = stack["StackResourceDetail"]["PhysicalResourceId"]
        found: dict[str, Any] = self.system.client("lambda").get_function_configuration(FunctionName=name)
        return found

    def wait(self, image: str) -> None:
        """Until all mapped services run `image`."""
        until(lambda: all(self.system.running(service)[0] == image for service in self.mapped))


def detail(tag: str, digest: str) -> dict[str, str]:
    """What an event of a push says of it."""
    return {
        "result": "SUCCESS",
        "action-type": "PUSH",
        "repository-name": REPOSITORY,
        "image-tag": tag,
        "image-digest": digest,
    }


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Waits for it."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def pushes(system: System) -> Iterator[Pushes]:
    """The trigger's stack with a mapping to a service in each of two accounts."""
    mapped = tuple(system.service(account) for account in TARGETS[:2])
    other = system.service()
    services = {
        REPOSITORY: [(it.account, it.name) for it in mapped],
        OTHER: [(other.account, other.name)],
        BROKEN: [(other.account, "not-there")],
    }
    mapping = [
        {
            "repository": images(repository),
            "tags": ["release-*"],
            "ecs_cluster_name": deploy.CLUSTER,
            "targets": [{"account_id": account, "ecs_service_name": name} for account, name in targets],
        }
        for repository, targets in services.items()
    ]
    package = (BUILT / "local" / "trigger.zip").read_bytes()
    key = f"{hashlib.sha256(package).hexdigest()[:16]}/trigger.zip"
    system.client("s3").put_object(Bucket=deploy.PACKAGE_BUCKET, Key=key, Body=package)
    for repository in services:
        system.client("ecr").create_repository(repositoryName=repository)
    hub = system.client("cloudformation").describe_stacks(StackName="ecs-updater-hub")["Stacks"][0]
    outputs: dict[str, Any] = {output["OutputKey"]: output["OutputValue"] for output in hub["Outputs"]}
    deploy.deploy_stack(
        system.aws,
        HUB,
        "ecs-updater-trigger",
        "trigger.yaml",
        {
            "CodeBucket": deploy.PACKAGE_BUCKET,
            "CodeKey": key,
            "UpdaterAlias": outputs["UpdaterAliasArn"],
            "RegistryRepositoryArns": ",".join(f"arn:aws:ecr:{REGION}:{HUB}:repository/{name}" for name in services),
            "RepositoryNames": ",".join(["team/unused", *services]),
            "TriggerMapping": json.dumps(mapping),
        },
    )
    yield Pushes(system, mapped, other, system.service())
    system.client("cloudformation").delete_stack(StackName="ecs-updater-trigger")


def test_a_push_changes_the_mapped_services_and_nothing_else(pushes: Pushes) -> None:
    system = pushes.system
    before = system.running(pushes.bystander)
    latest = pushes.push("latest", "sha256:latest")
    pushes.tell("latest", [latest])
    digest = pushes.push("release-7", "sha256:seven")
    pushes.tell("release-7", [digest])
    pushes.wait(f"{IMAGES}@{digest}")
    for service in pushes.mapped:
        records = system.records(service)
        assert [record["kind"] for record in records] == ["STARTED", "APPLIED"], "the other tag is not mapped"
        assert {record["requested_by"] for record in records} == {"ecr-push"}
        assert f"{IMAGES}:release-7 " in records[0]["reason"]
    assert system.running(pushes.bystander) == before
    assert not system.records(pushes.bystander)


def test_a_replicated_image_changes_the_mapped_services(pushes: Pushes) -> None:
    """What ECR sends where a replicated image comes to: https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html."""
    digest = pushes.push("release-7-replicated", "sha256:replicated")
    source = {"source-account": TARGETS[0], "source-region": "us-east-1"}
    pushes.tell("release-7-replicated", [digest], "ECR Replication Action", **{"action-type": "REPLICATE", **source})
    pushes.wait(f"{IMAGES}@{digest}")
    for service in pushes.mapped:
        assert f"{IMAGES}:release-7-replicated " in pushes.system.records(service)[-1]["reason"]


def test_what_the_rule_does_not_name_never_enters_the_queue(pushes: Pushes) -> None:
    """Nor costs an invocation: a queue beside the trigger's gets all that the rule takes."""
    system = pushes.system
    stack = system.client("cloudformation").describe_stack_resource(
        StackName="ecs-updater-trigger", LogicalResourceId="TriggerRule"
    )
    rule = stack["StackResourceDetail"]["PhysicalResourceId"]
    anybody = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    attributes = {"Policy": json.dumps({"Version": "2012-10-17", "Statement": [anybody]})}
    sqs, events = system.client("sqs"), system.client("events")
    beside = sqs.create_queue(QueueName="beside-the-trigger", Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=beside, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    assert events.put_targets(Rule=rule, Targets=[{"Id": "beside", "Arn": arn}])["FailedEntryCount"] == 0
    # No mapping has the tags, so that nothing is changed by those that are taken.
    pushes.tell("unheard", ["sha256:x"], **{"repository-name": "team/another"})
    pushes.tell("unheard", ["sha256:x"], **{"repository-name": f"{REPOSITORY}-2"})
    pushes.tell("unheard", ["sha256:x"], **{"result": "FAILURE"})
    pushes.tell("unheard", ["sha256:x"], **{"action-type": "DELETE"})
    pushes.tell("unheard", ["sha256:x"], "ECR Image Scan")
    pushes.tell("unheard", ["sha256:x"], "ECR Replication Action", **{"action-type": "REPLICATE", "repository-name": "team/another"})
    pushes.tell("heard", ["sha256:x"], **{"repository-name": "team/unused"})
    pushes.tell("heard", ["sha256:x"], "ECR Replication Action", **{"action-type": "REPLICATE"})
    pushes.tell("heard", ["sha256:x"])
    got: list[dict[str, str]] = []

    def received() -> bool:
        for message in sqs.receive_message(QueueUrl=beside, MaxNumberOfMessages=10).get("Messages", []):
            got.append(json.loads(message["Body"])["detail"])
            sqs.delete_message(QueueUrl=beside, ReceiptHandle=message["ReceiptHandle"])
        return len(got) >= 3

    until(received, 20)
    events.remove_targets(Rule=rule, Ids=["beside"])
    assert {each["image-tag"] for each in got} == {"heard"}
    assert sorted((each["repository-name"], each["action-type"]) for each in got) == [
        (REPOSITORY, "PUSH"),
        (REPOSITORY, "REPLICATE"),
        ("team/unused", "PUSH"),
    ]


def test_a_hundred_pushes_in_a_second_end_with_the_newest(pushes: Pushes) -> None:
    before = [len(pushes.system.records(service)) for service in pushes.mapped]
    digests = [pushes.push("release-8", f"sha256:{n}") for n in range(100)]
    # Events come in any order.
    pushes.tell("release-8", sorted(digests))
    pushes.wait(f"{IMAGES}@{digests[-1]}")
    until(lambda: pushes.left() == (0, 0))
    for service, records in zip(pushes.mapped, before, strict=True):
        assert len(pushes.system.records(service)) == records + 2, "one change, not a hundred"
        assert pushes.system.running(service)[0] == f"{IMAGES}@{digests[-1]}"


def test_a_mapping_may_be_kept_in_a_parameter(pushes: Pushes, role_policy: Replace) -> None:
    """As long as the trigger may not read it, nothing is changed and the pushes come again."""
    system = pushes.system
    functions, parameter = system.client("lambda"), "/trigger/mapping"
    found = pushes.function()
    name, variables, role = found["FunctionName"], found["Environment"]["Variables"], found["Role"].rsplit("/", 1)[-1]
    system.client("ssm").put_parameter(Name=parameter, Value=variables["TRIGGER_MAPPING"], Type="String")
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**variables, "TRIGGER_MAPPING": f"ssm:{parameter}"}}
    )
    told = functions.invoke(FunctionName=name, Payload=b'{"Records": []}')
    refused = json.loads(told["Payload"].read())
    assert refused["errorType"] == "MappingUnavailable", refused
    assert f"ssm:{parameter}" in refused["errorMessage"]
    assert "AccessDenied" in refused["errorMessage"]
    policy = system.client("iam").get_role_policy(RoleName=role, PolicyName="trigger")["PolicyDocument"]
    right = {
        "Sid": "ReadMapping",
        "Effect": "Allow",
        "Action": "ssm:GetParameter",
        "Resource": f"arn:aws:ssm:{REGION}:{HUB}:parameter{parameter}",
    }
    role_policy(HUB, role, "trigger", {**policy, "Statement": [*policy["Statement"], right]})
    time.sleep(6)  # the failure stands for five seconds; a push that met it would come again a quarter of an hour later
    digest = pushes.push("release-9", "sha256:nine")
    pushes.tell("release-9", [digest])
    pushes.wait(f"{IMAGES}@{digest}")
    until(lambda: pushes.left() == (0, 0))
    # The right is taken back, and other environments of the function may begin.
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})


def test_the_image_that_was_pushed_last_wins_whatever_its_tag_is_called(pushes: Pushes) -> None:
    older, at = pushes.push("release-99", "sha256:older"), datetime.now(UTC)
    # ECR's times are compared by the second.
    time.sleep(1.1)
    newer = pushes.push("release-100", "sha256:newer")
    pushes.tell("release-100", [newer])
    pushes.wait(f"{IMAGES}@{newer}")
    before = [len(pushes.system.records(service)) for service in pushes.mapped]
    # Long after it, and first in the alphabet.
    pushes.late("release-99", older, at)
    time.sleep(5)
    for service, records in zip(pushes.mapped, before, strict=True):
        assert len(pushes.system.records(service)) == records
        assert pushes.system.running(service)[0] == f"{IMAGES}@{newer}"


def test_a_repository_whose_push_fails_holds_up_no_other(pushes: Pushes) -> None:
    """But its own pushes, which wait behind that one: it comes again after a quarter of an hour."""
    for tag in ("release-1", "release-2"):
        pushes.tell(tag, [pushes.push(tag, f"sha256:broken-{tag}", BROKEN)], **{"repository-name": BROKEN})
    other = pushes.push("release-1", "sha256:other", OTHER)
    pushes.tell("release-1", [other], **{"repository-name": OTHER})
    digest = pushes.push("release-101", "sha256:one-hundred-and-one")
    pushes.tell("release-101", [digest])
    until(lambda: pushes.system.running(pushes.other)[0] == f"{images(OTHER)}@{other}")
    pushes.wait(f"{IMAGES}@{digest}")
    until(lambda: pushes.left() == (1, 1), 20)


def test_a_push_that_cannot_be_passed_on_waits(pushes: Pushes, role_policy: Replace) -> None:
    """It is tried again until it can be, in the same invocation."""
    role = pushes.function()["Role"].rsplit("/", 1)[-1]
    policy = pushes.system.client("iam").get_role_policy(RoleName=role, PolicyName="trigger")["PolicyDocument"]
    without = json.dumps(policy).replace(', "sqs:SendMessage"', "")
    assert without != json.dumps(policy)
    role_policy(HUB, role, "trigger", json.loads(without))
    digest = pushes.push("release-102", "sha256:one-hundred-and-two")
    pushes.tell("release-102", [digest])
    time.sleep(4)
    assert all(pushes.system.running(service)[0] != f"{IMAGES}@{digest}" for service in pushes.mapped)
    role_policy(HUB, role, "trigger", policy)
    pushes.wait(f"{IMAGES}@{digest}")
