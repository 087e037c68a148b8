"""MiniStack's REST APIs with what the API door (infrastructure/api/openapi.yaml) needs of API Gateway; for strict.py.

MiniStack routes requests, checks signatures, permissions and models, and answers with gateway responses. Of an OpenAPI
document it takes paths and authorization only, and a Lambda integration that is no proxy hands the function a proxy's
event. Mended here: PutRestApi, the import of models, validators, integrations and gateway responses, but not of `security`
at the document's root; deployments, which MiniStack does not tell from the API as it is now; stages that want a log which
API Gateway has no role to write; mapping templates (by airspeed, a Velocity engine), selection patterns, overrides, time
limits and asynchronous invocations; the function's own policy; and callers of other accounts.

A mapping template sees what this door's use, no more: $input.json, $input.path, $util.escapeJavaScript, $context.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import json
import re
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any

import airspeed
from ministack import app
from ministack.core import arn as arns
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.core.responses import AccountRegionScopedDict
from ministack.core.router import extract_access_key_id
from ministack.services import apigateway_v1 as api
from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

Response = tuple[int, dict[str, str], bytes]
Created = tuple[str, dict[str, str]]

INTEGRATION = "x-amazon-apigateway-integration"
MODEL_URL = "https://apigateway.amazonaws.com/restapis/{}/models/"


# ---- importing -------------------------------------------------------------------------------------------------------

original_import: Callable[..., str] = api._import_rest_api


def import_rest_api(document: dict[str, Any], base: dict[str, Any] | None = None) -> str:
    """An API, with everything that the document says about it, but for `security` at its root. API Gateway ignores that of
    a REST API, and a method without its own has no authorization ("Amazon API Gateway important notes for REST APIs",
    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html)."""
    api_id = original_import({name: member for name, member in document.items() if name != "security"}, base)
    for name, schema in ((document.get("components") or {}).get("schemas") or {}).items():
        text = json.dumps(schema).replace("#/components/schemas/", MODEL_URL.format(api_id))
        api._create_model(api_id, {"name": name, "contentType": "application/json", "schema": text})
    validators = {}
    for name, settings in document.get("x-amazon-apigateway-request-validators", {}).items():
        created = api._create_request_validator(api_id, {"name": name, **settings})
        validators[name] = json.loads(created[2])["id"]
    for response_type, response in document.get("x-amazon-apigateway-gateway-responses", {}).items():
        api._put_gateway_response(api_id, response_type, response)
    validator = validators.get(document.get("x-amazon-apigateway-request-validator"))
    for path, item in document["paths"].items():
        for method, operation in item.items():
            import_operation(api_id, path, method.upper(), operation, validator)
    return api_id


original_request: Callable[..., Coroutine[Any, Any, Response]] = api.handle_request


async def handle_request(method: str, path: str, headers: Any, body: bytes, query: Any) -> Response:
    """A request of the control plane; PutRestApi too, by which Terraform gives an API its document."""
    put = re.fullmatch(r"/restapis/(\w+)", path)
    if method != "PUT" or not put or put[1] not in api._rest_apis:
        return await original_request(method, path, headers, body, query)
    overwrite(put[1], json.loads(body))
    answer: Response = api._get_rest_api(put[1])
    return answer


def overwrite(api_id: str, document: dict[str, Any]) -> None:
    """An API made of another document. Its stages serve what they served, until they get another deployment."""
    stores = (api._rest_apis, api._stages_v1, api._deployments_v1, api._deployed_gateway_responses)
    kept = [(store, store[api_id]) for store in stores if api_id in store]
    api._delete_rest_api(api_id)
    import_rest_api(document, {"tags": {"ms-custom-id": api_id}})
    for store, value in kept:
        store[api_id] = value


original_api_update: Callable[..., Created] = provisioners._apigw_rest_api_update


def rest_api_update(
    api_id: str, old: dict[str, Any], new: dict[str, Any], stack: str, logical_id: str | None = None
) -> Created:
    """A stack's API with another document stays the API it is: `Body` is updated without interruption
    (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-apigateway-restapi.html). MiniStack
    makes another one, which deploys whatever depends on it anew."""
    if new["Body"] != old["Body"]:
        overwrite(api_id, new["Body"])
    return original_api_update(api_id, {**old, "Body": new["Body"]}, new, stack, logical_id)


def import_operation(api_id: str, path: str, verb: str, operation: dict[str, Any], validator: str | None) -> None:
    """A method's models, and its integration with templates and responses."""
    resource = next(each for each in api._resources[api_id].values() if each["path"] == path)
    method = resource["resourceMethods"][verb]
    method["requestValidatorId"] = validator
    method["requestModels"] = {
        content_type: content["schema"]["$ref"].rsplit("/", 1)[-1]
        for content_type, content in ((operation.get("requestBody") or {}).get("content") or {}).items()
    }
    given = operation[INTEGRATION]
    method["methodIntegration"].update(
        {name: given[name] for name in ("requestTemplates", "requestParameters", "timeoutInMillis") if name in given},
        passthroughBehavior=given.get("passthroughBehavior", "when_no_match").upper(),
        integrationResponses={
            response["statusCode"]: {**response, "selectionPattern": "" if pattern == "default" else pattern}
            for pattern, response in given["responses"].items()
        },
    )


