"""Questions about deployments that run tasks, or that ECS does in a way of its own."""

from __future__ import annotations

from typing import Any

import supplies
from account import Account, refusal, said
from question import Answer, NotHere, Place, believed, other, question

MISSING = f"{supplies.IMAGE.rsplit(':', 1)[0]}:there-is-no-such-tag"
EVENT = "crates/domain/src/ecs/deployment/event.rs"


def ended(account: Account, name: str, seconds: float) -> dict[str, Any] | None:
    """The newest service deployment of a service, once it has ended."""
    under_way = ("PENDING", "IN_PROGRESS", "STOP_REQUESTED", "ROLLBACK_REQUESTED", "ROLLBACK_IN_PROGRESS", "AWAITING_ACTION")

    def look() -> dict[str, Any] | None:
        newest = supplies.deployments_of(account, name)[0]
        return newest if newest["status"] not in under_way else None

    return account.poll(look, seconds, pause=5)


@question(
    "rollback-ids",
    asked="Which id has the deployment of a rollback, and what do its events say?",
    matters="By the id the recorder knows what was rolled back, and that it was.",
    believes="the id of the deployment that it goes back to, or a new one; its event says \"rolling back to\"",
    places=(
        Place("docs/PROTOCOL.md", "a rollback uses the id of the deployment it goes back to; a new id works as well"),
        Place("crates/domain/src/ecs/deployment/listed.rs", 'reason.contains("rolling back to")'),
    ),
    how="A service with a running task and a circuit breaker that rolls back gets a revision whose image does not exist.",
    minutes=25,
    cents=2,
)
def rollback_ids(account: Account) -> Answer:
    """Deploys what fails."""
    events = supplies.ecs_events(account)
    configuration = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}, "minimumHealthyPercent": 100, "maximumPercent": 200}
    name = supplies.service(account, "rollback", desiredCount=1, deploymentConfiguration=configuration)["serviceName"]
    supplies.first_deployment(account, name)
    supplies.running(account, name)
    first = supplies.described(account, name)["deployments"][0]["id"]
    # A task that runs, if only for a moment, brings the circuit breaker to its second stage, where health checks count.
    broken = supplies.definition(account, "rollback", container={"image": MISSING})
    answer = supplies.update(account, name, taskDefinition=broken)
    failed = next(each["id"] for each in answer["deployments"] if each["status"] == "PRIMARY")
    seen: dict[str, dict[str, Any]] = {}

    def rolled_back() -> dict[str, Any] | None:
        now = supplies.described(account, name)
        for each in now["deployments"]:
            seen[each["id"]] = each
        primary = next(each for each in now["deployments"] if each["status"] == "PRIMARY")
        return primary if primary["id"] != failed else None

    primary = account.wait(rolled_back, 18 * 60, "the deployment was not rolled back in time", pause=5)
    ended(account, name, 180)
    account.sleep(15)
    heard = [supplies.told(event) for event in events.of(name)]
    its = [event for event in heard if "rolling back to" in str(event.get("reason", ""))]
    which = "that of the deployment it goes back to" if primary["id"] == first else "a new one"
    facts = {"first": first, "failed": failed, "rollback": primary["id"], "seen": list(seen.values()), "events": heard,
             "service_deployment": supplies.deployments_of(account, name)[0]}
    text = f"its id is {which}; {len(its)} of {len(heard)} events say \"rolling back to\", of deployment {[event['deploymentId'] for event in its]}"
    if its and all(event.get("deploymentId") == primary["id"] for event in its):
        return believed(text, **facts)
    return other(text, **facts)


