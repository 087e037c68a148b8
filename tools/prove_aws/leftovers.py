"""What runs make, kind by kind: how it is found by its name and its tag, and how it is removed.

What a run made is looked for, not remembered: so what was made just before something went wrong is found, too."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from account import PREFIX, ROLE_PATH, TAG, Account, code, denied, said
from botocore.exceptions import BotoCoreError, ClientError

LOGS = ("/aws/lambda/", f"/{PREFIX}/")
# Codes of what cannot be removed yet, but soon: by the quota of the call, or because something else is still being removed.
PATIENCE = {
    "TooManyRequestsException", "ThrottlingException", "ResourceInUseException", "ClusterContainsServicesException",
    "ClusterContainsTasksException", "UpdateInProgressException", "DeleteConflict", "AccessDeniedException", "ConcurrentModificationException",
    "LimitExceededException", "ResourceConflictException",
}
GONE = {
    "ResourceNotFoundException", "NotFoundException", "NoSuchEntity", "ClusterNotFoundException", "ServiceNotFoundException",
    "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "LoadBalancerNotFound", "StateMachineDoesNotExist", "PolicyNotFoundException",
    "ServiceNotActiveException",
}

Found = tuple[str, str]  # its name, and what it is removed by


@dataclass(frozen=True)
class Kind:
    """A kind of thing."""

    name: str
    find: Callable[[Account], Iterator[Found]]  # those whose name begins like ours, others' perhaps among them
    tags: Callable[[Account, str], dict[str, str]]
    remove: Callable[[Account, str], None]


def of_list(tags: Any, key: str = "Key", value: str = "Value") -> dict[str, str]:
    """Tags as most services answer them."""
    return {tag[key]: tag[value] for tag in tags or []}


def last(arn: str) -> str:
    """The name at the end of an ARN."""
    return arn.rsplit("/", 1)[-1]


def pages(client: Any, operation: str, member: str, **arguments: Any) -> Iterator[Any]:
    """Everything of a list that comes in pages."""
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page.get(member, [])


# ---- ECS -------------------------------------------------------------------------------------------------------------


def clusters(account: Account) -> Iterator[Found]:
    """Clusters."""
    for arn in pages(account.client("ecs"), "list_clusters", "clusterArns"):
        yield last(arn), arn


def services(account: Account) -> Iterator[Found]:
    """Services in the clusters of ours."""
    for name, cluster in clusters(account):
        if name.startswith(PREFIX):
            for arn in pages(account.client("ecs"), "list_services", "serviceArns", cluster=cluster):
                yield last(arn), arn


def remove_service(account: Account, arn: str) -> None:
    """Removes a service; an Express one with everything that ECS has made for it."""
    ecs, cluster = account.client("ecs"), arn.split("/")[-2]
    described = ecs.describe_services(cluster=cluster, services=[arn])["services"]
    if described and described[0].get("resourceManagementType") == "ECS":
        ecs.delete_express_gateway_service(serviceArn=arn)
    else:
        ecs.delete_service(cluster=cluster, service=arn, force=True)


def definitions(account: Account) -> Iterator[Found]:
    """Revisions, the deregistered ones too."""
    ecs = account.client("ecs")
    for status in ("ACTIVE", "INACTIVE"):
        # A family that is active may have inactive revisions too.
        asked = ({"status": each} for each in ("ACTIVE", "INACTIVE"))
        families = {name for each in asked for name in pages(ecs, "list_task_definition_families", "families", familyPrefix=PREFIX, **each)}
        for family in sorted(families):
            for arn in pages(ecs, "list_task_definitions", "taskDefinitionArns", familyPrefix=family, status=status):
                yield last(arn), arn


def remove_definition(account: Account, arn: str) -> None:
    """Deregisters a revision, and deletes it."""
    ecs = account.client("ecs")
    try:
        ecs.deregister_task_definition(taskDefinition=arn)
    except ClientError as error:
        # It is deregistered already.
        if code(error) not in ("ClientException", "InvalidParameterException"):
            raise
    ecs.delete_task_definitions(taskDefinitions=[arn])


def tasks(account: Account) -> Iterator[Found]:
    """Tasks that were started by themselves; those of services end with them."""
    for name, cluster in clusters(account):
        if name.startswith(PREFIX):
            for arn in pages(account.client("ecs"), "list_tasks", "taskArns", cluster=cluster):
                # A task has no name of ours, but stands in a cluster that has.
                yield f"{name}/{last(arn)}", arn


def ecs_tags(account: Account, arn: str) -> dict[str, str]:
    """Tags of something in ECS."""
    if ":task-definition/" in arn:
        answer = account.client("ecs").describe_task_definition(taskDefinition=arn, include=["TAGS"])
        return of_list(answer.get("tags"), "key", "value")
    return of_list(account.client("ecs").list_tags_for_resource(resourceArn=arn)["tags"], "key", "value")


def task_tags(account: Account, arn: str) -> dict[str, str]:
    """A task is ours by its cluster."""
    return ecs_tags(account, account.arn("ecs", f"cluster/{arn.split('/')[-2]}"))


# ---- events, queues, functions, state machines -----------------------------------------------------------------------


def buses(account: Account) -> Iterator[Found]:
    """Event buses."""
    for bus in account.client("events").list_event_buses(NamePrefix=PREFIX)["EventBuses"]:
        yield bus["Name"], bus["Arn"]


def rules(account: Account) -> Iterator[Found]:
    """Rules of the default bus and of our own."""
    for bus in ("default", *(name for name, _ in buses(account))):
        for rule in account.client("events").list_rules(NamePrefix=PREFIX, EventBusName=bus)["Rules"]:
            yield rule["Name"], rule["Arn"]


def remove_rule(account: Account, arn: str) -> None:
    """Removes a rule, with its targets."""
    events, (_, *bus, name) = account.client("events"), arn.split(":")[5].split("/")
    named = {"Rule": name, "EventBusName": bus[0] if bus else "default"}
    targets = [target["Id"] for target in events.list_targets_by_rule(**named)["Targets"]]
    if targets:
        events.remove_targets(**named, Ids=targets)
    events.delete_rule(Name=name, EventBusName=named["EventBusName"])


def event_tags(account: Account, arn: str) -> dict[str, str]:
    """Tags of a rule or a bus."""
    return of_list(account.client("events").list_tags_for_resource(ResourceARN=arn)["Tags"])


def queues(account: Account) -> Iterator[Found]:
    """Queues."""
    for url in pages(account.client("sqs"), "list_queues", "QueueUrls", QueueNamePrefix=PREFIX):
        yield last(url), url


def functions(account: Account) -> Iterator[Found]:
    """Functions."""
    for function in pages(account.client("lambda"), "list_functions", "Functions"):
        yield function["FunctionName"], function["FunctionArn"]


def machines(account: Account) -> Iterator[Found]:
    """State machines."""
    for machine in pages(account.client("stepfunctions"), "list_state_machines", "stateMachines"):
        yield machine["name"], machine["stateMachineArn"]


def logs(account: Account) -> Iterator[Found]:
    """Log groups, those of functions too."""
    for begin in LOGS:
        for group in pages(account.client("logs"), "describe_log_groups", "logGroups", logGroupNamePrefix=f"{begin}{PREFIX}"):
            yield last(group["logGroupName"]), group["logGroupName"]


def log_tags(account: Account, name: str) -> dict[str, str]:
    """Tags of a log group."""
    return dict(account.client("logs").list_tags_for_resource(resourceArn=account.arn("logs", f"log-group:{name}"))["tags"])


# ---- APIs, tables, balancers, roles ----------------------------------------------------------------------------------


def apis(account: Account) -> Iterator[Found]:
    """REST APIs."""
    for api in pages(account.client("apigateway"), "get_rest_apis", "items"):
        yield api["name"], api["id"]


def tables(account: Account) -> Iterator[Found]:
    """Tables."""
    for name in pages(account.client("dynamodb"), "list_tables", "TableNames"):
        yield name, name


def table_arn(account: Account, name: str) -> str:
    """A table's ARN."""
    return account.arn("dynamodb", f"table/{name}")


