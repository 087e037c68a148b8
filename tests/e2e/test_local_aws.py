"""What tools/local_aws/strict.py adds to MiniStack and nothing else here leans on yet."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import deploy
import pytest
import stacks
import urllib3
from botocore.exceptions import ClientError
from conftest import System
from local_aws import HUB, OUTSIDER
from test_permissions import Replace, updater_policy

LOCAL = Path(__file__).resolve().parents[2] / "tools" / "local_aws"


def test_leading_keys_limit_which_items_are_read(system: System, role_policy: Replace) -> None:
    heads_only = {
        "Effect": "Allow",
        "Action": ["dynamodb:GetItem", "dynamodb:BatchGetItem"],
        "Resource": "*",
        "Condition": {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["service#*"]}},
    }
    document = updater_policy(system)
    role_policy(HUB, system.updater_role, "updater", {**document, "Statement": [heads_only]})
    dynamodb, table = system.aws.client("dynamodb", system.updater()), system.deployment.state
    head, key = {"id": {"S": "service#x"}}, {"id": {"S": "key#x"}}
    dynamodb.get_item(TableName=table, Key=head)
    dynamodb.batch_get_item(RequestItems={table: {"Keys": [head]}})
    with pytest.raises(ClientError):
        dynamodb.get_item(TableName=table, Key=key)
    with pytest.raises(ClientError):
        dynamodb.batch_get_item(RequestItems={table: {"Keys": [head, key]}})


def test_tags_of_a_service_with_a_short_arn_are_refused(system: System) -> None:
    service = system.service()
    ecs, short = system.client("ecs", service.account), service.arn.replace(f":service/{deploy.CLUSTER}/", ":service/")
    for call, more in ((ecs.tag_resource, {"tags": [{"key": "a", "value": "b"}]}), (ecs.untag_resource, {"tagKeys": ["a"]})):
        call(resourceArn=service.arn, **more)
        with pytest.raises(ClientError, match="Long arn format must be used for tagging operations"):
            call(resourceArn=short, **more)
    with pytest.raises(ClientError, match="Long arn format"):
        ecs.list_tags_for_resource(resourceArn=short)


def test_a_deployment_configuration_is_merged(system: System) -> None:
    service = system.service()
    ecs = system.client("ecs", service.account)
    alarms = {"alarmNames": ["bad"], "enable": True, "rollback": True}

    def update(configuration: dict[str, Any]) -> Any:
        answer = ecs.update_service(
            cluster=deploy.CLUSTER, service=service.name, deploymentConfiguration=configuration
        )
        return answer["service"]["deploymentConfiguration"]

    update({"alarms": alarms, "maximumPercent": 150})
    assert update({"maximumPercent": 200})["alarms"] == alarms
    off = {"alarmNames": [], "enable": False, "rollback": False}
    after = update({"alarms": off})
    assert (after["alarms"], after["maximumPercent"]) == (off, 200)


def test_nothing_is_left_when_the_parent_is_killed() -> None:
    program = "import local_aws, time; aws = local_aws.LocalAws(); aws.start(); print(aws.process_group, aws.endpoint)"
    with subprocess.Popen(
        [sys.executable, "-uc", f"{program}; time.sleep(60)"], cwd=LOCAL, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        group, endpoint = parent.stdout.readline().split()
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{group}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{group}").exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(endpoint.rsplit(":", 1)[-1]))) != 0


def test_it_listens_on_loopback_only(system: System) -> None:
    """Every listening socket of the local AWS and of the functions it runs."""
    inodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        # Processes and their files come and go while this looks.
        with contextlib.suppress(OSError):
            if os.getpgid(int(process.name)) == system.aws.process_group:
                inodes |= {os.readlink(descriptor) for descriptor in (process / "fd").iterdir()}
    listening = [
        fields[1].split(":")[0]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in map(str.split, Path(table).read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes
    ]
    assert listening
    assert set(listening) == {"0100007F"}


# ---- Step Functions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "many",
    [
        {"Output": "{% $states.result %}"},
        {"Output": {}, "Assign": {"kept": "{% [$states.result, $states.result] %}"}},
        {"Output": {}},  # what the iterations answer has the same limit, whatever becomes of it
    ],
)
@pytest.mark.parametrize(("characters", "ends"), [(60_000, "SUCCEEDED"), (100_000, "FAILED")])
def test_more_than_256_kib_ends_an_execution_and_is_not_caught(
    system: System, many: dict[str, Any], characters: int, ends: str
) -> None:
    states = system.client("stepfunctions")
    role = states.describe_state_machine(stateMachineArn=system.deployment.waves)["roleArn"]
    if "Assign" in many:
        characters //= 2
    long = {"Type": "Pass", "Output": f"{{% $pad('', {characters}, 'x') %}}", "End": True}
    definition = {
        "QueryLanguage": "JSONata",
        "StartAt": "Many",
        "States": {
            "Many": {
                "Type": "Map",
                "Items": "{% [1..4] %}",
                "ItemProcessor": {"StartAt": "Long", "States": {"Long": long}},
                "Catch": [{"ErrorEquals": ["States.ALL"], "Output": {}, "Next": "Caught"}],
                **many,
                "End": True,
            },
            "Caught": {"Type": "Succeed"},
        },
    }
    machine = states.create_state_machine(name=f"large-{uuid.uuid4()}", definition=json.dumps(definition), roleArn=role)
    try:
        started = states.start_execution(stateMachineArn=machine["stateMachineArn"], input="{}")
        deadline = time.monotonic() + 20
        while (ended := states.describe_execution(executionArn=started["executionArn"]))["status"] == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        states.delete_state_machine(stateMachineArn=machine["stateMachineArn"])
    assert (ended["status"], ended.get("error")) == (
        (ends, None) if ends == "SUCCEEDED" else (ends, "States.DataLimitExceeded")
    )


# ---- API Gateway -----------------------------------------------------------------------------------------------------

SIGNED = [{"caller": []}]
SCHEME = {
    "caller": {"type": "apiKey", "name": "Authorization", "in": "header", "x-amazon-apigateway-authtype": "awsSigv4"}
}


def mock_api(status: str = "200", root: list[Any] | None = None, **operation: Any) -> dict[str, Any]:
    """A REST API whose one method, GET /, answers with this status by itself."""
    integration = {
        "type": "mock",
        "requestTemplates": {"application/json": json.dumps({"statusCode": int(status)})},
        "responses": {"default": {"statusCode": status, "responseTemplates": {"application/json": "{}"}}},
    }
    document = {
        "openapi": "3.0.3",
        "info": {"title": "mock", "version": "1"},
        **({"security": root} if root else {}),
        "paths": {"/": {"get": {"responses": {}, "x-amazon-apigateway-integration": integration, **operation}}},
        "components": {"securitySchemes": SCHEME},
    }
    return {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "mock", "Body": document}}


def deployed(system: System, stack: str, api: dict[str, Any], account: str = HUB, **more: Any) -> str:
    """Puts a stack with this API, its deployment and its stage; the API's id."""
    deployment = {"Type": "AWS::ApiGateway::Deployment", "Properties": {"RestApiId": {"Ref": "Api"}}}
    stage = {"RestApiId": {"Ref": "Api"}, "DeploymentId": {"Ref": "Deployment"}, "StageName": "live", **more.pop("stage", {})}
    resources = {"Api": api, "Deployment": deployment, "Stage": {"Type": "AWS::ApiGateway::Stage", "Properties": stage}}
    template = {"Resources": {**resources, **more}, "Outputs": {"Id": {"Value": {"Ref": "Api"}}}}
    cloudformation = system.client("cloudformation", account)
    return stacks.put(cloudformation, stack, {"TemplateBody": json.dumps(template)}, {}).outputs["Id"]