@question(
    "stop-rollback",
    asked="What becomes of a deployment that StopServiceDeployment rolls back: its statuses, its events, its reasons?",
    matters="A change that somebody stops must not be told as completed.",
    believes="its service deployment ends as ROLLBACK_SUCCESSFUL, and ECS tells no SERVICE_DEPLOYMENT_COMPLETED of it",
    places=(Place("crates/domain/src/ecs/deployment/service_deployment.rs", '"ROLLBACK_SUCCESSFUL" => DeploymentProgress::Ended(Kind::RolledBack)'),),
    how="A service with a running task gets a revision whose image does not exist; StopServiceDeployment with ROLLBACK.",
    minutes=15,
    cents=1,
)
def stop_rollback(account: Account) -> Answer:
    """Stops what cannot come up."""
    events = supplies.ecs_events(account)
    name = supplies.service(account, "stopped", desiredCount=1)["serviceName"]
    supplies.first_deployment(account, name)
    supplies.running(account, name)
    missing = supplies.definition(account, "stopped", container={"image": MISSING})
    answer = supplies.update(account, name, taskDefinition=missing)
    failed = next(each["id"] for each in answer["deployments"] if each["status"] == "PRIMARY")

    def new() -> str | None:
        newest = supplies.deployments_of(account, name)[0]
        return newest["serviceDeploymentArn"] if newest["status"] == "IN_PROGRESS" else None

    arn = account.wait(new, 60, "the deployment never began")
    account.client("ecs").stop_service_deployment(serviceDeploymentArn=arn, stopType="ROLLBACK")
    last = ended(account, name, 480)
    account.sleep(15)
    heard = [supplies.told(event) for event in events.of(name)]
    known = account.client("ecs").describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"]
    facts = {"failed": failed, "events": heard, "service_deployment": known, "deployments": supplies.described(account, name)["deployments"]}
    completed = [event for event in heard if event.get("eventName") == "SERVICE_DEPLOYMENT_COMPLETED" and event.get("deploymentId") == failed]
    status = (last or {}).get("status")
    text = f"it ended as {status}; of the stopped deployment {len(completed)} events say COMPLETED"
    return believed(text, **facts) if status == "ROLLBACK_SUCCESSFUL" and not completed else other(text, **facts)


@question(
    "blue-green-events",
    asked="Which events does a blue/green deployment send?",
    matters="If they tell its end as those of rolling deployments do, the recorder need not wait for the sweep.",
    believes="not known: the end of such a deployment is asked for by the sweep; an event that has one of the three known names has the id of the "
    "deployment",
    places=(
        Place("crates/domain/src/ecs/deployment/listed.rs", "For blue/green, linear and canary deployments, that is not documented."),
        Place(EVENT, '"SERVICE_DEPLOYMENT_COMPLETED" => DeploymentEventKind::Completed'),
    ),
    how="A service without a load balancer and with the strategy BLUE_GREEN, deployed twice; all of ECS's events about it.",
    minutes=20,
    cents=1,
)
def blue_green_events(account: Account) -> Answer:
    """Deploys blue and green."""
    events = supplies.ecs_events(account)
    configuration = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0}
    name = supplies.service(account, "blue-green", desiredCount=1, deploymentConfiguration=configuration)["serviceName"]
    supplies.first_deployment(account, name)
    supplies.running(account, name)
    answer = supplies.update(account, name, forceNewDeployment=True)
    ids = [each["id"] for each in answer["deployments"]]
    account.sleep(10)
    last = ended(account, name, 600)
    account.sleep(20)
    heard = [supplies.told(event) for event in events.of(name)]
    names = [f"{event['detail-type']}: {event.get('eventName')}" for event in heard]
    status = (last or {}).get("status")
    facts = {"events": heard, "ids": ids, "service_deployment": last}
    known = [event for event in heard if str(event.get("eventName", "")).startswith("SERVICE_DEPLOYMENT_")]
    if any(not event.get("deploymentId") for event in known):
        return other(f"events without deploymentId: {names}", **facts)
    return believed(f"it ended as {status}; events: {names or 'none'}", **facts)


@question(
    "rollout-state-clb",
    asked="Has the deployment of a service behind a Classic Load Balancer a rolloutState?",
    matters="Whoever waits for COMPLETED would wait to the end of the time.",
    believes="it has none, and a deployment without one is judged by its service deployment, if there is one",
    places=(Place("crates/domain/src/ecs/deployment/listed.rs", "pub(super) rollout_state: Option<String>"),),
    how="A service of the launch type EC2 without tasks behind a new Classic Load Balancer.",
    minutes=3,
    cents=3,
)
def rollout_state_clb(account: Account) -> Answer:
    """Makes a balancer and a service behind it."""
    elb, name = account.client("elb"), account.name("clb")
    subnets = supplies.network(account)["awsvpcConfiguration"]["subnets"]
    listener = {"Protocol": "TCP", "LoadBalancerPort": 80, "InstancePort": 80, "InstanceProtocol": "TCP"}
    error = refusal(lambda: elb.create_load_balancer(LoadBalancerName=name, Listeners=[listener], Subnets=subnets[:1], Tags=account.tag_list()))
    if error:
        raise NotHere(f"no Classic Load Balancer can be made here: {said(error)}")
    container = {"name": "main", "image": supplies.IMAGE, "memory": 64, "portMappings": [{"containerPort": 80, "hostPort": 80}]}
    ecs = account.client("ecs")
    definition = ecs.register_task_definition(
        family=account.name("clb"), containerDefinitions=[container], requiresCompatibilities=["EC2"], tags=account.tag_list("key", "value")
    )["taskDefinition"]["taskDefinitionArn"]
    made = ecs.create_service(
        cluster=supplies.cluster(account), serviceName=account.name("clb"), taskDefinition=definition, desiredCount=0, launchType="EC2",
        loadBalancers=[{"loadBalancerName": name, "containerName": "main", "containerPort": 80}], tags=account.tag_list("key", "value"),
    )["service"]
    account.sleep(0 if account.is_local else 20)
    now = supplies.described(account, made["serviceName"])
    state = now["deployments"][0].get("rolloutState")
    facts = {"deployments": now["deployments"], "currentServiceDeployment": now.get("currentServiceDeployment")}
    if state is not None:
        return other(f"its rolloutState is {state}", **facts)
    return believed(f"it has none; its service deployment is {'named' if facts['currentServiceDeployment'] else 'not named'}", **facts)


