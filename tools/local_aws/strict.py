"""MiniStack with IAM as strict as AWS where this project depends on it. Started by `local_aws.LocalAws`.

MiniStack (`AUTH=true`) checks signatures, identity policies, boundaries, session policies and trust policies. What
it leaves out or asks differently than AWS is mended here, each mend in a few lines over one of its functions. The
aim is one-sided: a policy that is too narrow for AWS must fail here too. Written for the version that
requirements.txt pins.

The process ends, with all functions it runs, when its standard input does: however the parent ends, nothing is left.
One that shall outlive its parent is given LOCAL_AWS_WHILE, a file that it ends with, and LOCAL_AWS_IDLE_SECONDS, after
which it ends when nobody asked it anything.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import graphlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import ministack.core.iam_actions as actions
import ministack.core.iam_evaluator as evaluator
import strict_api
import strict_ecs
import strict_lambda
import strict_stacks
import strict_states
import strict_watch
from ministack.app import main
from ministack.services import dynamodb, ec2, iam, lambda_svc, ssm
from ministack.services._dynamodb_keywords import parse_statement
from ministack.services.cloudformation import engine, provisioners, stacks

# The organization, and who is in it: MiniStack has none.
ORGANIZATION_ID = os.environ["LOCAL_AWS_ORGANIZATION_ID"]
REGION = os.environ["MINISTACK_REGION"]
ORGANIZATION_ACCOUNTS = frozenset(os.environ["LOCAL_AWS_ORGANIZATION_ACCOUNTS"].split(","))


# Status, headers and body; physical name and attributes of a resource.
Response = tuple[int, dict[str, str], bytes]
Created = tuple[str, dict[str, str]]


@dataclasses.dataclass
class Check:
    """One question to IAM: may the caller do this to that."""

    action: str
    resource: str
    context: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Request:
    """What has to be remembered between MiniStack's steps of one request."""

    also: list[Check] = dataclasses.field(default_factory=list)  # what AWS asks beside the call's own action
    source_identity: str = ""
    denied: Check | None = None  # for the message


request: contextvars.ContextVar[Request] = contextvars.ContextVar("request")

# When somebody last asked for something (time.monotonic).
asked_at = time.monotonic()