def asked(system: System, api: str) -> int:
    """The status of an unsigned request."""
    answer = urllib3.PoolManager(retries=False).request("GET", f"{system.aws.endpoint}/_aws/execute-api/{api}/live/")
    return answer.status


def test_security_at_the_root_of_a_rest_api_is_ignored(system: System) -> None:
    assert asked(system, deployed(system, "mock-root", mock_api(root=SIGNED))) == 200
    assert asked(system, deployed(system, "mock-operation", mock_api(security=SIGNED))) == 403


def test_a_stage_serves_what_its_deployment_was_made_of(system: System) -> None:
    api = deployed(system, "mock-deployment", mock_api("200"))
    # Another document is another state of the same API, and the same deployment.
    assert deployed(system, "mock-deployment", mock_api("201", security=SIGNED)) == api
    assert asked(system, api) == 200
    gateway = system.client("apigateway")
    served = gateway.get_stage(restApiId=api, stageName="live")["deploymentId"]
    with pytest.raises(ClientError, match="Active stages"):
        gateway.delete_deployment(restApiId=api, deploymentId=served)
    gateway.create_deployment(restApiId=api, stageName="live")
    assert asked(system, api) == 403
    gateway.delete_deployment(restApiId=api, deploymentId=served)


def test_a_stage_has_no_log_before_the_account_has_a_role_for_it(system: System) -> None:
    """In an account where nobody has set one."""
    log = {"Type": "AWS::Logs::LogGroup", "Properties": {}}
    account = {
        "Type": "AWS::ApiGateway::Account",
        "Properties": {"CloudWatchRoleArn": f"arn:aws:iam::{OUTSIDER}:role/logs"},
    }
    arn = {"Fn::GetAtt": ["Log", "Arn"]}

    def put(destination: Any, **resources: Any) -> str:
        stage = {"AccessLogSetting": {"DestinationArn": destination, "Format": "{}"}}
        return deployed(system, "mock-log", mock_api(), OUTSIDER, stage=stage, Log=log, **resources)

    for resources in ({}, {"Account": account}):
        with pytest.raises(stacks.StackError, match="CloudWatch Logs role ARN must be set"):
            put(arn, **resources)
    assert put({"Fn::Select": [0, [arn, {"Ref": "Account"}]]}, Account=account)


