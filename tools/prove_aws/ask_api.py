"""Questions about the API door: REST APIs of API Gateway."""

from __future__ import annotations

import json
import re
from typing import Any

import supplies
import urllib3
import yaml
from account import Account, code
from botocore.exceptions import ClientError
from question import ROOT, Answer, Place, believed, other, question

OPENAPI = "infrastructure/api/openapi.yaml"
STAGE = "live"
SCHEME = {"caller": {"type": "apiKey", "name": "Authorization", "in": "header", "x-amazon-apigateway-authtype": "awsSigv4"}}
MOCK = {
    "type": "mock",
    "requestTemplates": {"application/json": '{"statusCode": 200}'},
    "responses": {"default": {"statusCode": "200", "responseTemplates": {"application/json": "{}"}}},
}


def api(account: Account, what: str, document: dict[str, Any]) -> str:
    """A new REST API, made of an OpenAPI document; its id. It is made empty first, because an import takes no tags."""
    gateway, name = account.client("apigateway"), account.name(what)

    def attempt() -> str | None:
        try:
            return str(gateway.create_rest_api(name=name, tags=account.tags)["id"])
        except ClientError as error:
            if code(error) == "TooManyRequestsException":
                return None
            raise

    made = account.wait(attempt, 120, "API Gateway makes no further API now", pause=10)
    body = json.dumps({"openapi": "3.0.3", "info": {"title": name, "version": "1"}, **document}).encode()
    gateway.put_rest_api(restApiId=made, mode="overwrite", failOnWarnings=False, body=body)
    return made


def integration(path: str) -> dict[str, Any]:
    """The integration of a path, as it stands in the door's document."""
    return dict(yaml.safe_load((ROOT / OPENAPI).read_text())["paths"][path]["post"]["x-amazon-apigateway-integration"])


def door(account: Account) -> str:
    """An API whose POST /updates is the door's, with a function behind it that answers its event; its address. The caller's name is the
    `reason` of the body: so it can be any."""

    def make() -> str:
        function = supplies.echo(account)
        real = integration("/updates")
        uri = f"arn:{account.partition}:apigateway:{account.region}:lambda:path/2015-03-31/functions/{function}/invocations"
        template = real["requestTemplates"]["application/json"].replace("__CALLER__", "#set($caller = $input.path('$.reason'))")
        # What the function got, and what the door says to who does not wait: it repeats the key.
        accepted = integration("/updates/async")["responses"]["default"]["responseTemplates"]["application/json"]
        answer = f"{{\"event\": $input.json('$.body'), \"accepted\": {accepted}}}"
        given = {
            **{name: real[name] for name in ("type", "httpMethod", "passthroughBehavior", "timeoutInMillis")},
            "uri": uri,
            "requestTemplates": {"application/json": template},
            "responses": {"default": {"statusCode": "200", "responseTemplates": {"application/json": answer}}},
        }
        schema = {"type": "object", "required": ["reason"], "properties": {"reason": {"type": "string"}}}
        operation = {
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Event"}}}},
            "responses": {"200": {"description": "The event."}},
            "x-amazon-apigateway-integration": given,
        }
        made = api(account, "door", {
            "paths": {"/updates": {"post": operation}},
            "components": {"schemas": {"Event": schema}},
            "x-amazon-apigateway-request-validators": {"body": {"validateRequestBody": True, "validateRequestParameters": False}},
            "x-amazon-apigateway-request-validator": "body",
        })
        account.client("lambda").add_permission(
            FunctionName=function, StatementId="door", Action="lambda:InvokeFunction", Principal="apigateway.amazonaws.com",
            SourceArn=f"arn:{account.partition}:execute-api:{account.region}:{account.id}:{made}/*",
        )
        account.client("apigateway").create_deployment(restApiId=made, stageName=STAGE)
        host = f"{account.endpoint}/_aws/execute-api/{made}" if account.is_local else f"https://{made}.execute-api.{account.region}.{account.suffix}"
        address = f"{host}/{STAGE}/updates"
        # A new stage is not known everywhere at once.
        account.wait(lambda: send(address, {"reason": "ready"})[0] == 200 or None, 90, "the new stage never answered", pause=3)
        return address

    return account.shared("door", make)


