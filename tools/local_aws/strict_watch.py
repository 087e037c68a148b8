"""What strict.py mends of watching: metrics from log lines, alarms, asynchronous failures, events between accounts.

MiniStack's alarms know no data points, no dimensions and no missing data, and its templates no composite ones; its metrics
have the time at which they come, and its metric filters count nothing; its functions write no embedded metrics; its rules
reach no bus of another account, ask no role's trust, and lose what they cannot deliver. How alarms are evaluated stands in alarms.py.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import alarms
import ministack.core.iam_evaluator as evaluator
from ministack.core.arn import parse_arn
from ministack.core.lambda_runtime import execution_credentials
from ministack.core.responses import get_account_id, get_region, set_request_account_id, set_request_region
from ministack.services import cloudwatch, cloudwatch_logs, eventbridge, iam, kms, lambda_svc, sns, sqs, stepfunctions
from ministack.services.cloudformation import provisioners

Created = tuple[str, dict[str, str]]
ACCOUNTS = os.environ["LOCAL_AWS_ORGANIZATION_ACCOUNTS"].split(",")
REGION = os.environ["MINISTACK_REGION"]
LOOK_SECONDS = 0.25
# Of what the documentation of alarms leaves open, the least.
READING = alarms.Reading()


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
    # "The timestamp on a metric reflects when the function was invoked":
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html.
    started = time.time() - ms / 1000
    for name, value in (("Invocations", 1), ("Errors", int(error)), ("Duration", ms)):
        point = {"Timestamp": started, "Value": float(value), "Unit": "Count", "Dimensions": dict(own)}
        cloudwatch._metric_bucket(("AWS/Lambda", name, cloudwatch._dims_key(own))).append(point)
    for line in text.splitlines():
        if '"_aws"' not in line:
            continue
        entry = json.loads(line)
        for directive in entry["_aws"]["CloudWatchMetrics"]:
            for metric in directive["Metrics"]:
                for dimensions in directive["Dimensions"]:
                    values, name = {each: entry[each] for each in dimensions}, metric["Name"]
                    cloudwatch.record_metric(directive["Namespace"], name, entry[name], "Count", values)


def filter_line(group: str, line: dict[str, Any]) -> None:
    """The metrics that a log group's metric filters make of a line: MiniStack keeps filters, and counts nothing."""
    for found in list(cloudwatch_logs._metric_filters.values()):
        if found["logGroupName"] == group and alarms.matches(found["filterPattern"], json.dumps(line)):
            for counted in found["metricTransformations"]:
                value = float(counted["metricValue"])
                cloudwatch.record_metric(counted["metricNamespace"], counted["metricName"], value, "Count")


original_dispatch: Callable[..., Any] = lambda_svc._execute_function_dispatch


def dispatch(func: dict[str, Any], config: dict[str, Any], event: Any, request_id: str, started: float) -> Any:
    """An invocation, with the line in which Lambda reports it to a log in JSON, which MiniStack writes as text. What the function
    answered, an error too, is a success there: https://github.com/aws-samples/aws-lambda-extensions/issues/85. Where it ends when it
    starts, another line says so: https://github.com/cargo-lambda/cargo-lambda/issues/572."""
    result = original_dispatch(func, config, event, request_id, started)
    logging = config.get("LoggingConfig") or {}
    if logging.get("LogFormat") == "JSON" and logging.get("LogGroup"):
        body = result.get("body")
        kind = str(body.get("errorType")) if result.get("error") and isinstance(body, dict) else ""
        record = {"status": "success"}
        if kind == "Sandbox.Timedout":
            record["status"] = "timeout"
        elif kind == "Runtime.Unknown" and "during init" in str(body):
            failed = {"phase": "invoke", "status": "error", "errorType": "Runtime.ExitError"}
            filter_line(logging["LogGroup"], {"type": "platform.initReport", "record": failed})
            record = {}
        elif kind.startswith("Runtime."):
            record = {"status": "error", "errorType": kind}
        filter_line(logging["LogGroup"], {"type": "platform.report", "record": {"requestId": request_id, **record}})
    return result


original_execution_status: Callable[..., None] = stepfunctions._emit_execution_status_event


def execution_status(execution: dict[str, Any]) -> None:
    """An execution's new status, as an event and as a metric."""
    original_execution_status(execution)
    names = {"FAILED": "ExecutionsFailed", "TIMED_OUT": "ExecutionsTimedOut", "ABORTED": "ExecutionsAborted"}
    if name := names.get(execution["status"]):
        machine = {"StateMachineArn": execution["stateMachineArn"]}
        cloudwatch.record_metric("AWS/States", name, 1, "Count", machine)


