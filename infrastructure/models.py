#!/usr/bin/env python3
"""Makes the API door's request models from `schema/`, and its template from `infrastructure/api/openapi.yaml`.

A model is JSON Schema draft 4 in what OpenAPI 3.0 has of it, and `schema/` is JSON Schema 2020-12. So, between marker
lines, as in render.py:

    schema/*.schema.json  ->  infrastructure/api/openapi.yaml           # begin models … # end models
    openapi.yaml          ->  infrastructure/cloudformation/api.yaml    # begin api/openapi.yaml … # end …

    infrastructure/models.py           rewrite both in place
    infrastructure/models.py --check   change nothing; exit 1 where one is not up to date

A model takes whatever the schema takes, but for `requested_by`, which is the door's to say. It refuses less: LEFT_OUT
lists what. It tells callers and their tools what to send. The function checks every event against the whole schema and
names each fault with its place, which API Gateway cannot; so what is deployed checks for a JSON object only, but for the
asynchronous paths, whose callers would not hear what the function says.

An operation without `security` of its own is an error here: on AWS it would be open to everybody.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from render import layout

ROOT = Path(__file__).resolve().parent.parent
OPENAPI = ROOT / "infrastructure" / "api" / "openapi.yaml"
TEMPLATE = ROOT / "infrastructure" / "cloudformation" / "api.yaml"

# Keywords of the schemas that models do without, and why. tests/e2e/test_models.py allows no other difference.
CRYPTIC = "API Gateway would say that a rule was broken, and neither which nor where"
LEFT_OUT = {
    "if": CRYPTIC,
    "then": CRYPTIC,
    "else": CRYPTIC,
    "dependentSchemas": CRYPTIC,
    "not": CRYPTIC,
    "propertyNames": "neither draft 4 nor OpenAPI 3.0 has it",
    "examples": "says nothing about what is accepted, and OpenAPI 3.0 does not have it",
}
# A pattern with Unicode classes is left out too: draft 4's patterns are those of ECMA 262 without its flag `u`, where
# \p{L} is four characters and would refuse what AWS takes for a tag.
UNICODE_CLASS = r"\p"

# What stays as it is; anything else in a schema has to be thought about first.
KEPT = {
    "type", "title", "description", "default", "enum", "required", "pattern", "minLength", "maxLength", "minimum",
    "maximum", "minItems", "maxItems", "minProperties", "maxProperties",
}  # fmt: skip


def draft4(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """A schema of 2020-12 as draft 4, with what it refers to in its place."""
    if not isinstance(schema, dict):
        raise TypeError(f"a boolean schema: {schema}")
    converted: dict[str, Any] = {}
    if reference := schema.get("$ref"):
        converted.update(draft4(pointed_at(reference, root), root))
    for keyword, value in schema.items():
        match keyword:
            case "$ref" | "$schema" | "$id" | "$defs":
                pass
            case _ if keyword in LEFT_OUT or keyword == "pattern" and UNICODE_CLASS in value:
                pass
            case "const":
                converted["enum"] = [value]
            case "properties":
                converted["properties"] = {name: draft4(member, root) for name, member in value.items()}
            case "items":
                converted["items"] = draft4(value, root)
            case "additionalProperties":
                converted[keyword] = value if isinstance(value, bool) else draft4(value, root)
            case _ if keyword in KEPT:
                converted[keyword] = value
            case _:
                raise ValueError(f"{keyword}: models.py does not know how to say this in draft 4")
    return converted


def pointed_at(reference: str, root: dict[str, Any]) -> Any:
    """What a reference inside the same document points at."""
    node: Any = root
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def component(name: str) -> str:
    """A field's name as the name of a model, which may have letters and digits only."""
    return "".join(word.title() for word in name.split("_"))


def without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    """An update's model without these fields, in the entries of `updates` as well."""
    model = copy.deepcopy(schema)
    for properties in (model["properties"], model["properties"]["updates"]["items"]["properties"]):
        for name in names:
            properties.pop(name, None)
    return model


