"""Questions about permissions: what IAM is asked for, and which condition keys it is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import supplies
import urllib3
from account import Account, denied, refusal, said
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from question import Answer, NotHere, Place, believed, other, question

READ = ["ecs:DescribeServices", "ecs:DescribeTaskDefinition"]


def allow(actions: str | list[str], resource: str | list[str] = "*", **condition: Any) -> dict[str, Any]:
    """A statement that allows."""
    return {"Effect": "Allow", "Action": actions, "Resource": resource, **({"Condition": condition} if condition else {})}


def ecs_as(account: Account, what: str, statements: list[dict[str, Any]]) -> Any:
    """ECS for a new role with these rights, once IAM knows them: until then it refuses everything."""
    credentials = account.assume(account.role(what, [*statements, allow("ecs:ListClusters")]))
    ecs = account.client("ecs", credentials)
    account.wait(lambda: not denied(refusal(ecs.list_clusters)) or None, 60, f"the rights of role {what} never came into force")
    return ecs


def task_role(account: Account) -> str:
    """A role that tasks may have, and that may do nothing."""

    def make() -> str:
        trust = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
        return account.role("task", [], [trust])

    return account.shared("task role", make)


@question(
    "create-action",
    asked="Is the tagging of a new revision an ecs:TagResource whose `ecs:CreateAction` is RegisterTaskDefinition?",
    matters="Without it no change registers a revision; if the key were there in other calls too, the target role could tag what exists.",
    believes="with this condition a revision is registered with tags, and tags on an existing one are refused",
    places=(Place("policies/target-role.json", '"ecs:CreateAction": "RegisterTaskDefinition"'),),
    how="As a role with this right: RegisterTaskDefinition with tags, TagResource on the revision; and without the right.",
    minutes=2,
)
def create_action(account: Account) -> Answer:
    """Registers, and tags."""
    condition = {"StringEquals": {"ecs:CreateAction": "RegisterTaskDefinition"}}
    with_right = ecs_as(account, "tagger", [allow("ecs:RegisterTaskDefinition"), allow("ecs:TagResource", **condition)])
    without = ecs_as(account, "registrar", [allow("ecs:RegisterTaskDefinition")])
    container = {"name": "main", "image": supplies.IMAGE, "memory": 64}
    request = {"family": account.name("tagged"), "containerDefinitions": [container], "tags": account.tag_list("key", "value")}
    registered: dict[str, Any] = {}
    errors = {
        "registered with the right": refusal(lambda: registered.update(with_right.register_task_definition(**request))),
        "registered without it": refusal(lambda: without.register_task_definition(**request)),
    }
    if registered:
        arn = registered["taskDefinition"]["taskDefinitionArn"]
        tag = [{"key": "asked", "value": "yes"}]
        errors["an existing one tagged"] = refusal(lambda: with_right.tag_resource(resourceArn=arn, tags=tag))
    facts = {what: said(error) if error else "done" for what, error in errors.items()}
    if errors["registered with the right"]:
        return other(f"with the right: {facts['registered with the right']}", **facts)
    done = [what for what, error in errors.items() if what != "registered with the right" and not denied(error)]
    if done:
        return other(f"not refused: {', '.join(done)}", kinder=True, **facts)
    return believed("registered with tags by it, and neither without it nor afterwards", **facts)


@question(
    "pass-role",
    asked="Does UpdateService ask for iam:PassRole, of the task role of the revision and of a role for ECS itself?",
    matters="If it asked for the task role, every change by a role that may not pass it would fail.",
    believes="not for the task role, which RegisterTaskDefinition asked for; for a role that the service hands to ECS, passed to ecs.amazonaws.com",
    places=(
        Place("docs/IAM.md", "Roles that services hand to ECS itself (volumes, load balancers), as named by the parameter."),
        Place("policies/target-role.json", '"Sid": "PassInfrastructureRoles"'),
    ),
    how="As roles without iam:PassRole, with it for ecs-tasks.amazonaws.com, and with it for ecs.amazonaws.com: a revision with a task role, and "
    "a volume with a role.",
    minutes=3,
)
def pass_role(account: Account) -> Answer:
    """Updates as three roles."""
    role = task_role(account)
    name = supplies.service(account, "pass-role")["serviceName"]
    with_role = supplies.definition(account, "pass-role", taskRoleArn=role)
    volume = [{"name": "data", "configuredAtLaunch": True}]
    with_volume = supplies.definition(account, "pass-role", volumes=volume)
    infrastructure = account.role("volumes", [], [{"Effect": "Allow", "Principal": {"Service": "ecs.amazonaws.com"}, "Action": "sts:AssumeRole"}])
    volumes = [{"name": "data", "managedEBSVolume": {"roleArn": infrastructure, "sizeInGiB": 1, "volumeType": "gp3"}}]
    may = allow([*READ, "ecs:UpdateService"])

    def passes(what: str) -> dict[str, Any]:
        return allow("iam:PassRole", infrastructure, StringEquals={"iam:PassedToService": what})

    update = {"cluster": supplies.cluster(account), "service": name}
    nobody = ecs_as(account, "updates", [may])
    to_tasks = ecs_as(account, "updates-tasks", [may, passes("ecs-tasks.amazonaws.com")])
    to_ecs = ecs_as(account, "updates-ecs", [may, passes("ecs.amazonaws.com")])
    errors = {
        "a task role without PassRole": refusal(lambda: nobody.update_service(**update, taskDefinition=with_role)),
        "a volume's role without PassRole": refusal(
            lambda: nobody.update_service(**update, taskDefinition=with_volume, volumeConfigurations=volumes)
        ),
        "a volume's role passed to tasks": refusal(
            lambda: to_tasks.update_service(**update, taskDefinition=with_volume, volumeConfigurations=volumes)
        ),
        "a volume's role passed to ECS": refusal(
            lambda: to_ecs.update_service(**update, taskDefinition=with_volume, volumeConfigurations=volumes)
        ),
    }
    facts = {what: said(error) if error else "done" for what, error in errors.items()}
    wanted = dict(zip(errors, (False, True, True, False), strict=True))
    wrong = [what for what, error in errors.items() if (denied(error) if wanted[what] else error is not None) is not wanted[what]]
    if wrong:
        text = "; ".join(f"{what}: {facts[what]}" for what in wrong)
        return other(text, kinder=all(wanted[what] for what in wrong), **facts)
    return believed("a task role is not asked for, a volume's role is, passed to ecs.amazonaws.com", **facts)


@question(
    "include-tags",
    asked="Do DescribeServices and DescribeTaskDefinition with `include=TAGS` need ecs:ListTagsForResource?",
    matters="If they do, every change fails on the first day, where the target role has not got it.",
    believes="that is not known; with both permissions, on services and on task definitions, the tags come",
    places=(Place("src/aws/ecs.rs", ".include(ServiceField::Tags)"), Place("src/aws/ecs.rs", ".include(TaskDefinitionField::Tags)")),
    how="As a role that may describe alone, and as one that may list tags too.",
    minutes=2,
)
def include_tags(account: Account) -> Answer:
    """Describes with tags, as two roles."""
    made = supplies.service(account, "include-tags")
    listing = allow("ecs:ListTagsForResource", [account.arn("ecs", f"{kind}/*") for kind in ("service", "task-definition")])
    outcomes = {
        "describing alone": tags_as(account, made, ecs_as(account, "describer", [allow(READ)])),
        "listing tags too": tags_as(account, made, ecs_as(account, "reader", [allow(READ), listing])),
    }
    text = "; ".join(f"{what}: {outcome}" for what, outcome in outcomes.items())
    return believed(text, **outcomes) if outcomes["listing tags too"] == "the tags come" else other(text, **outcomes)


def tags_as(account: Account, made: dict[str, Any], ecs: Any) -> str:
    """What becomes of the tags of a service and its task definition for this client."""
    own = account.tag_list("key", "value")
    try:
        asked = {"cluster": supplies.cluster(account), "services": [made["serviceName"]], "include": ["TAGS"]}
        answer = ecs.describe_services(**asked)
        definition = ecs.describe_task_definition(taskDefinition=made["taskDefinition"], include=["TAGS"])
    except ClientError as error:
        return f"{error.operation_name}: {said(error)}"
    tags = [each.get("tags") for each in answer["services"]]
    if tags != [own] or definition.get("tags") != own:
        return f"answered without the tags: {json.dumps([tags, answer.get('failures'), definition.get('tags')])}"
    return "the tags come"


# ---- trusts ----------------------------------------------------------------------------------------------------------

ELSEWHERE = "999999999999"  # no account of anybody's who runs this


def trusting(account: Account, service: str, whose: str) -> list[dict[str, Any]]:
    """A trust of a service that acts for an account."""
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return [{**statement, "Condition": {"StringEquals": {"aws:SourceAccount": whose}}}]


def judged(works: bool | None, works_elsewhere: bool | None, **facts: Any) -> Answer:
    """What a trust with the own account, and one with another account, make of it."""
    if works is None:
        raise NotHere("the service cannot be seen assuming roles here", **facts)
    if not works:
        return other("with the account's own id the service does not assume the role", **facts)
    if works_elsewhere:
        return other("the service assumes a role that trusts it for another account", kinder=True, **facts)
    return believed("with the account's own id it assumes the role, with another one it does not", **facts)


@question(
    "source-account-states",
    asked="Does Step Functions send `aws:SourceAccount` and `aws:SourceArn` where it assumes a state machine's role?",
    matters="Without it no rollout starts.",
    believes="it sends both",
    places=(Place("policies/waves-trust.json", '"aws:SourceAccount": "__ACCOUNT_ID__"'),),
    how="A state machine with a task that its role has to be assumed for, under the trust of policies/waves-trust.json, and under that of "
    "another account.",
    minutes=3,
)
def source_account_states(account: Account) -> Answer:
    """Runs a state machine as each role."""
    states = account.client("stepfunctions")
    task = {"Type": "Task", "Resource": f"arn:{account.partition}:states:::aws-sdk:dynamodb:listTables", "Parameters": {"Limit": 1}, "End": True}
    outcomes = {}
    for what, whose in (("own", account.id), ("elsewhere", ELSEWHERE)):
        trust = trusting(account, "states.amazonaws.com", whose)
        trust[0]["Condition"]["ArnLike"] = {"aws:SourceArn": f"arn:{account.partition}:states:{account.region}:{whose}:stateMachine:*"}
        role = account.role(f"states-{what}", [allow("dynamodb:ListTables")], trust)
        definition = json.dumps({"StartAt": "Ask", "States": {"Ask": task}})
        request = {"name": account.name(f"states-{what}"), "definition": definition, "roleArn": role, "tags": account.tag_list("key", "value")}

        def run(request: dict[str, Any] = request) -> str | None:
            try:
                machine = states.create_state_machine(**request)["stateMachineArn"]
            except ClientError as error:
                return f"not made: {said(error)}"
            execution = states.start_execution(stateMachineArn=machine)["executionArn"]

            def ended() -> dict[str, Any] | None:
                found = states.describe_execution(executionArn=execution)
                return found if found["status"] != "RUNNING" else None

            found = account.poll(ended, 60)
            return f"{found['status']} {found.get('error', '')} {found.get('cause', '')}".strip() if found else "RUNNING"

        # A new role is not known at once, and what it may a little later: it is given a minute.
        outcome = run()
        until = account.clock() + (0 if account.is_local else 60)
        while outcome != "SUCCEEDED" and account.clock() < until:
            account.sleep(5)
            outcome = run()
        outcomes[what] = outcome
    works, elsewhere = (outcomes[what] == "SUCCEEDED" for what in ("own", "elsewhere"))
    return judged(works, elsewhere, **outcomes)


@question(
    "source-account-events",
    asked="Does EventBridge send `aws:SourceAccount` where it assumes a rule's role?",
    matters="Without it no event of a target account reaches the hub.",
    believes="it does",
    places=(Place("policies/target-events-trust.json", '"aws:SourceAccount": "__ACCOUNT_ID__"'),),
    how="A rule that sends to a bus of the run by a role with that trust, and one whose role trusts for another account; a queue behind the bus.",
    minutes=5,
)
def source_account_events(account: Account) -> Answer:
    """Sends an event by each role."""
    events = account.client("events")
    bus = account.name("trusts")
    bus_arn = events.create_event_bus(Name=bus, Tags=account.tag_list())["EventBusArn"]
    url, queue_arn = supplies.queue(account, "trusts")
    every = json.dumps({"source": [account.name("trusts")]})
    events.put_rule(Name=account.name("trusts"), EventBusName=bus, EventPattern=every, Tags=account.tag_list())
    events.put_targets(Rule=account.name("trusts"), EventBusName=bus, Targets=[{"Id": "queue", "Arn": queue_arn}])
    for what, whose in (("own", account.id), ("elsewhere", ELSEWHERE)):
        role = account.role(f"events-{what}", [allow("events:PutEvents", bus_arn)], trusting(account, "events.amazonaws.com", whose))
        rule = account.name(f"events-{what}")
        pattern = json.dumps({"source": [account.name("trusts")], "detail-type": [what]})
        events.put_rule(Name=rule, EventPattern=pattern, Tags=account.tag_list())

        def target(rule: str = rule, role: str = role) -> bool | None:
            # EventBridge looks at the role at once, and IAM tells of a new one some seconds later.
            return not refusal(lambda: events.put_targets(Rule=rule, Targets=[{"Id": "bus", "Arn": bus_arn, "RoleArn": role}])) or None

        account.poll(target, 60, pause=5)
    arrived: set[str] = set()

    def ask() -> bool | None:
        entries = [{"Source": account.name("trusts"), "DetailType": what, "Detail": "{}"} for what in ("own", "elsewhere")]
        events.put_events(Entries=entries)
        for _ in range(1 if account.is_local else 4):
            account.sleep(0 if account.is_local else 3)
            for message in account.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                arrived.add(json.loads(message["Body"])["detail-type"])
        return "own" in arrived or None

    account.poll(ask, 180, pause=5)
    ask()  # once more: the other one has had the same chance
    return judged("own" in arrived, "elsewhere" in arrived, arrived=sorted(arrived))


@question(
    "source-account-tasks",
    asked="Does ECS send `aws:SourceAccount` where it assumes a task's execution role?",
    matters="Without it no task of the sandbox starts.",
    believes="it does",
    places=(Place("policies/sandbox-execution-trust.json", '"aws:SourceAccount": "__ACCOUNT_ID__"'),),
    how="A task on Fargate that writes a log by an execution role with that trust, and one whose role trusts for another account.",
    minutes=6,
    cents=1,
)
def source_account_tasks(account: Account) -> Answer:
    """Runs a task as each role."""
    ecs = account.client("ecs")
    group = f"/ecs-updater-prove/{account.name('tasks')}"
    account.client("logs").create_log_group(logGroupName=group, tags=account.tags)
    log = {"logDriver": "awslogs", "options": {"awslogs-group": group, "awslogs-region": account.region, "awslogs-stream-prefix": "task"}}
    outcomes: dict[str, str] = {}
    for what, whose in (("own", account.id), ("elsewhere", ELSEWHERE)):
        rights = [allow(["logs:CreateLogStream", "logs:PutLogEvents"], account.arn("logs", f"log-group:{group}:*"))]
        role = account.role(f"tasks-{what}", rights, trusting(account, "ecs-tasks.amazonaws.com", whose))
        container = {"logConfiguration": log, "command": ["true"]}
        arn = supplies.definition(account, f"tasks-{what}", container=container, executionRoleArn=role)
        account.sleep(0 if account.is_local else 15)
        request = {"cluster": supplies.cluster(account), "taskDefinition": arn, "launchType": "FARGATE", "tags": account.tag_list("key", "value")}
        started: dict[str, Any] = {}
        error = refusal(lambda: started.update(ecs.run_task(**request, networkConfiguration=supplies.network(account))))  # noqa: B023
        if error or not started["tasks"]:
            outcomes[what] = said(error) if error else json.dumps(started["failures"], default=str)
            continue
        task = started["tasks"][0]["taskArn"]

        def ended(task: str = task) -> dict[str, Any] | None:
            found = ecs.describe_tasks(cluster=supplies.cluster(account), tasks=[task])["tasks"]
            return found[0] if found and found[0]["lastStatus"] == "STOPPED" else None

        found = account.poll(ended, 150, pause=5, local=0)
        outcomes[what] = f"{found.get('stopCode', '')}: {found.get('stoppedReason', '')}" if found else "it never ended"
    if account.is_local:
        raise NotHere("tasks do not run here", **outcomes)
    ran = {what: outcome.startswith("EssentialContainerExited") for what, outcome in outcomes.items()}
    return judged(ran["own"], ran["elsewhere"], **outcomes)


# ---- signatures ------------------------------------------------------------------------------------------------------


class SignedAt(SigV4QueryAuth):
    """A signature of another time than now, as SigV4Auth.add_auth makes one of now."""

    def __init__(self, at: datetime, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._at = at

    def add_auth(self, request: AWSRequest) -> None:
        """Signs the request."""
        request.context["timestamp"] = self._at.strftime("%Y%m%dT%H%M%SZ")
        self._modify_request_before_signing(request)
        to_sign = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(to_sign, request))


def presigned(account: Account, age: int, expires: int) -> str:
    """Signs a GetCallerIdentity for `expires` seconds, as if `age` seconds ago; its URL."""
    endpoint = account.endpoint or f"https://sts.{account.region}.{account.suffix}"
    request = AWSRequest("GET", f"{endpoint}/?Action=GetCallerIdentity&Version=2011-06-15")
    held = account.session.get_credentials().get_frozen_credentials()
    at = datetime.now(UTC) - timedelta(seconds=age)
    SignedAt(at, held, "sts", account.region, expires=expires).add_auth(request)
    return str(request.url)


@question(
    "presigned-expiry",
    asked="Which expiry does a presigned GetCallerIdentity take, and for how long does STS take it?",
    matters="A proof of who calls may be used by whoever reads it for as long as STS takes it.",
    believes="nothing yet: callers of the function are claimed, or known by the API door. A proof would be kept no longer than the 15 minutes "
    "that STS gives any signature, whatever X-Amz-Expires says",
    places=(Place("docs/THREAT-MODEL.md", "A claimed name is only a claim"),),
    how="Signed now and in the past (the date is part of the signature), for a minute to a week.",
)
def presigned_expiry(account: Account) -> Answer:
    """Asks with signatures of several ages."""
    pool = urllib3.PoolManager(retries=False)
    outcomes = {}
    for age, expires in ((0, 60), (0, 900), (0, 3600), (0, 604800), (120, 60), (600, 60), (840, 900), (960, 900), (960, 3600), (7200, 604800)):
        answer = pool.request("GET", presigned(account, age, expires), headers={"Accept": "application/json"}, timeout=30)
        body = answer.data.decode(errors="replace")
        outcomes[f"{age} s old, for {expires} s"] = f"{answer.status}" + ("" if answer.status == 200 else f" {body[:200]}")
    taken = [what for what, outcome in outcomes.items() if outcome.startswith("200")]
    too_old = [what for what in taken if int(what.split()[0]) > 900]
    text = f"taken: {', '.join(taken) or 'none'}"
    if not any(what.startswith("0 ") for what in taken):
        return other(text, **outcomes)
    if too_old:
        return other(f"{text}; older than 15 minutes are {', '.join(too_old)}", kinder=True, **outcomes)
    return believed(text, **outcomes)


