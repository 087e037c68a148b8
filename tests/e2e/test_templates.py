"""The templates say what policies/ say, and their parameters refuse what is wrong."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import render
import yaml
from jsonata import Jsonata

ROOT = render.ROOT
CLOUDFORMATION = ROOT / "infrastructure" / "cloudformation"


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    """`!Sub x` as `{"Fn::Sub": x}`."""
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".")
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


yaml.add_multi_constructor("!", short_form, Loader)


def template(name: str) -> dict[str, Any]:
    """A template, parsed."""
    return dict(yaml.load((CLOUDFORMATION / name).read_text(), Loader))


NOTHING = object()


def resolve(node: Any, values: dict[str, Any], conditions: dict[str, bool]) -> Any:
    """What CloudFormation makes of a document, for the functions that documents use."""
    if isinstance(node, list):
        resolved = [resolve(item, values, conditions) for item in node]
        return [item for item in resolved if item is not NOTHING]
    if not isinstance(node, dict):
        return node
    match node:
        case {"Ref": "AWS::NoValue"}:
            return NOTHING
        case {"Ref": name}:
            return values[name]
        case {"Fn::GetAtt": path}:
            return values[".".join(path)]
        case {"Fn::If": [condition, then, otherwise]}:
            return resolve(then if conditions[condition] else otherwise, values, conditions)
        case {"Fn::Split": [separator, text]}:
            return resolve(text, values, conditions).split(separator)
        case {"Fn::Join": [separator, items]}:
            return separator.join(resolve(items, values, conditions))
        case {"Fn::GetAZs": _}:
            return [f"{values['AWS::Region']}a", f"{values['AWS::Region']}b"]
        case {"Fn::Cidr": [block, count, bits]}:
            subnets = ip_network(resolve(block, values, conditions)).subnets(new_prefix=32 - int(bits))
            return [str(subnet) for subnet in islice(subnets, int(count))]
        case {"Fn::FindInMap": [mapping, key, name]}:
            return values["Mappings"][mapping][resolve(key, values, conditions)][name]
        case {"Fn::Select": [index, items]}:
            return resolve(items, values, conditions)[index]
        case {"Fn::Sub": [text, variables]}:
            known = {**values, **resolve(variables, values, conditions)}
            return re.sub(r"\$\{([^!}]+)}", lambda name: known[name[1]], text).replace("${!", "${")
        case {"Fn::Sub": text}:
            return resolve({"Fn::Sub": [text, {}]}, values, conditions)
    resolved_members = {name: resolve(member, values, conditions) for name, member in node.items()}
    return {name: member for name, member in resolved_members.items() if member is not NOTHING}


# What the tokens of policies/ stand for, and what the templates' names are, in one deployment.
UPDATER_ROLE = "arn:aws:iam::111111111111:role/ecs-updater/updater"
RECORDER_ROLE = "arn:aws:iam::111111111111:role/ecs-updater/recorder"
OTHER_WATCHES = "arn:aws:events:eu-west-1:222222222222:rule/ecs-updater-watch-*"
WATCH_RULES = [f"arn:rule:{rule}" for rule in render.WATCH_RULES]
TOKENS: dict[str, Any] = {
    "__PARTITION__": "aws",
    "__ACCOUNT_ID__": "222222222222",
    "__TARGET_ROLE_NAME__": "path/target",
    "__HISTORY_TABLE_ARN__": "arn:history",
    "__STATE_TABLE_ARN__": "arn:state",
    "__LOG_GROUP_ARN__": "arn:aws:logs:eu-west-1:222222222222:log-group:group",
    "__HISTORY_LOG_GROUP_ARN__": "arn:aws:logs:eu-west-1:222222222222:log-group:history-group",
    "__API_ARN__": "arn:aws:execute-api:eu-west-1:222222222222:api",
    "__API_DEPLOYMENTS_ARN__": "arn:aws:apigateway:eu-west-1::/restapis/api/deployments",
    "__DEPLOYER_LOG_GROUP_ARN__": "arn:aws:logs:eu-west-1:222222222222:log-group:deployer-group",
    "__HUB_ACCOUNT_ID__": "111111111111",
    "__UPDATER_ROLE_ARN__": UPDATER_ROLE,
    "__ORGANIZATION_ID__": "o-a1b2c3d4e5",
    "__EXTERNAL_ID__": "external",
    "__WRITER_ROLE_ARNS__": [UPDATER_ROLE, RECORDER_ROLE],
    "__RECORDER_LOG_GROUP_ARN__": "arn:aws:logs:eu-west-1:222222222222:log-group:recorder-group",
    "__READER_ROLE_NAME__": "path/reader",
    "__REGION__": "eu-west-1",
    "__URL_SUFFIX__": "amazonaws.com",
    "__TABLE_KEY_ARN__": "arn:key",
    "__NOTICES_TOPIC_ARN__": "arn:topic",
    "__DEAD_LETTERS_ARN__": "arn:dead-letters",
    "__EVENT_BUS_NAME__": "stack",
    "__HUB_EVENT_BUS_ARN__": "arn:bus",
    "__RULE_ARNS__": [*WATCH_RULES, "arn:rule:documents", "arn:rule:recorder", "arn:rule:alarms", "arn:rule:sweep"],
    "__TAMPERING_QUEUE_ARN__": "arn:tampering-queue",
    "__WATCH_RULE_ARNS__": [*WATCH_RULES, "arn:rule:documents", OTHER_WATCHES],
    "__HUB_REGION__": "eu-central-1",
    "__UPDATER_SOURCE_ARN__": "arn:updater-function",
    "__RECORDER_SOURCE_ARN__": "arn:recorder-function",
    "__TARGET_RULE_ARNS__": ["arn:rule:deployments", "arn:rule:target-alarms"],
    "__BREAK_GLASS_ROLE_ARN__": "arn:aws:iam::111111111111:role/break-glass",
    "__REGISTRY_REPOSITORY_ARNS__": ["arn:repository:1", "arn:repository:2"],
    "__REGISTRY_SECRET_ARNS__": ["arn:secret:1", "arn:secret:2"],
    "__TRIGGER_QUEUE_ARN__": "arn:trigger-queue",
    "__TRIGGER_RULE_ARN__": "arn:trigger-rule",
    "__TRIGGER_LOG_GROUP_ARN__": "arn:aws:logs:eu-west-1:222222222222:log-group:trigger-group",
    "__TASK_ROLE_ARNS__": ["arn:task:1", "arn:task:2"],
    "__INFRASTRUCTURE_ROLE_ARNS__": ["arn:infrastructure"],
    "__UPDATER_FUNCTION_ARN__": "arn:updater",
    "__HISTORY_FUNCTION_ARN__": "arn:history-function",
    "__STATE_MACHINES__": "arn:aws:states:eu-west-1:222222222222:stateMachine:*",
    "__DATA_KEY_ARN__": "arn:data-key",
    "__ALLOWED_ACCOUNTS_ARN__": "arn:accounts",
    "__TRIGGER_MAPPING_ARN__": "arn:mapping",
    "__WAVES_ARN__": "arn:waves",
    "__WAVES_EXECUTIONS__": "arn:aws:states:eu-west-1:222222222222:execution:waves",
    "__WAVES_BUCKET_ARN__": "arn:aws:s3:::waves",
    "__READER_PRINCIPAL_ARNS__": ["arn:reader:1", "arn:reader:2"],
}
VALUES = {
    "AWS::Partition": "aws",
    "AWS::AccountId": "222222222222",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "stack",
    "AWS::URLSuffix": "amazonaws.com",
    "TargetRoleName": "path/target",
    "HistoryTable.Arn": "arn:history",
    "StateTable.Arn": "arn:state",
    "Api": "api",
    "DeployerLogGroup": "deployer-group",
    "LogGroup": "group",
    "HistoryLogGroup": "history-group",
    "UpdaterRoleArn": UPDATER_ROLE,
    "UpdaterRole.Arn": UPDATER_ROLE,
    "RecorderRole.Arn": RECORDER_ROLE,
    "RecorderLogGroup": "recorder-group",
    "ReaderRoleName": "path/reader",
    "TableKeyArn": "arn:key",
    "DataKeyArn": "arn:data-key",
    "AllowedAccountsArn": "arn:accounts",
    "TriggerMappingArn": "arn:mapping",
    "NoticesTopic": "arn:topic",
    "DeadLetters.Arn": "arn:dead-letters",
    "HubEventBusArn": "arn:bus",
    "RecorderRule.Arn": "arn:rule:recorder",
    **{f"{rule}.Arn": f"arn:rule:{rule}" for rule in render.WATCH_RULES},
    "DocumentsWatch.Arn": "arn:rule:documents",
    "TamperingQueue.Arn": "arn:tampering-queue",
    "HubRegion": "eu-central-1",
    "UpdaterFunction.Arn": "arn:updater-function",
    "RecorderFunction.Arn": "arn:recorder-function",
    "TargetAlarmsRule.Arn": "arn:rule:alarms",
    "SweepRule.Arn": "arn:rule:sweep",
    "DeploymentsRule.Arn": "arn:rule:deployments",
    "AlarmsRule.Arn": "arn:rule:target-alarms",
    "OrganizationId": "o-a1b2c3d4e5",
    "ExternalId": "external",
    "BreakGlassRoleArn": "arn:aws:iam::111111111111:role/break-glass",
    "TaskRoleArns": "arn:task:1,arn:task:2",
    "TriggerQueue.Arn": "arn:trigger-queue",
    "TriggerRule.Arn": "arn:trigger-rule",
    "TriggerLogGroup": "trigger-group",
    "RegistryRepositoryArns": "arn:repository:1,arn:repository:2",
    "RegistrySecretArns": "arn:secret:1,arn:secret:2",
    "InfrastructureRoleArns": "arn:infrastructure",
    "UpdaterAlias": "arn:updater",
    "HistoryAlias": "arn:history-function",
    "Waves": "arn:waves",
    "Waves.Name": "waves",
    "WavesBucket": "waves",
    "WavesBucket.Arn": "arn:aws:s3:::waves",
    "ReaderPrincipalArns": "arn:reader:1,arn:reader:2",
}
PLACES = {
    "updater.json": ("hub.yaml", "UpdaterPolicy", "PolicyDocument"),
    "history.json": ("hub.yaml", "HistoryRole", "Policies", 0, "PolicyDocument"),
    "lambda-trust.json": ("hub.yaml", "UpdaterRole", "AssumeRolePolicyDocument"),
    "history-table.json": ("hub.yaml", "HistoryTable", "ResourcePolicy", "PolicyDocument"),
    "state-table.json": ("hub.yaml", "StateTable", "ResourcePolicy", "PolicyDocument"),
    "tampering-queue.json": ("hub.yaml", "TamperingQueuePolicy", "PolicyDocument"),
    "global-events.json": ("global-events.yaml", "EventsRole", "Policies", 0, "PolicyDocument"),
    "waves.json": ("hub.yaml", "WavesRole", "Policies", 0, "PolicyDocument"),
    "waves-children.json": ("hub.yaml", "WavesChildrenPolicy", "PolicyDocument"),
    "waves-trust.json": ("hub.yaml", "WavesRole", "AssumeRolePolicyDocument"),
    "waves-bucket.json": ("hub.yaml", "WavesBucketPolicy", "PolicyDocument"),
    "recorder.json": ("hub.yaml", "RecorderPolicy", "PolicyDocument"),
    "dead-letters.json": ("hub.yaml", "DeadLettersPolicy", "PolicyDocument"),
    "notices-key.json": ("hub.yaml", "NoticesKey", "KeyPolicy"),
    "notices-topic.json": ("hub.yaml", "NoticesTopicPolicy", "PolicyDocument"),
    "chat-trust.json": ("hub.yaml", "ChatRole", "AssumeRolePolicyDocument"),
    "chat.json": ("hub.yaml", "ChatRole", "Policies", 0, "PolicyDocument"),
    "event-bus.json": ("hub.yaml", "EventBus", "Policy", "Fn::If", 1),
    "target-events.json": ("target-events.yaml", "EventsRole", "Policies", 0, "PolicyDocument"),
    "target-events-trust.json": ("target-events.yaml", "EventsRole", "AssumeRolePolicyDocument"),
    "target-dead-letters.json": ("target-events.yaml", "DeadLettersPolicy", "PolicyDocument"),
    "trigger.json": ("trigger.yaml", "TriggerRole", "Policies", 0, "PolicyDocument"),
    "trigger-queue.json": ("trigger.yaml", "TriggerQueuePolicy", "PolicyDocument"),
    "api-caller.json": ("api.yaml", "CallerPolicy", "PolicyDocument"),
    "api-reader.json": ("api.yaml", "ReaderPolicy", "PolicyDocument"),
    "api-organization.json": ("api.yaml", "Api", "Policy", "Fn::If", 1),
    "api-log-trust.json": ("api.yaml", "LogRole", "AssumeRolePolicyDocument"),
    "api-deployer.json": ("api.yaml", "DeployerRole", "Policies", 0, "PolicyDocument"),
    "target-role.json": ("target-role.yaml", "TargetRole", "Policies", 0, "PolicyDocument"),
    "target-trust.json": ("target-role.yaml", "TargetRole", "AssumeRolePolicyDocument"),
    "target-boundary.json": ("target-role.yaml", "Boundary", "PolicyDocument"),
    "sandbox-execution.json": ("sandbox-ecs.yaml", "ExecutionRole", "Policies", 0, "PolicyDocument"),
    "sandbox-execution-trust.json": ("sandbox-ecs.yaml", "ExecutionRole", "AssumeRolePolicyDocument"),
    "target-reader.json": ("target-role.yaml", "ReaderRole", "Policies", 0, "PolicyDocument"),
    "target-reader-trust.json": ("target-role.yaml", "ReaderRole", "AssumeRolePolicyDocument"),
}
CONDITIONS = (
    "HasOrganization",
    "HasExternalId",
    "HasExternalIdOrHasOrganization",
    "HasBreakGlassRole",
    "ProtectsTables",
    "HasTaskRoles",
    "HasInfrastructureRoles",
    "HasRecorder",
    "HasTableKey",
    "HasDataKey",
    "HasAllowedAccountsArn",
    "ResolvesUnits",
    "HasTriggerMappingArn",
    "HasDocuments",
    "HasRegistryRepositories",
    "HasRegistrySecrets",
)


def in_template(document: str) -> Any:
    """A document as it stands in its template."""
    file, resource, *path = PLACES[document]
    node = template(str(file))["Resources"][resource]["Properties"]
    for step in path:
        node = node[step]
    return node


def replaced(node: Any) -> Any:
    """A document of policies/ with its tokens filled in."""
    if isinstance(node, dict):
        return {name: replaced(member) for name, member in node.items()}
    if isinstance(node, list):
        return [replaced(item) for item in node]
    if not isinstance(node, str):
        return node
    if node in TOKENS:
        return TOKENS[node]
    for token, value in TOKENS.items():
        node = node.replace(token, str(value))
    return node


@pytest.mark.parametrize("path", render.TEMPLATES, ids=lambda path: path.name)
def test_templates_are_rendered(path: Path) -> None:
    assert render.render_template(path.read_text()) == path.read_text(), "run infrastructure/render.py"


@pytest.mark.parametrize("document", PLACES)
def test_a_document_in_a_template_is_that_of_policies(document: str) -> None:
    """Not by the renderer's own rules, but by what CloudFormation will make of the template."""
    source = json.loads((ROOT / "policies" / document).read_text())
    everything = dict.fromkeys(CONDITIONS, True)
    assert resolve(in_template(document), VALUES, everything) == replaced(source)


