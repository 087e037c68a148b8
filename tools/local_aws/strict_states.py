"""Step Functions as AWS has it, where MiniStack's Distributed Map and rights fall short. Put in place by `strict.py`.

* Calls of a state machine go over the wire, as its role: MiniStack makes them inside, as nobody, and asks no policy.
* Distributed Map in JSONata: `Items`, arguments of `ItemReader`, `ItemBatcher`, `ResultWriter`, `Output` and `Assign`.
* A child execution has its own name and ARN in its context, and none of its parent's variables.
* A Map Run counts items, not batches.
* All of `Assign` is worked out before any of it is assigned.
* A state machine whose role Step Functions may not assume is not made.
* What a state takes, answers or keeps has at most 256 KiB, and nothing catches what passes that.
"""

from __future__ import annotations

import contextvars
import json
import os
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import boto3
import ministack.core.iam_evaluator as evaluator
import strict_watch
from botocore.config import Config
from botocore.exceptions import ClientError
from jsonata import Jsonata
from ministack.services import stepfunctions as states

State = dict[str, Any]
Step = tuple[Any, str | None]  # a state's output, and the next state's name

# "Maximum input or output size for a task, state, or execution: 256 KiB of data as a UTF-8 encoded string"
# (docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html). A variable, and all of one `Assign` together, have
# as much (…/workflow-variables.html); that it ends in the same error is taken to be so, since AWS does not say.
MOST = 256 * 1024
TOO_MUCH = "States.DataLimitExceeded"


def within(what: str, value: Any) -> Any:
    """The value, where it is no larger than Step Functions lets it be."""
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MOST:
        raise states._ExecutionError(TOO_MUCH, f"{what} has {size} bytes, and {MOST} are allowed")
    return value


# The role of the state machine that this thread works for.
role: contextvars.ContextVar[str] = contextvars.ContextVar("role", default="")


REGION, ENDPOINT = os.environ["MINISTACK_REGION"], os.environ["AWS_ENDPOINT_URL"]


@lru_cache
def session(role_arn: str) -> dict[str, str]:
    """Credentials of the role. Root stands in for the service, see `strict.resolve_condition_key`."""
    root = {"aws_access_key_id": role_arn.split(":")[4], "aws_secret_access_key": "test"}
    sts = boto3.client("sts", REGION, endpoint_url=ENDPOINT, **root)
    return dict(sts.assume_role(RoleArn=role_arn, RoleSessionName="states")["Credentials"])


@lru_cache
def client(service: str, role_arn: str) -> Any:
    """A client that signs as the role."""
    settings = Config(retries={"total_max_attempts": 1}, read_timeout=400, max_pool_connections=64, proxies={})
    keys = session(role_arn)
    return boto3.client(
        service,
        REGION,
        endpoint_url=ENDPOINT,
        config=settings,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )


def call(service: str, prefix: str, operation: str, **arguments: Any) -> Any:
    """One call; a refusal becomes an error as the state machine sees it."""
    try:
        return getattr(client(service, role.get()), operation)(**arguments)
    except ClientError as error:
        code = error.response["Error"]["Code"].removesuffix("Exception")
        if code in ("AccessDenied", "Forbidden"):
            code = {"Lambda": "AWSLambda", "S3": "S3"}[prefix]
        raise states._ExecutionError(f"{prefix}.{code}Exception", str(error)) from error


def demand(action: str, resource: str) -> None:
    """Asks for what Step Functions itself does as the role, for which no call is made here."""
    if evaluator.enforce(session(role.get())["AccessKeyId"], action, "states", REGION, resource_arn=resource):
        raise states._ExecutionError(
            "States.Permissions", f"the role is not authorized to perform {action} on {resource}"
        )


original_run: Callable[[str], None] = states._run_execution


def run_execution(execution_arn: str) -> None:
    """An execution, from now on as its role."""
    execution = states._executions.get(execution_arn) or {}
    machine = states._state_machines.get(execution.get("stateMachineArn")) or {}
    role.set(machine.get("roleArn", ""))
    original_run(execution_arn)


original_invoke: Callable[[str, Any], Any] = states._invoke_resource


def invoke_resource(resource: str, arguments: Any) -> Any:
    """A task: what it is given and what it answers have a limit."""
    return within("the task's result", call_resource(resource, within("the task's input", arguments)))


