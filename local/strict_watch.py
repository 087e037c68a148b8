"""What strict.py mends of watching: metrics from log lines, alarms, asynchronous failures, events between accounts.

MiniStack's alarms know no metric math, no dimensions and no missing data; its functions write no embedded metrics; its
rules reach no bus of another account, and lose what they cannot deliver. Only what the templates of this project use is
here: one window per alarm (period times evaluation periods), and sums and differences in expressions.
"""

from __future__ import annotations

import contextvars
import json
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import ministack.core.iam_evaluator as evaluator
from ministack.core.arn import parse_arn
from ministack.core.lambda_runtime import execution_credentials
from ministack.core.responses import get_account_id, get_region, set_request_account_id, set_request_region
from ministack.services import cloudwatch, eventbridge, kms, lambda_svc, sns, sqs, stepfunctions
from ministack.services.cloudformation import provisioners

Created = tuple[str, dict[str, str]]
ACCOUNTS = os.environ["LOCAL_AWS_ORGANIZATION_ACCOUNTS"].split(",")
REGION = os.environ["MINISTACK_REGION"]
LOOK_SECONDS = 0.25
# What it takes to be over, in the words of CloudWatch.
OVER: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}


# ---- metrics ---------------------------------------------------------------------------------------------------------


def count_throttles(function: str, duration_ms: float, error: bool, throttle: bool) -> None:
    """Lambda's metrics of an invocation that had no room; those of the others come with their log."""
    if throttle:
        cloudwatch.record_metric("AWS/Lambda", "Throttles", 1, "Count", {"FunctionName": function})


original_logs: Callable[..., None] = lambda_svc._emit_lambda_logs


def emit_logs(func: dict[str, Any], request_id: str, text: str, error: bool, ms: int, **options: Any) -> None:
    """The log of an invocation; with its Lambda metrics, which MiniStack has for synchronous ones only, and with the
    metrics that CloudWatch makes of lines in embedded metric format."""
    original_logs(func, request_id, text, error, ms, **options)
    own = {"FunctionName": func["config"]["FunctionName"]}
    for name, value in (("Invocations", 1), ("Errors", int(error)), ("Duration", ms)):
        cloudwatch.record_metric("AWS/Lambda", name, value, "Count", own)
    for line in text.splitlines():
        if '"_aws"' not in line:
            continue
        entry = json.loads(line)
        for directive in entry["_aws"]["CloudWatchMetrics"]:
            for metric in directive["Metrics"]:
                for dimensions in directive["Dimensions"]:
                    values, name = {each: entry[each] for each in dimensions}, metric["Name"]
                    cloudwatch.record_metric(directive["Namespace"], name, entry[name], "Count", values)


original_execution_status: Callable[..., None] = stepfunctions._emit_execution_status_event


def execution_status(execution: dict[str, Any]) -> None:
    """An execution's new status, as an event and as a metric."""
    original_execution_status(execution)
    names = {"FAILED": "ExecutionsFailed", "TIMED_OUT": "ExecutionsTimedOut", "ABORTED": "ExecutionsAborted"}
    if name := names.get(execution["status"]):
        machine = {"StateMachineArn": execution["stateMachineArn"]}
        cloudwatch.record_metric("AWS/States", name, 1, "Count", machine)


def statistic(namespace: str, name: str, dimensions: list[dict[str, str]], stat: str, seconds: float) -> float | None:
    """A metric over the last `seconds`; None where there is none."""
    named = {dimension["Name"]: dimension["Value"] for dimension in dimensions}
    if (namespace, name) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible"):
        arn = f"arn:aws:sqs:{get_region()}:{get_account_id()}:{named['QueueName']}"
        queue = sqs._queue_by_arn(arn)
        return len(queue["messages"]) if queue else None
    key = (namespace, name, cloudwatch._dims_key(named))
    points = [p for p in list(cloudwatch._metrics.get(key) or []) if p["Timestamp"] >= time.time() - seconds]
    return cloudwatch._stat_value(cloudwatch._calc_stats(points), stat, points) if points else None


# ---- alarms ----------------------------------------------------------------------------------------------------------


original_alarm_put: Callable[..., Created] = provisioners._cw_metric_alarm_put