def test_every_document_is_in_a_template() -> None:
    # The session policy travels with each AssumeRole call.
    assert set(PLACES) | {"session.json"} == {path.name for path in (ROOT / "policies").glob("*.json")}


def test_a_lone_account_asks_for_no_organization_and_no_external_id() -> None:
    nothing = dict.fromkeys(CONDITIONS, False)
    enter, name = resolve(in_template("target-trust.json"), VALUES, nothing)["Statement"]
    assert enter["Condition"] == {
        "ArnEquals": {"aws:PrincipalArn": UPDATER_ROLE},
        "StringLike": {"sts:RoleSessionName": "ecsu-*"},
    }
    assert name["Condition"] == {"ArnEquals": {"aws:PrincipalArn": UPDATER_ROLE}}
    enter = resolve(in_template("updater.json"), VALUES, nothing)["Statement"][0]
    assert enter["Condition"] == {"ArnEquals": {"lambda:SourceFunctionArn": "arn:updater-function"}}
    only_external_id = {**nothing, "HasExternalId": True, "HasExternalIdOrHasOrganization": True}
    enter, _ = resolve(in_template("target-trust.json"), VALUES, only_external_id)["Statement"]
    assert enter["Condition"]["StringEquals"] == {"sts:ExternalId": "external"}