def call_resource(resource: str, arguments: Any) -> Any:
    """Functions and objects over the wire, the rest as MiniStack does it."""
    name = resource.split(":::")[-1]
    if name == "lambda:invoke":
        payload = json.dumps(arguments.get("Payload", {})).encode()
        answer = call("lambda", "Lambda", "invoke", FunctionName=arguments["FunctionName"], Payload=payload)
        told = json.loads(answer["Payload"].read() or b"null")
        if "FunctionError" in answer:
            raise states._ExecutionError((told or {}).get("errorType") or "Lambda.Unknown", json.dumps(told))
        return {"StatusCode": answer["StatusCode"], "Payload": told}
    if name == "aws-sdk:s3:getObject":
        answer = call("s3", "S3", "get_object", **arguments)
        return {"Body": answer["Body"].read().decode(), "ContentLength": answer["ContentLength"]}
    if name == "aws-sdk:s3:putObject":
        call("s3", "S3", "put_object", **{**arguments, "Body": json.dumps(arguments["Body"]).encode()})
        return {}
    return original_invoke(resource, arguments)


def items_of(state: State, given: Any, ctx: State) -> list[Any]:
    """What the Map goes over: batches, where it wants them."""
    if reader := state.get("ItemReader"):
        source = states._apply_jsonata_template(reader["Arguments"], given, ctx)
        try:
            text = call("s3", "S3", "get_object", **source)["Body"].read().decode()
            items = states._parse_reader_items(text, reader.get("ReaderConfig") or {})
        except (states._ExecutionError, ValueError) as error:
            raise states._ExecutionError("States.ItemReaderFailed", str(error)) from error
    else:
        items = states._jsonata_state_field(state, "Items", "array", given, ctx)
    if not (batcher := state.get("ItemBatcher")):
        return list(items)
    size, shared = batcher["MaxItemsPerBatch"], batcher.get("BatchInput")
    shared = {"BatchInput": states._apply_jsonata_template(shared, given, ctx)} if shared else {}
    return [{**shared, "Items": items[start : start + size]} for start in range(0, len(items), size)]


def write_results(state: State, results: list[Any], given: Any, ctx: State) -> Any:
    """What the Map results in: the results, or where they were written."""
    writer = state.get("ResultWriter") or {}
    if (writer.get("WriterConfig") or {}).get("Transformation") == "FLATTEN":
        results = [part for result in results for part in (result if isinstance(result, list) else [result])]
    if "Resource" not in writer:
        return results
    place = states._apply_jsonata_template(writer["Arguments"], given, ctx)
    folder = f"{place['Prefix']}/{uuid.uuid4()}"
    written = json.dumps(results).encode()
    files = {"FAILED": [], "PENDING": [], "SUCCEEDED": [{"Key": f"{folder}/SUCCEEDED_0.json", "Size": len(written)}]}
    manifest = json.dumps({"DestinationBucket": place["Bucket"], "ResultFiles": files}).encode()
    try:
        call("s3", "S3", "put_object", Bucket=place["Bucket"], Key=f"{folder}/SUCCEEDED_0.json", Body=written)
        call("s3", "S3", "put_object", Bucket=place["Bucket"], Key=f"{folder}/manifest.json", Body=manifest)
    except states._ExecutionError as error:
        raise states._ExecutionError("States.ResultWriterFailed", str(error.cause)) from error
    return {"ResultWriterDetails": {"Bucket": place["Bucket"], "Key": f"{folder}/manifest.json"}}


# How many items the Map that an execution is at has.
sizes: dict[str, int] = {}

original_map: Callable[..., Step] = states._run_distributed_map


def run_distributed_map(
    state: State, given: Any, effective: Any, iterator: State, execution: State, ctx: State
) -> Step:
    """A Distributed Map; MiniStack runs the children and keeps the Map Run."""
    if states._state_query_language(state, ctx) != "JSONata":
        return original_map(state, given, effective, iterator, execution, ctx)
    plain = {"Label": state.get("Label"), "End": True}
    plain["MaxConcurrency"] = states._apply_jsonata_template(state.get("MaxConcurrency", 0), given, ctx)
    children = {**ctx, "variables": {}}
    machine = execution["stateMachineArn"]
    demand("states:StartExecution", machine)
    demand(
        "states:DescribeExecution", machine.replace(":stateMachine:", ":execution:") + f"/{state.get('Label')}:child"
    )
    items = items_of(state, given, ctx)
    sizes[execution["executionArn"]] = sum(len(item["Items"]) if "ItemBatcher" in state else 1 for item in items)
    results, _ = original_map(plain, None, items, iterator, execution, children)
    result = write_results(state, results, given, ctx)
    output = states._apply_jsonata_output(state, given, ctx, result=result, default=result)
    states._apply_state_assign(state, given, ctx, result=result)
    return output, states._next_or_end(state)


original_view: Callable[[State], State] = states._map_run_view


