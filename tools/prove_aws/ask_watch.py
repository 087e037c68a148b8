"""Questions about metrics: how late they come, and under which dimensions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import supplies
from account import Account
from question import Answer, NotHere, Place, believed, other, question

HUB = "infrastructure/cloudformation/hub.yaml"


def datum(account: Account, namespace: str, metric: str, dimensions: dict[str, str], statistic: str) -> dict[str, Any] | None:
    """A datum of a metric that is more than 0, of the last half hour."""
    now = datetime.now(UTC)
    answer = account.client("cloudwatch").get_metric_statistics(
        Namespace=namespace, MetricName=metric, Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        StartTime=now - timedelta(minutes=40), EndTime=now + timedelta(minutes=5), Period=60, Statistics=[statistic],
    )
    return next((point for point in answer["Datapoints"] if point[statistic] > 0), None)


@question(
    "metrics-late",
    asked="How late do the metrics come that alarms look at, and with which time?",
    matters="An alarm whose window is shorter than its metric is late never rings.",
    believes="within a quarter of an hour, that of a queue which nobody used before too; Lambda dates its own by the invocation's beginning",
    places=(Place(HUB, "Metrics come late: Lambda dates its own at the invocation's start, and others may need a quarter of an hour."),),
    how="A function that fails once, a message in a new queue, and a look at CloudWatch every ten seconds.",
    minutes=32,
)
def metrics_late(account: Account) -> Answer:
    """Fails, sends, and waits for both metrics."""
    function = supplies.echo(account)
    url, _ = supplies.queue(account, "late")
    account.client("sqs").send_message(QueueUrl=url, MessageBody="late")
    begun, at = account.clock(), datetime.now(UTC)
    account.client("lambda").invoke(FunctionName=function, Payload=b'{"fail": true}')
    visible, queue = "ApproximateNumberOfMessagesVisible", {"QueueName": account.name("late")}
    wanted = {
        "AWS/Lambda Errors": ("AWS/Lambda", "Errors", {"FunctionName": account.name("echo")}, "Sum"),
        f"AWS/SQS {visible}": ("AWS/SQS", visible, queue, "Maximum"),
    }
    came: dict[str, float] = {}
    dated: dict[str, datetime] = {}

    def look() -> bool | None:
        for what, (namespace, metric, dimensions, statistic) in wanted.items():
            if what not in came and (found := datum(account, namespace, metric, dimensions, statistic)):
                came[what] = round(account.clock() - begun, 1)
                dated[what] = found["Timestamp"]
        return len(came) == len(wanted) or None

    account.poll(look, 30 * 60, pause=10, local=2)
    missing = sorted(set(wanted) - set(came))
    text = "; ".join(f"{what} after {seconds / 60:.1f} minutes" for what, seconds in came.items())
    facts = {"came_after_seconds": came, "dated": dated, "invoked": at, "missing": missing}
    if missing and account.is_local:
        raise NotHere(f"no metric {', '.join(missing)} here; {text}", **facts)
    if missing or max(came.values()) > 15 * 60:
        return other(f"{text}{'; never: ' if missing else ''}{', '.join(missing)}", **facts)
    return believed(text, **facts)


@question(
    "rule-dimensions",
    asked="Which dimensions have the metrics of a rule that cannot deliver: on the default bus, and on another?",
    matters="An alarm on other dimensions never rings, and lost events are noticed by nobody.",
    believes="RuleName alone on the default bus; EventBusName and RuleName on another",
    places=(
        Place(HUB, "- {Name: EventBusName, Value: !Ref EventBus} - {Name: RuleName, Value: !Select [2, !Split"),
        Place(HUB, "- {Name: RuleName, Value: !Ref SweepRule}"),
    ),
    how="Rules on both buses whose queue refuses them, with and without a queue for dead letters that refuses them too; ListMetrics until both show.",
    minutes=35,
)
def rule_dimensions(account: Account) -> Answer:
    """Fails to deliver on two buses."""
    events, cloudwatch = account.client("events"), account.client("cloudwatch")
    bus = account.name("dimensions")
    events.create_event_bus(Name=bus, Tags=account.tag_list())
    url, closed = supplies.queue(account, "closed", {"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"})
    # On the default bus, a rule that nobody else's events reach.
    source = account.name("dimensions")
    names = {}
    for where in ("default", bus):
        for what, letters in (("plain", None), ("letters", {"Arn": closed})):
            name = account.name(f"{'default' if where == 'default' else 'bus'}-{what}")
            names[name] = (where, what)
            events.put_rule(Name=name, EventBusName=where, EventPattern=json.dumps({"source": [source]}), Tags=account.tag_list())
            target = {"Id": "closed", "Arn": closed, "RetryPolicy": {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}}
            events.put_targets(Rule=name, EventBusName=where, Targets=[{**target, **({"DeadLetterConfig": letters} if letters else {})}])
    account.sleep(0 if account.is_local else 30)
    metrics = {"plain": "FailedInvocations", "letters": "InvocationsFailedToBeSentToDlq"}
    found: dict[str, list[list[str]]] = {}

    def send() -> None:
        events.put_events(Entries=[{"Source": source, "DetailType": "lost", "Detail": "{}", "EventBusName": where} for where in ("default", bus)])

    def look() -> bool | None:
        for name, (_, what) in names.items():
            pages = cloudwatch.get_paginator("list_metrics").paginate(
                Namespace="AWS/Events", MetricName=metrics[what], Dimensions=[{"Name": "RuleName", "Value": name}]
            )
            sets = sorted(sorted(each["Name"] for each in metric["Dimensions"]) for page in pages for metric in page["Metrics"])
            if sets:
                found[name] = sets
        return len(found) == len(names) or None

    send()
    account.poll(look, 30 * 60, pause=20)
    shown = {f"{names[name][0] if names[name][0] == 'default' else 'bus'} {metrics[names[name][1]]}": sets for name, sets in found.items()}
    wanted = {"default": ["RuleName"], bus: ["EventBusName", "RuleName"]}
    wrong = [name for name, sets in found.items() if wanted[names[name][0]] not in sets]
    missing = sorted(set(names) - set(found))
    text = json.dumps(shown)
    if wrong:
        return other(text, shown=shown, missing=missing)
    if missing:
        raise NotHere(f"after half an hour: {text}, and nothing of {', '.join(missing)}", shown=shown)
    return believed(text, shown=shown)