def models(root: Path = ROOT) -> dict[str, Any]:
    """The models of the API by name; fields that several share are models of their own."""
    schemas = root / "schema"
    event_schema = json.loads((schemas / "update-event.schema.json").read_text())
    query_schema = json.loads((schemas / "history-query.schema.json").read_text())
    event = draft4(event_schema, event_schema)
    fields = {
        component(name): field for name, field in event["properties"].items() if name not in ("updates", "requested_by")
    }

    def refer(model: dict[str, Any]) -> dict[str, Any]:
        properties = model["properties"]
        for name in properties:
            if name == "updates":
                refer(properties[name]["items"])
            else:
                properties[name] = {"$ref": f"#/components/schemas/{component(name)}"}
        return model

    plan = without(event, "requested_by", "dry_run")
    restore = without(event, "requested_by", "ecs_image_name", "container_name", "images", "ecs_tag", "tag_mode")
    return {
        "UpdateEvent": refer(without(event, "requested_by")),
        "PlanEvent": refer({**plan, "title": "Plan"}),
        "RestoreEvent": refer({**restore, "title": "Restore", "required": ["restore"]}),
        "HistoryQuery": draft4(query_schema, query_schema),
        **fields,
    }


# ---- the template ----------------------------------------------------------------------------------------------------

LAMBDA_URI = "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${%s}/invocations"
# Token of openapi.yaml -> what stands for it in an Fn::Sub.
TOKENS = {
    "__UPDATER_URI__": LAMBDA_URI % "UpdaterApiAliasArn",
    "__HISTORY_URI__": LAMBDA_URI % "HistoryAliasArn",
    "__AUTHORIZER_URI__": LAMBDA_URI % "AuthorizerFunctionArn",
    "__USER_POOL_ARN__": "${UserPoolArn}",
}
TOKEN = re.compile(r"__[A-Z_]+?__")
INTEGRATION = "x-amazon-apigateway-integration"
# How callers are known -> the template's condition. What is none of them is AWS_IAM.
WAYS = {"COGNITO": "KnowsCallersByCognito", "LAMBDA": "KnowsCallersByLambda"}


def by_authorization(ways: dict[str, Any]) -> Any:
    """A value that the parameter ApiAuthorization chooses."""
    chosen = ways["IAM"]
    for way, condition in WAYS.items():
        chosen = {"Fn::If": [condition, ways[way], chosen]}
    return chosen


# What is checked of a body whose faults the function will name.
BODY = {"type": "object"}
BODY_MODEL = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}}


# Models of answers, and of bodies that the function checks.
NOT_DEPLOYED = ("Answer", "Accepted", "Failure", "PlanEvent", "HistoryQuery")


def slim(node: Any) -> Any:
    """A schema or an operation without what is for people: openapi.yaml has it, and a template is short."""
    if isinstance(node, list):
        return [slim(item) for item in node]
    if not isinstance(node, dict):
        return node
    for_people = ("title", "summary", "description", "default", "tags")
    # A property of that name would be an object.
    return {name: slim(member) for name, member in node.items() if name not in for_people or isinstance(member, dict)}


