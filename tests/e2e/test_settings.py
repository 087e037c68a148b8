"""Settings that are kept in an object or a parameter, read by the real function with the right that the template gives, and no other."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import deploy
import pytest
import stacks
from botocore.exceptions import ClientError
from conftest import System
from local_aws import HUB, REGION, TARGETS
from test_permissions import Replace, updater_policy

PLACES = ("s3", "ssm")


class Document:
    """A document of allowed accounts."""

    def __init__(self, system: System, kind: str) -> None:
        self.system = system
        self.name = f"allowed-{uuid.uuid4()}"
        self.kind = kind
        self.text = f"s3://{deploy.PACKAGE_BUCKET}/{self.name}" if kind == "s3" else f"ssm:/{self.name}"

    def write(self, text: str, type_: str = "String") -> None:
        """Puts `text` there."""
        if self.kind == "s3":
            self.system.client("s3").put_object(Bucket=deploy.PACKAGE_BUCKET, Key=self.name, Body=text.encode())
        else:
            self.system.client("ssm").put_parameter(Name=f"/{self.name}", Value=text, Type=type_, Overwrite=True)

    @property
    def right(self) -> dict[str, Any]:
        """What the template lets the role do with it."""
        function = f"arn:aws:lambda:{REGION}:{HUB}:function:{self.system.deployment.function}"
        owner = {
            "Condition": {
                "ArnEquals": {"lambda:SourceFunctionArn": function},
                "StringEquals": {"aws:ResourceAccount": "${aws:PrincipalAccount}"},
            }
        }
        if self.kind == "s3":
            return {"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{deploy.PACKAGE_BUCKET}/{self.name}", **owner}
        return {"Action": "ssm:GetParameter", "Resource": f"arn:aws:ssm:{REGION}:{HUB}:parameter/{self.name}", **owner}


@pytest.fixture
def kept(system: System, role_policy: Replace) -> Iterator[Callable[..., Document]]:
    """Has the updater read its accounts elsewhere; `right`: whether its role may."""
    functions, name = system.client("lambda"), system.deployment.function
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]

    def at(kind: str, text: str | None, *, right: bool = True, **more: Any) -> Document:
        document = Document(system, kind)
        if text is not None:
            document.write(text, **more)
        policy = updater_policy(system)
        if right:
            statements = [*policy["Statement"], {"Sid": "ReadIt", "Effect": "Allow", **document.right}]
            role_policy(HUB, system.updater_role, "updater", {**policy, "Statement": statements})
        changed = {**variables, "ALLOWED_ACCOUNTS": document.text}
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": changed})
        return document

    yield at
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})


def change(system: System, account: str) -> tuple[str, str]:
    """The status or the code, and the text, of a change in `account`."""
    answer = system.invoke(system.service(account).event(ecs_image_name="nginx:1.27"))
    if answer.error:
        return str(answer.payload["errorType"]), str(answer.payload["errorMessage"])
    return str(answer.body["status"]), ""


@pytest.mark.parametrize("kind", PLACES)
def test_accounts_are_those_of_the_document(system: System, kept: Callable[..., Document], kind: str) -> None:
    # Six hundred accounts, twice what the environment holds; a parameter has room for 300, an advanced one for 600.
    others = [f"{number:012}" for number in range(600 if kind == "s3" else 300)]
    kept(kind, "# as of today\n" + "\n".join([*others, TARGETS[0]]))
    assert change(system, TARGETS[0]) == ("APPLIED", "")
    code, text = change(system, TARGETS[1])
    assert (code, "ALLOWED_ACCOUNTS of the updater does not name the account" in text) == ("AssumeRoleFailed", True)


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize(
    ("text", "right", "says"),
    [
        (None, True, ("403", "404", "NoSuchKey", "ParameterNotFound")),
        (TARGETS[0], False, ("AccessDenied",)),
        # A right that ResolveUnits alone gives.
        ("ou-a1b2-c3d4e5f6", True, ("not authorized to perform: organizations:ListAccountsForParent",)),
        ("# nobody", True, ("no account",)),
    ],
)
def test_what_cannot_be_read_lets_nobody_in(
    system: System, kept: Callable[..., Document], kind: str, text: str | None, right: bool, says: tuple[str, ...]
) -> None:
    document = kept(kind, text, right=right)
    service = system.service(TARGETS[0])
    answer = system.invoke(service.event(ecs_image_name="nginx:1.27"))
    assert answer.payload["errorType"] == "AssumeRoleFailed", answer.payload
    told = str(answer.payload["errorMessage"])
    assert document.text in told
    assert "Nothing was changed in the target account. Try again" in told
    assert any(part in told for part in says), told
    assert system.records(service) == []
    # An entry of a list says that it may be sent again.
    entry = {name: value for name, value in service.event().items() if name != "ecs_image_name"}
    many = system.invoke({"ecs_image_name": "nginx:1.27", "updates": [entry]})
    assert many.body["results"][0]["error"]["retryable"] is True, json.dumps(many.payload)
    document.write(TARGETS[0])
    if right:
        # A failure stands for five seconds.
        assert deploy_until(system) == ("APPLIED", "")


def deploy_until(system: System) -> tuple[str, str]:
    """What a change in the first target account comes to when what was mended is seen."""
    deadline = time.monotonic() + 20
    while (ended := change(system, TARGETS[0]))[0] != "APPLIED" and time.monotonic() < deadline:
        time.sleep(1)
    return ended


def test_a_parameter_has_room_for_three_hundred_accounts_and_no_more_than_aws_gives(system: System) -> None:
    ssm, name = system.client("ssm"), f"/room-{uuid.uuid4()}"
    ssm.put_parameter(Name=name, Value="x" * 4096, Type="String")
    with pytest.raises(ClientError, match="ValidationException"):
        ssm.put_parameter(Name=name, Value="x" * 4097, Type="String", Overwrite=True)
    ssm.put_parameter(Name=name, Value="x" * 8192, Type="String", Tier="Advanced", Overwrite=True)
    with pytest.raises(ClientError, match="ValidationException"):
        ssm.put_parameter(Name=name, Value="x" * 8193, Type="String", Tier="Advanced", Overwrite=True)


def test_a_functions_environment_has_room_for_three_hundred_accounts_and_no_more_than_aws_gives(system: System) -> None:
    """What longer lists are kept elsewhere for. Neither Lambda's API takes them, nor a stack."""
    functions, name = system.client("lambda"), system.deployment.function
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]

    def accounts(count: int) -> str:
        return ",".join([*TARGETS, HUB, *(f"{number:012}" for number in range(count - len(TARGETS) - 1))])

    def configure(count: int) -> None:
        given = {**variables, "ALLOWED_ACCOUNTS": accounts(count)}
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": given})

    try:
        # The local AWS's own variables (endpoints) take more room than AWS's.
        configure(250)
        with pytest.raises(ClientError, match="InvalidParameterValueException.*exceeded the 4KB limit"):
            configure(350)
    finally:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})

    cloudformation = system.client("cloudformation")
    given = cloudformation.describe_stacks(StackName="ecs-updater-hub")["Stacks"][0]["Parameters"]
    before = [{"ParameterKey": one["ParameterKey"], "UsePreviousValue": True} for one in given]

    def update(count: int) -> str:
        changed = {"ParameterKey": "AllowedAccounts", "ParameterValue": accounts(count)}
        arn = cloudformation.update_stack(
            StackName="ecs-updater-hub",
            UsePreviousTemplate=True,
            Parameters=[changed, *(one for one in before if one["ParameterKey"] != "AllowedAccounts")],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )["StackId"]
        return str(stacks._wait(cloudformation, arn, 0.1)["StackStatus"])

    # A parameter of a stack has 4,096 characters; the environment has the other variables too.
    assert update(310) == "UPDATE_ROLLBACK_COMPLETE"
    assert update(290) == "UPDATE_COMPLETE"
    cloudformation.update_stack(
        StackName="ecs-updater-hub",
        UsePreviousTemplate=True,
        Parameters=[one for one in before if one["ParameterKey"] != "AllowedAccounts"],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )


def test_a_secret_parameter_is_refused_and_not_taken_for_its_cipher_text(
    system: System, kept: Callable[..., Document]
) -> None:
    kept("ssm", TARGETS[0], type_="SecureString")
    code, text = change(system, TARGETS[0])
    assert (code, "store it as a String" in text) == ("AssumeRoleFailed", True)
