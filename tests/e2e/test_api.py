"""The API door: who comes in, what it refuses, whose name stands in the history, and what its callers get to see.

Each of the three ways to know callers has a door of its own.

The real template and the real functions, with requests signed as AWS's own clients sign them. The local AWS renders the
mapping templates with another engine than AWS's; see tools/local_aws/strict_api.py.
"""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import check_api
import deploy
import pytest
import stacks
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Keys
from conftest import System
from local_aws import HUB, ORGANIZATION_ID, OUTSIDER, REGION, TARGETS, Credentials, LocalAws, root_of
from wire import Wire

Event = dict[str, Any]
HTTP = urllib3.PoolManager(retries=False)


@dataclass(frozen=True)
class Answer:
    """What a caller got."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Door:
    """The deployed API."""

    aws: LocalAws
    outputs: dict[str, str]
    caller: Credentials
    reader: Credentials
    stranger: Credentials

    @property
    def url(self) -> str:
        """The stage, where the local AWS has it."""
        return f"{self.aws.endpoint}/_aws/execute-api/{self.outputs['ApiId']}/live"

    def post(
        self,
        path: str,
        body: Any,
        who: Credentials | None = None,
        content_type: str = "application/json",
        **headers: str,
    ) -> Answer:
        """A request signed by `who`, or else the caller."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        who = who or self.caller
        request = AWSRequest("POST", self.url + path, headers={"content-type": content_type, **headers}, data=data)
        SigV4Auth(Keys(who.access_key, who.secret_key, who.token), "execute-api", REGION).add_auth(request)
        return self.send(path, data, dict(request.headers))

    def send(self, path: str, data: bytes, headers: dict[str, str]) -> Answer:
        """A request as it is."""
        answer = HTTP.request("POST", self.url + path, body=data, headers=headers)
        assert "json" in answer.headers["content-type"]
        return Answer(answer.status, answer.json())


def user(aws: LocalAws, policy_arn: str | None) -> Credentials:
    """A new user of the hub with this policy and no other."""
    iam, name = aws.client("iam", root_of(HUB)), f"user-{uuid.uuid4()}"
    iam.create_user(UserName=name)
    if policy_arn:
        iam.attach_user_policy(UserName=name, PolicyArn=policy_arn)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return Credentials(key["AccessKeyId"], key["SecretAccessKey"])


@pytest.fixture(scope="module")
def door(system: System) -> Door:
    """The door of api.yaml, with somebody who may call, somebody who may ask, and somebody who may neither."""
    outputs = deploy.deploy_api(system.aws)
    aws = system.aws
    caller, reader = user(aws, outputs["CallerPolicyArn"]), user(aws, outputs["ReaderPolicyArn"])
    return Door(aws, outputs, caller, reader, user(aws, None))


AUTHORIZER = """
import os

def handler(event, context):
    name = event["headers"].get("authorization", "")
    effect = "Allow" if name.startswith(os.environ["FRIEND"]) or name == "nameless" else "Deny"
    resource = event["methodArn"].split("/")[0] + "/*"
    statement = {"Effect": effect, "Action": "execute-api:Invoke", "Resource": resource}
    policy = {"policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}
    return policy if name == "nameless" else {**policy, "principalId": name}
"""