def test_nobody_named_means_no_reader_role() -> None:
    """A trust policy without its readers would let in the whole hub account."""
    parsed = template("target-role.yaml")
    assert parsed["Resources"]["ReaderRole"]["Condition"] == parsed["Outputs"]["ReaderRoleArn"]["Condition"] == "HasReaders"
    assert parsed["Conditions"]["HasReaders"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ReaderPrincipalArns"}, ""]}]}
    assert parsed["Parameters"]["ReaderPrincipalArns"]["Default"] == ""


def test_a_statement_without_its_parameter_is_gone_whole() -> None:
    nothing = dict.fromkeys(CONDITIONS, False)
    table = resolve(in_template("history-table.json"), VALUES, nothing)["Statement"]
    assert [statement["Sid"] for statement in table] == ["NobodyRewritesHistory", "OnlyTheWritersAppend"]
    state = resolve(in_template("state-table.json"), VALUES, nothing)["Statement"]
    assert [statement["Sid"] for statement in state] == ["OnlyTheWritersKeepState", "NobodyWritesInAnotherWay"]
    assert table[1]["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": [UPDATER_ROLE]}}
    for document in ("updater.json", "history.json", "recorder.json", "waves.json", "trigger.json"):
        assert "kms:" not in json.dumps(resolve(in_template(document), VALUES, nothing))
    role = resolve(in_template("target-role.json"), VALUES, nothing)["Statement"]
    assert not any("iam:PassRole" in statement["Action"] for statement in role)


@pytest.mark.parametrize(
    ("document", "sid"),
    [("updater.json", "ReadAllowedAccounts"), ("recorder.json", "ReadAllowedAccounts"), ("trigger.json", "ReadMapping")],
)
def test_a_document_of_settings_is_read_from_an_owner_and_not_from_a_name_alone(document: str, sid: str) -> None:
    """A bucket's ARN has no account, and whoever comes first gets a name that was given up."""
    for others in (True, False):
        holds = {**dict.fromkeys(CONDITIONS, others), "HasAllowedAccountsArn": True, "HasTriggerMappingArn": True}
        statements = resolve(in_template(document), VALUES, holds)["Statement"]
        (reading,) = [statement for statement in statements if statement["Sid"] == sid]
        assert reading["Condition"]["StringEquals"] == {"aws:ResourceAccount": "${aws:PrincipalAccount}"}


S3 = "arn:aws:s3:::"
SSM = "arn:aws:ssm:eu-west-1:222222222222:parameter"


@pytest.mark.parametrize(
    ("accounts", "mapping", "names", "buckets", "keys"),
    [
        (f"{S3}settings/accounts", "", [""], ["settings"], ["accounts"]),
        (f"{SSM}/accounts", "", ["/accounts"], [""], ["accounts"]),
        ("", f"{SSM}/a/b/c/d/e/mapping", ["/a/b/c/d/e/mapping"], [""], ["a/b/c/d"]),
        (f"{S3}settings.example/a/b/accounts", f"{S3}other/m", ["", ""], ["settings.example", "other"], ["a/b/accounts", "m"]),
        # Deeper than four folders it is what they begin with.
        (f"{S3}settings/a/b/c/d", f"{S3}settings/a/b/c/d/e", ["", ""], ["settings"] * 2, ["a/b/c/d"] * 2),
        (f"{S3}settings/a//b", f"{SSM}/mapping", ["", "/mapping"], ["settings", ""], ["a", "mapping"]),
    ],
)
def test_changes_of_documents_are_watched_by_the_names_in_their_arns(
    accounts: str, mapping: str, names: list[str], buckets: list[str], keys: list[str]
) -> None:
    rule = template("hub.yaml")["Resources"]["DocumentsWatch"]
    assert rule["Condition"] == "HasDocuments"
    values = {**VALUES, "AllowedAccountsArn": accounts, "TriggerMappingArn": mapping}
    holds = {"HasAllowedAccountsArn": bool(accounts), "HasTriggerMappingArn": bool(mapping)}
    one, several, objects, bucket = resolve(rule["Properties"]["EventPattern"], values, holds)["$or"]
    assert one["detail"]["requestParameters"] == {"name": names}
    assert several["detail"]["requestParameters"] == {"names": names}
    assert objects["detail"] == {"bucket": {"name": buckets}, "object": {"key": [{"prefix": key} for key in keys]}}
    assert bucket["detail"]["requestParameters"] == {"bucketName": buckets}
    # EventBridge refuses an empty one.
    assert all(keys)