# ---- deployments -----------------------------------------------------------------------------------------------------

# A stage serves the API as it was when its deployment was made, whatever became of it since ("Every time you update an API,
# you must redeploy the API", https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-deploy-api.html).
SERVED = ("_rest_apis", "_resources", "_authorizers_v1", "_models", "_request_validators")
Snapshot = dict[str, Any]
snapshots: dict[str, Snapshot] = {}
serving: contextvars.ContextVar[Snapshot | None] = contextvars.ContextVar("serving", default=None)


class Served(AccountRegionScopedDict):  # type: ignore[misc]  (MiniStack has no types)
    """A store of MiniStack's whose entries a stage's callers meet as they were deployed."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._data = getattr(api, name)._data

    def get(self, key: str, default: Any = None) -> Any:
        """The entry; the deployed one where a request is being served."""
        snapshot = serving.get()
        return snapshot[self._name] if snapshot is not None else super().get(key, default)

    def get_scoped(self, account_id: str, region: str, key: str, default: Any = None) -> Any:
        """The same, of an account and a region."""
        snapshot = serving.get()
        return snapshot[self._name] if snapshot is not None else super().get_scoped(account_id, region, key, default)


@contextlib.contextmanager
def as_deployed(api_id: str, stage_name: str) -> Iterator[None]:
    """What is read meanwhile is what the stage's deployment has."""
    scope = find_api_scope(api_id)
    stages = api._stages_v1.get_scoped(*scope, api_id, {}) if scope else {}
    token = serving.set(snapshots.get(stages.get(stage_name, {}).get("deploymentId", "")))
    try:
        yield
    finally:
        serving.reset(token)


original_deployment: Callable[..., Response] = api._create_deployment


def create_deployment(api_id: str, data: dict[str, Any]) -> Response:
    """A deployment, with a picture of the API."""
    answer = original_deployment(api_id, data)
    if answer[0] == 201:
        deployment = json.loads(answer[2])["id"]
        snapshots[deployment] = {name: copy.deepcopy(getattr(api, name).get(api_id, {})) for name in SERVED}
    return answer


def api_summary(api_id: str) -> dict[str, dict[str, dict[str, Any]]]:
    """What a deployment says of its methods: how they know their callers too
    (https://docs.aws.amazon.com/apigateway/latest/api/API_MethodSnapshot.html)."""
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for resource in api._resources.get(api_id, {}).values():
        for verb, method in resource["resourceMethods"].items():
            known_by = {name: method[name] for name in ("authorizationType", "apiKeyRequired")}
            summary.setdefault(resource["path"], {})[verb] = known_by
    return summary


original_delete: Callable[..., Response] = api._delete_deployment


def delete_deployment(api_id: str, deployment_id: str) -> Response:
    """No deployment that a stage serves can be deleted."""
    if any(stage["deploymentId"] == deployment_id for stage in api._stages_v1.get(api_id, {}).values()):
        said = "Active stages pointing to this deployment must be moved or deleted"
        return api._v1_error("BadRequestException", said, 400)  # type: ignore[no-any-return]
    return original_delete(api_id, deployment_id)


original_execute: Callable[..., Coroutine[Any, Any, Any]] = api._execute_in_scope