def alarm_put(name: str, properties: dict[str, Any]) -> Created:
    """An alarm, on metric math too."""
    metrics = properties.get("Metrics")
    if metrics:
        stand_in = {"Namespace": "math", "MetricName": "math", "Statistic": "Sum"}
        properties = {**{key: value for key, value in properties.items() if key != "Metrics"}, **stand_in}
    made = original_alarm_put(name, properties)
    cloudwatch._alarms[name]["Metrics"] = metrics
    return made


def calculated(metrics: list[dict[str, Any]], periods: int) -> float | None:
    """The value of an alarm's expression; None where it has none."""
    values: dict[str, float | None] = {}
    expression = ""
    for metric in metrics:
        if expression_of := metric.get("Expression"):
            expression = expression_of
            continue
        found = metric["MetricStat"]
        what, seconds = found["Metric"], int(found["Period"]) * periods
        dimensions = what.get("Dimensions", [])
        values[metric["Id"]] = statistic(what["Namespace"], what["MetricName"], dimensions, found["Stat"], seconds)
    filled = re.sub(r"FILL\((\w+), 0\)", lambda call: str(values[call[1]] or 0), expression)
    total, sign = 0.0, 1
    for term in filled.split():
        if term in "+-":
            sign = -1 if term == "-" else 1
            continue
        value = values[term] if term in values else float(term)
        if value is None:
            return None
        total += sign * value
    return total


def evaluate_alarm(alarm: dict[str, Any]) -> None:
    """Sets the alarm's state by what its metrics are now, and tells of a new one."""
    periods = int(alarm["EvaluationPeriods"])
    if alarm.get("Metrics"):
        value = calculated(alarm["Metrics"], periods)
    else:
        stat = alarm.get("ExtendedStatistic") or alarm["Statistic"]
        seconds = int(alarm["Period"]) * periods
        value = statistic(alarm["Namespace"], alarm["MetricName"], alarm["Dimensions"], stat, seconds)
    if value is None:
        state = {"breaching": "ALARM", "notBreaching": "OK"}.get(alarm["TreatMissingData"], alarm["StateValue"])
    else:
        state = "ALARM" if OVER[alarm["ComparisonOperator"]](value, alarm["Threshold"]) else "OK"
    old = alarm["StateValue"]
    if state == old:
        return
    reason = f"Threshold Crossed: {value} {alarm['ComparisonOperator']} {alarm['Threshold']}"
    alarm.update(StateValue=state, StateReason=reason, StateUpdatedTimestamp=int(time.time()))
    cloudwatch._record_history(alarm["AlarmName"], old, state, reason)
    cloudwatch._dispatch_alarm_actions(alarm, old, state, reason)
    detail = {"alarmName": alarm["AlarmName"], "state": {"value": state, "reason": reason}}
    event = {
        "Source": "aws.cloudwatch",
        "DetailType": "CloudWatch Alarm State Change",
        "Resources": [alarm["AlarmArn"]],
        "Detail": json.dumps(detail),
    }
    eventbridge._put_events({"Entries": [event]}, allow_aws_source=True)


def look_at_alarms() -> None:
    """Evaluates every alarm of the organization, again and again: data that are missing make no call."""
    set_request_region(REGION)
    while True:
        time.sleep(LOOK_SECONDS)
        for account in ACCOUNTS:
            set_request_account_id(account)
            for alarm in list(cloudwatch._alarms.values()):
                evaluate_alarm(alarm)


def service_may(policy: str, service: str, action: str, resource: str, source: str) -> bool:
    """Whether a resource's own policy lets an AWS service do this for `source`, an ARN."""
    context = evaluator.EvalContext(
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action=action,
        resource_arn=resource,
        region=get_region(),
        service_context={"aws:sourcearn": source, "aws:sourceaccount": source.split(":")[4]},
    )
    return bool(policy) and evaluator.evaluate_resource_policy(policy, context, service=service).decision == "Allow"


original_topic_create: Callable[..., Created] = provisioners._sns_create


def topic_create(logical_id: str, properties: dict[str, Any], stack: str) -> Created:
    """A topic, with its key."""
    arn, attributes = original_topic_create(logical_id, properties, stack)
    if key := properties.get("KmsMasterKeyId"):
        sns._topics[arn]["attributes"]["KmsMasterKeyId"] = key
    return arn, attributes


original_fanout: Callable[..., None] = sns._fanout


