"""Questions about ECS services, none of which runs a task."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import supplies
from account import Account, refusal, said
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from question import Answer, NotHere, Place, believed, other, question

CONFIGURATION = "crates/domain/src/plan/deployment_configuration.rs"


@question(
    "merge",
    asked="Does UpdateService merge `deploymentConfiguration`, so that a member which is not named stays, or replace it?",
    matters="A restore that does not send a member's off form would leave a bad rollback alarm on.",
    believes="it merges",
    places=(Place(CONFIGURATION, "the one parameter that `UpdateService` merges: a member that is not named stays as it is"),),
    how="A service with a circuit breaker gets another maximumPercent alone.",
)
def merge(account: Account) -> Answer:
    """Names one member of three."""
    had = {"maximumPercent": 150, "minimumHealthyPercent": 50, "deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    name = supplies.service(account, "merge", deploymentConfiguration=had)["serviceName"]
    has = supplies.update(account, name, deploymentConfiguration={"maximumPercent": 180})["deploymentConfiguration"]
    breaker = has.get("deploymentCircuitBreaker") or {}
    stayed = [breaker.get("enable"), breaker.get("rollback"), has.get("minimumHealthyPercent")] == [True, True, 50]
    if stayed and has.get("maximumPercent") == 180:
        return believed("what was not named stayed", before=had, after=has)
    return other(f"it became {json.dumps(has)}", before=had, after=has)


OFF: dict[str, Any] = {
    "deploymentCircuitBreaker": {"enable": False, "rollback": False},
    "alarms": {"alarmNames": [], "enable": False, "rollback": False},
    "lifecycleHooks": [],
    "strategy": "ROLLING",
    "bakeTimeInMinutes": 0,
    "earlySuccessCriteria": {"enable": False},
}


@question(
    "off-forms",
    asked="Does UpdateService take the form by which each member of `deploymentConfiguration` is switched off?",
    matters="A restore sends these for what a service did not have before; one that is refused refuses the whole restore.",
    believes="it takes each of them, for a service that has the member and for one that never had it",
    places=tuple(Place(CONFIGURATION, f'"{member}" => Some(') for member in OFF),
    how="One UpdateService for each form.",
)
def off_forms(account: Account) -> Answer:
    """Sends each form by itself."""
    had = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    name = supplies.service(account, "off-forms", deploymentConfiguration=had)["serviceName"]
    refused, after = {}, {}
    for member, form in OFF.items():
        error = refusal(lambda: after.update(supplies.update(account, name, deploymentConfiguration={member: form})))  # noqa: B023
        if error:
            refused[member] = said(error)
    has = after.get("deploymentConfiguration", {})
    if refused:
        return other(f"refused: {json.dumps(refused)}", refused=refused, after=has)
    if (has.get("deploymentCircuitBreaker") or {}).get("enable"):
        return other("the circuit breaker stays on", after=has)
    return believed("each is taken, and the circuit breaker is off", after=has)


@question(
    "bake-default",
    asked="Which bake time and which strategy has a rolling service that never named any?",
    matters="With another default than 0 a restore would never be UNCHANGED, and would send 0 where nobody asked for it. CloudFormation's page "
    "says 180 for bakeTimeInMinutes, ecspresso 0.",
    believes="ROLLING and 0, or neither is shown",
    places=(Place(CONFIGURATION, '"bakeTimeInMinutes" => Some(0.into())'),),
    how="A service without deploymentConfiguration, and one that names the strategy ROLLING alone, described.",
)
def bake_default(account: Account) -> Answer:
    """Reads what ECS has filled in."""
    silent = supplies.service(account, "bake-silent")["serviceName"]
    rolling = supplies.service(account, "bake-rolling", deploymentConfiguration={"strategy": "ROLLING"})["serviceName"]
    has = {name: supplies.described(account, name).get("deploymentConfiguration", {}) for name in (silent, rolling)}
    shown = {name: (one.get("strategy", "ROLLING"), one.get("bakeTimeInMinutes", 0)) for name, one in has.items()}
    facts = {"named_nothing": has[silent], "named_rolling": has[rolling]}
    if set(shown.values()) == {("ROLLING", 0)}:
        return believed(f"without a word: {json.dumps(has[silent])}", **facts)
    return other(f"without a word: {json.dumps(has[silent])}; with ROLLING: {json.dumps(has[rolling])}", **facts)


@question(
    "monitoring",
    asked="Does UpdateService with `monitoring` alone start a deployment?",
    matters="Then a change of it alone has to be followed to its end, and undone like one.",
    believes="it may: as after every UpdateService, the deployment that ECS shows then is followed",
    places=(Place("crates/domain/src/ecs/service.rs", 'pub const IN_REVISION: [&str; 2] = ["monitoring", "gatewayConnectors"]'),),
    how="The deployments and service deployments of a service before and after; and whether its service revision shows it.",
    minutes=3,
)
def monitoring(account: Account) -> Answer:
    """Counts deployments."""
    name = supplies.service(account, "monitoring")["serviceName"]
    supplies.first_deployment(account, name)
    before = supplies.described(account, name)
    wanted = {"metricConfigurations": [{"metricNames": ["CPUUtilization"], "resolutionSeconds": 20}]}
    answer = supplies.update(account, name, monitoring=wanted)
    account.sleep(20)
    after = supplies.described(account, name)
    ids = [[deployment["id"] for deployment in each["deployments"]] for each in (before, after)]
    count = len(supplies.deployments_of(account, name))
    revision = (after.get("currentServiceRevisions") or [{}])[0].get("arn")
    shown = account.client("ecs").describe_service_revisions(serviceRevisionArns=[revision])["serviceRevisions"] if revision else []
    facts = {"before": ids[0], "after": ids[1], "service_deployments": count, "answer": answer["deployments"], "revision": shown}
    is_new = not set(ids[1]) <= set(ids[0])
    if is_new and shown and "monitoring" not in shown[0]:
        return other("it starts a deployment whose service revision does not show it", **facts)
    return believed(f"it starts {'a' if is_new else 'no'} deployment; ECS lists {count} service deployments", **facts)


@question(
    "named-deployment",
    asked="Which service deployment does UpdateService's answer name (`currentServiceDeployment`), and when does ECS name the new one?",
    matters="By it a change knows which service deployment is its own.",
    believes="the new one, the one before, or none; and within 10 seconds ECS names and lists one that was not created before the call, whose "
    "revision has the number of the deployment's id",
    places=(
        Place("docs/PROTOCOL.md", "It is the one that ECS named (`currentServiceDeployment`) when the deployment began"),
        Place("src/recorder/events.rs", "const LISTED: chrono::Duration = chrono::Duration::seconds(10)"),
    ),
    how="forceNewDeployment on a service without tasks, then DescribeServices and ListServiceDeployments every half second.",
    minutes=3,
)
def named_deployment(account: Account) -> Answer:
    """Measures when it is named, and when listed."""
    name = supplies.service(account, "named")["serviceName"]
    first = supplies.first_deployment(account, name)["serviceDeploymentArn"]
    account.sleep(10)
    before = supplies.described(account, name).get("currentServiceDeployment")
    begun = account.clock()
    answer = supplies.update(account, name, forceNewDeployment=True)
    at_once = answer.get("currentServiceDeployment")
    primary = next(each["id"] for each in answer["deployments"] if each["status"] == "PRIMARY")

    def named() -> str | None:
        arn = supplies.described(account, name).get("currentServiceDeployment")
        return arn if arn not in (None, before, first) else None

    def listed() -> dict[str, Any] | None:
        return next((each for each in supplies.deployments_of(account, name) if each["serviceDeploymentArn"] != first), None)

    new = account.poll(named, 60, pause=0.5)
    named_after = account.clock() - begun
    entry = account.poll(listed, 60, pause=0.5)
    listed_after = account.clock() - begun
    what = "none" if at_once is None else "the one before" if at_once in (before, first) else "the new one"
    number = str((entry or {}).get("targetServiceRevisionArn", "")).rsplit("/", 1)[-1]
    facts = {
        "before": before, "answered": at_once, "named": new, "named_after_seconds": round(named_after, 1), "listed": entry,
        "listed_after_seconds": round(listed_after, 1), "deployment_id": primary,
    }
    text = f"the answer names {what}; named after {named_after:.1f} s ({new is not None}), listed after {listed_after:.1f} s ({entry is not None})"
    same = primary.rsplit("/", 1)[-1] == number
    text += f"; the id {primary} and the revision {number} have {'the same number' if same else 'different numbers'}"
    if new and entry and named_after <= 10 and listed_after <= 10 and same and at_once in (None, before, first, new):
        return believed(text, **facts)
    return other(text, **facts)


@question(
    "old-arn-tags",
    asked="Does ECS refuse tags on a service by an ARN of the old form?",
    matters="The image would be deployed, and the change fail at its tags. So it has to be refused before anything is done.",
    believes="it refuses: tags are for ARNs of the new form alone",
    places=(Place("docs/IAM.md", "| `ByItsOldArn` | `ecs:UpdateService` |"), Place("policies/session.json", '"Sid": "ByItsOldArn"')),
    how="TagResource on the ARN of a service, written without its cluster.",
)
def old_arn_tags(account: Account) -> Answer:
    """Leaves the cluster out of an ARN."""
    made = supplies.service(account, "old-arn")
    old = account.arn("ecs", f"service/{made['serviceName']}")
    tag = [{"key": "asked", "value": "yes"}]
    error = refusal(lambda: account.client("ecs").tag_resource(resourceArn=old, tags=tag))
    if error is None:
        return other("tags are taken by an ARN of the old form", kinder=True)
    return believed(said(error), refusal=said(error))


@question(
    "late-update",
    asked="Can UpdateService act later than 65 seconds after it was sent, when nobody waited for its answer?",
    matters="It would undo the change after it, and the ledger would say otherwise than the service.",
    believes="it acts within 65 seconds, or never",
    places=(Place("docs/RELIABILITY.md", "later than 65 seconds after it was sent"),),
    how="20 signed requests whose connection is cut as soon as they are written, each with a maximumPercent of its own, and a look every half "
    "second until 90 seconds after the last: none may come after a later one. It can show that ECS acts late, never that it cannot.",
    minutes=4,
)
def late_update(account: Account) -> Answer:
    """Cuts connections, and looks what became of the requests."""
    name = supplies.service(account, "late")["serviceName"]
    many, gap, after = (5, 0.2, 2.0) if account.is_local else (20, 3.0, 90.0)
    sent: dict[int, float] = {}
    seen: dict[int, float] = {}
    order: list[int] = []

    def look(seconds: float) -> None:
        until = account.clock() + seconds
        while account.clock() < until:
            percent = supplies.described(account, name)["deploymentConfiguration"].get("maximumPercent", 0)
            if percent in sent and (not order or order[-1] != percent):
                order.append(percent)
                seen.setdefault(percent, account.clock() - sent[percent])
            account.sleep(0.5)

    for index in range(many):
        percent = 201 + index
        cut_off(account, {"cluster": supplies.cluster(account), "service": name, "deploymentConfiguration": {"maximumPercent": percent}})
        sent[percent] = account.clock()
        look(gap)
    look(after)
    facts = {"sent": len(sent), "acted": len(seen), "slowest_seconds": round(max(seen.values(), default=0), 1), "order": order}
    text = f"{len(seen)} of {len(sent)} acted, the slowest was seen {max(seen.values(), default=0):.1f} s after it was sent"
    if not seen:
        raise NotHere("no request whose connection was cut acted at all", **facts)
    if order != sorted(order):
        return other(f"{text}; one acted after a later one: {order}", **facts)
    return believed(text, **facts) if max(seen.values()) <= 65 else other(text, **facts)


def cut_off(account: Account, body: dict[str, Any]) -> None:
    """Sends UpdateService, and goes away before the answer."""
    client = account.client("ecs")
    url = client.meta.endpoint_url
    text = json.dumps(body)
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.UpdateService",
        "Host": urlsplit(url).netloc,
    }
    request = AWSRequest("POST", f"{url}/", data=text, headers=headers)
    SigV4Auth(account.session.get_credentials().get_frozen_credentials(), "ecs", account.region).add_auth(request)
    where = urlsplit(url)
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = kind(where.netloc, timeout=10)
    try:
        connection.request("POST", "/", body=text, headers=dict(request.headers))
    finally:
        connection.close()
