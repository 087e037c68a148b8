"""The API door's models take what the schemas take, but for what is listed; its templates let nothing be forged."""

from __future__ import annotations

import collections
import copy
import json
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

import airspeed
import jsonschema
import models
import pytest
import regex
import strict_api
import yaml
from jsonschema import validators
from test_templates import resolve, template

Event = dict[str, Any]
SCHEMA = models.ROOT / "schema"
DOCUMENT = yaml.safe_load(models.OPENAPI.read_text())


def pattern(validator: Any, value: str, instance: Any, schema: Any) -> Any:
    """The keyword `pattern`, with Unicode classes, which Python's own engine does not have."""
    if validator.is_type(instance, "string") and not regex.search(value, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {value!r}")


Draft202012 = validators.extend(jsonschema.Draft202012Validator, {"pattern": pattern})
Draft4 = validators.extend(jsonschema.Draft4Validator, {"pattern": pattern})


def model(name: str) -> Any:
    """A validator of a model of openapi.yaml, as API Gateway has it: draft 4."""
    return Draft4({"components": DOCUMENT["components"], "$ref": f"#/components/schemas/{name}"})


def schema(name: str) -> Any:
    """A validator of a schema of schema/."""
    return Draft202012(json.loads((SCHEMA / f"{name}.schema.json").read_text()))


# ---- events ----------------------------------------------------------------------------------------------------------

TEXTS = [
    "", "x", "nginx:1.27", "a b", "é", "*", "arn:aws:ecs:eu-west-1:222222222222:service/c/s", "a" * 255, "a" * 256,
    "a" * 257, "a" * 1024, "a" * 1025, "previous", "web:7", "replace", "merge", "222222222222", "22222222222",
    "eu-west-1", "2026-11-22", "2026-11-22T09:30:00+01:00", "0194aa3e-7f60-7000-8000-000000000000",
    "0194aa3e-7f60-4000-8000-000000000000", "FAILED", "oldest_first", f"{'r' * 255}@sha256:{'0' * 64}",
    f"{'r' * 256}@sha256:{'0' * 64}",
]  # fmt: skip
OTHERS: list[Any] = [None, True, False, 0, 1, 100, 101, -1, 1.0, 20.0, 1.5, [], {}, [1], {"a": 1}]
MAPS: list[Any] = [
    {"web": "nginx"}, {"web": ""}, {"a b": "nginx"}, {"web": 7}, {f"c{n}": "nginx" for n in range(10)},
    {f"c{n}": "nginx" for n in range(11)}, {"team": "a b"}, {"aws:x": "y"}, {"x": "AWS:y"}, {"x": "*"}, {"*": "x"},
    {"": "x"}, {"é": "ü"}, {"k" * 129: "x"}, {f"t{n}": "x" for n in range(51)}, {"desiredCount": 3},
    {"taskDefinition": "x"},
    {"desiredCount": None, "loadBalancers": []},
]  # fmt: skip
UPDATE_FIELDS = list(json.loads((SCHEMA / "update-event.schema.json").read_text())["properties"])
QUERY_FIELDS = list(json.loads((SCHEMA / "history-query.schema.json").read_text())["properties"])
GOOD: Event = {
    "account_id": "222222222222", "region": "eu-west-1", "ecs_cluster_name": "c", "ecs_service_name": "s",
    "ecs_image_name": "nginx:1", "container_name": "web", "images": {"web": "nginx"}, "ecs_tag": {"a": "b"},
    "tag_mode": "merge", "restore": "previous", "service": {"desiredCount": 3}, "force_new_deployment": True,
    "resolve_digest": True, "check_image": True, "expected_task_definition": "web:7", "dry_run": True, "idempotency_key": "k", "requested_by": "ann", "reason": "r",
    "updates": [{}], "summary_only": True,
    "image": "nginx", "change_id": "0194aa3e-7f60-7000-8000-000000000000", "from": "2026-11-22", "to": "2026-11-23",
    "status": "FAILED", "limit": 20, "order": "oldest_first", "next_token": "t", "verify": True,
}  # fmt: skip


# What chance brings too seldom: tags that only the schema refuses.
TAGGED = {"ecs_cluster_name": "c", "ecs_service_name": "s"}
RARE: list[Any] = [
    {**TAGGED, "ecs_tag": {"x": "aws:y"}},
    {**TAGGED, "ecs_tag": {"team": "a;b"}},
    {"image": "nginx", "limit": 20.0},
]


def events(fields: list[str], usual: str, count: int) -> list[Any]:
    """Events of these fields, by chance but the same every time: most of them nearly good, and most with `usual`."""
    chance = random.Random(usual)

    def value(name: str) -> Any:
        if name == "updates" and chance.random() < 0.8:
            return [some() for _ in range(chance.choice([0, 1, 1, 2, 3]))]
        return GOOD.get(name, 1) if chance.random() < 0.7 else chance.choice([*TEXTS, *OTHERS, *MAPS])

    def some() -> Event:
        names = chance.sample(fields, chance.randint(0, 4))
        names += chance.choice([[], ["ecs_cluster_name", "ecs_service_name", usual], ["account_id", usual]])
        event = {name: value(name) for name in names if name in fields}
        if chance.random() < 0.05:
            event[chance.choice(["unknown", "Region", "ecs_image", ""])] = "x"
        return event

    return [some() if chance.random() < 0.98 else chance.choice([*TEXTS, *OTHERS]) for _ in range(count)]


def left_out(error: jsonschema.ValidationError) -> str | None:
    """The keyword for which models.py says that a model does without, where it is the one that refuses."""
    for step in error.absolute_schema_path:
        if step in models.LEFT_OUT:
            return str(step)
    if error.validator == "pattern" and models.UNICODE_CLASS in error.validator_value:
        return models.UNICODE_CLASS
    return None


def own(event: Any, *forbidden: str) -> bool:
    """Whether the event, or an entry of its updates, has a field that is the door's to say, or the path's."""
    if not isinstance(event, dict):
        return False
    updates = event.get("updates")
    entries = [each for each in updates if isinstance(each, dict)] if isinstance(updates, list) else []
    return any(name in each for each in (event, *entries) for name in forbidden)


def whole_floats(event: Any) -> bool:
    """Whether a number is written like 20.0: an integer for 2020-12, and none for draft 4."""
    if isinstance(event, dict):
        return any(map(whole_floats, event.values()))
    if isinstance(event, list):
        return any(map(whole_floats, event))
    return isinstance(event, float) and event.is_integer()


WITHOUT_IMAGES = ("ecs_image_name", "container_name", "images", "ecs_tag", "tag_mode")
CASES: list[tuple[str, str, list[str], str, Callable[[Any], bool]]] = [
    ("UpdateEvent", "update-event", UPDATE_FIELDS, "ecs_image_name", lambda event: own(event, "requested_by")),
    ("PlanEvent", "update-event", UPDATE_FIELDS, "ecs_tag", lambda event: own(event, "requested_by", "dry_run")),
    (
        "RestoreEvent",
        "update-event",
        # Of the fields that it does not have, one.
        [name for name in UPDATE_FIELDS if name not in ("requested_by", *WITHOUT_IMAGES[1:])],
        "restore",
        lambda event: own(event, "requested_by", *WITHOUT_IMAGES) or isinstance(event, dict) and "restore" not in event,
    ),
    ("HistoryQuery", "history-query", QUERY_FIELDS, "image", lambda event: False),
]


@pytest.mark.parametrize(
    ("name", "source", "fields", "usual", "refused_by_the_door"), CASES, ids=[case[0] for case in CASES]
)
def test_a_model_takes_what_its_schema_takes_but_for_what_is_listed(
    name: str, source: str, fields: list[str], usual: str, refused_by_the_door: Callable[[Any], bool]
) -> None:
    by_schema, by_model = schema(source), model(name)
    seen: collections.Counter[str] = collections.Counter()
    for event in [*events(fields, usual, 3000), *RARE]:
        faults = [left_out(error) for error in by_schema.iter_errors(event)]
        takes = by_model.is_valid(event)
        if refused_by_the_door(event):
            expected, why = False, "the door's own"
        elif not faults:
            expected, why = True, "good"
        elif all(faults):
            # Nothing but what models do without; where a model refuses all the same, another of its rules does.
            seen.update(f"without {fault}" for fault in faults)
            expected, why = True, "left to the function"
        else:
            expected, why = False, "bad"
        if takes is False and expected is True and whole_floats(event):
            expected, why = False, "20.0"
        assert takes is expected, (why, event, [error.message for error in by_schema.iter_errors(event)])
        seen[why] += 1
    assert min(seen[why] for why in ("good", "bad", "left to the function")) > 50, seen
    if source == "update-event":
        kinds = {"without then", "without dependentSchemas"}
        if name != "RestoreEvent":
            kinds |= {"without not", "without propertyNames", r"without \p"}
        assert kinds <= set(seen), seen
    else:
        assert seen["20.0"] > 0, seen


def test_a_model_is_openapi_and_draft_4() -> None:
    for name in DOCUMENT["components"]["schemas"]:
        jsonschema.Draft4Validator.check_schema(DOCUMENT["components"]["schemas"][name])
        assert name.isalnum(), "API Gateway takes letters and digits only"
    known = {*models.KEPT, "properties", "items", "additionalProperties", "$ref"}

    def check(node: Any) -> None:
        assert set(node) <= known, set(node) - known
        assert "$ref" not in node or len(node) == 1, "what stands beside a reference is ignored"
        for member in [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]:
            if isinstance(member, dict):
                check(member)

    for schema_of in models.models().values():
        check(schema_of)


def test_what_cannot_be_said_in_draft_4_is_not_dropped_in_silence() -> None:
    with pytest.raises(ValueError, match="contains"):
        models.draft4({"contains": {}}, {})
    with pytest.raises(TypeError):
        models.draft4({"properties": {"x": False}}, {})


def test_openapi_and_template_are_up_to_date() -> None:
    text = models.render_openapi(models.OPENAPI.read_text())
    assert text == models.OPENAPI.read_text()
    assert models.render_template(models.TEMPLATE.read_text(), text) == models.TEMPLATE.read_text()
    # CloudFormation takes a template of this length without a bucket.
    assert len(models.TEMPLATE.read_bytes()) <= 51_200


def operations(document: Any) -> list[tuple[str, Any]]:
    """Every operation of an OpenAPI document, by its path."""
    return [(path, each) for path, item in document["paths"].items() for each in item.values()]


@pytest.mark.parametrize("condition", ["KnowsCallersByIam", "KnowsCallersByCognito", "KnowsCallersByLambda"])
def test_no_operation_that_is_deployed_is_without_security(condition: str) -> None:
    """In each of the three ways to know callers; API Gateway ignores what stands at the root."""
    conditions = dict.fromkeys(["KnowsCallersByIam", "KnowsCallersByCognito", "KnowsCallersByLambda"], False)
    values = {"AuthorizerFunctionArn": "arn:who", "UserPoolArn": "arn:pool", "ApiAuthorization": "IAM"}
    values |= {name: name for name in ("AWS::Partition", "AWS::Region", "UpdaterApiAliasArn", "HistoryAliasArn")}
    whole = template("api.yaml")
    body = whole["Resources"]["Api"]["Properties"]["Body"]
    document = resolve(body, {**values, "Mappings": whole["Mappings"]}, {**conditions, condition: True})
    assert "security" not in document
    assert {path for path, _ in operations(document)} == set(DOCUMENT["paths"])
    for path, operation in operations(document):
        assert operation["security"] == [{"caller": []}], path
    way = document["components"]["securitySchemes"]["caller"]["x-amazon-apigateway-authtype"]
    assert f"KnowsCallersBy{ {'awsSigv4': 'Iam', 'cognito_user_pools': 'Cognito', 'custom': 'Lambda'}[way] }" == condition


@pytest.mark.parametrize("security", [None, [], [{}], [{"caller": []}, {}], [{"another": []}]])
def test_an_operation_that_anybody_may_call_is_not_rendered(security: Any) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["security"] = [{"caller": []}]
    operation = document["paths"]["/history"]["post"]
    del operation["security"]
    if security is not None:
        operation["security"] = security
    with pytest.raises(ValueError, match="POST /history: without security"):
        models.body(document)


def test_the_function_says_what_is_wrong_where_somebody_waits_for_it() -> None:
    """API Gateway would not say where. A body is a JSON object, so that the mapping template can add to it."""
    whole = template("api.yaml")
    document = whole["Resources"]["Api"]["Properties"]["Body"]
    for path, operation in operations(document):
        model = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
        expected = {"/updates/async": "UpdateEvent", "/restores/async": "RestoreEvent"}.get(path, "Body")
        assert (model, operation["requestBody"]["required"]) == (expected, True), path
    schemas = document["components"]["schemas"]
    assert schemas["Body"] == {"type": "object"}
    assert schemas["UpdateEvent"] == models.slim(DOCUMENT["components"]["schemas"]["UpdateEvent"])


def test_what_api_gateway_answers_itself_is_json_whatever_was_sent() -> None:
    """Its templates know no functions, so nothing that a caller wrote may stand between quotes."""
    for name, response in DOCUMENT["x-amazon-apigateway-gateway-responses"].items():
        text = response["responseTemplates"]["application/json"]
        quoted = set(regex.findall(r"\$context[.\w]*", regex.sub(r"\": \$context[.\w]+", "", text)))
        assert quoted <= {"$context.requestId", "$context.error.responseType"}, name
        filled = text.replace("$context.error.messageString", '"m"').replace("$context.requestId", "id")
        assert {"message"} <= set(json.loads(filled)), name


def named(node: Any) -> set[str]:
    """The names that a part of a template refers to."""
    if isinstance(node, list):
        return set().union(*map(named, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    match node:
        case {"Ref": name}:
            return {name}
        case {"Fn::If": [condition, *branches]}:
            return {condition, *named(branches)}
        case {"Fn::Sub": str(text)}:
            return set(regex.findall(r"\$\{([^!}.]+)", text))
    return set().union(*map(named, node.values())) if node else set()


def test_what_changes_the_api_deploys_it_anew() -> None:
    """A stage serves the deployment that it has, whatever becomes of the API."""
    before, after = (
        models.digest(*models.body({**DOCUMENT, "info": {**DOCUMENT["info"], "version": version}})) for version in "12"
    )
    assert before != after
    whole = template("api.yaml")
    resources, conditions = whole["Resources"], whole["Conditions"]
    deployment = resources["Deployment"]["Properties"]
    assert deployment["Document"].endswith(models.digest(*models.body(DOCUMENT)))
    used = named(resources["Api"]["Properties"])
    used |= set().union(*(named(conditions[name]) for name in used & set(conditions)))
    parameters = used & set(whole["Parameters"])
    assert {"UserPoolArn", "AuthorizerFunctionArn", "OrganizationId", "ApiAuthorization"} <= parameters
    assert {name: deployment.get(name) for name in parameters} == {name: {"Ref": name} for name in parameters}
    assert resources["Stage"]["Properties"]["DeploymentId"] == {"Ref": "Deployment"}


# ---- templates -------------------------------------------------------------------------------------------------------

WAYS = DOCUMENT["x-ecs-updater-authorization"]
SENT = {"sent_at": "2026-11-09T08:30:00+00:00"}
UPDATE = {"ecs_cluster_name": "c", "ecs_service_name": "s", "ecs_image_name": "nginx"}
NASTY = [
    "it's", '"', "\\", "\\'", '", "requested_by": "x', "$context.requestId", "#set($x = 1)$x", "ü\n\t\x00\u2028", "😀",
    "</script>",
]  # fmt: skip


def rendered(body: Any, way: str, path: str = "/updates", **context: Any) -> str:
    """What the function would get for a body that no model has seen."""
    text = body if isinstance(body, str) else json.dumps(body)
    known = {
        "requestId": "request-1",
        "requestTime": "09/Nov/2026:08:30:00 +0000",
        "resourcePath": path,
        "identity": {"userArn": "arn:aws:iam::111111111111:user/ann"},
        "requestOverride": {"path": {}, "header": {}},
        **context,
    }
    asked = DOCUMENT["paths"][path]["post"][models.INTEGRATION]["requestTemplates"]["application/json"]
    return strict_api.render(asked.replace("__CALLER__", WAYS[way]["caller"]), text, known)


def once(text: str) -> Event:
    """A JSON object as the function reads it: a member named twice is refused."""

    def members(pairs: list[tuple[str, Any]]) -> Event:
        assert len({name for name, _ in pairs}) == len(pairs), f"named twice: {pairs}"
        return dict(pairs)

    return dict(json.loads(text, object_pairs_hook=members))


def refused(text: str) -> bool:
    """Whether the function refuses what the door sends it, for naming a member twice."""
    try:
        once(text)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("path", ["/updates", "/updates/async", "/plans", "/restores", "/restores/async"])
def test_the_door_adds_who_asks_a_key_and_the_time_and_leaves_the_rest_alone(path: str) -> None:
    restore = {"restore": "previous"} if "restores" in path else {}
    body = {"reason": 'it\'s "ü" \\ $x #end', "service": {"a": [1, 1.5, None, {}]}, **restore}
    dry = {"dry_run": True} if path == "/plans" else {}
    said = {"requested_by": "arn:aws:iam::111111111111:user/ann", **SENT, **dry}
    assert once(rendered(body, "IAM", path)) == {**body, **said, "idempotency_key": "request-1"}
    keyed = {**body, "idempotency_key": "k'\"\\"}
    assert once(rendered(keyed, "IAM", path)) == {**keyed, **said}
    if not restore:
        assert once(rendered({}, "IAM", path)) == {**said, "idempotency_key": "request-1"}


@pytest.mark.parametrize("text", NASTY)
def test_a_name_of_any_characters_stays_a_name(text: str) -> None:
    by_lambda = once(rendered({"reason": "r"}, "LAMBDA", authorizer={"principalId": text}))
    assert by_lambda == {"reason": "r", "requested_by": text, "idempotency_key": "request-1", **SENT}
    claims = strict_api.JavaMap({"sub": "1-2", "cognito:username": text})
    by_cognito = once(rendered({"reason": text}, "COGNITO", authorizer={"claims": claims}))
    who = {"requested_by": f"cognito:1-2:{text}", "idempotency_key": "request-1"}
    assert by_cognito == {"reason": text, **who, **SENT}


def test_an_event_is_sent_when_the_door_has_it_unless_it_says_when_it_was_first() -> None:
    """What API Gateway calls the time of a request, as RFC 3339."""
    for month in range(1, 13):
        for zone in ("+0000", "-0930"):
            at = datetime(2026, month, 5, 14, 3, 59)
            event = once(rendered({}, "IAM", requestTime=at.strftime(f"%d/%b/%Y:%H:%M:%S {zone}")))
            assert event["sent_at"] == f"2026-{month:02}-05T14:03:59{zone[:3]}:{zone[3:]}"
            assert schema("update-event").is_valid({**UPDATE, **event})
    own = {"sent_at": "2026-11-01T00:00:00Z"}
    assert once(rendered(own, "IAM"))["sent_at"] == own["sent_at"]
    many = {"updates": [own, {}]}
    assert once(rendered(many, "IAM")) == {**once(rendered({}, "IAM")), **many}
    # Without a time, the door is no narrower than without sent_at.
    assert "sent_at" not in once(rendered({}, "IAM", requestTime=""))


def test_a_name_is_cut_to_what_the_history_keeps() -> None:
    """Both ends of it: whose names differ in an account, a subject, a user or a session are not one in records, keys and turns."""
    for length in (255, 256):
        event = once(rendered({}, "LAMBDA", authorizer={"principalId": "'" * length}))
        assert event["requested_by"] == "'" * length
    for length in (257, 5000):
        for name in ("a" + "'" * (length - 1), "'" * (length - 1) + "z"):
            event = once(rendered({}, "LAMBDA", authorizer={"principalId": name}))
            assert event["requested_by"] == f"{name[:64]}...{name[-189:]}"
            assert len(event["requested_by"]) == 256
    path = "/path" * 100
    users = [f"arn:aws:iam::{account}:user{path}/{name}" for account in ("1" * 12, "2" * 12) for name in ("ann", "bob")]
    names = [once(rendered({}, "IAM", identity={"userArn": user}))["requested_by"] for user in users]
    assert len(set(names)) == 4
    assert all(name[:31] == user[:31] and name.endswith(user[-4:]) for name, user in zip(names, users, strict=True))
    claims = [strict_api.JavaMap({"sub": sub, "username": "u" * 300}) for sub in ("1-2", "3-4")]
    subjects = [once(rendered({}, "COGNITO", authorizer={"claims": claim}))["requested_by"] for claim in claims]
    assert [name.split(":")[:2] for name in subjects] == [["cognito", "1-2"], ["cognito", "3-4"]]


@pytest.mark.parametrize("before", range(4))
def test_a_name_is_not_cut_inside_a_character(before: int) -> None:
    """One beyond U+FFFF has two units in Java, which counts and cuts these; one of them alone is no text."""
    for name in ("a" * before + "\N{GRINNING FACE}" * 300, "\N{GRINNING FACE}" * 300 + "a" * before):
        kept = once(rendered({}, "LAMBDA", authorizer={"principalId": name}))["requested_by"]
        first, last = kept.split("...")
        assert name.startswith(first) and name.endswith(last)
        assert len(kept.encode("utf-16-le")) // 2 in range(254, 257)


@pytest.mark.parametrize("way", list(WAYS))
def test_whom_the_door_does_not_know_is_answered_also_where_nobody_waits(way: str) -> None:
    claims = strict_api.JavaMap({"sub": "1-2", "username": "ann"})
    known = {"identity": {"userArn": "arn:ann"}, "authorizer": {"principalId": "ann", "claims": claims}}
    for path in ("/updates", "/updates/async", "/plans", "/restores", "/restores/async"):
        for context, nobody in ((known, False), ({"identity": {}, "authorizer": {}}, True)):
            override: dict[str, Any] = {"path": {}, "header": {}}
            event = once(rendered({"restore": "previous"}, way, path, **context, requestOverride=override))
            assert (event["requested_by"] == "") == nobody
            waited = {"X-Amz-Invocation-Type": "RequestResponse"} if nobody and path.endswith("/async") else {}
            assert override["header"] == waited, path


NOBODY: list[tuple[str, Any]] = [
    ("IAM", {"identity": {}}),
    ("LAMBDA", {"authorizer": {}}),
    ("LAMBDA", {"authorizer": {"principalId": ""}}),
    ("COGNITO", {"authorizer": {}}),
    ("COGNITO", {"authorizer": {"claims": strict_api.JavaMap()}}),
    ("COGNITO", {"authorizer": {"claims": strict_api.JavaMap({"sub": "", "cognito:username": ""})}}),
    ("COGNITO", {"authorizer": {"claims": strict_api.JavaMap({"cognito:username": "ann"})}}),
    ("COGNITO", {"authorizer": {"claims": strict_api.JavaMap({"sub": "1-2"})}}),
]


@pytest.mark.parametrize("path", list(DOCUMENT["paths"]))
@pytest.mark.parametrize(("way", "context"), NOBODY)
def test_a_caller_without_a_name_is_nobody(way: str, context: Any, path: str) -> None:
    """An empty requested_by, which the schemas of events and of queries refuse, whatever else was asked."""
    body = {"restore": "previous"} if "restores" in path else {}
    event = once(rendered(body, way, path, **context))
    assert event["requested_by"] == ""
    name = "history-query" if path == "/history" else "update-event"
    faults = [error.json_path for error in schema(name).iter_errors(event)]
    assert "$.requested_by" in faults


@pytest.mark.parametrize("way", list(WAYS))
def test_a_question_of_somebody_goes_through_as_it_is(way: str) -> None:
    query = {"account_id": "222222222222", "requested_by": "it's \"ü\" \\ $x #end"}
    claims = strict_api.JavaMap({"sub": "1-2", "username": "ann"})
    assert once(rendered(query, way, "/history", authorizer={"principalId": "ann", "claims": claims})) == query


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/updates", {"requested_by": "x"}),
        ("/updates", '{"requested\\u005fby": "x"}'),
        ("/updates", {"updates": [{}, {"requested_by": "x"}]}),
        ("/updates/async", {"updates": [{"requested_by": None}]}),
        ("/plans", {"dry_run": False}),
        ("/plans", {"updates": [{}, {"dry_run": False}]}),
    ],
)
def test_what_a_model_would_have_refused_is_named_twice(path: str, body: Any) -> None:
    assert refused(rendered(body, "IAM", path))
    assert not refused(rendered({"updates": [{"dry_run": True}] if path != "/plans" else [{}]}, "IAM", path))


def test_a_restore_without_its_change_is_not_an_update() -> None:
    event = once(rendered({"ecs_image_name": "nginx"}, "IAM", "/restores"))
    assert event["restore"] == ""
    assert not schema("update-event").is_valid({"ecs_cluster_name": "c", "ecs_service_name": "s", **event})


@pytest.mark.parametrize("body", ["[]", "[1]", '"x"', '"\\"a\\": 1}"', "7", "true", "null"])
def test_what_is_no_object_makes_no_event(body: str) -> None:
    with pytest.raises((json.JSONDecodeError, airspeed.TemplateExecutionError)):
        json.loads(rendered(body, "IAM"))


# Every code of crates/domain/src/error.rs, and what the functions of Lambda itself may end with.
STATUSES = {
    "JsonValidation": (400, False), "InvalidImage": (400, False),
    "ClusterNotFound": (404, False), "ServiceNotFound": (404, False),
    "TaskDefinitionChanged": (409, False), "RestoreConflict": (409, False), "IdempotencyKeyReused": (409, False), "ChangeInProgress": (409, True),
    "CallerThrottled": (429, True), "ChangeOvertaken": (409, False), "ClockSkewed": (503, True),
    "ContainerNotFound": (422, False), "AmbiguousContainer": (422, False), "ImageNotFound": (422, False),
    "UnsupportedDeploymentController": (422, False), "ServiceNotActive": (422, False), "RegionNotEnabled": (422, False),
    "AssumeRoleFailed": (502, None), "ServiceReadFailed": (502, None), "TaskDefinitionRejected": (502, None),
    "ServiceUpdateFailed": (502, None), "TagUpdateFailed": (502, None), "RegistryUnavailable": (502, None),
    "HistoryUnavailable": (503, True),
    "Sandbox.Timedout": (504, True), "Runtime.ExitError": (500, None), "Unhandled": (500, None),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/updates", "/plans", "/restores", "/history"])
def test_every_code_has_its_status(path: str) -> None:
    in_source = (models.ROOT / "crates/domain/src/error.rs").read_text()
    enumeration = in_source.split("pub enum Code {")[1].split("\n}")[0]
    codes = set(regex.findall(r"^    (\w+),$", enumeration, regex.MULTILINE))
    assert codes == {code for code in STATUSES if "." not in code} - {"Unhandled"}
    assert codes, "the codes were not found"
    for code, (status, retryable) in STATUSES.items():
        message = f'[ERROR][x] it\'s "ü"\nsecond line {code}\n'
        answer = answered(path, {"errorType": code, "errorMessage": message}, failed=True)
        assert answer[0] == status, code
        known = {} if retryable is None else {"retryable": retryable}
        assert answer[1] == {"code": code, "message": message, **known}
    message = "2026-11-25 Task timed out after 300.00 seconds"
    without_type = answered(path, {"errorMessage": message}, failed=True)
    assert without_type == (500, {"code": "FunctionFailed", "message": message})


def test_an_answer_is_its_body() -> None:
    body = {"results": [], "x": 'it\'s "ü"\n', "n": [1, 1.5, None]}
    assert answered("/updates", {"statusCode": 200, "body": body}) == (200, body)
    assert answered("/updates", {"statusCode": 207, "body": body}) == (207, body)
    # What looks like a failure inside an answer is none.
    assert answered("/history", {"statusCode": 200, "body": {"errorMessage": "x"}}) == (200, {"errorMessage": "x"})


def answered(path: str, payload: Event, failed: bool = False) -> tuple[int, Event]:
    """What a caller gets for a function's answer."""
    integration = DOCUMENT["paths"][path]["post"][models.INTEGRATION]
    responses = {
        response["statusCode"]: {**response, "selectionPattern": "" if pattern == "default" else pattern}
        for pattern, response in integration["responses"].items()
    }
    headers = {"X-Amz-Function-Error": "Unhandled"} if failed else {}
    context: Event = {"responseOverride": {}}
    sent = (200, headers, json.dumps(payload).encode())
    answer = strict_api.mapped({"integrationResponses": responses}, sent, context)
    return answer[0], json.loads(answer[2])