def authorizer(system: System, name: str, friend: str = "ann") -> str:
    """A Lambda authorizer that lets in whose name begins so, and somebody without a name; its ARN."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("authorizer.py", AUTHORIZER)
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    role = system.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    function = system.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="authorizer.handler",
        Environment={"Variables": {"FRIEND": friend}},
        Role=role,
        Code={"ZipFile": package.getvalue()},
    )
    return str(function["FunctionArn"])


@dataclass(frozen=True)
class Pool:
    """A user pool with one user, and what her token says."""

    arn: str
    name: str
    subject: str
    token: str


def user_pool(system: System, name: str = "ann'\"\\o") -> Pool:
    """A new user pool."""
    cognito, password = system.client("cognito-idp"), "Correct-horse-7"
    pool = cognito.create_user_pool(PoolName="door")["UserPool"]
    client = cognito.create_user_pool_client(
        UserPoolId=pool["Id"],
        ClientName="door",
        ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
    )["UserPoolClient"]["ClientId"]
    cognito.admin_create_user(UserPoolId=pool["Id"], Username=name, MessageAction="SUPPRESS")
    cognito.admin_set_user_password(UserPoolId=pool["Id"], Username=name, Password=password, Permanent=True)
    tokens = cognito.initiate_auth(
        ClientId=client, AuthFlow="USER_PASSWORD_AUTH", AuthParameters={"USERNAME": name, "PASSWORD": password}
    )["AuthenticationResult"]
    found = cognito.admin_get_user(UserPoolId=pool["Id"], Username=name)["UserAttributes"]
    (subject,) = (attribute["Value"] for attribute in found if attribute["Name"] == "sub")
    return Pool(pool["Arn"], name, subject, tokens["IdToken"])


NOBODY = Credentials("", "")


@pytest.fixture(scope="module")
def pool(system: System) -> Pool:
    """The user pool of the door that knows its callers by one."""
    return user_pool(system)


@pytest.fixture(scope="module")
def cognito_door(system: System, door: Door, pool: Pool) -> Door:
    """A door that knows its callers by their user pool. (The first door has made the account's role.)"""
    given = {"ApiAuthorization": "COGNITO", "UserPoolArn": pool.arn, "AccountLogRole": "EXISTING"}
    outputs = deploy.deploy_api(system.aws, "ecs-updater-api-cognito", **given)
    assert "CallerPolicyArn" not in outputs
    return Door(system.aws, outputs, NOBODY, NOBODY, NOBODY)


@pytest.fixture(scope="module")
def lambda_door(system: System, door: Door) -> Door:
    """A door that knows its callers by an authorizer."""
    given = {"ApiAuthorization": "LAMBDA", "AuthorizerFunctionArn": authorizer(system, "authorizer")}
    outputs = deploy.deploy_api(system.aws, "ecs-updater-api-lambda", **given, AccountLogRole="EXISTING")
    return Door(system.aws, outputs, NOBODY, NOBODY, NOBODY)


@pytest.fixture
def doors(door: Door, cognito_door: Door, lambda_door: Door) -> dict[str, Door]:
    """A door for each way to know callers."""
    return {"IAM": door, "COGNITO": cognito_door, "LAMBDA": lambda_door}


@contextmanager
def held(system: System, operation: str) -> Iterator[Any]:
    """Holds up the next call of `operation` by whatever the door's alias invokes."""
    functions = system.client("lambda")
    name = system.deployment.function
    before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    alias = functions.get_alias(FunctionName=name, Name="api")["FunctionVersion"]
    with Wire(system.aws.endpoint) as wire:
        endpoints = {f"AWS_ENDPOINT_URL_{service}": wire.endpoint for service in ("STS", "ECS", "DYNAMODB")}
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": {**before, **endpoints}})
        functions.update_alias(FunctionName=name, Name="api", FunctionVersion="$LATEST")
        with wire.holding(operation) as call:
            yield call
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})
    functions.update_alias(FunctionName=name, Name="api", FunctionVersion=alias)


@contextmanager
def impatient(system: System, door: Door, path: str, milliseconds: int) -> Iterator[None]:
    """The door waits no longer than this for the function; on AWS at least 50 ms, at most 29 s. It takes a deployment each."""
    api = system.client("apigateway")
    names = {"restApiId": door.outputs["ApiId"], "httpMethod": "POST"}
    resources = api.get_resources(restApiId=door.outputs["ApiId"], limit=500)["items"]
    names["resourceId"] = next(resource["id"] for resource in resources if resource["path"] == path)

    def wait(value: int) -> None:
        patch = [{"op": "replace", "path": "/timeoutInMillis", "value": str(value)}]
        api.update_integration(**names, patchOperations=patch)
        api.create_deployment(restApiId=names["restApiId"], stageName="live")

    wait(milliseconds)
    yield
    wait(29000)


def arn(system: System, who: Credentials) -> str:
    """Who that is."""
    return str(system.aws.client("sts", who).get_caller_identity()["Arn"])


# ---- who comes in ----------------------------------------------------------------------------------------------------

PATHS = ["/updates", "/updates/async", "/plans", "/restores", "/restores/async", "/history"]


@pytest.mark.parametrize("path", PATHS)
def test_who_is_not_known_or_not_allowed_stays_outside(system: System, door: Door, path: str) -> None:
    service = system.service()
    body = service.event(ecs_image_name="nginx") if path != "/history" else {"account_id": service.account}
    data = json.dumps(body).encode()
    unsigned = door.send(path, data, {"content-type": "application/json"})
    assert unsigned.status == 403
    assert door.post(path, body, door.stranger).status == 403
    wrong = Credentials(door.caller.access_key, "a" * 40)
    assert door.post(path, body, wrong).status == 403
    assert system.running(service)[0] == "busybox"


