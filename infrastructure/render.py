#!/usr/bin/env python3
"""Writes the documents of `policies/` into the CloudFormation templates.

`policies/*.json` is the one source of every IAM document. A template carries each document between two
marker lines, and this tool replaces what stands between them:

    # begin policies/updater.json
    {...}
    # end policies/updater.json

    infrastructure/render.py           rewrite the templates in place
    infrastructure/render.py --check   change nothing; exit 1 where a template is not up to date

JSON is YAML, so the documents stay comparable line by line with their sources. Three things are translated:

* `__TOKENS__` become `Ref`, `Fn::GetAtt` or `Fn::Sub` (TOKENS below);
* condition keys that not every deployment has (an organization, an external id) are put behind `Fn::If`, and
  an operator or `Condition` that would be left empty goes with them, because IAM refuses an empty one;
* statements that make no sense without their parameter (OPTIONAL_STATEMENTS) are put behind `Fn::If` whole: a
  Deny that merely lost its condition would deny everybody.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = sorted((ROOT / "infrastructure" / "cloudformation").glob("*.yaml"))

# Token -> what stands for it: a fragment of an Fn::Sub string, or a whole value (lists).
TOKENS: dict[str, Any] = {
    "__PARTITION__": "${AWS::Partition}",
    "__ACCOUNT_ID__": "${AWS::AccountId}",
    "__TARGET_ROLE_NAME__": "${TargetRoleName}",
    "__HISTORY_TABLE_ARN__": "${HistoryTable.Arn}",
    "__STATE_TABLE_ARN__": "${StateTable.Arn}",
    # Fn::GetAtt LogGroup.Arn ends with ":*", which leaves no room for the log stream.
    "__LOG_GROUP_ARN__": "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:${LogGroup}",
    "__HISTORY_LOG_GROUP_ARN__": (
        "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:${HistoryLogGroup}"
    ),
    "__HUB_ACCOUNT_ID__": "${HubAccountId}",
    "__UPDATER_ROLE_ARN__": "${UpdaterRoleArn}",
    "__ORGANIZATION_ID__": "${OrganizationId}",
    "__EXTERNAL_ID__": "${ExternalId}",
    "__BREAK_GLASS_ROLE_ARN__": "${BreakGlassRoleArn}",
    "__WRITER_ROLE_ARNS__": [{"Fn::GetAtt": ["UpdaterRole", "Arn"]}],
    "__API_ARN__": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}",
    "__TASK_ROLE_ARNS__": {"Fn::Split": [",", {"Ref": "TaskRoleArns"}]},
    "__INFRASTRUCTURE_ROLE_ARNS__": {"Fn::Split": [",", {"Ref": "InfrastructureRoleArns"}]},
}

# Names in Fn::Sub that are neither parameter nor resource. The hub's account is read from the role's ARN, so that
# the two cannot contradict each other.
SUB_VARIABLES: dict[str, Any] = {
    "HubAccountId": {"Fn::Select": [4, {"Fn::Split": [":", {"Ref": "UpdaterRoleArn"}]}]},
}

# Condition key, or statement, -> the template condition under which it is there.
OPTIONAL_KEYS = {
    "aws:PrincipalOrgID": "HasOrganization",
    "aws:ResourceOrgID": "HasOrganization",
    "sts:ExternalId": "HasExternalId",
}
OPTIONAL_STATEMENTS = {
    "OnlyBreakGlassChangesThisPolicy": "HasBreakGlassRole",
    "PassTaskRoles": "HasTaskRoles",
    "PassInfrastructureRoles": "HasInfrastructureRoles",
}

TOKEN = re.compile(r"__[A-Z_]+?__")
WIDTH = 118


def substitute(text: str) -> Any:
    """One string of a document as CloudFormation writes it."""
    tokens = TOKEN.findall(text)
    if not tokens:
        return text
    if text in TOKENS and not isinstance(TOKENS[text], str):
        return TOKENS[text]
    # "${aws:…}" is for IAM to fill in, not for Fn::Sub.
    text = TOKEN.sub(lambda token: TOKENS[token.group()], text.replace("${", "${!"))
    if whole := re.fullmatch(r"\$\{(\w+)(?:\.(\w+))?}", text):
        name, attribute = whole.groups()
        return {"Fn::GetAtt": [name, attribute]} if attribute else {"Ref": name}
    variables = {name: value for name, value in SUB_VARIABLES.items() if f"${{{name}}}" in text}
    return {"Fn::Sub": [text, variables] if variables else text}


def behind(conditions: frozenset[str], value: Any) -> Any:
    """`value` where any of `conditions` holds, else nothing."""
    return {"Fn::If": ["Or".join(sorted(conditions)), value, {"Ref": "AWS::NoValue"}]} if conditions else value


def render_condition(node: Any, key: str = "") -> tuple[Any, frozenset[str]]:
    """A Condition, operator or key, and the template conditions without all of which it is gone."""
    if key in OPTIONAL_KEYS:
        return render(node), frozenset({OPTIONAL_KEYS[key]})
    if not isinstance(node, dict):
        return render(node), frozenset()
    members = {name: render_condition(member, name) for name, member in node.items()}
    lifted: frozenset[str] = frozenset()
    if all(conditions for _, conditions in members.values()):
        lifted = frozenset().union(*(conditions for _, conditions in members.values()))
    return {
        name: value if conditions == lifted else behind(conditions, value)
        for name, (value, conditions) in members.items()
    }, lifted


def render(node: Any) -> Any:
    """A document, or a part of it, as CloudFormation writes it."""
    if isinstance(node, str):
        return substitute(node)
    if isinstance(node, list):
        return [render(item) for item in node]
    if not isinstance(node, dict):
        return node
    rendered = {}
    for name, member in node.items():
        if name == "Condition":
            value, conditions = render_condition(member)
            rendered[name] = behind(conditions, value)
        else:
            rendered[name] = render(member)
    statement_needs = OPTIONAL_STATEMENTS.get(str(node.get("Sid")))
    return behind(frozenset({statement_needs}), rendered) if statement_needs else rendered


def layout(node: Any, indent: int) -> str:
    """JSON with short lists and objects on one line, as people write it."""
    flat = json.dumps(node, ensure_ascii=False)
    if not isinstance(node, (dict, list)) or not node or len(flat) + indent < WIDTH and "Statement" not in node:
        return flat
    inner = " " * (indent + 2)
    if isinstance(node, dict):
        parts = [f"{inner}{json.dumps(name)}: {layout(member, indent + 2)}" for name, member in node.items()]
        opening, closing = "{", "}"
    else:
        parts = [inner + layout(item, indent + 2) for item in node]
        opening, closing = "[", "]"
    return f"{opening}\n" + ",\n".join(parts) + f"\n{' ' * indent}{closing}"


def render_template(text: str) -> str:
    """The template with the documents between its markers written anew."""

    def section(match: re.Match[str]) -> str:
        indent, name = match["indent"], match["name"]
        document = render(json.loads((ROOT / "policies" / name).read_text()))
        body = indent + layout(document, len(indent))
        return f"{indent}# begin policies/{name}\n{body}\n{indent}# end policies/{name}\n"

    return re.sub(
        r"^(?P<indent> *)# begin policies/(?P<name>\S+)\n(?:.*\n)*?(?P=indent)# end policies/(?P=name)\n",
        section,
        text,
        flags=re.MULTILINE,
    )


def main(arguments: list[str]) -> int:
    """Rewrites the templates, or with `--check` says which are stale."""
    check = arguments == ["--check"]
    if arguments and not check:
        print(__doc__, file=sys.stderr)
        return 2
    stale = 0
    for path in TEMPLATES:
        text = path.read_text()
        fresh = render_template(text)
        if fresh == text:
            continue
        stale += 1
        name = path.relative_to(ROOT)
        if check:
            print(f"{name} is not what policies/ renders to: run infrastructure/render.py", file=sys.stderr)
        else:
            path.write_text(fresh)
            print(f"{name} rewritten")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
