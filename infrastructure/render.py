#!/usr/bin/env python3
"""Writes the documents of `policies/`, the dashboard and the state machine into the CloudFormation templates.

`policies/*.json` is the one source of every IAM document, `step-functions/*.asl.json` that of the state machine. A
template carries each document between two marker lines, and this tool replaces what stands between them:

    # begin policies/updater.json
    {...}
    # end policies/updater.json

    infrastructure/render.py           rewrite the templates in place
    infrastructure/render.py --check   change nothing; exit 1 where a template is not up to date
    infrastructure/render.py --waves   print the state machine's definition with sample names, for asl-validator

JSON is YAML, so the documents stay comparable line by line with their sources. Three things are translated:

* `__TOKENS__` become `Ref`, `Fn::GetAtt` or `Fn::Sub` (TOKENS below);
* condition keys that not every deployment has (an organization, an external id) are put behind `Fn::If`, and
  an operator or `Condition` that would be left empty goes with them, because IAM refuses an empty one;
* statements that make no sense without their parameter (OPTIONAL_STATEMENTS) are put behind `Fn::If` whole: a
  Deny that merely lost its condition would deny everybody.

The definition of the state machine goes in as text (`DefinitionString`): its `${...}` are filled in by
DefinitionSubstitutions. Two things in its source are not Amazon States Language, so that it can be read: an
expression may be a list of lines, and `{"include": "file"}` stands for what that file holds (with a `suffix` to the
names of its states where it is included twice; what else stands beside it replaces members).
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = sorted((ROOT / "infrastructure" / "cloudformation").glob("*.yaml"))
STATE_MACHINES = ROOT / "infrastructure" / "step-functions"

# Rules of hub.yaml about what the stack itself made.
WATCH_RULES = ("TablesWatch", "KeysWatch", "FunctionsWatch", "RolesWatch", "EventsWatch")
# And about documents that the functions read, where there are such.
DOCUMENTS_WATCH = {"Fn::If": ["HasDocuments", {"Fn::GetAtt": ["DocumentsWatch", "Arn"]}, {"Ref": "AWS::NoValue"}]}

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
    "__UPDATER_FUNCTION_ARN__": "${UpdaterAlias}",
    "__HISTORY_FUNCTION_ARN__": "${HistoryAlias}",
    "__UPDATER_SOURCE_ARN__": "${UpdaterFunction.Arn}",
    "__RECORDER_SOURCE_ARN__": "${RecorderFunction.Arn}",
    "__STATE_MACHINES__": "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:*",
    "__WAVES_ARN__": "${Waves}",
    "__WAVES_EXECUTIONS__": ("arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${Waves.Name}"),
    "__WAVES_BUCKET_ARN__": "${WavesBucket.Arn}",
    "__BREAK_GLASS_ROLE_ARN__": "${BreakGlassRoleArn}",
    "__WRITER_ROLE_ARNS__": [
        {"Fn::GetAtt": ["UpdaterRole", "Arn"]},
        {"Fn::If": ["HasRecorder", {"Fn::GetAtt": ["RecorderRole", "Arn"]}, {"Ref": "AWS::NoValue"}]},
    ],
    "__RECORDER_LOG_GROUP_ARN__": (
        "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:${RecorderLogGroup}"
    ),
    "__READER_ROLE_NAME__": "${ReaderRoleName}",
    "__REGION__": "${AWS::Region}",
    "__URL_SUFFIX__": "${AWS::URLSuffix}",
    "__TABLE_KEY_ARN__": "${TableKeyArn}",
    "__ALLOWED_ACCOUNTS_ARN__": "${AllowedAccountsArn}",
    "__TRIGGER_MAPPING_ARN__": "${TriggerMappingArn}",
    "__DATA_KEY_ARN__": "${DataKeyArn}",
    "__NOTICES_TOPIC_ARN__": "${NoticesTopic}",
    "__DEAD_LETTERS_ARN__": "${DeadLetters.Arn}",
    "__EVENT_BUS_NAME__": "${AWS::StackName}",
    "__HUB_EVENT_BUS_ARN__": "${HubEventBusArn}",
    "__TARGET_RULE_ARNS__": [{"Fn::GetAtt": [rule, "Arn"]} for rule in ("DeploymentsRule", "AlarmsRule")],
    "__RULE_ARNS__": [
        *({"Fn::GetAtt": [rule, "Arn"]} for rule in WATCH_RULES),
        DOCUMENTS_WATCH,
        *(
            {"Fn::If": ["HasRecorder", {"Fn::GetAtt": [rule, "Arn"]}, {"Ref": "AWS::NoValue"}]}
            for rule in ("RecorderRule", "TargetAlarmsRule", "SweepRule")
        ),
    ],
    "__TAMPERING_QUEUE_ARN__": "${TamperingQueue.Arn}",
    "__WATCH_RULE_ARNS__": [
        *({"Fn::GetAtt": [rule, "Arn"]} for rule in WATCH_RULES),
        DOCUMENTS_WATCH,
        # Those of trigger.yaml and api.yaml, which are deployed later.
        {"Fn::Sub": "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/ecs-updater-watch-*"},
    ],
    "__HUB_REGION__": "${HubRegion}",
    "__API_ARN__": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}",
    "__API_DEPLOYMENTS_ARN__": "arn:${AWS::Partition}:apigateway:${AWS::Region}::/restapis/${Api}/deployments",
    "__DEPLOYER_LOG_GROUP_ARN__": (
        "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:${DeployerLogGroup}"
    ),
    "__TASK_ROLE_ARNS__": {"Fn::Split": [",", {"Ref": "TaskRoleArns"}]},
    "__INFRASTRUCTURE_ROLE_ARNS__": {"Fn::Split": [",", {"Ref": "InfrastructureRoleArns"}]},
    "__REGISTRY_REPOSITORY_ARNS__": {"Fn::Split": [",", {"Ref": "RegistryRepositoryArns"}]},
    "__REGISTRY_SECRET_ARNS__": {"Fn::Split": [",", {"Ref": "RegistrySecretArns"}]},
    "__TRIGGER_QUEUE_ARN__": "${TriggerQueue.Arn}",
    "__TRIGGER_RULE_ARN__": "${TriggerRule.Arn}",
    "__TRIGGER_LOG_GROUP_ARN__": (
        "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:${TriggerLogGroup}"
    ),
    "__READER_PRINCIPAL_ARNS__": {"Fn::Split": [",", {"Ref": "ReaderPrincipalArns"}]},
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
    "NobodyDeletesTheTable": "ProtectsTables",
    "UseTheTablesKey": "HasTableKey",
    "UseTheDataKey": "HasDataKey",
    "ReadAllowedAccounts": "HasAllowedAccountsArn",
    "ResolveUnits": "ResolvesUnits",
    "ReadMapping": "HasTriggerMappingArn",
    "LookUpImages": "HasRegistryRepositories",
    "ReadRegistryCredentials": "HasRegistrySecrets",
    "PassTaskRoles": "HasTaskRoles",
    "PassInfrastructureRoles": "HasInfrastructureRoles",
}
# Statements whose condition keys always stay, since everybody would be let in without them: the template puts the whole
# document behind Fn::If.
NEVER_WITHOUT = {"TheOrganizationSendsEvents"}

# The dashboard, which Fn::Sub fills in.
DASHBOARD = ROOT / "infrastructure" / "dashboard.json"
DASHBOARD_TOKENS = {
    "__REGION__": "${AWS::Region}",
    "__METRICS_NAMESPACE__": "${MetricsNamespace}",
    "__UPDATER_FUNCTION__": "${UpdaterFunction}",
    "__HISTORY_FUNCTION__": "${HistoryFunction}",
    "__RECORDER__": "${Recorder}",
    "__DEAD_LETTERS_NAME__": "${DeadLetters.QueueName}",
    "__LOG_GROUP__": "${LogGroup}",
}
# Where there is no recorder, its line stays empty.
DASHBOARD_VARIABLES = {"Recorder": {"Fn::If": ["HasRecorder", {"Ref": "RecorderFunction"}, "-"]}}

# What --waves fills in.
SAMPLE_SUBSTITUTIONS = {
    "Partition": "aws",
    "UpdaterFunctionArn": "arn:aws:lambda:eu-west-1:111111111111:function:updater",
    "HistoryFunctionArn": "arn:aws:lambda:eu-west-1:111111111111:function:history",
    "ResultsBucket": "waves-results",
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
        if name == "Condition" and node.get("Sid") not in NEVER_WITHOUT:
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


def assemble(node: Any) -> Any:
    """A source of the state machine, or a part of it, as Amazon States Language."""
    if isinstance(node, list):
        if node and isinstance(node[0], str) and node[0].startswith("{%") and node[-1].endswith("%}"):
            return " ".join(line.strip() for line in node)
        return [assemble(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "include" in node:
        part = assemble(json.loads((STATE_MACHINES / node["include"]).read_text()))
        part = renamed(part, node["suffix"]) if "suffix" in node else part
        return {**part, **{name: member for name, member in node.items() if name not in ("include", "suffix")}}
    return {name: assemble(member) for name, member in node.items()}


def renamed(processor: Any, suffix: str) -> Any:
    """An ItemProcessor with a suffix to the names of its states: no name may come twice in a state machine."""
    states = {
        name + suffix: {
            key: member + suffix
            if key in ("Next", "Default")
            else [{**part, "Next": part["Next"] + suffix} for part in member]
            if key in ("Choices", "Catch")
            else member
            for key, member in state.items()
        }
        for name, state in processor["States"].items()
    }
    return {**processor, "StartAt": processor["StartAt"] + suffix, "States": states}


def definition(name: str = "waves.asl.json") -> Any:
    """The definition of a state machine, whole."""
    return assemble(json.loads((STATE_MACHINES / name).read_text()))


def sample_definition() -> str:
    """The definition as a stack might have it."""
    text = json.dumps(definition(), indent=2, ensure_ascii=False)
    return re.sub(r"\$\{(\w+)}", lambda name: SAMPLE_SUBSTITUTIONS[name[1]], text)


def render_template(text: str) -> str:
    """The template with the documents between its markers written anew."""

    def dashboard(match: re.Match[str]) -> str:
        indent = match["indent"]
        text = TOKEN.sub(lambda token: DASHBOARD_TOKENS[token.group()], DASHBOARD.read_text().rstrip())
        items = f"- |-\n{textwrap.indent(text, '  ')}\n- {json.dumps(DASHBOARD_VARIABLES)}"
        body = textwrap.indent(items, f"{indent}  ")
        return f"{indent}# begin dashboard.json\n{indent}DashboardBody: !Sub\n{body}\n{indent}# end dashboard.json\n"

    def section(match: re.Match[str]) -> str:
        indent, folder, name = match["indent"], match["folder"], match["name"]
        if folder == "step-functions":
            text = layout(definition(name), len(indent) + 2)
            body = f"{indent}DefinitionString: |-\n{indent}  {text}"
        else:
            document = render(json.loads((ROOT / "policies" / name).read_text()))
            body = indent + layout(document, len(indent))
        return f"{indent}# begin {folder}/{name}\n{body}\n{indent}# end {folder}/{name}\n"

    text = re.sub(
        r"^(?P<indent> *)# begin dashboard.json\n(?:.*\n)*?(?P=indent)# end dashboard.json\n",
        dashboard,
        text,
        flags=re.MULTILINE,
    )
    return re.sub(
        r"^(?P<indent> *)# begin (?P<folder>policies|step-functions)/(?P<name>\S+)\n"
        r"(?:.*\n)*?(?P=indent)# end (?P=folder)/(?P=name)\n",
        section,
        text,
        flags=re.MULTILINE,
    )


def main(arguments: list[str]) -> int:
    """Rewrites the templates, or with `--check` says which are stale."""
    if arguments == ["--waves"]:
        print(sample_definition())
        return 0
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
            print(f"{name} is not what its sources render to: run infrastructure/render.py", file=sys.stderr)
        else:
            path.write_text(fresh)
            print(f"{name} rewritten")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