def map_run_view(run: State) -> State:
    """A Map Run as DescribeMapRun tells it: `itemCounts` counts items, where MiniStack counts batches."""
    view = original_view(run)
    counts = dict.fromkeys(view["itemCounts"], 0)
    for child in list(states._executions.values()):
        if child.get("mapRunArn") == run["mapRunArn"]:
            items = json.loads(child["input"])
            number = len(items["Items"]) if isinstance(items, dict) and "Items" in items else 1
            counts[child["status"].lower()] += number
            counts["total"] += number
    counts["pending"] = max(sizes.get(run["executionArn"], 0) - counts["total"], 0) if run["status"] == "RUNNING" else 0
    counts["total"] += counts["pending"]
    return {**view, "itemCounts": counts}


original_sub_machine: Callable[..., Any] = states._run_sub_machine


def run_sub_machine(all_states: State, start: str, given: Any, execution: State, ctx: State) -> Any:
    """The states of a child, with its own execution in the context."""
    if "mapRunArn" in execution:
        own = {"Id": execution["executionArn"], "Name": execution["name"], "StartTime": execution["startDate"]}
        ctx["Execution"] = {**own, "Input": json.loads(execution["input"])}
    return original_sub_machine(all_states, start, within("the input", given), execution, ctx)


original_output: Callable[..., Any] = states._apply_jsonata_output


def apply_jsonata_output(state: State, given: Any, ctx: State, **given_to: Any) -> Any:
    """A state's output: it has a limit, and so has the result that it is made from."""
    within("the state's result", given_to.get("result"))
    return within("the state's output", original_output(state, given, ctx, **given_to))


original_start: Callable[[State], Any] = states._start_execution


def start_execution(data: State) -> Any:
    """StartExecution, whose input has a limit of its own."""
    if len(data.get("input", "").encode()) > MOST:
        told = "1 validation error detected: Value at 'input' failed to satisfy constraint: Member must have length less"
        return states.error_response_json("ValidationException", f"{told} than or equal to {MOST}", 400)
    return original_start(data)


original_create: Callable[[State], Any] = states._create_state_machine


def create_state_machine(data: State) -> Any:
    """CreateStateMachine, which Step Functions refuses where it could not assume the role for it
    (https://stackoverflow.com/questions/56436514/not-authorized-to-assume-the-provided-role); MiniStack takes any role. What it says of itself
    is in https://docs.aws.amazon.com/step-functions/latest/dg/procedure-create-iam-role.html#prevent-cross-service-confused-deputy."""
    machine = f"arn:aws:states:{REGION}:{states.get_account_id()}:stateMachine:{data.get('name')}"
    if not strict_watch.role_trusts(data.get("roleArn", ""), "states.amazonaws.com", machine):
        told = "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to assume the provided role."
        return states.error_response_json("AccessDeniedException", told, 400)
    return original_create(data)


original_matches: Callable[[list[str], str], bool] = states._error_matches


def error_matches(wanted: list[str], error: str) -> bool:
    """Whether a catcher or retrier is for the error.

    "States.ALL […] can't catch the States.DataLimitExceeded terminal error or Runtime error types"
    (docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html).
    """
    if error in (TOO_MUCH, "States.Runtime"):
        return error in wanted
    return original_matches(wanted, error)


def apply_state_assign(state: State, given: Any, ctx: State, result: Any = None, error_output: Any = None) -> None:
    """The variables of `Assign`: all from the values before it, where MiniStack lets one see the next one's."""
    if states._state_query_language(state, ctx) == "JSONata":
        given_to = {"result": result, "error_output": error_output}
        assigned = states._apply_jsonata_template(state.get("Assign") or {}, given, ctx, **given_to)
        within("what Assign keeps", assigned)
        ctx.setdefault("variables", {}).update(assigned)


compiled: Callable[..., Any] = Jsonata.jsonata


def patient(expression: str, **bounds: Any) -> Any:
    """An expression that has a minute: of many batches at a time, each waits for the others' on this machine."""
    return compiled(expression, **{**bounds, **({"timeout": 60_000} if "timeout" in bounds else {})})


def mend() -> None:
    """Puts the functions of this file in place of MiniStack's."""
    states._run_execution = run_execution
    states._invoke_resource = invoke_resource
    states._run_distributed_map = run_distributed_map
    states._run_sub_machine = run_sub_machine
    states._apply_state_assign = apply_state_assign
    states._apply_jsonata_output = apply_jsonata_output
    states._start_execution = start_execution
    states._create_state_machine = create_state_machine
    states._error_matches = error_matches
    Jsonata.jsonata = staticmethod(patient)
    states._map_run_view = map_run_view