def send(address: str, body: Any, content_type: str = "application/json") -> tuple[int, str]:
    """Posts a body; status and text of the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = urllib3.PoolManager(retries=False).request("POST", address, body=data, headers={"Content-Type": content_type}, timeout=30)
    return answer.status, answer.data.decode(errors="replace")


@question(
    "root-security",
    asked="Does `security` at the root of an OpenAPI document protect the methods of a REST API?",
    matters="If the door relied on it, it would let everybody in.",
    believes="it does not: each operation has its own",
    places=(Place(OPENAPI, "API Gateway ignores what stands at a document's root"),),
    how="PutRestApi with two methods, one of which has its own; how both know their callers.",
)
def root_security(account: Account) -> Answer:
    """Imports, and reads the methods."""
    operation = {"responses": {"200": {"description": "It."}}, "x-amazon-apigateway-integration": MOCK}
    made = api(account, "root", {
        "security": [{"caller": []}],
        "paths": {"/root": {"get": operation}, "/own": {"get": {**operation, "security": [{"caller": []}]}}},
        "components": {"securitySchemes": SCHEME},
    })
    pages = account.client("apigateway").get_paginator("get_resources").paginate(restApiId=made, embed=["methods"])
    known_by = {
        resource["path"]: method["authorizationType"]
        for page in pages for resource in page["items"] for method in resource.get("resourceMethods", {}).values()
    }
    if known_by.get("/own") != "AWS_IAM":
        return other(f"a method with its own security has authorization {known_by.get('/own')}", **known_by)
    if known_by.get("/root") != "NONE":
        return other(f"a method without its own has authorization {known_by.get('/root')}", **known_by)
    return believed("a method without its own has authorization NONE, one with its own AWS_IAM", **known_by)


@question(
    "charset",
    asked="What does the door make of `Content-Type: application/json; charset=utf-8`?",
    matters="Many HTTP clients send it. A type that comes past the model would bring bodies to the function that nobody checked.",
    believes="it is application/json to the door: the model and the template are applied, and any other type is refused (415)",
    places=(
        Place("docs/API.md", "(anything else is 415)"),
        Place(OPENAPI, "A body of another type would come past the model. This refuses it (415)."),
    ),
    how="A right and a wrong body with each type, to the door's integration with a function that answers its event.",
    minutes=3,
)
def charset(account: Account) -> Answer:
    """Posts each body with each type."""
    address = door(account)
    types = ("application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "text/plain", "application/xml")
    right, wrong = {"reason": "me"}, {"reason": 1}
    facts: dict[str, Any] = {}
    for kind in types:
        statuses = [send(address, body, kind) for body in (right, wrong)]
        facts[kind] = {"right": statuses[0][0], "wrong": statuses[1][0], "reached": ["requested_by" in text for _, text in statuses]}
    text = "; ".join(f"{kind}: {facts[kind]['right']}, wrong body {facts[kind]['wrong']}" for kind in types)
    past = [kind for kind in types if facts[kind]["reached"][1] or (not kind.startswith("application/json") and facts[kind]["reached"][0])]
    if past:
        return other(f"{text}: past the model came {', '.join(past)}", kinder=True, **facts)
    wanted = {kind: (200, 400) if kind.startswith("application/json") else (415, 415) for kind in types}
    # Which of two faults of a request is told does not matter.
    is_wanted = all(facts[kind]["right"] == right and facts[kind]["wrong"] in (wrong, 400, 415) for kind, (right, wrong) in wanted.items())
    return believed(text, **facts) if is_wanted else other(text, **facts)


NAMES = (
    "arn:aws:iam::123456789012:user/plain",
    "O'Neil",
    'quotes " and \\ backslashes \\\' and / slashes',
    "tab\there, line\nend",
    "é, ü and 漢字",
    "an emoji \U0001f600 in it",
    "$caller #set($x = 1) #end ${y}",
    "a" * 63 + "\U0001f600" + "b" * 300,
    "a" * 300 + "\U0001f600" + "b" * 188,
    "c" * 300,
)


def shortened(name: str) -> str:
    """What the door makes of a name that is too long, as its template counts: in units of UTF-16, of which none is left alone."""
    units = name.encode("utf-16-be")
    many = len(units) // 2
    if many <= 256:
        return name

    def is_torn(at: int) -> bool:
        """Whether a cut before this unit would tear a character."""
        return 0xD800 <= int.from_bytes(units[2 * at - 2 : 2 * at]) <= 0xDBFF

    first = 63 if is_torn(64) else 64
    last = many - 189 + (1 if is_torn(many - 189) else 0)
    return f"{units[: 2 * first].decode('utf-16-be')}...{units[2 * last :].decode('utf-16-be')}"


@question(
    "velocity",
    asked="Does the door's mapping template make JSON of any caller's name, as `$util.escapeJavaScript` and `replaceAll` are believed to work?",
    matters="A name that breaks out of its string would write members of the event; one that is not JSON locks its owner out.",
    believes="escapeJavaScript writes JSON's escapes and \\', in Velocity's strings a backslash is a backslash, and Java's methods of strings and "
    "maps may be called; what the request's template overrides, the answer's reads",
    places=(
        Place(OPENAPI, "$util.escapeJavaScript writes ' as \\', which is no JSON."),
        Place("tools/local_aws/strict_api.py", "In Velocity's string literals a backslash is a backslash."),
    ),
    how="The template of POST /updates, with names from the body, before a function that answers its event; and the answer of /updates/async.",
    minutes=3,
)
def velocity(account: Account) -> Answer:
    """Posts names, and reads what the function got."""
    address = door(account)
    wrong: dict[str, Any] = {}
    for name in NAMES:
        status, text = send(address, {"reason": name})
        try:
            answer = json.loads(text)
            got, key = answer["event"], answer["accepted"]["idempotency_key"]
        except (ValueError, KeyError):
            wrong[name] = f"{status} {text[:200]}"
            continue
        by = got.get("requested_by")
        if status != 200 or by != shortened(name):
            wrong[name] = f"{status}: {by if by is not None else text[:200]!r}"
        elif key != got.get("idempotency_key"):
            wrong[name] = f"the answer names the key {key}, and the function got {got.get('idempotency_key')}"
        elif got.get("reason") != name or not re.fullmatch(r"[\w-]{8,}", str(got.get("idempotency_key", ""))) or "sent_at" not in got:
            wrong[name] = f"the rest of the event: {text[:300]}"
    if wrong:
        return other(f"{len(wrong)} of {len(NAMES)} names: {json.dumps(wrong)[:600]}", wrong=wrong)
    return believed(f"{len(NAMES)} names come as they are, or shortened", names=list(NAMES))