async def execute_in_scope(request: Any, api_id: str, stage_name: str, *rest: Any) -> Any:
    """A request to a stage."""
    with as_deployed(api_id, stage_name):
        return await original_execute(request, api_id, stage_name, *rest)


original_type: Callable[..., str | None] = api.method_authorization_type


def method_authorization_type(api_id: str, stage_name: str, *request: str) -> str | None:
    """How a stage's method knows its callers."""
    with as_deployed(api_id, stage_name):
        return original_type(api_id, stage_name, *request)


original_policy: Callable[..., tuple[str, str] | None] = api.rest_api_policy_for_arn


def rest_api_policy_for_arn(arn: str) -> tuple[str, str] | None:
    """The API's own policy, for a call of one of its stages."""
    called = re.fullmatch(r"arn:aws:execute-api:[^:]+:\d+:(\w+)/([^/]+)/.*", arn)
    with as_deployed(*called.groups()) if called else contextlib.nullcontext():
        return original_policy(arn)


# ---- stages ----------------------------------------------------------------------------------------------------------


def log_fault(wants_log: Any) -> str:
    """Why a stage cannot have its log: API Gateway has to have a role of the account, one per region, to write it with
    (https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html)."""
    has_role = (api._account_settings.get("settings") or {}).get("cloudwatchRoleArn")
    return "CloudWatch Logs role ARN must be set in account settings to enable logging" if wants_log and not has_role else ""


original_stage_create: Callable[..., Created] = provisioners._apigw_stage_create
original_stage_update: Callable[..., Created] = provisioners._apigw_stage_update
original_update_stage: Callable[..., Response] = api._update_stage


def stage_create(logical_id: str, properties: dict[str, Any], stack: str) -> Created:
    """A stack's stage."""
    if fault := log_fault(properties.get("AccessLogSetting")):
        raise ValueError(fault)
    return original_stage_create(logical_id, properties, stack)


def stage_update(physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str) -> Created:
    """The same, in an update."""
    if fault := log_fault(new.get("AccessLogSetting")):
        raise ValueError(fault)
    return original_stage_update(physical_id, old, new, stack)


def update_stage(api_id: str, stage_name: str, data: dict[str, Any]) -> Response:
    """UpdateStage, by which Terraform gives a stage its log."""
    if fault := log_fault(any(each["path"].startswith("/accessLog") for each in data.get("patchOperations", []))):
        return api._v1_error("BadRequestException", fault, 400)  # type: ignore[no-any-return]
    return original_update_stage(api_id, stage_name, data)


# ---- mapping templates -----------------------------------------------------------------------------------------------


class JavaMap(dict[str, Any]):
    """A JSON object, as the java.util.Map that a template sees."""

    def containsKey(self, key: str) -> bool:  # noqa: N802  (Java's name)
        return key in self

    def isEmpty(self) -> bool:  # noqa: N802
        return not self


# In Velocity's string literals a backslash is a backslash.
for literal, quote in ((airspeed.StringLiteral, "'"), (airspeed.InterpolatedStringLiteral, '"')):
    literal.STRING = re.compile(f"{quote}([^{quote}]*){quote}")
    literal.ESCAPED_CHAR = re.compile("(?!)")


# A name may have hyphens, as headers have (https://velocity.apache.org/engine/1.7/vtl-reference.html).
airspeed.NameOrCall.NAME = re.compile(r"([_a-z][a-z0-9_-]*)", re.S + re.I)
airspeed.SetDirective.PLACE = re.compile(r"\s*\$([a-z_][a-z0-9_-]*(?:\.[a-z_][a-z0-9_-]*)*)", re.S + re.I)


# Java's strings count and cut UTF-16 units: a character beyond U+FFFF is two of them, which a cut may tear apart.
def units(text: str, begin: int = 0, end: int | None = None) -> str:
    """String.substring."""
    whole = text.encode("utf-16-le", "surrogatepass")
    return whole[2 * begin : None if end is None else 2 * end].decode("utf-16-le", "surrogatepass")


def code_point(text: str, index: int) -> int:
    """String.codePointAt: of a pair's first unit, the whole character."""
    return ord(units(text, index)[0])


