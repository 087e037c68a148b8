"""What strict.py mends of AWS Lambda and its queues: functions that it would not make, settings and messages that it would not
take, and groups of messages that are worked on at the same time.

MiniStack makes a function of a package that is not there, and takes an environment of any size. So a deployment that AWS refuses
went through. Of a FIFO queue it brings a function one batch at a time, whatever groups there are; so one group held up all others, and
nobody saw what happens at the same time. It takes a group's id of any length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import lambda_svc, sqs
from ministack.services.cloudformation import provisioners

Response = tuple[int, dict[str, str], bytes]
Created = tuple[str, dict[str, str]]

# <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>: 4 KB "for all environment variables associated with the
# function, in aggregate".
ENVIRONMENT_BYTES = 4096


def fault(properties: dict[str, Any]) -> str:
    """Why Lambda would not take a function, or its configuration, with these properties; empty where it would."""
    code, environment = properties.get("Code") or {}, properties.get("Environment") or {}
    if code.get("S3Key") and lambda_svc._fetch_code_from_s3(code["S3Bucket"], code["S3Key"], code.get("S3ObjectVersion")) is None:
        return "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist."
    # What is measured is JSON, with what it escapes: the text as deployments report it says so
    # (https://github.com/github-aws-runners/terraform-aws-github-runner/issues/3594).
    measured = json.dumps(environment.get("Variables") or {}, ensure_ascii=False, separators=(",", ":"))
    if len(measured.encode()) > ENVIRONMENT_BYTES:
        return (
            "Lambda was unable to configure your environment variables because the environment variables you have provided "
            f"exceeded the 4KB limit. String measured: {measured}"
        )
    return ""


# <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>: "The maximum length of MessageGroupId is
# 128 characters", of letters, digits and punctuation.
GROUP = re.compile(r"[!-~]{1,128}")


def refused(why: str) -> Response:
    """Lambda's answer to what it does not take."""
    answer: Response = error_response_json("InvalidParameterValueException", why, 400)
    return answer


original_create: Callable[[dict[str, Any]], Any] = lambda_svc._create_function
original_configure: Callable[[str, dict[str, Any]], Any] = lambda_svc._update_config
original_stack_create: Callable[..., Created] = provisioners._lambda_create


def create(data: dict[str, Any]) -> Any:
    """CreateFunction."""
    why = fault(data)
    return refused(why) if why else original_create(data)


def configure(name: str, data: dict[str, Any]) -> Any:
    """UpdateFunctionConfiguration, also a stack's."""
    why = fault({"Environment": data.get("Environment")})
    return refused(why) if why else original_configure(name, data)


def stack_create(logical_id: str, properties: dict[str, Any], stack: str) -> Created:
    """A stack's function."""
    if why := fault(properties):
        raise ValueError(why)
    return original_stack_create(logical_id, properties, stack)


original_concurrency: Callable[..., int] = lambda_svc._sqs_esm_concurrency


def concurrency(mapping: dict[str, Any], function: dict[str, Any], config: dict[str, Any], queue: dict[str, Any] | None = None) -> int:
    """How many batches of a queue are at work at a time. Of a FIFO queue that is bounded by its groups, too, each of which has one at
    the most (<https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html>): MiniStack gives nothing of a group of which
    something is at work, so that nothing more is to be counted here."""
    return original_concurrency(mapping, function, config, None)


original_mapping: dict[str, Callable[..., Any]] = {
    name: provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"][name] for name in ("create", "update")
}


def scaled(properties: dict[str, Any]) -> dict[str, Any]:
    """A mapping's properties, with a number where a parameter gave a text, and refused as the API refuses them."""
    scaling = properties.get("ScalingConfig")
    if not scaling:
        return properties
    scaling = {**scaling, "MaximumConcurrency": int(scaling["MaximumConcurrency"])}
    if lambda_svc._validate_scaling_config({"ScalingConfig": scaling}, properties["EventSourceArn"]):
        raise ValueError(f"ScalingConfig {scaling} is not taken")
    return {**properties, "ScalingConfig": scaling}


def mapping_create(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
    """A stack's event source mapping."""
    return original_mapping["create"](logical_id, scaled(properties), stack)


def mapping_update(physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str) -> Any:
    """The same, changed."""
    return original_mapping["update"](physical_id, scaled(old), scaled(new), stack)


original_send: Callable[[dict[str, Any], str], dict[str, Any]] = sqs._act_send_message


def send_message(data: dict[str, Any], url: str) -> dict[str, Any]:
    """SendMessage, and each part of a batch."""
    group = data.get("MessageGroupId")
    if group is not None and not GROUP.fullmatch(group):
        told = (
            f"Value {group} for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include alphanumeric and punctuation "
            "characters. 1 to 128 in length."
        )
        raise sqs._Err("InvalidParameterValue", told)
    return original_send(data, url)


def mend() -> None:
    """Puts the functions of this file in place of MiniStack's."""
    lambda_svc._sqs_esm_concurrency = concurrency
    sqs._act_send_message = send_message
    sqs._HANDLERS["SendMessage"] = send_message
    mappings = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
    mappings["create"], mappings["update"] = mapping_create, mapping_update
    lambda_svc._create_function = create
    lambda_svc._update_config = configure
    provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]["create"] = stack_create