def test_without_a_document_nothing_listens_for_one() -> None:
    conditions = template("hub.yaml")["Conditions"]
    assert conditions["HasDocuments"] == {"Fn::Or": [{"Condition": "HasAllowedAccountsArn"}, {"Condition": "HasTriggerMappingArn"}]}
    policy = resolve(in_template("tampering-queue.json"), VALUES, dict.fromkeys(CONDITIONS, False))
    assert policy["Statement"][0]["Condition"]["ArnLike"]["aws:SourceArn"] == [*WATCH_RULES, OTHER_WATCHES]


@pytest.mark.parametrize(
    ("file", "parameter", "good", "bad"),
    [
        ("hub.yaml", "OrganizationId", ["", "o-a1b2c3d4e5"], ["o-A1B2C3D4E5", "a1b2c3d4e5", "o-a1b2"]),
        ("hub.yaml", "TargetRoleName", ["ecs-updater/ecs-updater-target", "role"], ["", "/role", "role/", "a b"]),
        (
            "hub.yaml",
            "AllowedAccounts",
            ["", "111111111111", "111111111111,222222222222", "s3://settings/a/b.txt", "ssm:/a/b", "ou-a1b2-c3d4e5f6,r-a1b2"],
            ["1111", "111111111111,", "111111111111, 222222222222", "s3://settings", "ssm:a", "ou-a1b2", "o-a1b2c3d4e5"],
        ),
        *(
            (file, name, ["", "arn:aws:s3:::settings/a", "arn:aws-cn:ssm:cn-north-1:111111111111:parameter/a"], ["*", "arn:aws:s3:::settings"])
            for file, name in (
                ("hub.yaml", "AllowedAccountsArn"),
                ("hub.yaml", "TriggerMappingArn"),
                ("trigger.yaml", "TriggerMappingArn"),
            )
        ),
        ("trigger.yaml", "TriggerMapping", ["[]", "[{}]\n", "s3://settings/a", "ssm:/a"], ["{}", "s3://settings", "http://a/b"]),
        ("hub.yaml", "ExternalId", ["", "ab", "a:b/c"], ["a", "a b"]),
        (
            "hub.yaml",
            "BreakGlassRoleArn",
            ["NONE", UPDATER_ROLE],
            ["", "none", "role", "arn:aws:iam::1:role/x", "arn:aws:iam::111111111111:user/x"],
        ),
        ("global-events.yaml", "HubRegion", ["eu-west-1", "us-gov-east-1"], ["", "eu", "EU-WEST-1"]),
        ("hub.yaml", "UpdaterConcurrency", ["", "1", "99999"], ["0", "-1", "100000", "many"]),
        # Of a queue Lambda takes two batches at a time at the least.
        ("trigger.yaml", "TriggerConcurrency", ["", "2", "10", "999", "1000"], ["0", "1", "1001", "9999", "many"]),
        ("hub.yaml", "CodeBucket", ["my-packages.eu"], ["", "A", "my_packages", "-a"]),
        ("hub.yaml", "Release", ["1", "2026-11-25T18:00", "v1.2.3_a"], ["", "a b", "a" * 33]),
        ("hub.yaml", "NoticesEmail", ["", "team@example.com"], ["team", "a@b c", "a@b@c"]),
        ("hub.yaml", "NoticesUrl", ["", "https://example.com/x?y=z"], ["http://example.com", "https://", "https://a b"]),
        ("hub.yaml", "SlackWorkspaceId", ["", "T012ABCDEFG"], ["t012", "T 1"]),
        ("hub.yaml", "SlackChannelId", ["", "C012ABCDEFG"], ["#alarms"]),
        ("hub.yaml", "MetricsNamespace", ["EcsUpdater", "a/b"], ["", "a b"]),
        (
            "hub.yaml",
            "TableKeyArn",
            ["", "arn:aws:kms:eu-west-1:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab"],
            ["alias/x", "arn:aws:kms:eu-west-1:111111111111:alias/x"],
        ),
        *(
            (
                file,
                "DataKeyArn",
                ["", "arn:aws:kms:eu-west-1:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab"],
                ["alias/x", "arn:aws:kms:eu-west-1:111111111111:alias/x"],
            )
            for file in ("hub.yaml", "trigger.yaml", "api.yaml")
        ),
        *(
            (
                file,
                "CodeSigningConfigArn",
                ["", "arn:aws-cn:lambda:cn-north-1:111111111111:code-signing-config:csc-0123456789abcdef0"],
                ["csc-0123456789abcdef0", "arn:aws:lambda:eu-west-1:111111111111:code-signing-config:csc-1"],
            )
            for file in ("hub.yaml", "trigger.yaml")
        ),
        ("hub.yaml", "ReaderRoleName", ["ecs-updater/ecs-updater-reader"], ["", "/role", "a b"]),
        (
            "target-events.yaml",
            "HubEventBusArn",
            ["arn:aws:events:eu-west-1:111111111111:event-bus/ecs-updater"],
            ["", "ecs-updater", "arn:aws:events:eu-west-1:111111111111:rule/x"],
        ),
        (
            "target-events.yaml",
            "NoticesTopicArn",
            ["", "arn:aws:sns:eu-west-1:111111111111:alarms"],
            ["alarms", "arn:aws:sqs:eu-west-1:111111111111:alarms"],
        ),
        (
            "api.yaml",
            "UpdaterApiAliasArn",
            ["arn:aws:lambda:eu-west-1:111111111111:function:updater:api"],
            [
                "",
                "arn:aws:lambda:eu-west-1:111111111111:function:updater",
                "arn:aws:lambda:eu-west-1:111111111111:function:updater:live",
            ],
        ),
        (
            "api.yaml",
            "HistoryAliasArn",
            ["arn:aws-cn:lambda:cn-north-1:111111111111:function:history:live"],
            ["", "history:live", "arn:aws:lambda:eu-west-1:111111111111:function:history"],
        ),
        (
            "api.yaml",
            "UserPoolArn",
            ["", "arn:aws:cognito-idp:eu-west-1:111111111111:userpool/eu-west-1_AbCdEfGhI"],
            ["eu-west-1_AbCdEfGhI", "arn:aws:cognito-idp:eu-west-1:111111111111:userpool/*"],
        ),
        (
            "api.yaml",
            "AuthorizerFunctionArn",
            [
                "",
                "arn:aws:lambda:eu-west-1:111111111111:function:who",
                "arn:aws:lambda:eu-west-1:111111111111:function:who:live",
            ],
            ["who", "arn:aws:lambda:eu-west-1:111111111111:function:*"],
        ),
        ("api.yaml", "OrganizationId", ["", "o-a1b2c3d4e5"], ["o-A1B2C3D4E5"]),
        ("api.yaml", "MetricsNamespace", ["EcsUpdater", "a/b"], ["", "a b"]),
        ("target-role.yaml", "UpdaterRoleArn", [UPDATER_ROLE], ["", "updater", "arn:aws:iam::*:role/x"]),
        (
            "target-role.yaml",
            "TaskRoleArns",
            ["", "arn:aws:iam::*:role/tasks/*", f"{UPDATER_ROLE},arn:aws-cn:iam::222222222222:role/x"],
            [
                "*",
                "arn:aws:iam::*:role/*",
                "arn:aws:iam::*:role/a*b",
                f"{UPDATER_ROLE}, {UPDATER_ROLE}",
                "arn:aws:iam::*:user/x",
            ],
        ),
        ("target-role.yaml", "InfrastructureRoleArns", [""], ["*", "arn:aws:iam::*:role/*"]),
        (
            "sandbox-vpc.yaml",
            "VpcCidr",
            ["10.20.0.0/16", "192.168.4.0/23"],
            ["", "10.0.0.0/8", "10.0.0.0/24", "8.8.0.0/16"],
        ),
        ("sandbox-ecs.yaml", "ClusterName", ["ECSCluster"], ["", "a b", "a/b"]),
        ("sandbox-ecs.yaml", "Image", ["busybox", "registry:5000/a/b@sha256:00"], ["", "a b", "@"]),
        ("sandbox-ecs.yaml", "SecurityGroupId", ["sg-0123456789abcdef0"], ["", "group", "sg-x"]),
        (
            "target-role.yaml",
            "ReaderPrincipalArns",
            ["", UPDATER_ROLE, f"{UPDATER_ROLE},arn:aws:iam::111111111111:role/aws-reserved/*/AWSReservedSSO_Ops_*"],
            [
                "*",
                "arn:aws:iam::111111111111:role/*",
                "arn:aws:iam::*:role/reader",
                "arn:aws:iam::111111111111:root",
                f"{UPDATER_ROLE}, {UPDATER_ROLE}",
            ],
        ),
    ],
)
def test_parameters_refuse_what_is_wrong(file: str, parameter: str, good: list[str], bad: list[str]) -> None:
    pattern = template(file)["Parameters"][parameter]["AllowedPattern"]
    assert [value for value in good if not re.fullmatch(pattern, value)] == []
    assert [value for value in bad if re.fullmatch(pattern, value)] == []