airspeed.__additional_methods__[str].update(
    length=lambda text: len(text.encode("utf-16-le", "surrogatepass")) // 2, substring=units, codePointAt=code_point,
    concat=lambda text, more: text + more, endsWith=lambda text, end: text.endswith(end),
)


class Members(dict[str, Any]):
    """A JSON object that a template made, with the members that it names twice: the function is to see them."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def items(self) -> Any:
        """What is written as JSON."""
        return self._pairs


class Input:
    """`$input` over a JSON text. An empty body is an empty object, as API Gateway has it."""

    def __init__(self, text: str) -> None:
        self._document = json.loads(text or "{}", object_pairs_hook=JavaMap)

    def path(self, path: str) -> Any:
        """What stands at `$` or `$.name`; nothing where nothing does."""
        if path == "$":
            return self._document
        name = re.fullmatch(r"\$\.(\w+)", path)
        assert name, f"{path}: no template of this project asks for that"
        return self._document.get(name[1]) if isinstance(self._document, dict) else None

    def json(self, path: str) -> str:
        """The same as JSON; `""` for nothing, as API Gateway has it."""
        found = self.path(path)
        return '""' if found is None else json.dumps(found, ensure_ascii=False)


class Util:
    """`$util`."""

    @staticmethod
    def escapeJavaScript(text: Any) -> str:  # noqa: N802
        r"""As Apache Commons Lang does it: JSON's escapes, and `\'` and `\/`, the first of which is not JSON."""
        return json.dumps("" if text is None else str(text))[1:-1].replace("/", "\\/").replace("'", "\\'")


def render(template: str, body: str, context: dict[str, Any]) -> str:
    """A mapping template's output; what it overrides is then in `context`."""
    return str(airspeed.Template(template).merge({"input": Input(body), "util": Util(), "context": context}))


# ---- invoking --------------------------------------------------------------------------------------------------------


def may_invoke(function_arn: str, source_arn: str, account: str, region: str) -> bool:
    """Whether the function's policy lets API Gateway invoke it, for this method. MiniStack does not ask."""
    function = lambda_svc._functions.get_scoped(account, region, function_arn.split(":")[6]) or {}
    statements = [
        {**statement, "Principal": "*"}
        for statement in (function.get("policy") or {}).get("Statement", [])
        if statement["Resource"] == function_arn and statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
    ]
    context = EvalContext("*", "Service", "", "lambda:InvokeFunction", function_arn, region)
    context.service_context = {"aws:sourcearn": source_arn, "aws:SourceArn": source_arn, "AWS:SourceArn": source_arn}
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return bool(statements) and evaluate_resource_policy(document, context).decision == "Allow"


async def invoke_lambda(integration: dict[str, Any], api_id: str, stage_name: str, *request: Any, **caller: Any) -> Any:
    """A Lambda integration that is no proxy: template, function, response."""
    _stage, resource, request_path, method, _headers, body, _query, _path_parameters = request
    owner_account_id, owner_region = caller["owner_account_id"], caller["owner_region"]
    function_arn = api._extract_lambda_ref_from_integration_uri(integration["uri"])
    source_arn = api.execute_api_arn(owner_region, owner_account_id, api_id, stage_name, method, request_path)
    if not may_invoke(function_arn, source_arn, owner_account_id, owner_region):
        return api._gw_error("API_CONFIGURATION_ERROR", "Internal server error")
    authorizer = copy.deepcopy(caller["authorizer_context"] or {})
    context = {
        "requestId": api.new_uuid(),
        "requestTime": datetime.now(UTC).strftime("%d/%b/%Y:%H:%M:%S %z"),
        "resourcePath": resource["path"],
        "identity": caller["caller_identity"] or {},
        "authorizer": {**authorizer, "claims": JavaMap(authorizer.get("claims") or {})},
        "requestOverride": {"path": {}, "header": {}},
        "responseOverride": {},
    }
    try:
        made = render(integration["requestTemplates"]["application/json"], body.decode(), context)
        event = json.loads(made, object_pairs_hook=Members)
    except (ValueError, airspeed.TemplateError):
        return 400, {}, b'{"message": "Could not parse request body into json"}'
    sent = {
        name.removeprefix("integration.request.header.").lower(): value.strip("'")
        for name, value in (integration.get("requestParameters") or {}).items()
    }
    # Overrides come after what the integration maps.
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-override-request-response-parameters.html
    sent |= {name.lower(): value for name, value in context["requestOverride"]["header"].items()}
    name, *qualifier = function_arn.split(":")[6:]
    invocation = asyncio.ensure_future(lambda_svc._invoke(name, event, sent, path_qualifier="".join(qualifier) or None))
    try:
        # Where it takes too long, it goes on: the caller's answer is late, not the change.
        answer = await asyncio.wait_for(asyncio.shield(invocation), float(integration["timeoutInMillis"]) / 1000)
    except TimeoutError:
        context_error = api._gw_error("INTEGRATION_TIMEOUT", "Endpoint request timed out")
        context_error.request_id = context["requestId"]
        return context_error
    if answer[0] == 429:
        return api._gw_error("INTEGRATION_FAILURE", "Internal server error")
    return mapped(integration, answer, context)


