"""CloudFormation stacks: made or brought up to date, and removed.

The same on AWS and on the local AWS. Every function takes a boto3 client of CloudFormation; which account and region
are meant is the client's business.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

TEMPLATES = Path(__file__).resolve().parents[2] / "infrastructure" / "cloudformation"

# What CloudFormation takes in a request; a longer template comes from a bucket ("Template body size in a request",
# quotas of CloudFormation).
MAX_BODY_BYTES = 51_200

# A stack whose creation failed: it can be removed, and nothing else.
STILLBORN = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")


class StackError(RuntimeError):
    """A stack that did not become what was asked for; the text has the reason that each resource gave."""


@dataclass(frozen=True)
class Stack:
    """A stack that is there: the ARN that no later stack of its name shares, and its outputs."""

    arn: str
    outputs: dict[str, str]


def source(template: str, s3: Any = None, bucket: str = "") -> dict[str, str]:
    """One of the project's templates, as `put` takes it; by way of the bucket where it is too long for a request."""
    text = (TEMPLATES / template).read_text()
    if len(text.encode()) <= MAX_BODY_BYTES or not bucket:
        return {"TemplateBody": text}
    s3.put_object(Bucket=bucket, Key=template, Body=text.encode())
    return {"TemplateURL": f"{s3.meta.endpoint_url}/{bucket}/{template}"}


def find(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """CloudFormation's description of a stack, by name or ARN; none where it is not there, or not any more."""
    try:
        found = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError" and "does not exist" in str(error):
            return None
        raise
    return None if found["StackStatus"] == "DELETE_COMPLETE" else dict(found)


def outputs_of(description: dict[str, Any]) -> dict[str, str]:
    """The outputs in CloudFormation's description of a stack."""
    return {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}


def put(
    cloudformation: Any,
    name: str,
    template: dict[str, str],
    parameters: dict[str, str],
    *,
    made: Callable[[str], None] = lambda arn: None,
    pause: float = 0.1,
) -> Stack:
    """Makes the stack, or brings the one of this name up to date, and waits for it.

    `template` is `{"TemplateBody": text}` or `{"TemplateURL": address}`. `made` hears a new stack's ARN before
    anything can go wrong with it. `pause` is the time between two looks, in seconds.
    """
    found = find(cloudformation, name)
    if found and found["StackStatus"] in STILLBORN:
        remove(cloudformation, found["StackId"], pause=pause)
        found = None
    token = f"ecs-updater-{uuid.uuid4()}"
    request = {
        "StackName": name,
        **template,
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "ClientRequestToken": token,
    }
    if found:
        try:
            arn = cloudformation.update_stack(**request)["StackId"]
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise
            return Stack(found["StackId"], outputs_of(found))
    else:
        arn = cloudformation.create_stack(**request)["StackId"]
        made(arn)
    ended = _wait(cloudformation, arn, pause)
    if ended["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise StackError(f"stack {name}: {ended['StackStatus']}\n" + "\n".join(_reasons(cloudformation, arn, token)))
    return Stack(arn, outputs_of(ended))


def remove(cloudformation: Any, arn: str, *, pause: float = 0.1) -> list[str]:
    """Removes exactly this stack and waits; names what its template keeps (a `DeletionPolicy` that retains)."""
    if not find(cloudformation, arn):
        return []
    token = f"ecs-updater-{uuid.uuid4()}"
    cloudformation.delete_stack(StackName=arn, ClientRequestToken=token)
    ended = _wait(cloudformation, arn, pause)
    if ended["StackStatus"] != "DELETE_COMPLETE":
        raise StackError(f"stack {arn}: {ended['StackStatus']}\n" + "\n".join(_reasons(cloudformation, arn, token)))
    return [
        f"{event['ResourceType']} {event['PhysicalResourceId']}"
        for event in _events(cloudformation, arn)
        if event["ResourceStatus"] == "DELETE_SKIPPED"
    ]


def _wait(cloudformation: Any, arn: str, pause: float) -> dict[str, Any]:
    """The stack's description once nothing is going on with it any more."""
    while True:
        found = cloudformation.describe_stacks(StackName=arn)["Stacks"][0]
        if not found["StackStatus"].endswith("_IN_PROGRESS"):
            return dict(found)
        time.sleep(pause)


def _events(cloudformation: Any, arn: str) -> list[dict[str, Any]]:
    """What happened to the stack, the newest first."""
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=arn)
    return [event for page in pages for event in page["StackEvents"]]


def _reasons(cloudformation: Any, arn: str, token: str) -> list[str]:
    """Why the operation with this token failed, the first cause first. The local AWS's events have no token."""
    return [
        f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
        for event in reversed(_events(cloudformation, arn))
        if event["ResourceStatus"].endswith("_FAILED")
        and event.get("ResourceStatusReason")
        and event.get("ClientRequestToken", token) == token
    ]