def test_the_state_machine_in_the_template_is_that_of_its_sources() -> None:
    """Every part is in it, every name of a state is there once, and all that is to be filled in is filled in."""
    properties = template("hub.yaml")["Resources"]["Waves"]["Properties"]
    definition = json.loads(properties["DefinitionString"])
    assert definition == render.definition()
    assert '"include"' not in properties["DefinitionString"]
    names: list[str] = []

    def collect(node: Any) -> None:
        for name, member in node.items() if isinstance(node, dict) else enumerate(node):
            if name == "States":
                names.extend(member)
            if isinstance(member, (dict, list)):
                collect(member)

    collect(definition)
    assert "ChangeOfObject" in names
    assert len(names) == len(set(names))
    placeholders = set(re.findall(r"\$\{(\w+)}", properties["DefinitionString"]))
    assert placeholders == set(properties["DefinitionSubstitutions"]) == set(render.SAMPLE_SUBSTITUTIONS)
    assert "${" not in render.sample_definition()


def test_the_check_of_the_input_is_that_of_its_schema() -> None:
    """Fields, and what stands for those that are left out."""
    schemas = {
        name: json.loads((ROOT / "schema" / f"{name}.schema.json").read_text())
        for name in ("waves-input", "update-event")
    }
    properties = schemas["waves-input"]["properties"]
    states = render.definition()["States"]
    check = states["Check"]["Assign"]["faults"]
    own, fields = (
        set(re.findall(r"'(\w+)'", re.findall(rf"\${name} := \[(.+?)];", check)[0])) for name in ("own", "fields")
    )
    assert own == set(properties)
    entry = schemas["update-event"]["properties"]["updates"]["items"]["properties"]
    # What the state machine says itself: key and time of the rollout, that nothing is dry, and how long a wave bakes. And what somebody
    # rolls out is nobody's push. A deployment that is continued or stopped is that of one change of one service.
    own_and_single = {"idempotency_key", "sent_at", "dry_run", "wait_seconds", "pushed_tag", "continue", "stop"}
    assert fields == set(entry) - own_and_single
    assert fields == set(properties["change"]["properties"])
    assert fields == set(schemas["waves-input"]["$defs"]["target"]["properties"])
    begin = " ".join(str(value) for value in states["Begin"]["Assign"].values())
    for name, schema in properties.items():
        if "default" in schema:
            assert f"$states.input.{name} : {json.dumps(schema['default'])} " in begin
        if "maximum" in schema:
            assert f"$number('{name}', {schema['minimum']}, {schema['maximum']}, " in check


def evaluated(expression: str, **bindings: Any) -> Any:
    """What an expression of the state machine comes to."""
    return Jsonata.jsonata(expression.removeprefix("{%").removesuffix("%}")).evaluate(None, bindings)


def test_a_rollout_was_sent_when_it_was_started_however_often_it_is_redriven() -> None:
    """StartTime stays: https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html has RedriveTime beside it."""
    states = render.definition()["States"]
    started = {"Execution": {"Id": "arn", "StartTime": "2026-11-22T09:30:00.123Z", "RedriveTime": "2026-11-24T00:00:00Z"}}
    begun = states["Begin"]["Assign"]["sent"]
    assert evaluated(begun, states={"input": {}, "context": started}) == "2026-11-22T09:30:00.123Z"
    given = {"sent_at": "2026-11-20T00:00:00Z"}
    assert evaluated(begun, states={"input": given, "context": started}) == given["sent_at"]
    for wave in ("ChangeTargets", "ChangeObject"):
        told = states[wave]["ItemBatcher"]["BatchInput"]["sent_at"]
        batch = next(iter(states[wave]["ItemProcessor"]["States"].values()))
        kept = batch["Assign"]["sent"]
        sent = evaluated(told, sent="then")
        assert evaluated(kept, states={"input": {"BatchInput": {"sent_at": sent}}}) == "then"
    payload = states["ChangeTargets"]["ItemProcessor"]["States"]["Change"]["Arguments"]["Payload"]
    event = evaluated(payload, shared={"reason": "r"}, key="k", sent="then", items=[{}])
    assert event == {"reason": "r", "idempotency_key": "k", "sent_at": "then", "summary_only": True, "updates": [{}]}


