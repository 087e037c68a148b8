"""What goes wrong is heard of: alarms arrive, what is asynchronous leaves dead letters, events reach the hub."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import deploy
import pytest
from conftest import BUILT, System
from local_aws import HUB, OUTSIDER, REGION, TARGETS, LocalAws, forget_aws_settings

# Longer than it takes for an alarm to be looked at, and for what it says to be sent.
SOON = 1.5
DEPLOYMENT = {
    "eventName": "SERVICE_DEPLOYMENT_COMPLETED",
    "eventType": "INFO",
    "deploymentId": "ecs-svc/123",
    "updatedAt": "2026-11-25T00:00:00.000Z",
    "reason": "ECS deployment ecs-svc/123 completed.",
}


class Queue:
    """An SQS queue, read to its end."""

    def __init__(self, system: System, account: str, url: str) -> None:
        self.sqs = system.client("sqs", account)
        self.url = url

    @property
    def arn(self) -> str:
        """Its ARN."""
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]
        return str(attributes["QueueArn"])

    def drain(self) -> list[dict[str, Any]]:
        """The bodies of all messages, which are then gone."""
        bodies = []
        while messages := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def wait(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 15) -> dict[str, Any]:
        """The first message that is `wanted`; those before it are gone."""
        deadline = time.monotonic() + seconds
        seen = []
        while time.monotonic() < deadline:
            for body in self.drain():
                if wanted(body):
                    return body
                seen.append(body)
            time.sleep(0.1)
        raise AssertionError(f"not among the messages: {json.dumps(seen, indent=1)}")


def open_queue(system: System, name: str) -> Queue:
    """A queue of the hub account that AWS services may send to."""
    policy = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    attributes = {"Policy": json.dumps({"Version": "2012-10-17", "Statement": [policy]})}
    return Queue(system, HUB, system.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


@pytest.fixture
def watched() -> Iterator[System]:
    """A system of its own, since alarms remember what other tests did."""
    forget_aws_settings()
    with LocalAws() as aws:
        yield System(aws, deploy.deploy(aws, BUILT / "local", lambda step: None))


@pytest.fixture
def notices(watched: System) -> Queue:
    """A subscriber of the topic of alarms."""
    queue = open_queue(watched, "notices")
    topic = watched.deployment.outputs["NoticesTopicArn"]
    watched.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn)
    return queue


@pytest.fixture
def letters(watched: System) -> Queue:
    """The hub's dead letters."""
    return Queue(watched, HUB, watched.deployment.outputs["DeadLettersUrl"])