def remove_table(account: Account, name: str) -> None:
    """Removes a table; first its policy, which may forbid that."""
    dynamodb = account.client("dynamodb")
    try:
        dynamodb.delete_resource_policy(ResourceArn=table_arn(account, name))
    except ClientError as error:
        # A policy may forbid its own removal, and not that of the table.
        if code(error) not in GONE and not denied(error):
            raise
    dynamodb.delete_table(TableName=name)


def balancers(account: Account) -> Iterator[Found]:
    """Classic Load Balancers. Their names have room for 32 characters."""
    for balancer in pages(account.client("elb"), "describe_load_balancers", "LoadBalancerDescriptions"):
        yield balancer["LoadBalancerName"], balancer["LoadBalancerName"]


def balancer_tags(account: Account, name: str) -> dict[str, str]:
    """Tags of a Classic Load Balancer."""
    return of_list(account.client("elb").describe_tags(LoadBalancerNames=[name])["TagDescriptions"][0]["Tags"])


def roles(account: Account) -> Iterator[Found]:
    """Roles."""
    for role in pages(account.client("iam"), "list_roles", "Roles", PathPrefix=ROLE_PATH):
        yield role["RoleName"], role["RoleName"]


def remove_role(account: Account, name: str) -> None:
    """Removes a role, with its policies."""
    iam = account.client("iam")
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
    iam.delete_role(RoleName=name)