@pytest.mark.parametrize(
    ("sent_at", "good"),
    [
        ("2026-11-22T09:30:00Z", True),
        ("2026-11-22T09:30:00.123456789+01:00", True),
        ("2026-11-22", False),
        ("2026-11-22 09:30:00Z", False),
        ("2026-11-22T09:30:00", False),
        ("", False),
        (7, False),
        (None, False),
    ],
)
def test_a_time_of_a_rollout_is_one_that_the_updater_takes(sent_at: Any, good: bool) -> None:
    check = render.definition()["States"]["Check"]["Assign"]["faults"]
    waves = [[{"ecs_cluster_name": "c", "ecs_service_name": "s"}]]
    faults = evaluated(check, states={"input": {"change": {}, "waves": waves, "sent_at": sent_at}}) or []
    assert (faults == []) is good, faults
    schema = json.loads((ROOT / "schema" / "waves-input.schema.json").read_text())["properties"]["sent_at"]
    assert jsonschema.Draft202012Validator(schema).is_valid(sent_at) is good
    if good:
        time = json.loads((ROOT / "schema" / "update-event.schema.json").read_text())["$defs"]["time"]
        assert jsonschema.Draft202012Validator(time).is_valid(sent_at)


def test_who_was_overtaken_did_not_fail_and_is_not_undone_and_an_undo_is_of_its_judging() -> None:
    judge = render.definition()["States"]["Judge"]["ItemProcessor"]["States"]
    name = {"account_id": "2", "region": "r", "ecs_cluster_name": "c", "ecs_service_name": "s"}
    told = [
        {**name, "status": "APPLIED", "change_id": "1"},
        {**name, "status": "FAILED", "code": "ChangeOvertaken"},
        {**name, "status": "FAILED", "code": "ServiceNotFound"},
    ]
    batch = {"BatchInput": {"strict": False}}
    results = evaluated(judge["Ask"]["Assign"]["results"], states={"input": batch, "result": told})
    assert [result["failed"] for result in results] == [False, False, True]
    assert [result["overtaken"] for result in results] == [False, True, False]
    assert [result["restores"] for result in results] == [True, False, False]
    now = {"context": {"Execution": {"Name": "batch", "StartTime": "2026-11-22T09:30:00.123Z"}}}
    counts = evaluated(judge["Count"]["Output"], states=now, results=results)
    assert (counts["targets"], counts["changed"], counts["failed"], counts["overtaken"]) == (3, 1, 1, 1)
    failures = render.definition()["States"]["ReadFailures"]["ItemProcessor"]["States"]["ReadOutcomes"]["Output"]
    # JSONata itself has no $parse: Step Functions adds it.
    told = evaluated(failures.replace("$parse($states.result.Body)", "$body"), body=results)
    assert [failure["code"] for failure in told] == ["ChangeOvertaken", "ServiceNotFound"]
    undo = evaluated(judge["StoreRestore"]["Arguments"]["Body"], states=now, results=results, why="w", undo="undo/r")
    assert undo == {
        "reason": "w",
        "idempotency_key": "undo/r",
        "summary_only": True,
        "updates": [{**name, "restore": "1", "sent_at": "2026-11-22T09:30:00.123Z"}],
    }


def test_a_service_in_two_waves_is_counted_and_undone_once() -> None:
    """The canary, and then all: what wave 2 says of the canary is the first answer again."""
    name = {"account_id": "2", "region": "r", "ecs_cluster_name": "c", "ecs_service_name": "s"}
    states = render.definition()["States"]
    judge = states["Judge"]["ItemProcessor"]["States"]
    # Ids that begin with 20:20:05.000 and 20:45:05.000.
    canary, other = "019aad39-4d08-7abc-89ef-0123456789ab", "019aad50-3068-7abc-89ef-0123456789ab"
    told = [
        {**name, "status": "APPLIED", "change_id": canary, "replayed": True},
        # The call of this wave was sent again.
        {**name, "ecs_service_name": "t", "status": "APPLIED", "change_id": other, "replayed": True},
    ]

    def judged(began: str, started: str = "2025-11-22T20:20:00.000Z") -> list[bool]:
        batch = {"BatchInput": {"strict": False, "started": started, "began": began}}
        results = evaluated(judge["Ask"]["Assign"]["results"], states={"input": batch, "result": told})
        counts = evaluated(judge["Count"]["Output"], states={"context": {"Execution": {"Name": "b"}}}, results=results)
        assert counts["changed"] + counts["unchanged"] == 2
        return [result["restores"] for result in results]

    assert judged(began="2025-11-22T20:45:00.000Z") == [False, True]
    assert judged(began="2025-11-22T20:20:01.000Z") == [True, True]
    # Another execution repeats the rollout: its summary undoes what the first one changed.
    assert judged(began="2025-11-22T22:00:01.000Z", started="2025-11-22T22:00:00.000Z") == [True, True]

    assign = states["ReadRestores"]["Assign"]["restore"]
    event = {"reason": "w", "idempotency_key": "undo/r/2", "updates": [{**name, "restore": "2"}]}
    first = {"reason": "w", "idempotency_key": "undo/r/1", "updates": [{**name, "restore": "1"}, {**name, "region": "q", "restore": "3"}]}
    undo = evaluated(assign, states={"result": [event, first]}, rollout="r")
    assert undo["idempotency_key"] == "undo/r"
    assert [(one["restore"], one["idempotency_key"]) for one in undo["updates"]] == [("2", "undo/r/2"), ("3", "undo/r/1")]


def test_the_same_service_is_known_however_it_is_named() -> None:
    check = render.definition()["States"]["Check"]["Assign"]["faults"]
    name = {"ecs_cluster_name": "c", "ecs_service_name": "s"}
    context = {"Execution": {"Id": "arn:aws:states:eu-west-1:111111111111:execution:waves:x"}}
    for other in ({"account_id": "111111111111"}, {"region": "eu-west-1"}, {}):
        given = {"change": name, "waves": [[{}], [other]]}
        faults = evaluated(check, states={"input": given, "context": context})
        assert faults == ["the same service twice: 111111111111/eu-west-1/c/s"], other
    apart = {"change": name, "waves": [[{}], [{"region": "us-east-1"}]]}
    assert not evaluated(check, states={"input": apart, "context": context})


def test_only_what_may_pass_is_tried_again() -> None:
    """The codes of crates/domain/src/error.rs that the state machine repeats a whole call for."""
    retried = json.loads((render.STATE_MACHINES / "retry-function.asl.json").read_text())["ErrorEquals"]
    enumeration = (ROOT / "crates/domain/src/error.rs").read_text().split("pub enum Code {")[1].split("\n}")[0]
    codes = re.findall(r"^    (\w+),$", enumeration, re.MULTILINE)
    assert "JsonValidation" in codes
    assert set(codes) & set(retried) == {"ChangeInProgress", "ClockSkewed", "HistoryUnavailable"}
    assert not {"States.ALL", "States.TaskFailed"} & set(retried)


def test_results_are_private_encrypted_and_outlive_the_stack() -> None:
    bucket = template("hub.yaml")["Resources"]["WavesBucket"]
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())
    assert bucket["Properties"]["BucketEncryption"]
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    (rule,) = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    # Old versions go too: they would be kept for ever.
    assert rule["ExpirationInDays"] and rule["NoncurrentVersionExpiration"]