def invocations(system: System) -> dict[str, int]:
    """How often each function of the hub was invoked."""
    logs = system.client("logs")
    said = {}
    for name in (system.deployment.function, system.deployment.history_function):
        group = system.client("lambda").get_function_configuration(FunctionName=name)["LoggingConfig"]["LogGroup"]
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        said[name] = sum(len(page["events"]) for page in pages)
    return said


@pytest.mark.parametrize("way", ["IAM", "COGNITO", "LAMBDA"])
@pytest.mark.parametrize("path", PATHS)
def test_an_unsigned_request_reaches_no_function(system: System, doors: dict[str, Door], way: str, path: str) -> None:
    """Not even a body that no function would take: nobody who is not known gets to hear what is wrong with it."""
    before = invocations(system)
    for body in (b"{}", b"[]", json.dumps(system.service().event(ecs_image_name="nginx")).encode()):
        refused = doors[way].send(path, body, {"content-type": "application/json"})
        assert refused.status == (403 if way == "IAM" else 401), refused
        assert refused.body["code"] == ("MISSING_AUTHENTICATION_TOKEN" if way == "IAM" else "UNAUTHORIZED")
    assert invocations(system) == before


def test_security_at_the_root_alone_leaves_the_door_open(system: System, door: Door) -> None:
    """What the template was. Functions then hear of people whom nobody knows, and refuse them for want of a name."""
    text = (stacks.TEMPLATES / "api.yaml").read_text()
    security = '"security": [{"caller": []}], '
    assert text.count(security) == len(PATHS)
    text = text.replace(security, "").replace('"x-amazon-apigateway-request-validator": "body",', security, 1)
    parameters = {name: system.deployment.outputs[name] for name in ("UpdaterApiAliasArn", "HistoryAliasArn")}
    cloudformation = system.client("cloudformation")
    outputs = stacks.put(cloudformation, "ecs-updater-api-open", {"TemplateBody": text}, parameters).outputs
    open_door = Door(system.aws, outputs, NOBODY, NOBODY, NOBODY)
    service = system.service()
    for path in ("/updates", "/plans", "/restores", "/history"):
        asked = {"restore": "previous"} if path == "/restores" else {"ecs_image_name": "nginx"}
        body = service.event(**asked) if path != "/history" else {"account_id": service.account}
        before = invocations(system)
        refused = open_door.send(path, json.dumps(body).encode(), {"content-type": "application/json"})
        assert (refused.status, refused.body["code"]) == (400, "JsonValidation"), path
        assert "/requested_by" in refused.body["message"], path
        assert invocations(system) != before
    assert system.records(service) == []
    # And whoever looks, sees it.
    with pytest.raises(check_api.Open, match="POST /updates/async") as found:
        check_api.check(system.client("apigateway"), outputs["ApiId"])
    assert all(f"POST {path}" in str(found.value) for path in PATHS)


def test_whoever_looks_sees_that_each_door_is_shut(system: System, doors: dict[str, Door]) -> None:
    for way, each in doors.items():
        methods = check_api.check(system.client("apigateway"), each.outputs["ApiId"])
        known_by = {"IAM": "AWS_IAM", "COGNITO": "COGNITO_USER_POOLS", "LAMBDA": "CUSTOM"}[way]
        assert methods == {f"POST {path}": known_by for path in PATHS}


@pytest.mark.parametrize("path", PATHS)
def test_whom_an_authorizer_does_not_name_may_do_nothing(system: System, lambda_door: Door, path: str) -> None:
    """And hears of it on the paths too on which nobody waits: else it would be a dead letter, and page an operator."""
    service = system.service()
    asked = {"restore": "previous"} if "restores" in path else {"ecs_image_name": "nginx"}
    body = service.event(**asked) if path != "/history" else {"account_id": service.account}
    headers = {"content-type": "application/json", "authorization": "nameless"}
    answer = lambda_door.send(path, json.dumps(body).encode(), headers)
    assert (answer.status, answer.body["code"]) == (400, "JsonValidation")
    assert "/requested_by" in answer.body["message"]
    assert system.records(service) == []


def test_a_reader_plans_and_asks_and_changes_nothing(system: System, door: Door) -> None:
    service = system.service()
    event = service.event(ecs_image_name="nginx")
    plan = door.post("/plans", event, door.reader)
    assert (plan.status, plan.body["status"]) == (200, "PLANNED")
    assert door.post("/history", {"account_id": service.account}, door.reader).status == 200
    for path in ("/updates", "/updates/async", "/restores", "/restores/async"):
        refused = door.post(path, {**event, "restore": "previous"}, door.reader)
        assert refused.status == 403, path
    assert system.running(service)[0] == "busybox"
    assert system.records(service) == []


