"""MiniStack's REST APIs with what the API door (infrastructure/api/openapi.yaml) needs of API Gateway; for strict.py.

MiniStack routes requests, checks signatures, permissions and models, and answers with gateway responses. Of an OpenAPI
document it takes paths and authorization only, and a Lambda integration that is no proxy hands the function a proxy's
event. Mended here: PutRestApi, the import of models, validators, integrations and gateway responses; mapping templates (by
airspeed, a Velocity engine), selection patterns, overrides, time limits and asynchronous invocations; the function's
own policy; callers of other accounts; and what a model found.

A mapping template sees what this door's use, no more: $input.json, $input.path, $util.escapeJavaScript, $context.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import airspeed
import jsonschema
from ministack import app
from ministack.core import arn as arns
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.core.router import extract_access_key_id
from ministack.services import apigateway_v1 as api
from ministack.services import lambda_svc

Response = tuple[int, dict[str, str], bytes]

INTEGRATION = "x-amazon-apigateway-integration"
MODEL_URL = "https://apigateway.amazonaws.com/restapis/{}/models/"


# ---- importing -------------------------------------------------------------------------------------------------------

original_import: Callable[..., str] = api._import_rest_api


def import_rest_api(document: dict[str, Any], base: dict[str, Any] | None = None) -> str:
    """An API, with everything that the document says about it."""
    api_id = original_import(document, base)
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
    kept = {id(store): store[put[1]] for store in (api._rest_apis, api._stages_v1, api._deployments_v1)}
    api._delete_rest_api(put[1])
    import_rest_api(json.loads(body), {"tags": {"ms-custom-id": put[1]}})
    for store in (api._rest_apis, api._stages_v1, api._deployments_v1):
        store[put[1]] = kept[id(store)]
    answer: Response = api._get_rest_api(put[1])
    return answer


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
airspeed.__additional_methods__[str]["substring"] = lambda text, begin, end=None: text[begin:end]


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
        "requestOverride": {"path": {}},
        "responseOverride": {},
    }
    try:
        event = json.loads(render(integration["requestTemplates"]["application/json"], body.decode(), context))
    except (ValueError, airspeed.TemplateError):
        return 400, {}, b'{"message": "Could not parse request body into json"}'
    sent = {
        name.removeprefix("integration.request.header.").lower(): value.strip("'")
        for name, value in (integration.get("requestParameters") or {}).items()
    }
    name, qualifier = function_arn.split(":")[6:8]
    invocation = asyncio.ensure_future(lambda_svc._invoke(name, event, sent, path_qualifier=qualifier))
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

original_validation: Callable[..., Any] = api._check_request_validation
original_gateway_response: Callable[..., Response] = api._gateway_error_response


def faults(schema: Any, api_id: str, document: Any) -> str:
    """What a body's model found, in the words of the validator that AWS uses: they name members, but no places."""
    # With the models' addresses made local again, any validator can tell.
    models = {name: json.loads(model["schema"]) for name, model in api._models.get(api_id, {}).items()}
    whole = json.loads(json.dumps({**schema, "m": models}).replace(MODEL_URL.format(api_id), "#/m/"))
    said = []
    for error in jsonschema.Draft4Validator(whole).iter_errors(document):
        match error.validator:
            case "additionalProperties":
                extra = sorted(set(error.instance) - set(error.schema.get("properties", {})))
                said.append(f"object instance has properties which are not allowed by the schema: {json.dumps(extra)}")
            case "required":
                missing = sorted(set(error.validator_value) - set(error.instance))
                said.append(f"object has missing required properties ({json.dumps(missing)})")
            case "pattern":
                pattern, text = json.dumps(error.validator_value), json.dumps(error.instance)
                said.append(f"ECMA 262 regex {pattern} does not match input string {text}")
            case "type":
                allowed = json.dumps([error.validator_value])
                found = type(error.instance).__name__
                said.append(f"instance type ({found}) does not match any allowed primitive type (allowed: {allowed})")
            case _:
                said.append(error.message)
    return f"[{', '.join(dict.fromkeys(said))}]"


def check_request_validation(
    method: dict[str, Any], api_id: str, request: Any, headers: Any, body: bytes, query: Any
) -> Any:
    """A request against its model; the error knows what the model found."""
    error = original_validation(method, api_id, request, headers, body, query)
    if error is not None and error.response_type == "BAD_REQUEST_BODY":
        try:
            schema = api._model_schema(api_id, method["requestModels"]["application/json"])
            error.validation = faults(schema, api_id, json.loads(body))
        except ValueError:
            error.validation = "Invalid request body"
    return error


def gateway_error_response(error: Any, request: dict[str, Any]) -> Response:
    """A gateway response, with the context's variables that MiniStack does not have."""
    request = {**request, "request_id": getattr(error, "request_id", request["request_id"])}
    status, headers, body = original_gateway_response(error, request)
    found = json.dumps(getattr(error, "validation", ""))[1:-1]
    return status, headers, body.replace(b"$context.error.validationErrorString", found.encode())


def mend() -> None:
    """Puts the functions of this file in place of MiniStack's."""
    api._import_rest_api = import_rest_api
    api.handle_request = handle_request
    invoke: Callable[..., Coroutine[Any, Any, Any]] = invoke_lambda
    api._invoke_lambda_custom_v1 = invoke
    api._check_request_validation = check_request_validation
    api._gateway_error_response = gateway_error_response
    api.find_api_scope = find_api_scope
    arns.execute_api_arn = execute_api_arn
    api._iam_caller_identity = iam_caller_identity