def about(alarm: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a notice tells of this alarm."""

    def wanted(notice: dict[str, Any]) -> bool:
        message = json.loads(notice["Message"])
        return message["NewStateValue"] == "ALARM" and f"-{alarm}-" in message["AlarmName"]

    return wanted


def counted(system: System, **dimensions: str) -> float:
    """How many changes failed so."""
    now = time.time()
    points = system.client("cloudwatch").get_metric_statistics(
        Namespace="EcsUpdater",
        MetricName="Failed",
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        StartTime=now - 600,
        EndTime=now + 60,
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    return float(sum(point["Sum"] for point in points))


def test_a_change_that_fails_is_heard_of_and_a_typo_is_only_counted(watched: System, notices: Queue) -> None:
    service = watched.service()
    watched.invoke({"nonsense": 1})
    watched.invoke({**service.event(ecs_image_name="nginx"), "ecs_cluster_name": "typo"})
    refused = watched.invoke(service.event(service={"platformVersion": "typo"}, ecs_image_name="NGINX"))
    assert refused.payload["errorType"] == "InvalidImage"
    time.sleep(SOON)
    assert notices.drain() == []
    assert counted(watched, code="JsonValidation", fault="caller") == 1
    assert counted(watched, code="ClusterNotFound", fault="caller") == 1

    watched.invoke({**service.event(ecs_image_name="nginx"), "account_id": OUTSIDER})
    notice = notices.wait(about("AssumeRoleFailedAlarm"))
    assert notice["TopicArn"] == watched.deployment.outputs["NoticesTopicArn"]
    time.sleep(SOON)
    assert notices.drain() == []  # it was answered: no crash


def test_a_function_that_gives_no_answer_is_heard_of(watched: System, notices: Queue) -> None:
    functions = watched.client("lambda")
    name = watched.deployment.function
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**variables, "MAX_CONCURRENCY": "none"}}
    )
    assert watched.invoke(watched.service().event(ecs_image_name="nginx")).error
    notices.wait(about("UpdaterErrorsAlarm"))


def test_a_new_hub_has_nothing_to_tell_and_sweeps_that_stop_are_heard_of(watched: System, notices: Queue) -> None:
    cloudwatch = watched.client("cloudwatch")

    def states() -> dict[str, str]:
        told = cloudwatch.describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        found = told["MetricAlarms"] + told["CompositeAlarms"]
        return {each["AlarmName"].split("-")[-2]: each["StateValue"] for each in found if "Sweep" in each["AlarmName"]}

    time.sleep(SOON)
    assert notices.drain() == []
    assert states() == {"SweepSilentAlarm": "ALARM", "SweepSeenAlarm": "OK", "SweepAlarm": "OK", "SweepRuleAlarm": "OK"}
    # Sweeps some hours ago, and none since.
    for hours in (2, 4):
        point = {"MetricName": "SweepsDone", "Value": 1, "Timestamp": time.time() - 3600 * hours}
        cloudwatch.put_metric_data(Namespace="EcsUpdater", MetricData=[point])
    notices.wait(about("SweepAlarm"))


def test_a_history_that_cannot_read_is_heard_of_and_a_wrong_question_is_not(watched: System, notices: Queue) -> None:
    assert watched.ask({"nonsense": 1}).error
    time.sleep(SOON)
    assert notices.drain() == []
    watched.client("iam").delete_role_policy(RoleName=watched.history_role, PolicyName="history")
    assert watched.ask({"account_id": HUB}).payload["errorType"] == "HistoryUnavailable"
    notices.wait(about("HistoryQuestionsAlarm"))
    time.sleep(SOON)
    assert notices.drain() == []


def test_a_rollout_that_does_not_go_through_is_heard_of(watched: System, notices: Queue) -> None:
    watched.client("stepfunctions").start_execution(stateMachineArn=watched.deployment.waves, input="{}")
    notices.wait(about("WavesFailedAlarm"))


def test_an_alarm_that_is_set_by_hand_is_heard_of(watched: System, notices: Queue) -> None:
    """The check of docs/DEPLOY.md after a deployment."""
    cloudwatch = watched.client("cloudwatch")
    stack = watched.client("cloudformation").describe_stacks()["Stacks"]
    (hub,) = [each["StackName"] for each in stack if "UpdaterAliasArn" in str(each.get("Outputs"))]
    found = watched.client("cloudformation").describe_stack_resource(
        StackName=hub, LogicalResourceId="DeadLettersAlarm"
    )
    name = found["StackResourceDetail"]["PhysicalResourceId"]
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="do notices arrive?")
    assert json.loads(notices.wait(about("DeadLettersAlarm"))["Message"])["AlarmName"] == name
    # It goes back by itself.
    time.sleep(SOON)
    assert cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"] == "OK"


@pytest.mark.parametrize("lock", ["key", "topic"])
def test_alarms_need_leave_of_the_topic_and_of_its_key(watched: System, notices: Queue, lock: str) -> None:
    topic = watched.deployment.outputs["NoticesTopicArn"]
    owner = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{HUB}:root"}, "Resource": "*", "Action": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [owner]})
    if lock == "key":
        key = watched.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]["KmsMasterKeyId"]
        watched.client("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=policy)
    else:
        watched.client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
    watched.invoke({**watched.service().event(ecs_image_name="nginx"), "account_id": OUTSIDER})
    time.sleep(SOON)
    alarms = watched.client("cloudwatch").describe_alarms(StateValue="ALARM")["MetricAlarms"]
    assert any("AssumeRoleFailed" in alarm["AlarmName"] for alarm in alarms)
    assert notices.drain() == []


def test_what_nobody_waits_for_and_fails_is_a_dead_letter_that_is_heard_of(
    watched: System, notices: Queue, letters: Queue
) -> None:
    event = watched.service().event(ecs_image_name="NGINX")
    watched.client("lambda").invoke(
        FunctionName=watched.deployment.outputs["UpdaterAliasArn"], InvocationType="Event", Payload=json.dumps(event)
    )
    notices.wait(about("DeadLettersAlarm"))
    letter = letters.wait(lambda letter: True)
    assert letter["requestPayload"] == event
    assert letter["responsePayload"]["errorType"] == "InvalidImage"


def test_a_dead_letter_that_cannot_be_kept_is_heard_of(
    watched: System, notices: Queue, letters: Queue
) -> None:
    iam, names = watched.client("iam"), {"RoleName": watched.updater_role, "PolicyName": "updater"}
    policy = iam.get_role_policy(**names)["PolicyDocument"]
    policy["Statement"] = [statement for statement in policy["Statement"] if statement["Sid"] != "KeepDeadLetters"]
    iam.put_role_policy(**names, PolicyDocument=json.dumps(policy))
    watched.client("lambda").invoke(FunctionName=watched.deployment.function, InvocationType="Event", Payload=b"{}")
    notices.wait(about("UpdaterLostAlarm"))
    assert letters.drain() == []


def put(system: System, account: str, source: str = "aws.ecs", **entry: Any) -> None:
    """Puts an event on an account's own bus, in the place of the AWS service that does."""
    event = {"DetailType": "ECS Deployment State Change", "Detail": json.dumps(DEPLOYMENT), "Source": source, **entry}
    answer = system.client("events", account).put_events(Entries=[event])
    assert answer["FailedEntryCount"] == 0, answer


@pytest.fixture
def arrived(watched: System) -> Queue:
    """What arrives on the hub's bus."""
    queue = open_queue(watched, "arrived")
    bus = watched.deployment.outputs["EventBusArn"].rsplit("/", 1)[-1]
    events = watched.client("events")
    events.put_rule(Name="all", EventBusName=bus, EventPattern=json.dumps({"source": [{"prefix": ""}]}))
    events.put_targets(Rule="all", EventBusName=bus, Targets=[{"Id": "queue", "Arn": queue.arn}])
    return queue


def test_a_deployment_of_any_account_of_the_organization_reaches_the_hub(watched: System, arrived: Queue) -> None:
    for account in (*TARGETS, HUB):
        put(watched, account)
        event = arrived.wait(lambda event: True)
        assert (event["account"], event["region"], event["detail"]) == (account, REGION, DEPLOYMENT)
    # What the rule does not name stays where it is.
    put(watched, TARGETS[0], DetailType="ECS Task State Change")
    put(watched, TARGETS[0], source="shop")
    time.sleep(SOON)
    assert arrived.drain() == []


def test_events_from_outside_the_organization_are_refused_and_kept_there(watched: System, arrived: Queue) -> None:
    outputs = deploy.deploy_events(watched.aws, OUTSIDER, watched.deployment.outputs["EventBusArn"])
    put(watched, OUTSIDER)
    kept = Queue(watched, OUTSIDER, outputs["DeadLettersUrl"]).wait(lambda letter: True)
    assert kept["detail"] == DEPLOYMENT
    assert arrived.drain() == []


def invocations(system: System, function: str) -> float:
    """How often a function ran."""
    now = time.time()
    points = system.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="Invocations",
        Dimensions=[{"Name": "FunctionName", "Value": function}],
        StartTime=now - 600,
        EndTime=now + 60,
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    return float(sum(point["Sum"] for point in points))


def test_a_deployment_reaches_the_recorder_by_leave_of_its_alias_only(
    watched: System, notices: Queue, letters: Queue
) -> None:
    recorder = watched.deployment.outputs["RecorderFunctionName"]
    put(watched, TARGETS[1])
    deadline = time.monotonic() + 15
    while not invocations(watched, recorder) and time.monotonic() < deadline:
        time.sleep(0.1)
    ran = invocations(watched, recorder)
    assert ran > 0

    functions, alias = watched.client("lambda"), {"FunctionName": recorder, "Qualifier": "live"}
    for statement in json.loads(functions.get_policy(**alias)["Policy"])["Statement"]:
        functions.remove_permission(**alias, StatementId=statement["Sid"])
    put(watched, TARGETS[1], Detail=json.dumps({**DEPLOYMENT, "reason": "kept"}))
    kept = letters.wait(lambda letter: letter.get("detail", {}).get("reason") == "kept")
    assert kept["account"] == TARGETS[1]

    watched.client("sqs").set_queue_attributes(QueueUrl=letters.url, Attributes={"Policy": ""})
    put(watched, TARGETS[1], Detail=json.dumps({**DEPLOYMENT, "reason": "lost"}))
    notices.wait(about("RecorderRuleAlarm"))


def test_events_that_do_not_get_to_the_hub_are_heard_of_there(watched: System, notices: Queue, letters: Queue) -> None:
    stack = watched.client("cloudformation", TARGETS[0]).describe_stacks(StackName="ecs-updater-target-events")
    kept = {output["OutputKey"]: output["OutputValue"] for output in stack["Stacks"][0]["Outputs"]}["DeadLettersUrl"]
    watched.client("sqs", TARGETS[0]).send_message(QueueUrl=kept, MessageBody="{}")
    notices.wait(about("DeadLettersAlarm"))
    letter = letters.wait(lambda letter: True)
    assert letter["account"] == TARGETS[0]
    assert "-DeadLettersAlarm-" in letter["detail"]["alarmName"]