# In the order in which they can be removed.
KINDS = (
    Kind("ECS service", services, ecs_tags, remove_service),
    Kind("ECS task", tasks, task_tags, lambda a, arn: a.client("ecs").stop_task(cluster=arn.split("/")[-2], task=arn)),
    Kind("ECS cluster", clusters, ecs_tags, lambda a, arn: a.client("ecs").delete_cluster(cluster=arn)),
    Kind("task definition", definitions, ecs_tags, remove_definition),
    Kind("load balancer", balancers, balancer_tags, lambda a, name: a.client("elb").delete_load_balancer(LoadBalancerName=name)),
    Kind("rule", rules, event_tags, remove_rule),
    Kind("event bus", buses, event_tags, lambda a, arn: a.client("events").delete_event_bus(Name=last(arn))),
    Kind("queue", queues, lambda a, url: dict(a.client("sqs").list_queue_tags(QueueUrl=url).get("Tags", {})),
         lambda a, url: a.client("sqs").delete_queue(QueueUrl=url)),
    Kind("REST API", apis, lambda a, api: dict(a.client("apigateway").get_rest_api(restApiId=api).get("tags", {})),
         lambda a, api: a.client("apigateway").delete_rest_api(restApiId=api)),
    Kind("state machine", machines,
         lambda a, arn: of_list(a.client("stepfunctions").list_tags_for_resource(resourceArn=arn)["tags"], "key", "value"),
         lambda a, arn: a.client("stepfunctions").delete_state_machine(stateMachineArn=arn)),
    Kind("function", functions, lambda a, arn: dict(a.client("lambda").list_tags(Resource=arn)["Tags"]),
         lambda a, arn: a.client("lambda").delete_function(FunctionName=arn)),
    Kind("log group", logs, log_tags, lambda a, name: a.client("logs").delete_log_group(logGroupName=name)),
    Kind("table", tables,
         lambda a, name: of_list(a.client("dynamodb").list_tags_of_resource(ResourceArn=table_arn(a, name)).get("Tags")), remove_table),
    Kind("role", roles, lambda a, name: of_list(a.client("iam").list_role_tags(RoleName=name)["Tags"]), remove_role),
)


def found(account: Account, kind: Kind, run: str | None) -> list[Found]:
    """Those of a kind that a run has made; None: any run."""
    begin = re.compile(rf"{PREFIX}-{run or '[0-9a-f]{8}'}-")
    ours = []
    for name, handle in list(kind.find(account)):
        if not begin.match(name):
            continue
        try:
            tagged = kind.tags(account, handle).get(TAG)
        except ClientError as error:
            if code(error) not in GONE:
                raise
            continue
        # The tag repeats the run in the name: what only has such a name may be somebody else's.
        if tagged == name.removeprefix(f"{PREFIX}-").split("-")[0]:
            ours.append((name, handle))
    return ours


def remove(account: Account, run: str | None, say: Callable[[str], None], *, seconds: float = 600) -> list[str]:
    """Removes what a run has made (None: any run), and names what could not be removed, with the reason."""
    account.remove_in_this_thread()
    left: list[str] = []
    for kind in KINDS:
        until = time.monotonic() + (30 if account.is_local else seconds)
        reasons: dict[str, str] = {}
        told: set[str] = set()
        try:
            while ours := found(account, kind, run):
                for name, handle in ours:
                    if name not in told:
                        say(f"removing {kind.name} {name}")
                        told.add(name)
                    try:
                        kind.remove(account, handle)
                        reasons[name] = "it is still being removed"
                    except ClientError as error:
                        reasons[name] = said(error)
                        if code(error) not in PATIENCE | GONE:
                            until = 0
                if time.monotonic() >= until:
                    left += [f"{kind.name} {name}: {reasons[name]}" for name, _ in ours if name in reasons]
                    break
                time.sleep(0.02 if account.is_local else 5)
        except (ClientError, BotoCoreError) as error:
            if account.is_local and isinstance(error, ClientError) and "not found" not in str(error).lower() and code(error) in NOT_HERE:
                continue
            left.append(f"every {kind.name} (they could not be listed): {error}")
    return left


# A local AWS does not have some services at all: then it has nothing of them.
NOT_HERE = {"UnknownOperationException", "UnknownOperation", "InvalidAction", "NotImplemented", "InvalidClientTokenId"}