def samples(series: alarms.Series) -> list[alarms.Sample]:
    """What is known of a metric."""
    named = dict(series.dimensions)
    if (series.namespace, series.name) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible"):
        arn = f"arn:aws:sqs:{get_region()}:{get_account_id()}:{named['QueueName']}"
        queue = sqs._queue_by_arn(arn)
        return [alarms.Sample(time.time() - 1, 0, len(queue["messages"]))] if queue else []
    key = (series.namespace, series.name, cloudwatch._dims_key(named))
    points = [alarms.Sample(point["Timestamp"], 0, point["Value"]) for point in list(cloudwatch._metrics.get(key) or [])]
    return sorted(points, key=lambda point: point.at)


# ---- alarms ----------------------------------------------------------------------------------------------------------


def composite_put(logical_id: str, properties: dict[str, Any], stack: str) -> Created:
    """A composite alarm: MiniStack has it by its API only."""
    name = properties.get("AlarmName") or provisioners._physical_name(stack, logical_id, max_len=255)
    status, _, body = cloudwatch._put_composite_alarm({}, {**properties, "AlarmName": name}, False, is_json=True)
    if status >= 300:
        raise ValueError(f"AWS::CloudWatch::CompositeAlarm: {body!r}")
    return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}


def composite_delete(name: str, properties: dict[str, Any]) -> None:
    """Removes a composite alarm."""
    cloudwatch._composite_alarms.pop(name, None)


def evaluate_alarm(alarm: dict[str, Any]) -> None:
    """Sets the alarm's state by what its metrics are now, and tells of a new one."""
    state = alarms.state(alarms.alarm(alarm["AlarmName"], alarm), samples, time.time(), READING)
    old = alarm["StateValue"]
    if state == old:
        return
    reason = f"Threshold Crossed: {alarm['MetricName']} {alarm['ComparisonOperator']} {alarm['Threshold']}"
    alarm.update(StateValue=state, StateReason=reason, StateUpdatedTimestamp=int(time.time()))
    cloudwatch._record_history(alarm["AlarmName"], old, state, reason)
    cloudwatch._dispatch_alarm_actions(alarm, old, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)
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


def role_trusts(role: str, service: str, source: str) -> bool:
    """Whether a role's trust lets an AWS service assume it for `source`, an ARN: a service says in whose account and for what it acts
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html#cross-service-confused-deputy-prevention). MiniStack does not ask."""
    found = iam._roles.get_scoped(role.split(":")[4], None, role.rsplit("/", 1)[-1]) or {}
    trust = found.get("AssumeRolePolicyDocument") or "{}"
    document = json.loads(trust) if isinstance(trust, str) else trust
    # A trust has no resource: it is the role's.
    statements = [{**statement, "Resource": role} for statement in document.get("Statement", [])]
    return service_may(json.dumps({"Statement": statements}), service, "sts:AssumeRole", role, source)


def deliverable(target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any]) -> bool:
    """Whether what a rule sends to may be sent to by it: a bus of another account as the target's role, a queue or a
    function as EventBridge."""
    arn, resource = parse_arn(target["Arn"]), target["Arn"]
    if arn.service == "events" and target.get("RoleArn") and not role_trusts(target["RoleArn"], "events.amazonaws.com", rule["Arn"]):
        return False
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


def to_queue(spec: Any, payload: str, *rest: Any) -> None:
    """A rule's message to a queue, which SQS counts. One to a FIFO queue has an id made of its body, and of all that come with that id
    within five minutes, whoever sends them, the queue keeps one: MiniStack forgets those of rules.
    <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-exactly-once-processing.html>"""
    queue, once = sqs._queue_by_arn(str(spec)), hashlib.sha256(payload.encode()).hexdigest()
    if queue and queue.get("is_fifo"):
        sqs._prune_dedup(queue)
        if once in queue["dedup_cache"]:
            return
        kept = {"id": once, "md5": "", "md5a": None, "seq": None}
        queue["dedup_cache"][once] = {"expire": time.time() + sqs._DEDUP_WINDOW_S, **kept}
    original_to_queue(spec, payload, *rest)
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
    lambda_svc._execute_function_dispatch = dispatch
    provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::CompositeAlarm"] = {
        "create": composite_put,
        "delete": composite_delete,
    }
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