# ---- SQS and Lambda --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "is_taken"), [("a" * 128, True), ("a.b/c~d-e_f:0", True), ("a" * 129, False), ("a b", False), ("", False)])
def test_a_group_has_an_id_of_128_characters_at_the_most(system: System, group: str, is_taken: bool) -> None:
    sqs = system.client("sqs")
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = sqs.create_queue(QueueName=f"{uuid.uuid4()}.fifo", Attributes=attributes)["QueueUrl"]
    with contextlib.nullcontext() if is_taken else pytest.raises(ClientError):
        sqs.send_message(QueueUrl=url, MessageBody="a", MessageGroupId=group)
    sqs.delete_queue(QueueUrl=url)


def test_what_a_rule_sent_comes_into_a_fifo_queue_once_whoever_sends_it_again(system: System) -> None:
    """So one with the same body needs an id of its own, in another group too."""
    sqs, events, name = system.client("sqs"), system.client("events"), f"{uuid.uuid4()}"
    anybody = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [anybody]})
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true", "Policy": policy}
    url = sqs.create_queue(QueueName=f"{name}.fifo", Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn, "SqsParameters": {"MessageGroupId": "arrivals"}}])
    events.put_events(Entries=[{"Source": name, "DetailType": "a", "Detail": "{}"}])
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    for more in ({}, {"MessageDeduplicationId": "own"}):
        sqs.send_message(QueueUrl=url, MessageBody=message["Body"], MessageGroupId="another", **more)
        received = sqs.receive_message(QueueUrl=url, VisibilityTimeout=0, MessageSystemAttributeNames=["MessageGroupId"])
        groups = [each["Attributes"]["MessageGroupId"] for each in received.get("Messages", [])]
        assert groups == (["another"] if more else [])
    events.remove_targets(Rule=name, Ids=["queue"])
    events.delete_rule(Name=name)
    sqs.delete_queue(QueueUrl=url)
