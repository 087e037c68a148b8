"""What strict.py mends of AWS Lambda: functions that it would not make, and settings that it would not take.

MiniStack makes a function of a package that is not there, and takes an environment of any size. So a deployment that AWS refuses
went through.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import lambda_svc
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


def mend() -> None:
    """Puts the functions of this file in place of MiniStack's."""
    lambda_svc._create_function = create
    lambda_svc._update_config = configure
    provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]["create"] = stack_create