def mapped(integration: dict[str, Any], answer: Response, context: dict[str, Any]) -> Response:
    """A function's answer through the integration response whose pattern its error matches, or the default one."""
    status, headers, payload = answer
    text = payload.decode()
    error = json.loads(text).get("errorMessage", "") if "X-Amz-Function-Error" in headers else ""
    responses = integration["integrationResponses"].values()
    default = next(response for response in responses if not response["selectionPattern"])
    # Java's String.matches: the whole text, and `.` is no line's end.
    chosen = next(
        (each for each in responses if error and re.fullmatch(each["selectionPattern"] or "(?!)", error)),
        default,
    )
    body = render(chosen["responseTemplates"]["application/json"], text, context)
    overridden = context["responseOverride"].get("status")
    return int(overridden or chosen["statusCode"]), {"Content-Type": "application/json"}, body.encode()


# ---- who may call ----------------------------------------------------------------------------------------------------


def find_api_scope(api_id: str) -> tuple[str, str] | None:
    """Account and region of an API. MiniStack looks in the caller's account only; ids of APIs are unique."""
    scopes = dict(api._rest_apis.all_items())
    return next(((account, region) for account, region, known in scopes if known == api_id), None)


original_arn: Callable[..., str] = arns.execute_api_arn


def execute_api_arn(region: str, account: str, api_id: str, *path: str) -> str:
    """The ARN that a call needs permission for: the API's own account, where MiniStack names the caller's."""
    return original_arn(*((find_api_scope(api_id) or (account, region))[::-1]), api_id, *path)


original_identity: Callable[..., Any] = api._iam_caller_identity


def iam_caller_identity(headers: Any, query: Any) -> Any:
    """Who signed; looked for where the key is from, and not in the API's account."""
    with api.request_scope(app._request_account_scope(extract_access_key_id(headers, query)), api.get_region()):
        return original_identity(headers, query)


# ---- what API Gateway itself answers ---------------------------------------------------------------------------------

original_gateway_response: Callable[..., Response] = api._gateway_error_response


def gateway_error_response(error: Any, request: dict[str, Any]) -> Response:
    """A gateway response, that of a request which took too long with the id that its function got."""
    request = {**request, "request_id": getattr(error, "request_id", request["request_id"])}
    return original_gateway_response(error, request)


def mend() -> None:
    """Puts the functions of this file in place of MiniStack's."""
    for name in SERVED:
        setattr(api, name, Served(name))
    api._build_api_summary = api_summary
    api._create_deployment = create_deployment
    api._delete_deployment = delete_deployment
    api._execute_in_scope = execute_in_scope
    api.method_authorization_type = method_authorization_type
    api.rest_api_policy_for_arn = rest_api_policy_for_arn
    api._update_stage = update_stage
    handlers = provisioners._RESOURCE_HANDLERS
    handlers["AWS::ApiGateway::RestApi"]["update"] = rest_api_update
    handlers["AWS::ApiGateway::Stage"].update(create=stage_create, update=stage_update)
    api._import_rest_api = import_rest_api
    api.handle_request = handle_request
    invoke: Callable[..., Coroutine[Any, Any, Any]] = invoke_lambda
    api._invoke_lambda_custom_v1 = invoke
    api._gateway_error_response = gateway_error_response
    api.find_api_scope = find_api_scope
    arns.execute_api_arn = execute_api_arn
    api._iam_caller_identity = iam_caller_identity