def test_a_bus_without_an_organization_is_open_to_nobody_else() -> None:
    bus = template("hub.yaml")["Resources"]["EventBus"]["Properties"]["Policy"]
    assert resolve(bus, VALUES, dict.fromkeys(CONDITIONS, False)) is NOTHING
    # And where it is there, no condition of its own can take the organization away.
    assert "Fn::If" not in json.dumps(in_template("event-bus.json"))


def alarms(file: str) -> dict[str, dict[str, Any]]:
    """The alarms of a template."""
    resources = template(file)["Resources"].items()
    return {name: entry["Properties"] for name, entry in resources if entry["Type"] == "AWS::CloudWatch::Alarm"}


@pytest.mark.parametrize("file", ["hub.yaml", "target-events.yaml"])
def test_every_alarm_says_what_it_means_and_what_no_data_mean(file: str) -> None:
    for name, alarm in alarms(file).items():
        assert len(alarm["AlarmDescription"]) > 40, name
        assert alarm["TreatMissingData"] == ("breaching" if name == "SweepSilentAlarm" else "notBreaching"), name
        # Of these two SweepAlarm tells.
        assert ("AlarmActions" in alarm) == (name not in ("SweepSilentAlarm", "SweepSeenAlarm")), name


def test_every_code_that_operators_have_to_mend_has_its_alarm() -> None:
    """The codes are those of `Code::fault` in crates/domain/src/error.rs; all others are their callers'."""
    source = (ROOT / "crates/domain/src/error.rs").read_text()
    faults = source.split("fn fault(self)")[1].split("fn text(self)")[0]
    operators = re.findall(r"Self::(\w+)", faults.split("=> Fault::Caller")[1])
    watched = [
        {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}
        for alarm in alarms("hub.yaml").values()
        if alarm.get("MetricName") == "Failed"
    ]
    # Its caller's mostly; the operator's where it outlasts every lease.
    expected = {*operators, "ChangeInProgress"} - {"Later"}
    assert sorted(expected) == sorted(dimensions["code"] for dimensions in watched)
    assert {dimensions["fault"] for dimensions in watched} == {"operator"}


# The updater may be asked to wait for 840 of its 900 seconds, which is nothing to hear of.
@pytest.mark.parametrize(("function", "share"), [("Updater", 980), ("History", 900), ("Recorder", 900)])
def test_a_function_that_comes_near_its_time_limit_is_heard_of(function: str, share: int) -> None:
    limit = template("hub.yaml")["Resources"][f"{function}Function"]["Properties"]["Timeout"]
    alarm = alarms("hub.yaml")[f"{function}DurationAlarm"]
    assert alarm["Threshold"] == limit * share
    assert f"({limit} s)" in alarm["AlarmDescription"]


def test_the_trigger_waits_as_long_as_the_updater_may_take() -> None:
    """And a push that was not brought everywhere comes again when the function that had it has ended: Lambda takes no other queue."""
    updater = template("hub.yaml")["Resources"]["UpdaterFunction"]["Properties"]["Timeout"]
    trigger = template("trigger.yaml")["Resources"]
    limit = trigger["TriggerFunction"]["Properties"]["Timeout"]
    assert limit == updater
    queue = trigger["TriggerQueue"]["Properties"]
    assert queue["VisibilityTimeout"] > limit
    # What the first delivery has begun ends before the last one begins, and can then be asked for.
    deliveries = queue["RedrivePolicy"]["maxReceiveCount"]
    assert queue["VisibilityTimeout"] * (deliveries - 1) > limit + updater
    # Behind the last delivery of what failed nothing has to wait.
    assert f"pub const DELIVERIES: u32 = {deliveries};" in (ROOT / "crates/domain/src/ecr_push.rs").read_text()