def test_a_path_that_is_none_and_another_verb_are_refused(door: Door) -> None:
    assert door.post("/nothing", {}).status == 403
    request = AWSRequest("GET", door.url + "/history")
    keys = Keys(door.caller.access_key, door.caller.secret_key)
    SigV4Auth(keys, "execute-api", REGION).add_auth(request)
    assert HTTP.request("GET", door.url + "/history", headers=dict(request.headers)).status == 403


def test_only_this_api_may_invoke_the_functions(system: System, door: Door) -> None:
    functions = system.client("lambda")
    policies = {}
    for name, alias in ((system.deployment.function, "api"), (system.deployment.history_function, "live")):
        statements = json.loads(functions.get_policy(FunctionName=name, Qualifier=alias)["Policy"])["Statement"]
        assert {json.dumps(each["Principal"]) for each in statements} == {'{"Service": "apigateway.amazonaws.com"}'}
        own = f":{door.outputs['ApiId']}/live/POST/"
        (policies[alias],) = (each for each in statements if own in each["Condition"]["ArnLike"]["AWS:SourceArn"])
        assert policies[alias]["Resource"].endswith(f":{alias}")
    # Without it, the door stays shut.
    sid = policies["live"]["Sid"]
    functions.remove_permission(FunctionName=system.deployment.history_function, StatementId=sid, Qualifier="live")
    shut = door.post("/history", {"account_id": HUB})
    functions.add_permission(
        FunctionName=system.deployment.history_function,
        StatementId=sid,
        Qualifier="live",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=policies["live"]["Condition"]["ArnLike"]["AWS:SourceArn"],
    )
    assert (shut.status, shut.body["code"]) == (500, "API_CONFIGURATION_ERROR")
    assert door.post("/history", {"account_id": HUB}).status == 200


# ---- what it does ----------------------------------------------------------------------------------------------------


def test_a_change_its_restore_and_its_history(system: System, door: Door) -> None:
    service = system.service()
    reason = 'it\'s "7" \\ ü $x #end'
    changed = door.post("/updates", service.event(ecs_image_name="nginx:1", ecs_tag={"a": "ü/"}, reason=reason))
    assert (changed.status, changed.body["status"]) == (200, "APPLIED")
    assert system.running(service) == ("nginx:1", {"a": "ü/"})
    restored = door.post("/restores", service.event(restore=changed.body["change_id"]))
    assert (restored.status, restored.body["status"]) == (200, "APPLIED")
    assert system.running(service)[0] == "busybox"
    names = {
        "account_id": service.account,
        "region": service.region,
        "ecs_cluster_name": deploy.CLUSTER,
        "ecs_service_name": service.name,
    }
    told = door.post("/history", names)
    assert told.status == 200
    me = arn(system, door.caller)
    changes = told.body["changes"]
    assert [(each["requested_by"], each["identity"]) for each in changes] == [(me, "verified")] * 2
    assert [each["change_id"] for each in changes] == [restored.body["change_id"], changed.body["change_id"]]
    assert changes[1]["reason"] == reason
    verified = door.post("/history", {**names, "verify": True})
    assert (verified.status, verified.body["ok"]) == (200, True)


def test_a_plan_touches_nothing(system: System, door: Door) -> None:
    service = system.service()
    before = system.items()
    plan = door.post("/plans", service.event(ecs_image_name="nginx:1"))
    assert (plan.status, plan.body["status"]) == (200, "PLANNED")
    assert [change["to"] for change in plan.body["changes"]] == ["nginx:1"]
    many = door.post("/plans", {"ecs_image_name": "nginx:1", "updates": [service.event()]})
    assert (many.status, many.body["summary"]["planned"]) == (200, 1)
    assert system.items() == before
    assert system.running(service)[0] == "busybox"


def test_many_of_which_some_fail_are_207(system: System, door: Door) -> None:
    service = system.service()
    missing = {**service.event(), "ecs_service_name": "missing"}
    answer = door.post("/updates", {"ecs_image_name": "nginx:1", "updates": [service.event(), missing]})
    assert answer.status == 207
    assert answer.body["summary"] == {"applied": 1, "unchanged": 0, "failed": 1, "not_started": 0}
    assert {record["requested_by"] for record in system.records(service)} == {arn(system, door.caller)}


# ---- whose name stands in the history --------------------------------------------------------------------------------

FORGED = '"requested_by": "arn:aws:iam::111111111111:user/somebody-else"'


