"""The templates say what policies/ say, and their parameters refuse what is wrong."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import render
import yaml

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
TOKENS: dict[str, Any] = {
    "__PARTITION__": "aws",
    "__ACCOUNT_ID__": "222222222222",
    "__TARGET_ROLE_NAME__": "path/target",
    "__HISTORY_TABLE_ARN__": "arn:history",
    "__STATE_TABLE_ARN__": "arn:state",
    "__LOG_GROUP_ARN__": "arn:aws:logs:eu-west-1:222222222222:log-group:group",
    "__HISTORY_LOG_GROUP_ARN__": "arn:aws:logs:eu-west-1:222222222222:log-group:history-group",
    "__HUB_ACCOUNT_ID__": "111111111111",
    "__UPDATER_ROLE_ARN__": UPDATER_ROLE,
    "__ORGANIZATION_ID__": "o-a1b2c3d4e5",
    "__EXTERNAL_ID__": "external",
    "__WRITER_ROLE_ARNS__": [UPDATER_ROLE],
    "__BREAK_GLASS_ROLE_ARN__": "arn:aws:iam::111111111111:role/break-glass",
    "__TASK_ROLE_ARNS__": ["arn:task:1", "arn:task:2"],
    "__INFRASTRUCTURE_ROLE_ARNS__": ["arn:infrastructure"],
}
VALUES = {
    "AWS::Partition": "aws",
    "AWS::AccountId": "222222222222",
    "AWS::Region": "eu-west-1",
    "TargetRoleName": "path/target",
    "HistoryTable.Arn": "arn:history",
    "StateTable.Arn": "arn:state",
    "LogGroup": "group",
    "HistoryLogGroup": "history-group",
    "UpdaterRoleArn": UPDATER_ROLE,
    "UpdaterRole.Arn": UPDATER_ROLE,
    "OrganizationId": "o-a1b2c3d4e5",
    "ExternalId": "external",
    "BreakGlassRoleArn": "arn:aws:iam::111111111111:role/break-glass",
    "TaskRoleArns": "arn:task:1,arn:task:2",
    "InfrastructureRoleArns": "arn:infrastructure",
}
PLACES = {
    "updater.json": ("hub.yaml", "UpdaterPolicy", "PolicyDocument"),
    "history.json": ("hub.yaml", "HistoryRole", "Policies", 0, "PolicyDocument"),
    "lambda-trust.json": ("hub.yaml", "UpdaterRole", "AssumeRolePolicyDocument"),
    "history-table.json": ("hub.yaml", "HistoryTable", "ResourcePolicy", "PolicyDocument"),
    "target-role.json": ("target-role.yaml", "TargetRole", "Policies", 0, "PolicyDocument"),
    "target-trust.json": ("target-role.yaml", "TargetRole", "AssumeRolePolicyDocument"),
    "target-boundary.json": ("target-role.yaml", "Boundary", "PolicyDocument"),
}
CONDITIONS = (
    "HasOrganization",
    "HasExternalId",
    "HasExternalIdOrHasOrganization",
    "HasBreakGlassRole",
    "HasTaskRoles",
    "HasInfrastructureRoles",
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
    assert "Condition" not in resolve(in_template("updater.json"), VALUES, nothing)["Statement"][0]
    only_external_id = {**nothing, "HasExternalId": True, "HasExternalIdOrHasOrganization": True}
    enter, _ = resolve(in_template("target-trust.json"), VALUES, only_external_id)["Statement"]
    assert enter["Condition"]["StringEquals"] == {"sts:ExternalId": "external"}


def test_a_statement_without_its_parameter_is_gone_whole() -> None:
    nothing = dict.fromkeys(CONDITIONS, False)
    table = resolve(in_template("history-table.json"), VALUES, nothing)["Statement"]
    assert [statement["Sid"] for statement in table] == ["NobodyRewritesHistory", "OnlyTheWritersAppend"]
    role = resolve(in_template("target-role.json"), VALUES, nothing)["Statement"]
    assert not any("iam:PassRole" in statement["Action"] for statement in role)


@pytest.mark.parametrize(
    ("file", "parameter", "good", "bad"),
    [
        ("hub.yaml", "OrganizationId", ["", "o-a1b2c3d4e5"], ["o-A1B2C3D4E5", "a1b2c3d4e5", "o-a1b2"]),
        ("hub.yaml", "TargetRoleName", ["ecs-updater/ecs-updater-target", "role"], ["", "/role", "role/", "a b"]),
        (
            "hub.yaml",
            "AllowedAccounts",
            ["", "111111111111", "111111111111,222222222222"],
            ["1111", "111111111111,", "111111111111, 222222222222"],
        ),
        ("hub.yaml", "ExternalId", ["", "ab", "a:b/c"], ["a", "a b"]),
        (
            "hub.yaml",
            "BreakGlassRoleArn",
            ["", UPDATER_ROLE],
            ["role", "arn:aws:iam::1:role/x", "arn:aws:iam::111111111111:user/x"],
        ),
        ("hub.yaml", "CodeBucket", ["my-packages.eu"], ["", "A", "my_packages", "-a"]),
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
    ],
)
def test_parameters_refuse_what_is_wrong(file: str, parameter: str, good: list[str], bad: list[str]) -> None:
    pattern = template(file)["Parameters"][parameter]["AllowedPattern"]
    assert [value for value in good if not re.fullmatch(pattern, value)] == []
    assert [value for value in bad if re.fullmatch(pattern, value)] == []


def test_history_and_state_outlive_the_stack() -> None:
    resources = template("hub.yaml")["Resources"]
    for table in ("HistoryTable", "StateTable"):
        assert resources[table]["DeletionPolicy"] == resources[table]["UpdateReplacePolicy"] == "Retain"
        properties = resources[table]["Properties"]
        assert properties["DeletionProtectionEnabled"] is True
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