def fanout(topic_arn: str, message_id: str, message: str, *rest: Any, **options: Any) -> None:
    """A notice; an alarm's only where the topic's policy and that of its key let CloudWatch send it. Of those that it does
    not send, AWS says nothing either."""
    topic = sns._topics.get(topic_arn)
    if topic is not None and message.startswith('{"AlarmName"'):
        alarm = f"arn:aws:cloudwatch:{get_region()}:{get_account_id()}:alarm:{json.loads(message)['AlarmName']}"
        key = topic["attributes"].get("KmsMasterKeyId")
        asked = [(topic["attributes"]["Policy"], "sns:Publish", topic_arn)]
        for action in ("kms:Decrypt", "kms:GenerateDataKey") if key else ():
            asked.append(((kms.key_policy_for_arn(key) or ("", ""))[0], action, key))
        if not all(service_may(policy, "cloudwatch.amazonaws.com", *what, alarm) for policy, *what in asked):
            return
    original_fanout(topic_arn, message_id, message, *rest, **options)


# ---- dead letters ----------------------------------------------------------------------------------------------------


def refused(role: str, arn: str, action: str, resource: str, context: dict[str, Any]) -> bool:
    """Whether IAM, asked as the role of the function or rule `arn`, refuses `action`."""

    region, account = arn.split(":")[3:5]
    # MiniStack has such credentials for functions only.
    config = {"Role": role, "FunctionArn": f"arn:aws:lambda:{region}:{account}:function:any", "FunctionName": "any"}

    def ask() -> bool:
        set_request_account_id(account)
        set_request_region(region)
        key = execution_credentials(config)["AWS_ACCESS_KEY_ID"]
        return evaluator.enforce(key, action, action.split(":")[0], get_region(), resource, context) is not None

    # In a context of its own: the question is not that of whoever makes the call at hand.
    return contextvars.Context().run(ask)


original_async: Callable[..., None] = lambda_svc.invoke_async_with_retry


def invoke_async(func: dict[str, Any], event: dict[str, Any]) -> None:
    """An asynchronous invocation, as its qualifier is configured, which MiniStack forgets of aliases: what runs as a
    version was invoked by the alias `live` here."""
    config = func["config"]
    known = lambda_svc._functions[config["FunctionName"]].get("event_invoke_configs", {})
    qualifier = "$LATEST" if config.get("Version", "$LATEST") == "$LATEST" else "live"
    original_async({**func, "event_invoke_config": known.get(qualifier)}, event)


original_async_failure: Callable[..., None] = lambda_svc._route_async_failure


def async_failure(target: str, name: str, event: dict[str, Any], result: dict[str, Any]) -> None:
    """Lambda sends what failed to its destination as the function's role: which has to be allowed to."""
    config = lambda_svc._functions[name]["config"]
    if refused(config["Role"], config["FunctionArn"], "sqs:SendMessage", target, {}):
        cloudwatch.record_metric("AWS/Lambda", "DestinationDeliveryFailures", 1, "Count", {"FunctionName": name})
    else:
        original_async_failure(target, name, event, result)


# ---- events ----------------------------------------------------------------------------------------------------------


def invoke_lambda(arn: str, payload: str) -> None:
    """A rule invokes its function asynchronously: with Lambda's retries, and its dead letters."""
    func, config, _ = lambda_svc._get_func_record_for_ref(arn)
    if func and config:
        lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(func, config), json.loads(payload))


def bus_policy_for_arn(arn: str) -> tuple[str, str] | None:
    """A bus's own policy and its account."""
    spec = parse_arn(arn)
    policy = eventbridge._event_bus_policies.get_scoped(spec.account_id, spec.region, spec.resource.split("/", 1)[1])
    return (json.dumps(policy), spec.account_id) if policy else None


original_bus_create: Callable[..., Created] = provisioners._eb_event_bus_create


def bus_create(logical_id: str, properties: dict[str, Any], stack: str) -> Created:
    """A bus, with its policy."""
    name, attributes = original_bus_create(logical_id, properties, stack)
    if policy := properties.get("Policy"):
        eventbridge._event_bus_policies[name] = policy
    return name, attributes


original_put_permission: Callable[..., Any] = eventbridge._put_permission


def put_permission(data: dict[str, Any]) -> Any:
    """PutPermission; with a whole policy too, as Terraform puts it."""
    if policy := data.get("Policy"):
        data = {"EventBusName": data.get("EventBusName", "default")}
        eventbridge._event_bus_policies[data["EventBusName"]] = json.loads(policy)
        return eventbridge.json_response({})
    return original_put_permission(data)