def json_body(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; empty where it is none."""
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


# ---- resources, and what else a call needs ---------------------------------------------------------------------------


def ecs_checks(operation: str, body: dict[str, Any], region: str, account: str) -> list[Check] | None:
    """What AWS asks for an ECS call, its own action first. MiniStack asks for the cluster's ARN instead."""
    prefix = f"arn:aws:ecs:{region}:{account}:"
    action = f"ecs:{operation}"
    cluster = str(body.get("cluster") or "default").rsplit("/", 1)[-1]

    def service(name: Any) -> str:
        return str(name) if str(name).startswith("arn:") else f"{prefix}service/{cluster}/{name}"

    def tags_of(*resources: str) -> list[Check]:
        # Whether AWS asks for this where a description has tags, its documentation does not say. Roles written by users of ECS expect
        # it, and so does this project's (docs/IAM.md, target-role.json, ReadTags): here it is asked for, which is the stricter way.
        return [Check("ecs:ListTagsForResource", each) for each in resources if "TAGS" in (body.get("include") or [])]

    match operation:
        case "DescribeServices":
            named = [service(name) for name in body.get("services") or []]
            return [*(Check(action, each) for each in named or ["*"]), *tags_of(*named)]
        case "UpdateService" | "DeleteService" | "ListServiceDeployments" | "UpdateServicePrimaryTaskSet":
            # Roles that the service hands to ECS itself: volumes, Service Connect, load balancers, VPC Lattice.
            passed = [
                Check("iam:PassRole", role, {"iam:PassedToService": "ecs.amazonaws.com"})
                for role in re.findall(r'"roleArn": "([^"]+)"', json.dumps(body))
            ]
            return [Check(action, service(body.get("service"))), *passed]
        case "CreateService":
            new = service(body.get("serviceName"))
            tagged = [Check("ecs:TagResource", new, {"ecs:CreateAction": operation})] if body.get("tags") else []
            return [Check(action, new), *tagged]
        case "DescribeServiceDeployments" | "DescribeServiceRevisions":
            named = body.get("serviceDeploymentArns") or body.get("serviceRevisionArns") or []
            # AWS asks for the deployment, or the revision, and for the service it belongs to.
            services = [re.sub(r":service-(?:deployment|revision)/(.+)/[^/]+$", r":service/\1", arn) for arn in named]
            return [Check(action, arn) for arn in [*named, *services]] or None
        case "StopServiceDeployment" | "ContinueServiceDeployment":
            arn = str(body.get("serviceDeploymentArn"))
            return [Check(action, arn), Check(action, re.sub(r":service-deployment/(.+)/[^/]+$", r":service/\1", arn))]
        case "CreateTaskSet" | "UpdateTaskSet" | "DeleteTaskSet":
            of = service(body.get("service")).replace(":service/", ":task-set/")
            return [Check(action, f"{of}/{str(body.get('taskSet') or '*').rsplit('/', 1)[-1]}")]
        case "TagResource" | "UntagResource" | "ListTagsForResource":
            return [Check(action, str(body.get("resourceArn")))]
        case "DescribeTaskDefinition":
            definition = str(body.get("taskDefinition"))
            arn = definition if definition.startswith("arn:") else f"{prefix}task-definition/{definition}"
            return [Check(action, "*"), *tags_of(arn)]
        case "RegisterTaskDefinition":
            definition = f"{prefix}task-definition/{body.get('family')}:*"
            checks = [Check(action, definition)]
            if body.get("tags"):
                checks.append(Check("ecs:TagResource", definition, {"ecs:CreateAction": operation}))
            for member in ("taskRoleArn", "executionRoleArn"):
                if role := body.get(member):
                    checks.append(Check("iam:PassRole", role, {"iam:PassedToService": "ecs-tasks.amazonaws.com"}))
            return checks
    return None


def partiql_check(statement: dict[str, Any], region: str, account: str) -> Check | None:
    """A PartiQL statement is authorized as what it does, on its table; there is no permission for the call itself."""
    try:
        parsed = parse_statement(statement.get("Statement", ""), statement.get("Parameters") or [])
        parsed = parsed.get("select") or parsed
        table = f"arn:aws:dynamodb:{region}:{account}:table/{parsed['table']}"
        index = f"/index/{parsed['index']}" if parsed.get("index") else ""
        return Check(f"dynamodb:PartiQL{parsed['op'].title()}", table + index)
    except (KeyError, ValueError):
        return None


original_resource: Callable[..., str] = actions.extract_resource_arn


def extract_resource_arn(
    service: str,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    params: dict[str, Any],
    region: str,
    account: str,
) -> str:
    """The resource of a call; remembers what else it needs."""
    global asked_at
    asked_at = time.monotonic()
    current = Request()
    request.set(current)
    operation = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
    if service == "ecs" and (checks := ecs_checks(operation, json_body(body), region, account)):
        current.also = checks[1:]
        return checks[0].resource
    if operation == "ExecuteStatement" and (check := partiql_check(json_body(body), region, account)):
        return check.resource
    if service == "dynamodb" and operation in ("PutResourcePolicy", "DeleteResourcePolicy"):
        return str(json_body(body).get("ResourceArn"))
    if service == "states" and (map_run := json_body(body).get("mapRunArn")):
        return str(map_run)
    resource = original_resource(service, method, path, headers, body, params, region, account)
    if service == "logs" and operation in ("CreateLogStream", "DeleteLogStream", "PutLogEvents"):
        return f"{resource}:log-stream:{json_body(body).get('logStreamName')}"
    if service == "iam" and (role := actions._query_param(params, "RoleName")):
        # AWS knows roles by their ARN, path included; MiniStack makes up one without.
        path_of_role = actions._query_param(params, "Path") or "/"
        found = iam._roles.get_scoped(account, None, role, {})
        return str(found.get("Arn", f"arn:aws:iam::{account}:role{path_of_role}{role}"))
    if service == "sts" and (identity := actions._query_param(params, "SourceIdentity")):
        # MiniStack does not know source identities. Here the identity policy is asked; for the trust, see below.
        current.source_identity = identity
        current.also = [Check("sts:SetSourceIdentity", resource, {"sts:SourceIdentity": identity})]
    return resource


original_action: Callable[..., str | None] = actions.extract_iam_action


def extract_iam_action(
    service: str, method: str, path: str, headers: dict[str, str], body: bytes, params: dict[str, Any]
) -> str | None:
    """The action of a call; of a single PartiQL statement, what the statement does."""
    action = original_action(service, method, path, headers, body, params)
    if action == "dynamodb:ExecuteStatement" and (check := partiql_check(json_body(body), "", "")):
        return check.action
    return action


original_transaction_checks: Callable[..., list[tuple[str, str]]] = actions.dynamodb_transaction_checks


def dynamodb_transaction_checks(action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
    """The parts of a transaction. MiniStack then adds dynamodb:EnclosingOperation, the call's name, to each."""
    members = {"dynamodb:ExecuteTransaction": "TransactStatements", "dynamodb:BatchExecuteStatement": "Statements"}
    if action not in members:
        return original_transaction_checks(action, body, region, account)
    checks = [partiql_check(statement, region, account) for statement in json_body(body).get(members[action]) or []]
    return [(check.action, check.resource) for check in checks if check]


original_dynamodb_context: Callable[..., dict[str, Any]] = actions.dynamodb_service_context


def dynamodb_service_context(body: bytes) -> dict[str, Any]:
    """The condition keys of a DynamoDB call, with dynamodb:LeadingKeys: the partition keys it names."""
    document = json_body(body)
    requests = [{**document, "TableName": document.get("TableName")}]
    requests += [
        {"TableName": name, **part}
        for name, part in (document.get("RequestItems") or {}).items()
        if isinstance(part, dict)
    ]
    leading = []
    for part in requests:
        table = dynamodb._tables.get(str(part["TableName"]).rsplit("/", 1)[-1]) or {}
        for item in [part.get("Item"), part.get("Key"), *(part.get("Keys") or [])]:
            value = (item or {}).get(table.get("pk_name"))
            if value:
                leading.append(str(next(iter(value.values()))))
    context = original_dynamodb_context(body)
    return {**context, "dynamodb:LeadingKeys": leading} if leading else context


# ---- the decision ----------------------------------------------------------------------------------------------------

original_enforce = evaluator.enforce


def enforce(
    access_key: str, action: str, service: str, region: str, resource_arn: str = "*", service_context: Any = None
) -> Any:
    """Asks for the call's own action, then for what AWS asks beside it."""
    current = request.get(None) or Request()
    own = Check(action, resource_arn, service_context or {})
    also, current.also = current.also, []
    for check in [own, *also]:
        denied = original_enforce(
            access_key,
            check.action,
            check.action.split(":")[0] if check is not own else service,
            region,
            resource_arn=check.resource,
            service_context={**own.context, **check.context},
        )
        if denied is not None:
            current.denied = check
            return denied
    return None


original_response: Callable[..., Response] = actions.access_denied_response


def access_denied_response(
    service: str, action: str, principal: str, request_id: str, *, resource_arn: str = "*", **options: Any
) -> Response:
    """The refusal. AWS names the action that was missing, which may not be the call's own, and the resource."""
    denied = getattr(request.get(None), "denied", None)
    if denied is None or options.get("error_code") or options.get("message"):
        return original_response(service, action, principal, request_id, resource_arn=resource_arn, **options)
    explicit = bool(options.get("explicit_deny"))
    if not options.get("resource_policy_arn"):
        options["message"] = actions.identity_denial_message(denied.action, principal, denied.resource, explicit)
    return original_response(service, denied.action, principal, request_id, resource_arn=denied.resource, **options)


original_trust: Callable[..., bool] = evaluator.evaluate_trust_policy


def evaluate_trust_policy(document: Any, caller: str, context: Any = None) -> bool:
    """A trust policy; where a source identity is set, it must allow that too, by that action's own condition keys."""
    allowed = original_trust(document, caller, context)
    current = request.get(None)
    if not allowed or context is None or not current or not current.source_identity:
        return allowed
    keys = {"sts:sourceidentity": current.source_identity}
    return original_trust(
        document, caller, dataclasses.replace(context, action="sts:SetSourceIdentity", service_context=keys)
    )


# ---- condition keys --------------------------------------------------------------------------------------------------

original_key = evaluator._resolve_condition_key


def resolve_condition_key(key: str, context: Any) -> Any:
    """Condition keys that MiniStack does not have, or fills in differently."""
    name = key.lower()
    if name == "aws:principalarn" and context.principal_type == "AssumedRole":
        # AWS: the ARN of the role, path included, and not that of the session.
        role = evaluator._role_name_from_assumed_arn(context.principal_arn)
        return iam._roles.get_scoped(context.principal_account, None, role, {}).get("Arn", context.principal_arn)
    if name in ("aws:principalorgid", "aws:resourceorgid"):
        account = context.principal_account
        if name == "aws:resourceorgid":
            account = evaluator._account_from_arn(context.resource_arn) or account
        return ORGANIZATION_ID if account in ORGANIZATION_ACCOUNTS else None
    if name == "lambda:sourcefunctionarn":
        # The function whose environment has these credentials; Lambda, and root that stands in for it, names the session after it.
        # https://docs.aws.amazon.com/lambda/latest/dg/permissions-source-function-arn.html
        *_, role, session = [*context.principal_arn.rsplit("/", 2), ""][:3]
        config = lambda_svc._functions.get_scoped(context.principal_account, REGION, session, {}).get("config", {})
        return config.get("FunctionArn") if str(config.get("Role")).endswith(f"/{role}") else None
    if name == "aws:principalisawsservice":
        # There in every signed request. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
        return "false"
    if name == "aws:securetransport":
        # Loopback stands in for HTTPS here.
        return "true"
    if name in ("aws:sourceaccount", "aws:sourcearn") and context.principal_arn.endswith(":root"):
        # Root stands in for services, which act for a resource of the account. Only state machines are asked which.
        account = context.principal_account
        return account if name == "aws:sourceaccount" else f"arn:aws:states:{REGION}:{account}:stateMachine:local"
    return original_key(key, context)


original_conditions_met: Callable[..., bool] = evaluator._conditions_met


def conditions_met(conditions: dict[str, Any], context: Any) -> bool:
    """Conditions, with policy variables (`${aws:PrincipalOrgID}`) filled in, which MiniStack compares as they stand."""

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: fill(member) for name, member in node.items()}
        if isinstance(node, list):
            return [fill(item) for item in node]
        return re.sub(r"\$\{([^}]+)}", lambda v: str(resolve_condition_key(v[1], context) or v[0]), str(node))

    return original_conditions_met(fill(conditions), context)


# ---- what CloudFormation drops ---------------------------------------------------------------------------------------


def table_policy_for_arn(arn: str) -> tuple[str, str] | None:
    """A table's own policy and its account: MiniStack keeps the policies of tables, and never asks them."""
    table = arn.split("/index/")[0]
    _, _, _, region, account, _ = table.split(":", 5)
    entry = dynamodb._resource_policies.get_scoped(account, region, table)
    return (entry["Policy"], account) if entry else None


original_create_table: Callable[[dict[str, Any]], Any] = dynamodb._create_table


def create_table(data: dict[str, Any]) -> Any:
    """CreateTable, with the table's policy (`ResourcePolicy`), which MiniStack drops.
    <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CreateTable.html>"""
    answer = original_create_table(data)
    if data.get("ResourcePolicy") and answer[0] < 300:
        arn = json.loads(answer[2])["TableDescription"]["TableArn"]
        dynamodb._put_resource_policy({"ResourceArn": arn, "Policy": data["ResourcePolicy"]})
    return answer


original_role_create: Callable[..., Created] = provisioners._iam_role_create


def role_create(logical_id: str, properties: dict[str, Any], stack: str) -> Created:
    """A role, with its boundary."""
    name, attributes = original_role_create(logical_id, properties, stack)
    if boundary := properties.get("PermissionsBoundary"):
        iam._roles[name]["PermissionsBoundary"] = boundary
    return name, attributes


original_order: Callable[..., list[str]] = stacks._topological_sort


def order(resources: dict[str, Any], conditions: dict[str, bool]) -> list[str]:
    """In which order a stack makes its resources. CloudFormation makes side by side what does not depend on each other
    (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-dependson.html), so these come in any order;
    in MiniStack, in that of the alphabet. Here, what nothing waits for comes last, and the alphabet backwards: so a dependency
    that nobody wrote down is missed."""
    names = original_order(resources, conditions)
    known = set(names)
    needs = {name: engine._extract_deps(resources[name], known) - {name} for name in names}
    needed = set().union(*needs.values())
    waiting = graphlib.TopologicalSorter(needs)
    waiting.prepare()
    ready: list[str] = []
    made: list[str] = []
    while waiting.is_active():
        ready.extend(waiting.get_ready())
        made.append(max(ready, key=lambda name: (name in needed, name)))
        ready.remove(made[-1])
        waiting.done(made[-1])
    return made


def with_count(handler: Callable[..., Created]) -> Callable[..., Created]:
    """A handler of services whose `DesiredCount` is a number, as AWS makes of a parameter of type Number."""

    def handle(*arguments: Any) -> Created:
        for properties in arguments:
            if isinstance(properties, dict) and "DesiredCount" in properties:
                properties["DesiredCount"] = int(properties["DesiredCount"])
        return handler(*arguments)

    return handle


original_permissions: Callable[..., list[dict[str, Any]]] = ec2._parse_ip_permissions


def ip_permissions(parameters: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    """Rules of a security group. Where a rule is for all protocols, AWS overlooks its ports; Terraform sends 0 to 0."""
    rules = original_permissions(parameters, prefix)
    for rule in rules:
        if rule["IpProtocol"] == "-1":
            rule.pop("FromPort", None)
            rule.pop("ToPort", None)
    return rules


def mend() -> None:
    """Puts the functions of this file in place of MiniStack's."""
    actions.extract_resource_arn = extract_resource_arn
    actions.extract_iam_action = extract_iam_action
    actions.dynamodb_transaction_checks = dynamodb_transaction_checks
    actions.dynamodb_service_context = dynamodb_service_context
    actions.access_denied_response = access_denied_response
    evaluator.enforce = enforce
    evaluator.evaluate_trust_policy = evaluate_trust_policy
    evaluator._resolve_condition_key = resolve_condition_key
    evaluator._conditions_met = conditions_met
    ec2._parse_ip_permissions = ip_permissions
    dynamodb.table_policy_for_arn = table_policy_for_arn
    dynamodb._create_table = create_table
    evaluator._RESOURCE_POLICY_LOOKUPS["dynamodb"] = ("dynamodb", "table_policy_for_arn")
    provisioners._RESOURCE_HANDLERS["AWS::IAM::Role"]["create"] = role_create
    stacks._topological_sort = order
    ssm._put_parameter = put_parameter
    strict_api.mend()
    strict_ecs.mend()
    strict_lambda.mend()
    strict_stacks.mend()
    strict_states.mend()
    strict_watch.mend()
    for operation in ("create", "update"):
        service = provisioners._RESOURCE_HANDLERS["AWS::ECS::Service"]
        service[operation] = with_count(service[operation])


original_put_parameter: Callable[[dict[str, Any]], Any] = ssm._put_parameter


def put_parameter(data: dict[str, Any]) -> Any:
    """PutParameter, with the room that a parameter has: 4 KB, as an advanced one 8 KB.
    <https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html>"""
    value, existing = data.get("Value", ""), ssm._parameters.get(data.get("Name"))
    most = 4096 if (data.get("Tier") or ssm._default_tier(data, value, existing)) == "Standard" else 8192
    if len(value.encode()) > most:
        told = f"The parameter's value has more than {most} characters, which is what its tier has room for."
        return ssm.error_response_json("ValidationException", told, 400)
    return original_put_parameter(data)


def end() -> None:
    """Ends the whole process group, and removes its files."""
    shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def end_with_parent() -> None:
    """Waits for standard input to end, which it does when the parent does."""
    sys.stdin.buffer.read()
    end()


def end_when_forgotten(file: str, idle_seconds: float) -> None:
    """Waits until the file is gone, or nobody asks for anything any more."""
    while os.path.exists(file) and time.monotonic() < asked_at + idle_seconds:
        time.sleep(0.2)
    # Whoever reads it later must not take another server, on the same port, for this one.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(file)
    end()


if __name__ == "__main__":
    if os.getpgrp() != os.getpid():
        sys.exit("strict.py is started by local_aws.LocalAws, in a process group of its own")
    if lasting := os.environ.get("LOCAL_AWS_WHILE"):
        ending = threading.Thread(
            target=end_when_forgotten, args=(lasting, float(os.environ["LOCAL_AWS_IDLE_SECONDS"])), daemon=True
        )
    else:
        ending = threading.Thread(target=end_with_parent, daemon=True)
    ending.start()
    mend()
    main()