@pytest.mark.parametrize("path", ["/updates", "/updates/async", "/plans", "/restores", "/restores/async"])
def test_a_forged_requested_by_does_not_get_through(system: System, door: Door, path: str) -> None:
    service = system.service()
    asked = {"restore": "previous"} if "restores" in path else {"ecs_image_name": "nginx"}
    names = json.dumps(service.event(**asked))
    forged = [
        names[:-1] + f", {FORGED}}}",
        names[:-1] + f", {FORGED.replace('r', chr(92) + 'u0072', 1)}}}",
        names[:-1] + f', "updates": [{{{FORGED}}}]}}',
    ]
    for body in forged:
        refused = door.post(path, body.encode())
        assert (refused.status, refused.body["code"]) == (400, "JsonValidation"), body
        assert "requested_by" in refused.body["message"] or path.endswith("/async"), body
    assert system.records(service) == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_a_body_of_another_type_does_not_pass_by_the_model(system: System, door: Door, content_type: str) -> None:
    service = system.service()
    refused = door.post("/updates", service.event(ecs_image_name="nginx"), content_type=content_type)
    assert (refused.status, refused.body["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert system.records(service) == []


def test_the_session_of_a_role_is_named_as_such(system: System, door: Door) -> None:
    iam = system.client("iam")
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{HUB}:root"}, "Action": "sts:AssumeRole"}
        ],
    }
    role = iam.create_role(RoleName="door-caller", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.attach_role_policy(RoleName="door-caller", PolicyArn=door.outputs["CallerPolicyArn"])
    who = system.assume(role, RoleSessionName="ann@example.com")
    service = system.service()
    assert door.post("/updates", service.event(ecs_image_name="nginx"), who).status == 200
    names = {record["requested_by"] for record in system.records(service)}
    assert names == {f"arn:aws:sts::{HUB}:assumed-role/door-caller/ann@example.com"}


def test_other_accounts_of_the_organization_decide_for_themselves(system: System, door: Door) -> None:
    """And as soon as the stack has its parameter, without anybody deploying the API by hand."""

    def put(**parameters: str) -> Door:
        outputs = deploy.deploy_api(system.aws, "ecs-updater-api-organization", AccountLogRole="EXISTING", **parameters)
        return Door(system.aws, outputs, door.caller, door.reader, door.stranger)

    allowed = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "arn:aws:execute-api:*:*:*/*"}],
    }

    def of(account: str, policy: dict[str, Any] | None) -> Credentials:
        iam, name = system.client("iam", account), f"user-{uuid.uuid4()}"
        iam.create_user(UserName=name)
        if policy:
            iam.put_user_policy(UserName=name, PolicyName="call", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return Credentials(key["AccessKeyId"], key["SecretAccessKey"])

    service = system.service()
    event = service.event(ecs_image_name="nginx")
    target, outsider = of(TARGETS[0], allowed), of(OUTSIDER, allowed)
    # Without the parameter, only principals of the hub come in.
    assert put().post("/updates", event, target).status == 403
    # With it, those of the organization whom their own account lets; in the hub as before.
    open_door = put(OrganizationId=ORGANIZATION_ID)
    for stranger in (outsider, of(TARGETS[0], None), open_door.stranger):
        assert open_door.post("/updates", event, stranger).status == 403
    assert system.records(service) == []
    assert open_door.post("/updates", event, target).status == 200
    assert {record["requested_by"] for record in system.records(service)} == {arn(system, target)}
    assert put(OrganizationId="o-another000").post("/updates", event, target).status == 403
    assert_one_deployment(system, open_door)


def assert_one_deployment(system: System, door: Door) -> None:
    """The API has the deployment that its stage serves, and none of those before."""
    gateway, api = system.client("apigateway"), door.outputs["ApiId"]
    (deployment,) = gateway.get_deployments(restApiId=api)["items"]
    assert gateway.get_stage(restApiId=api, stageName="live")["deploymentId"] == deployment["id"]


def test_another_user_pool_is_asked_as_soon_as_the_stack_has_it(system: System, door: Door, pool: Pool) -> None:
    def put(of: Pool) -> Door:
        given = {"ApiAuthorization": "COGNITO", "UserPoolArn": of.arn, "AccountLogRole": "EXISTING"}
        outputs = deploy.deploy_api(system.aws, "ecs-updater-api-pools", **given)
        return Door(system.aws, outputs, NOBODY, NOBODY, NOBODY)

    another = user_pool(system, "bob")
    query = json.dumps({"account_id": HUB}).encode()
    for asked, refused in ((pool, another), (another, pool)):
        of_pool = put(asked)
        headers = {"content-type": "application/json"}
        assert of_pool.send("/history", query, {**headers, "authorization": asked.token}).status == 200
        assert of_pool.send("/history", query, {**headers, "authorization": refused.token}).status == 401
    assert_one_deployment(system, of_pool)


def test_another_authorizer_is_asked_as_soon_as_the_stack_has_it(system: System, door: Door) -> None:
    query = json.dumps({"account_id": HUB}).encode()
    for friend, stranger in (("ann", "bob"), ("bob", "ann")):
        function = authorizer(system, f"authorizer-{friend}", friend)
        given = {"ApiAuthorization": "LAMBDA", "AuthorizerFunctionArn": function, "AccountLogRole": "EXISTING"}
        outputs = deploy.deploy_api(system.aws, "ecs-updater-api-authorizers", **given)
        of_authorizer = Door(system.aws, outputs, NOBODY, NOBODY, NOBODY)
        headers = {"content-type": "application/json"}
        assert of_authorizer.send("/history", query, {**headers, "authorization": friend}).status == 200
        assert of_authorizer.send("/history", query, {**headers, "authorization": stranger}).status == 403
    assert_one_deployment(system, of_authorizer)


def test_users_of_a_pool_are_named_by_their_token(system: System, cognito_door: Door, pool: Pool) -> None:
    service = system.service()
    data = json.dumps(service.event(ecs_image_name="nginx")).encode()
    headers = {"content-type": "application/json"}
    for token in ({}, {"authorization": "x"}, {"authorization": pool.token[:-4] + "AAAA"}):
        assert cognito_door.send("/updates", data, {**headers, **token}).status in (401, 403)
    assert system.records(service) == []
    answer = cognito_door.send("/updates", data, {**headers, "authorization": pool.token})
    assert (answer.status, answer.body["status"]) == (200, "APPLIED")
    who = {(record["requested_by"], record["identity"]) for record in system.records(service)}
    assert who == {(f"cognito:{pool.subject}:{pool.name}", "verified")}


def test_whom_an_authorizer_lets_in_is_named_by_it(system: System, lambda_door: Door) -> None:
    service = system.service()
    data = json.dumps(service.event(ecs_image_name="nginx")).encode()
    headers = {"content-type": "application/json"}
    assert lambda_door.send("/updates", data, headers).status == 401
    assert lambda_door.send("/updates", data, {**headers, "authorization": "bob"}).status == 403
    assert system.records(service) == []
    name = "ann 'o\" \\"
    assert lambda_door.send("/updates", data, {**headers, "authorization": name}).body["status"] == "APPLIED"
    who = {(record["requested_by"], record["identity"]) for record in system.records(service)}
    assert who == {(name.strip(), "verified")}


def named(system: System, lambda_door: Door, name: str) -> str:
    """What a caller of this name is called in the record of a change."""
    service = system.service()
    headers = {"content-type": "application/json", "authorization": name}
    answer = lambda_door.send("/updates", json.dumps(service.event(ecs_image_name="nginx")).encode(), headers)
    assert answer.body["status"] == "APPLIED", answer.body
    ((who, identity),) = {(record["requested_by"], record["identity"]) for record in system.records(service)}
    assert identity == "verified"
    return str(who)


def test_of_a_long_name_both_ends_are_kept(system: System, lambda_door: Door) -> None:
    """Two users whose names agree for longer than a name may be are two all the same, and turns and keys are theirs."""
    path = "ann/" + "path/" * 60
    names = [named(system, lambda_door, path + user) for user in ("bob", "eve")]
    assert names == [f"{path[:64]}...{(path + user)[-189:]}" for user in ("bob", "eve")]
    assert {len(name) for name in names} == {256}
    assert named(system, lambda_door, f"ann{'x' * 253}") == f"ann{'x' * 253}"
    other = named(system, lambda_door, f"annother/{path}bob")
    assert other not in names


# ---- what it refuses, and how ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "members", "place"),
    [
        ("/updates", {"ecs_cluster": "x"}, '(event): unknown field "ecs_cluster"'),
        ("/updates", {"account_id": 222222222222}, "/account_id: "),
        ("/updates", {"account_id": "12"}, '/account_id: "12"'),
        ("/updates", {"updates": [{}, {"ecs_image": "nginx"}]}, '/updates/1: unknown field "ecs_image"'),
        ("/updates", {"service": {"taskDefinition": "web:7"}}, '/service: unknown field "taskDefinition"'),
        ("/updates", {"ecs_cluster_name": '"\\\n\u2028'}, "/ecs_cluster_name: "),
        ("/updates", {'"\\\n': 1}, r'(event): unknown field "\"\\\n"'),
        ("/updates", {"idempotency_key": {"a": 1}}, "/idempotency_key: "),
        ("/plans", {"dry_run": False}, "dry_run"),
        ("/restores", {}, "/restore: "),
        ("/restores", {"restore": "previous", "ecs_image_name": "nginx"}, "/ecs_image_name: not together with"),
        ("/history", {"ecs_service": "x"}, '(event): unknown field "ecs_service"'),
        ("/history", {"limit": 101}, "/limit: "),
    ],
)
def test_a_body_that_is_wrong_is_400_with_the_place(
    system: System, door: Door, path: str, members: Event, place: str
) -> None:
    event = {"account_id": TARGETS[0], "ecs_cluster_name": "c", "ecs_service_name": "s"}
    base = {"ecs_image_name": "nginx"} if path in ("/updates", "/plans") else {}
    before = system.items()
    refused = door.post(path, {**event, **base, **members} if path != "/history" else members)
    assert (refused.status, refused.body["code"], refused.body["retryable"]) == (400, "JsonValidation", False)
    assert place in refused.body["message"]
    assert system.items() == before


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/updates/async", {"ecs_cluster": "x"}),
        ("/updates/async", {"account_id": '"\\\n\u2028'}),
        ("/updates/async", {"service": ["desiredCount"]}),
        ("/restores/async", {"ecs_image_name": "nginx"}),
        ("/restores/async", {"restore": "last"}),
    ],
)
def test_where_nobody_waits_for_the_function_the_model_refuses(
    system: System, door: Door, path: str, members: Event
) -> None:
    restore = {"restore": "previous"} if "restores" in path else {}
    before = invocations(system)
    refused = door.post(path, {**system.service().event(**restore), **members})
    assert (refused.status, refused.body["code"], refused.body["retryable"]) == (400, "JsonValidation", False)
    assert "/plans says what is wrong with it, and where" in refused.body["message"]
    time.sleep(1)
    assert invocations(system) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"{}", b"{} {}", b'{"a": }'])