def deliverable(target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any]) -> bool:
    """Whether what a rule sends to may be sent to by it: a bus of another account as the target's role, a queue or a
    function as EventBridge."""
    arn, resource = parse_arn(target["Arn"]), target["Arn"]
    if arn.service == "events" and arn.account_id != get_account_id():
        name = arn.resource.split("/", 1)[1]
        known = eventbridge._event_buses.get_scoped(arn.account_id, arn.region, name) is not None
        source = {"events:source": event["Source"]}
        return known and not refused(target["RoleArn"], rule["Arn"], "events:PutEvents", resource, source)
    if arn.service == "sqs":
        policy, action = (sqs.queue_policy_for_arn(resource) or ("", ""))[0], "sqs:SendMessage"
    elif arn.service == "lambda":
        policy, action = (lambda_svc.function_policy_for_arn(resource) or ("", ""))[0], "lambda:InvokeFunction"
    else:
        return True
    return service_may(policy, "events.amazonaws.com", action, resource, rule["Arn"])


original_invoke_target: Callable[..., None] = eventbridge._invoke_target


def invoke_target(target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any], view: Any = None) -> None:
    """A rule's target. What may not get there is a dead letter; and what may not be one either is counted."""
    arn = parse_arn(target["Arn"])
    if deliverable(target, event, rule):
        if arn.service != "events" or arn.account_id == get_account_id():
            original_invoke_target(target, event, rule, view)
            return
        there = contextvars.Context()
        there.run(set_request_account_id, arn.account_id)
        there.run(set_request_region, arn.region)
        there.run(eventbridge._dispatch_event, {**event, "EventBusName": arn.resource.split("/", 1)[1]})
        return
    letters = {"Arn": target.get("DeadLetterConfig", {}).get("Arn", "")}
    if letters["Arn"] and deliverable(letters, event, rule):
        original_invoke_target(letters, event, rule, view)
        return
    bus = rule.get("EventBusName", "default")
    named = {"RuleName": rule["Name"], **({"EventBusName": bus} if bus != "default" else {})}
    lost = "InvocationsFailedToBeSentToDlq" if letters["Arn"] else "FailedInvocations"
    cloudwatch.record_metric("AWS/Events", lost, 1, "Count", named)


original_to_queue: Callable[..., None] = eventbridge._dispatch_to_sqs


def to_queue(spec: Any, *rest: Any) -> None:
    """A rule's message to a queue, which SQS counts."""
    original_to_queue(spec, *rest)
    cloudwatch.record_metric("AWS/SQS", "NumberOfMessagesSent", 1, "Count", {"QueueName": spec.resource})


original_put_events: Callable[..., Any] = eventbridge._put_events


def put_events(data: dict[str, Any], allow_aws_source: bool = True) -> Any:
    """Events, those of AWS's own services too, which AWS takes from nobody: who tests stands in for ECS."""
    return original_put_events(data, allow_aws_source)


def mend() -> None:
    """Puts the functions of this file in place of MiniStack's."""
    lambda_svc._emit_lambda_metrics = count_throttles
    lambda_svc._emit_lambda_logs = emit_logs
    stepfunctions._emit_execution_status_event = execution_status
    provisioners._cw_metric_alarm_put = alarm_put
    cloudwatch._evaluate_alarm = evaluate_alarm
    sns._fanout = fanout
    lambda_svc.invoke_async_with_retry = invoke_async
    lambda_svc._route_async_failure = async_failure
    eventbridge._dispatch_to_lambda = invoke_lambda
    eventbridge._invoke_target = invoke_target
    eventbridge._dispatch_to_sqs = to_queue
    eventbridge._put_events = put_events
    eventbridge._put_permission = put_permission
    eventbridge.bus_policy_for_arn = bus_policy_for_arn
    evaluator._RESOURCE_POLICY_LOOKUPS["events"] = ("eventbridge", "bus_policy_for_arn")
    provisioners._RESOURCE_HANDLERS["AWS::Events::EventBus"]["create"] = bus_create
    provisioners._RESOURCE_HANDLERS["AWS::SNS::Topic"]["create"] = topic_create
    threading.Thread(target=look_at_alarms, daemon=True).start()