@question(
    "express",
    asked="How does DescribeServices show an Express service, and what does UpdateService of it answer?",
    matters="A change of one has to be made by what AWS asks for, or refused by name before anything is done.",
    believes="it has no task definition of its own, its PRIMARY deployment has one, and its resourceManagementType is ECS; what UpdateService takes "
    "of it is not known",
    places=(Place("crates/domain/src/ecs/service.rs", "pub struct Service"),),
    how="CreateExpressGatewayService, DescribeServices, RegisterTaskDefinition and UpdateService with the revision and with a count.",
    minutes=20,
    cents=10,
)
def express(account: Account) -> Answer:
    """Makes an Express service, and tries to update it."""
    ecs = account.client("ecs")
    roles = {}
    for what, service, policy in (
        ("execution", "ecs-tasks.amazonaws.com", "service-role/AmazonECSTaskExecutionRolePolicy"),
        ("infrastructure", "ecs.amazonaws.com", "service-role/AmazonECSInfrastructureRoleforExpressGatewayServices"),
    ):
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        roles[what] = account.role(f"express-{what}", [], [trust])
        if not account.is_local:
            account.client("iam").attach_role_policy(
                RoleName=account.name(f"express-{what}"), PolicyArn=f"arn:{account.partition}:iam::aws:policy/{policy}"
            )
    account.sleep(0 if account.is_local else 20)
    made = ecs.create_express_gateway_service(
        serviceName=account.name("express"), cluster=supplies.cluster(account), executionRoleArn=roles["execution"],
        infrastructureRoleArn=roles["infrastructure"], primaryContainer={"image": "public.ecr.aws/nginx/nginx:stable", "containerPort": 80},
        cpu="256", memory="512", healthCheckPath="/", tags=account.tag_list("key", "value"),
    )["service"]
    name = made["serviceName"]

    def has_deployment() -> dict[str, Any] | None:
        now = supplies.described(account, name)
        return now if any(each.get("taskDefinition") for each in now.get("deployments", [])) else None

    before = account.wait(has_deployment, 420, "the Express service never had a deployment with a task definition", pause=5)
    primary = next(each for each in before["deployments"] if each["status"] == "PRIMARY")
    model = ecs.describe_task_definition(taskDefinition=primary["taskDefinition"])["taskDefinition"]
    copied = ("containerDefinitions", "executionRoleArn", "networkMode", "cpu", "memory", "requiresCompatibilities", "runtimePlatform")
    copy = {member: model[member] for member in copied if member in model}
    new = ecs.register_task_definition(family=account.name("express"), tags=account.tag_list("key", "value"), **copy)["taskDefinition"]
    errors = {
        "UpdateService with a revision": refusal(lambda: supplies.update(account, name, taskDefinition=new["taskDefinitionArn"])),
        "UpdateService with a count": refusal(lambda: supplies.update(account, name, desiredCount=1)),
        "TagResource": refusal(lambda: ecs.tag_resource(resourceArn=before["serviceArn"], tags=[{"key": "asked", "value": "yes"}])),
    }
    shown = ("taskDefinition", "resourceManagementType", "currentServiceDeployment", "deploymentConfiguration")
    facts = {what: said(error) if error else "done" for what, error in errors.items()} | {
        "service": {member: before.get(member) for member in shown},
        "primary": primary,
        "after": supplies.described(account, name).get("deployments"),
    }
    text = "; ".join(f"{what}: {facts[what]}" for what in errors)
    if before.get("taskDefinition") or before.get("resourceManagementType") != "ECS":
        return other(f"taskDefinition {before.get('taskDefinition')}, resourceManagementType {before.get('resourceManagementType')}; {text}", **facts)
    return believed(text, **facts)