def test_what_is_no_event_is_400(door: Door, body: bytes) -> None:
    assert door.post("/updates", body).status == 400
    assert door.post("/plans", body).status == 400


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"container_name": "web", "ecs_tag": {}, "ecs_image_name": None}, "/container_name: only together with"),
        ({"ecs_image_name": None}, '"ecs_image_name" is a required property'),
        ({"ecs_tag": {"aws:x": "y"}}, "/ecs_tag/aws:x"),
        ({"ecs_tag": {"a": "*"}}, "/ecs_tag/a"),
        ({"restore": "previous"}, "/ecs_image_name: not together with"),
    ],
)
def test_what_does_not_go_together_is_400_with_the_place(
    system: System, door: Door, members: Event, place: str
) -> None:
    event = {**system.service().event(ecs_image_name="nginx"), **members}
    refused = door.post("/updates", {name: value for name, value in event.items() if value is not None})
    assert (refused.status, refused.body["code"], refused.body["retryable"]) == (400, "JsonValidation", False)
    assert place in refused.body["message"]
    assert "\n[ERROR][json_validation] Needed: " in refused.body["message"]


def test_what_a_function_fails_with_has_its_status(system: System, door: Door) -> None:
    service = system.service()
    two = system.service(containerDefinitions=[{"name": name, "image": name, "memory": 64} for name in ("a", "b")])
    event = service.event(ecs_image_name="nginx")
    key = str(uuid.uuid4())
    assert door.post("/updates", {**event, "idempotency_key": key}).status == 200
    cases = [
        ({**event, "ecs_image_name": "UPPER:1"}, 400, "InvalidImage", False),
        ({**event, "ecs_cluster_name": "missing"}, 404, "ClusterNotFound", False),
        ({**event, "ecs_service_name": "missing"}, 404, "ServiceNotFound", False),
        ({**event, "ecs_image_name": "other", "idempotency_key": key}, 409, "IdempotencyKeyReused", False),
        ({**event, "ecs_image_name": "other", "expected_task_definition": "x:1"}, 409, "TaskDefinitionChanged", False),
        ({**event, "container_name": "missing"}, 422, "ContainerNotFound", False),
        (two.event(ecs_image_name="nginx"), 422, "AmbiguousContainer", False),
        ({**event, "account_id": "999999999999"}, 502, "AssumeRoleFailed", None),
    ]
    for body, status, code, retryable in cases:
        failed = door.post("/updates", body)
        assert (failed.status, failed.body["code"], failed.body.get("retryable")) == (status, code, retryable), body
        assert failed.body["message"].startswith("[ERROR]["), body