def slim_operation(path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """An operation; of its responses, that there are such. Where nobody waits for the function, its model stays."""
    return {
        **slim(operation),
        "requestBody": operation["requestBody"] if path.endswith("/async") else BODY_MODEL,
        "responses": {status: {"description": ""} for status in operation["responses"]},
    }


def open_operations(document: dict[str, Any]) -> list[str]:
    """The operations that anybody could call."""
    return [
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method, operation in item.items()
        # An empty requirement is met by everybody; all others name a scheme that there is.
        if not operation.get("security")
        or not all(requirement and set(requirement) <= {"caller"} for requirement in operation["security"])
    ]


def body(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """The OpenAPI document as the property Body of AWS::ApiGateway::RestApi, and its mapping templates as Mappings.

    Most operations share their templates, and a mapping can be named again and again. The lines that say who calls have
    a mapping of their own, with a text for each way to know callers.
    """
    if found := open_operations(document):
        raise ValueError(f"{', '.join(found)}: without security of its own, anybody may call it")
    ways = document["x-ecs-updater-authorization"]
    templates: dict[str, dict[str, str]] = {}

    def mapping(texts: dict[str, str]) -> str:
        name = next((name for name, known in templates.items() if known == texts), f"Template{len(templates) + 1}")
        templates[name] = texts
        return name

    def template(text: str) -> Any:
        first, _, rest = text.partition("\n")
        if first != "__CALLER__":
            return {"Fn::FindInMap": [mapping({"Any": text}), "Any", "Text"]}
        caller = mapping({way: ways[way]["caller"] for way in ways})
        by_way = {"Fn::FindInMap": [caller, {"Ref": "ApiAuthorization"}, "Text"]}
        return {"Fn::Join": ["\n", [by_way, template(rest)]]}

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: fill(member) for name, member in node.items()}
        if isinstance(node, list):
            return [fill(item) for item in node]
        if not isinstance(node, str):
            return node
        if "\n" in node:
            return template(node)
        if not TOKEN.search(node):
            return node
        text = TOKEN.sub(lambda token: TOKENS[token.group()], node)
        return {"Ref": text[2:-1]} if re.fullmatch(r"\$\{\w+}", text) else {"Fn::Sub": text}

    dropped = ("x-ecs-updater-authorization", "servers", "tags")
    kept = {name: member for name, member in document.items() if name not in dropped}
    kept["paths"] = {
        path: {method: slim_operation(path, operation) for method, operation in item.items()}
        for path, item in document["paths"].items()
    }
    kept["components"] = {
        "securitySchemes": {"caller": {way: ways[way]["scheme"] for way in ways}},
        "schemas": {
            "Body": BODY,
            **{
                name: slim(schema)
                for name, schema in document["components"]["schemas"].items()
                if name not in NOT_DEPLOYED
            },
        },
    }
    filled: dict[str, Any] = fill(kept)
    schemes = filled["components"]["securitySchemes"]
    schemes["caller"] = by_authorization(schemes["caller"])
    return filled, templates


def outline(node: Any, depth: int) -> str:
    """JSON with a line for each path and model: broken and indented as usual, a template would be twice as long."""
    if depth == 0 or not isinstance(node, dict):
        return json.dumps(node, ensure_ascii=False)
    inner = ",\n".join(f"{json.dumps(name)}: {outline(member, depth - 1)}" for name, member in node.items())
    return "{\n" + "\n".join(f"  {line}" for line in inner.split("\n")) + "\n}"


def digest(api: Any, templates: Any) -> str:
    """What tells this API from any other, whatever the parameters: another one is another deployment."""
    return hashlib.sha256(json.dumps([api, templates], sort_keys=True).encode()).hexdigest()[:10]


# ---- between the markers ---------------------------------------------------------------------------------------------


def between(text: str, name: str, lines: list[str]) -> str:
    """The text with these lines between the markers of `name`, at the markers' indentation."""

    def section(found: re.Match[str]) -> str:
        indent = found["indent"]
        inner = "".join(f"{indent}{line}\n" for line in lines)
        return f"{indent}# begin {name}\n{inner}{indent}# end {name}\n"

    marked = rf"^(?P<indent> *)# begin {re.escape(name)}\n(?:.*\n)*?(?P=indent)# end {re.escape(name)}\n"
    replaced, count = re.subn(marked, section, text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"{count} places marked `# begin {name}`")
    return replaced


def render_openapi(text: str) -> str:
    """The OpenAPI document with its models written anew."""
    lines = []
    for name, model in models().items():
        first, *rest = layout(model, 0).split("\n")
        lines += [f"{name}: {first}", *rest]
    return between(text, "models", lines)


def render_template(text: str, openapi: str) -> str:
    """The template with the API, and what tells it from any other, written anew."""
    document = yaml.safe_load(openapi)
    api, templates = body(document)
    lines = []
    for name, texts in templates.items():
        lines.append(f"{name}:")
        for way, template in texts.items():
            lines += [f"  {way}:", "    Text: |-", *(f"      {line}" for line in template.split("\n"))]
    text = between(text, "templates", lines)
    text = between(text, "api/openapi.yaml", outline(api, 3).split("\n"))
    return between(text, "digest", [f"Document: openapi.yaml {digest(api, templates)}"])


def main(arguments: list[str]) -> int:
    """Rewrites both files, or with `--check` says which are stale."""
    check = arguments == ["--check"]
    if arguments and not check:
        print(__doc__, file=sys.stderr)
        return 2
    openapi = render_openapi(OPENAPI.read_text())
    stale = 0
    for path, fresh in ((OPENAPI, openapi), (TEMPLATE, render_template(TEMPLATE.read_text(), openapi))):
        if fresh == path.read_text():
            continue
        stale += 1
        name = path.relative_to(ROOT)
        if check:
            print(f"{name} is not up to date: run infrastructure/models.py", file=sys.stderr)
        else:
            path.write_text(fresh)
            print(f"{name} rewritten")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