def test_pushes_of_one_repository_wait_for_no_other() -> None:
    """They arrive in one group, from which the trigger passes them on to their own; and what Lambda takes has room."""
    trigger = template("trigger.yaml")["Resources"]
    (target,) = trigger["TriggerRule"]["Properties"]["Targets"]
    arrivals = target["SqsParameters"]["MessageGroupId"]
    assert f'pub const ARRIVALS: &str = "{arrivals}";' in (ROOT / "crates/domain/src/ecr_push.rs").read_text()
    variables = trigger["TriggerFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["TRIGGER_QUEUE"] == {"Ref": "TriggerQueue"}
    assert target["Arn"] == trigger["TriggerQueueMapping"]["Properties"]["EventSourceArn"]
    # Of several in one batch all would wait for the slowest, and what arrives with them.
    assert trigger["TriggerQueueMapping"]["Properties"]["BatchSize"] == 1
    for given, has, most, reserved in (("7", True, "7", "7"), ("", False, 10, NOTHING)):
        scaling = trigger["TriggerQueueMapping"]["Properties"]["ScalingConfig"]["MaximumConcurrency"]
        kept = trigger["TriggerFunction"]["Properties"]["ReservedConcurrentExecutions"]
        values, conditions = {"TriggerConcurrency": given, "AWS::NoValue": NOTHING}, {"HasTriggerConcurrency": has}
        assert (resolve(scaling, values, conditions), resolve(kept, values, conditions)) == (most, reserved)


def test_whatever_is_asynchronous_has_a_place_for_what_fails() -> None:
    for file in ("hub.yaml", "target-events.yaml"):
        for name, resource in template(file)["Resources"].items():
            for target in resource["Properties"].get("Targets", []) if resource["Type"] == "AWS::Events::Rule" else []:
                # The dead letters themselves have none.
                letters = {"Fn::GetAtt": ["DeadLetters", "Arn"]}
                assert target["Arn"] == letters or target["DeadLetterConfig"]["Arn"] == letters, name
    resources = template("hub.yaml")["Resources"].values()
    configured = {
        (entry["Properties"]["FunctionName"]["Ref"], entry["Properties"]["Qualifier"])
        for entry in resources
        if entry["Type"] == "AWS::Lambda::EventInvokeConfig"
    }
    expected = {("UpdaterFunction", name) for name in ("$LATEST", "live", "api")}
    assert configured == expected | {("RecorderFunction", name) for name in ("$LATEST", "live")}


def test_the_sweeps_rule_says_what_the_recorder_takes_for_a_sweep() -> None:
    """EventBridge's own event of a schedule is none of a deployment: the recorder refuses it."""
    (target,) = template("hub.yaml")["Resources"]["SweepRule"]["Properties"]["Targets"]
    assert json.loads(target["Input"]) == {"sweep": {}}
    assert 'event.get("sweep").is_some()' in (ROOT / "src/recorder/mod.rs").read_text()


@pytest.mark.parametrize(
    ("file", "function"),
    [("hub.yaml", "Updater"), ("hub.yaml", "History"), ("hub.yaml", "Recorder"), ("trigger.yaml", "Trigger")],
)
def test_a_function_may_have_concurrency_of_its_own(file: str, function: str) -> None:
    properties = template(file)["Resources"][f"{function}Function"]["Properties"]
    name = f"{function}Concurrency"
    wanted = properties["ReservedConcurrentExecutions"]
    assert resolve(wanted, {name: "7"}, {f"Has{name}": True}) == "7"
    assert resolve(wanted, {name: ""}, {f"Has{name}": False}) is NOTHING
    assert template(file)["Parameters"][name]["Default"] == ""


def test_what_alarms_cost_is_reckoned_by_how_many_there_are() -> None:
    counted = {}
    for file in ("hub.yaml", "api.yaml", "trigger.yaml", "target-events.yaml"):
        types = [resource["Type"] for resource in template(file)["Resources"].values()]
        counted[file] = (types.count("AWS::CloudWatch::Alarm"), types.count("AWS::CloudWatch::CompositeAlarm"))
    text = (ROOT / "docs" / "DEPLOY.md").read_text().split("## Costs")[1]
    (row,) = re.findall(r"^\| alarms of the hub \| (\d+) on a metric, 0\.10 USD each, and (\d) composed of others", text, re.M)
    assert (int(row[0]), int(row[1])) == counted["hub.yaml"]
    (others,) = re.findall(r"\| alarms elsewhere \| (\d) of the API, (\d) of the trigger, (\d) of each account and region", text)
    assert [int(number) for number in others] == [counted[file][0] for file in ("api.yaml", "trigger.yaml", "target-events.yaml")]


def test_the_dead_letters_are_read_over_tls_with_a_recorder_and_without() -> None:
    assert "Condition" not in template("hub.yaml")["Resources"]["DeadLettersPolicy"]
    for recorder in (True, False):
        conditions = {**dict.fromkeys(CONDITIONS, True), "HasRecorder": recorder}
        send, wire = resolve(in_template("dead-letters.json"), VALUES, conditions)["Statement"]
        assert ("arn:rule:recorder" in send["Condition"]["ArnEquals"]["aws:SourceArn"]) is recorder
        assert (wire["Effect"], wire["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_the_dashboard_is_that_of_its_file() -> None:
    body, variables = template("hub.yaml")["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    assert resolve(variables, {}, {"HasRecorder": False}) == {"Recorder": "-"}
    source = json.loads((ROOT / "infrastructure" / "dashboard.json").read_text())
    titles = [widget["properties"]["title"] for widget in json.loads(body)["widgets"]]
    assert titles == [widget["properties"]["title"] for widget in source["widgets"]]
    assert "__" not in body


def test_what_counts_as_a_broken_door_stands_in_its_access_log() -> None:
    resources = template("api.yaml")["Resources"]
    said = json.loads(resources["Stage"]["Properties"]["AccessLogSetting"]["Format"])
    asked = re.findall(r"\$\.(\w+)", resources["BrokenRequests"]["Properties"]["FilterPattern"])
    assert {name: said[name] for name in asked} == {"status": "$context.status", "error": "$context.error.responseType"}
    counted = resources["BrokenRequests"]["Properties"]["MetricTransformations"][0]
    watched = resources["BrokenAlarm"]["Properties"]
    assert (counted["MetricNamespace"], counted["MetricName"]) == (watched["Namespace"], watched["MetricName"])
    assert counted["MetricNamespace"] == {"Ref": "MetricsNamespace"}


def test_history_and_state_outlive_the_stack() -> None:
    resources = template("hub.yaml")["Resources"]
    for table in ("HistoryTable", "StateTable"):
        assert resources[table]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resources[table]["UpdateReplacePolicy"] == "Retain"
        properties = resources[table]["Properties"]
        assert properties["DeletionProtectionEnabled"] == {"Fn::If": ["ProtectsTables", True, False]}
        assert template("hub.yaml")["Parameters"]["ProtectTables"]["Default"] == "YES"
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        key = resolve(properties["SSESpecification"], {"TableKeyArn": "arn:key"}, {"HasTableKey": True})
        assert key == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": "arn:key"}
        assert resolve(properties["SSESpecification"], {}, {"HasTableKey": False}) is NOTHING


@pytest.mark.parametrize("file", ["hub.yaml", "trigger.yaml", "api.yaml"])
def test_a_customer_key_is_for_all_logs_queues_and_buckets(file: str) -> None:
    given = {"DataKeyArn": "arn:data-key", "AWS::NoValue": NOTHING}
    seen = set()
    for name, resource in template(file)["Resources"].items():
        if resource["Type"] not in ("AWS::Logs::LogGroup", "AWS::SQS::Queue", "AWS::S3::Bucket"):
            continue
        properties = resource["Properties"]
        with_key, without = (
            {member: resolve(properties[member], given, {"HasDataKey": has}) for member in ENCRYPTS if member in properties}
            for has in (True, False)
        )
        match resource["Type"]:
            case "AWS::Logs::LogGroup":
                assert (with_key, without.get("KmsKeyId")) == ({"KmsKeyId": "arn:data-key"}, NOTHING), name
            case "AWS::SQS::Queue" if name == "TamperingQueue":
                # Who disables the data key is to be heard of.
                assert with_key == without == {"SqsManagedSseEnabled": True}, name
                keys = template(file)["Resources"]["KeysWatch"]["Properties"]["EventPattern"]["detail"]["requestParameters"]["keyId"]
                assert resolve(keys[-2], given, {"HasDataKey": True}) == "arn:data-key"
            case "AWS::SQS::Queue":
                assert with_key == {"KmsMasterKeyId": "arn:data-key", "SqsManagedSseEnabled": False}, name
                assert (without["KmsMasterKeyId"], without["SqsManagedSseEnabled"]) == (NOTHING, True), name
            case "AWS::S3::Bucket":
                told = json.dumps([with_key, without], default=str)
                assert told.count("arn:data-key") == told.count("aws:kms") == told.count("AES256") == 1, told
        seen.add(resource["Type"])
    assert "AWS::Logs::LogGroup" in seen


ENCRYPTS = ("KmsKeyId", "KmsMasterKeyId", "SqsManagedSseEnabled", "BucketEncryption")


@pytest.mark.parametrize("file", ["hub.yaml", "trigger.yaml"])
def test_signed_packages_can_be_demanded_of_every_function(file: str) -> None:
    for name, resource in template(file)["Resources"].items():
        if resource["Type"] == "AWS::Lambda::Function":
            demanded = {"Fn::If": ["HasCodeSigningConfig", {"Ref": "CodeSigningConfigArn"}, {"Ref": "AWS::NoValue"}]}
            assert resource["Properties"]["CodeSigningConfigArn"] == demanded, name


# What stays even where the stack's creation failed, and why it may.
KEPT_WHATEVER_HAPPENS = {
    ("api.yaml", "LogRole"): "the account's setting names it, which other APIs use, and which CloudFormation does not take back",
    ("api.yaml", "Account"): "that setting",
}


def test_what_is_kept_is_not_kept_where_its_creation_failed() -> None:
    """Plain `Retain` leaves behind what a first deployment made before it failed, under whatever name the next one wants."""
    kept = {
        (path.name, name)
        for path in (ROOT / "infrastructure" / "cloudformation").glob("*.yaml")
        for name, resource in template(path.name)["Resources"].items()
        if resource.get("DeletionPolicy") == "Retain"
    }
    assert kept == set(KEPT_WHATEVER_HAPPENS)