# ---- where it takes longer -------------------------------------------------------------------------------------------


def test_asynchronous_changes_are_202_and_the_key_tells_how_they_ended(system: System, door: Door) -> None:
    service = system.service()
    key = f'it\'s "{uuid.uuid4()}" \\'
    event = service.event(ecs_image_name="nginx:1")
    begun = door.post("/updates/async", {**event, "idempotency_key": key})
    assert (begun.status, begun.body["status"], begun.body["idempotency_key"]) == (202, "ACCEPTED", key)
    assert_answered(door, "/updates", {**event, "idempotency_key": key}, "APPLIED")
    # Without a key, the door makes one and tells it.
    begun = door.post("/restores/async", service.event(restore="previous"))
    made = begun.body["idempotency_key"]
    assert (begun.status, len(made)) == (202, 36)
    wait_for_image(system, service, "busybox")
    assert_answered(door, "/restores", {**service.event(restore="previous"), "idempotency_key": made}, "APPLIED")
    assert len(system.records(service)) == 4


def assert_answered(door: Door, path: str, event: Event, status: str) -> None:
    """Asks until the change has its answer, which is then the first one again."""
    for _ in range(100):
        answer = door.post(path, event)
        if answer.status == 409 and answer.body["code"] == "ChangeInProgress":
            assert answer.body["retryable"] is True
            time.sleep(0.1)
            continue
        assert (answer.status, answer.body["status"]) == (200, status)
        return
    raise AssertionError("the change never ended")


