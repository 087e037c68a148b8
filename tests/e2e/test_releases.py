"""A release goes out, and back: callers invoke aliases, and versions stay."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import deploy
import pytest
from conftest import BUILT, System
from local_aws import HUB, LocalAws, forget_aws_settings, root_of

STACK = "ecs-updater-hub"


@pytest.fixture
def own() -> Iterator[System]:
    """A system of its own, since its hub is updated."""
    forget_aws_settings()
    with LocalAws() as aws:
        yield System(aws, deploy.deploy(aws, BUILT / "local", lambda step: None))


def update(system: System, **changed: str) -> None:
    """Deploys the hub again, with other parameters."""
    cloudformation = system.aws.client("cloudformation", root_of(HUB))
    before = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["Parameters"]
    parameters = [
        {"ParameterKey": name, "ParameterValue": changed[name]}
        if name in changed
        else {"ParameterKey": name, "UsePreviousValue": True}
        for name in (parameter["ParameterKey"] for parameter in before)
    ]
    cloudformation.update_stack(
        StackName=STACK, UsePreviousTemplate=True, Parameters=parameters, Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    while (stack := cloudformation.describe_stacks(StackName=STACK)["Stacks"][0])["StackStatus"] != "UPDATE_COMPLETE":
        assert stack["StackStatus"].startswith("UPDATE_") and "ROLLBACK" not in stack["StackStatus"], stack
        time.sleep(0.1)


def test_a_release_goes_out_and_back(own: System) -> None:
    functions = own.client("lambda")
    names = {"FunctionName": own.deployment.function}
    service = own.service()

    def aliases() -> dict[str, str]:
        return {alias["Name"]: alias["FunctionVersion"] for alias in functions.list_aliases(**names)["Aliases"]}

    def live(image: str) -> str:
        """What the alias makes of a change."""
        payload = json.dumps(service.event(ecs_image_name=image))
        answer = functions.invoke(FunctionName=own.deployment.outputs["UpdaterAliasArn"], Payload=payload)
        body = json.loads(answer["Payload"].read())
        return str(body["body"]["status"] if "body" in body else body["errorType"])

    assert aliases() == {"live": "1", "api": "1"}
    assert live("nginx:1") == "APPLIED"
    # Out: another setting, which takes effect with its release and not before.
    update(own, AllowedAccounts=HUB)
    assert live("nginx:2") == "APPLIED"
    update(own, Release="2")
    assert aliases() == {"live": "2", "api": "2"}
    assert live("nginx:3") == "AssumeRoleFailed"
    # Back at once, with what stood in the version.
    functions.update_alias(**names, Name="live", FunctionVersion="1")
    assert live("nginx:4") == "APPLIED"