def wait_for_image(system: System, service: Any, image: str) -> None:
    """Waits until the service runs it."""
    for _ in range(100):
        if system.running(service)[0] == image:
            return
        time.sleep(0.1)
    raise AssertionError(f"{service.key} never ran {image}")


def test_a_change_that_takes_longer_than_the_door_waits_is_202_and_goes_on(system: System, door: Door) -> None:
    service = system.service()
    event = service.event(ecs_image_name="nginx:1")
    with impatient(system, door, "/updates", 3000), held(system, "RegisterTaskDefinition") as call:
        late = door.post("/updates", event)
        assert call.arrived.is_set()
        assert (late.status, late.body["status"]) == (202, "ACCEPTED")
        key = late.body["request_id"]
        assert f'"idempotency_key": "{key}"' in late.body["message"]
        by_key = {
            "account_id": service.account,
            "region": service.region,
            "ecs_cluster_name": deploy.CLUSTER,
            "ecs_service_name": service.name,
            "idempotency_key": key,
        }
        (going_on,) = door.post("/history", by_key).body["changes"]
        assert (going_on["status"], going_on["requested_by"]) == ("STARTED", arn(system, door.caller))
        busy = door.post("/updates", {**event, "idempotency_key": key})
        assert (busy.status, busy.body["code"], busy.body["retryable"]) == (409, "ChangeInProgress", True)
        call.released.set()
        wait_for_image(system, service, "nginx:1")
        for _ in range(100):
            if len(system.records(service)) == 2:
                break
            time.sleep(0.1)
    answered = door.post("/updates", {**event, "idempotency_key": key})
    assert (answered.status, answered.body["status"], answered.body["replayed"]) == (200, "APPLIED", True)
    (ended,) = door.post("/history", by_key).body["changes"]
    assert (ended["status"], ended["change_id"]) == ("APPLIED", answered.body["change_id"])
    assert len(system.records(service)) == 2


def test_a_caller_who_sends_too_much_gets_429_and_others_do_not(system: System, door: Door) -> None:
    limit = 120  # The template's own.
    loud = user(system.aws, door.outputs["CallerPolicyArn"])
    plan = {"account_id": "999999999999", "ecs_cluster_name": "c", "ecs_service_name": "s", "ecs_tag": {"a": "1"}}
    # Where a minute ends in between, it is counted anew.
    for _ in range(3 * limit):
        refused = door.post("/plans", plan, loud)
        if refused.status == 429:
            break
        assert refused.body["code"] == "AssumeRoleFailed", refused.body
    assert (refused.status, refused.body["code"], refused.body["retryable"]) == (429, "CallerThrottled", True)
    assert f"the {limit} in a minute" in refused.body["message"]
    quiet = door.post("/plans", plan, user(system.aws, door.outputs["CallerPolicyArn"]))
    assert quiet.body["code"] == "AssumeRoleFailed"


def test_the_same_key_by_another_caller_is_another_event(system: System, door: Door) -> None:
    service = system.service()
    event = service.event(ecs_image_name="nginx:1", idempotency_key=str(uuid.uuid4()))
    assert door.post("/updates", event).status == 200
    other = door.post("/updates", event, user(system.aws, door.outputs["CallerPolicyArn"]))
    assert (other.status, other.body["code"]) == (409, "IdempotencyKeyReused")
