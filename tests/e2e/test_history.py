"""The history function, asked through the Lambda API: what it answers, and that its role can do nothing but read."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import deploy
import pytest
from conftest import Service, System
from local_aws import HUB, TARGETS
from test_permissions import (
    POLICIES,
    TARGET_ROLE_ARN,
    TRIED,
    Replace,
    attempts,
    in_document,
    in_matrix,
    refused,
    without,
)

Query = dict[str, Any]

# (statement, action) -> the kinds of question that fail without it.
HISTORY: dict[tuple[str, str], set[str]] = {
    ("ReadHistory", "dynamodb:Query"): {"service", "verify", "key"},
    ("ReadHistory", "dynamodb:GetItem"): set(),  # a record by its key; what Query gives too
    ("SearchHistory", "dynamodb:Query"): {"account", "image", "change", "organization"},
    ("ReadHeads", "dynamodb:GetItem"): {"verify"},
    ("ReadChangesOfKeys", "dynamodb:GetItem"): {"key"},
    ("WriteItsLog", "logs:CreateLogStream"): set(),  # by Lambda itself, which the local AWS does without asking
    ("WriteItsLog", "logs:PutLogEvents"): set(),  # as above
}


def names_of(service: Service) -> Query:
    """A service, as a query names it."""
    return {
        "account_id": service.account,
        "region": service.region,
        "ecs_cluster_name": deploy.CLUSTER,
        "ecs_service_name": service.name,
    }


@dataclass(frozen=True)
class Story:
    """A service with three changes that no other test made: two that were applied, one that was not needed."""

    service: Service
    repository: str
    who: str
    changes: list[str]

    @property
    def names(self) -> Query:
        """The service, as a query names it."""
        return names_of(self.service)

    def questions(self) -> dict[str, Query]:
        """One query of each kind; all but `change`, `key` and `verify` find exactly the three changes."""
        mine = {"requested_by": self.who}
        return {
            "service": self.names,
            "account": {"account_id": self.service.account, **mine},
            "image": {"image": self.repository},
            "change": {"change_id": self.changes[0]},
            "key": {**self.names, "idempotency_key": f"first of {self.who}"},
            "organization": {"from": today(), **mine},
            "verify": {**self.names, "verify": True},
        }


def today() -> str:
    """The day (UTC) on which this test began; late in the evening, the changes may be of the next."""
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - 60))


@pytest.fixture(scope="module")
def story(system: System) -> Story:
    """Three changes of one service: of image and tags, of the image, and of nothing."""
    service = system.service(TARGETS[1])
    repository, who = f"registry.example:5000/{service.name}", f"ann {uuid.uuid4()}"
    asked = {"requested_by": who, "reason": "release 7"}
    first = {"ecs_image_name": f"{repository}:1", "ecs_tag": {"release": "1"}, "idempotency_key": f"first of {who}"}
    changes = [
        system.invoke(service.event(**asked, **first)).body,
        system.invoke(service.event(**asked, ecs_image_name=f"{repository}:2")).body,
        system.invoke(service.event(**asked, ecs_image_name=f"{repository}:2")).body,
    ]
    assert [change["status"] for change in changes] == ["APPLIED", "APPLIED", "UNCHANGED"]
    return Story(service, repository, who, [change["change_id"] for change in changes])


def pages(system: System, query: Query) -> list[dict[str, Any]]:
    """The changes of all pages of a query."""
    changes: list[dict[str, Any]] = []
    token = None
    for _ in range(100):
        body = system.ask({**query, **({"next_token": token} if token else {})}).body
        changes += body["changes"]
        token = body["next_token"]
        if token is None:
            return changes
    raise AssertionError(f"{query} has no last page")


def ids(changes: list[dict[str, Any]]) -> list[str]:
    """Their change ids."""
    return [change["change_id"] for change in changes]


# ---- what it answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["service", "account", "image", "organization"])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_changes_are_found_by_every_kind_of_query_in_pages_of_any_size(
    system: System, story: Story, kind: str, limit: int
) -> None:
    query = {**story.questions()[kind], "limit": limit}
    assert ids(pages(system, query)) == list(reversed(story.changes))
    assert ids(pages(system, {**query, "order": "oldest_first"})) == story.changes


def test_the_last_31_days_of_the_organization_are_asked_for_where_none_are_named(system: System, story: Story) -> None:
    assert ids(pages(system, {"requested_by": story.who})) == list(reversed(story.changes))


def test_a_change_is_found_by_the_key_of_its_event(system: System, story: Story) -> None:
    by_key = story.questions()["key"]
    answer = system.ask(by_key).body
    assert (ids(answer["changes"]), answer["next_token"]) == (story.changes[:1], None)
    assert answer["changes"] == system.ask({"change_id": story.changes[0]}).body["changes"]
    # Keys are of a service, and nothing is under one that nobody sent.
    other = system.service()
    for query in ({**by_key, "idempotency_key": "another"}, {**by_key, **names_of(other)}):
        assert system.ask(query).body == {"changes": [], "next_token": None}
    # The key of an event that failed before its change began has none.
    missing = {**other.event(ecs_image_name="nginx", idempotency_key="k"), "container_name": "missing"}
    assert system.invoke(missing).error
    assert system.ask({**names_of(other), "idempotency_key": "k"}).body["changes"] == []


def test_a_change_is_told_from_before_to_after(system: System, story: Story) -> None:
    (change,) = system.ask({"change_id": story.changes[0]}).body["changes"]
    started, applied = [record for record in system.records(story.service) if record["change_id"] == story.changes[0]]
    assert {
        "change_id": story.changes[0],
        "status": "APPLIED",
        **story.names,
        "started_at": started["at"],
        "applied_at": applied["at"],
        "requested_by": story.who,
        "reason": "release 7",
        "identity": "claimed",
        "deployment_id": applied["deployment_id"],
        "session": applied["session"],
        "error": None,
        "restores": None,
    }.items() <= change.items()
    assert change["before"] == json.loads(applied["before"])
    assert change["after"] == json.loads(applied["after"])
    assert change["before"]["serviceImage"] == "busybox"
    assert change["after"]["serviceImage"] == f"{story.repository}:1"
    assert change["after"]["tags"] == [{"key": "release", "value": "1"}]


def test_a_change_of_several_images_is_found_under_each(system: System) -> None:
    names = [f"{name}-{uuid.uuid4()}" for name in ("web", "log")]
    containers = [{"name": name, "image": f"{name}:1", "memory": 64} for name in names]
    service = system.service(containerDefinitions=containers)
    change = system.invoke(service.event(images={name: f"{name}:2" for name in names})).body["change_id"]
    found = [pages(system, {"image": name}) for name in names]
    assert [ids(changes) for changes in found] == [[change]] * 2
    assert found[0] == found[1]


def test_filters_leave_out_what_does_not_fit(system: System, story: Story) -> None:
    assert ids(pages(system, {**story.names, "status": "UNCHANGED"})) == story.changes[2:]
    assert pages(system, {**story.names, "requested_by": "nobody"}) == []
    assert pages(system, {**story.names, "to": "2026-01-01"}) == []
    assert pages(system, {"change_id": str(uuid.UUID(int=7 << 76 | 2 << 62))}) == []


def test_a_failed_change_says_what_failed(system: System, role_policy: Replace) -> None:
    service = system.service()
    role, policy = "ecs-updater-target", "target-role"
    document = system.client("iam", service.account).get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    role_policy(service.account, role, policy, without(document, "ChangeServices", "ecs:UpdateService"))
    assert system.invoke(service.event(ecs_image_name="nginx")).error
    (change,) = system.ask(names_of(service)).body["changes"]
    assert change["status"] == "FAILED"
    assert change["error"]["code"] == "ServiceUpdateFailed"
    assert "ecs:UpdateService" in change["error"]["message"]


def test_a_ledger_is_verified(system: System, story: Story) -> None:
    verify = {**story.names, "verify": True}
    assert system.ask(verify).body == {"ok": True, "verified": 5}
    nothing = system.ask({**verify, "ecs_service_name": "never-changed"}).body
    assert (nothing["ok"], nothing["verified"], nothing["fault"]["record"]) == (False, 0, "")
    assert nothing["fault"]["what"].startswith("empty")


def test_a_rewritten_record_is_found_where_it_stands(system: System) -> None:
    """By root, whom no policy of the local AWS stops: what the chain is for, when IAM has not helped."""
    service = system.service()
    for image in ("nginx:1", "nginx:2"):
        system.invoke(service.event(ecs_image_name=image))
    key = {name: {"S": system.records(service)[1][name]} for name in ("service", "record")}
    system.client("dynamodb").update_item(
        TableName=system.deployment.history,
        Key=key,
        UpdateExpression="SET requested_by = :somebody",
        ExpressionAttributeValues={":somebody": {"S": "somebody else"}},
    )
    body = system.ask({**names_of(service), "verify": True}).body
    assert body["ok"] is False
    assert body["fault"]["record"] == key["record"]["S"]


def test_a_wrong_query_is_refused_by_name(system: System, story: Story) -> None:
    for query, named in (
        ({"account": story.service.account}, "account"),
        ({"account_id": "1"}, "account_id"),
        ({**story.names, "limit": 101}, "limit"),
        ({**story.names, "limit": 0}, "limit"),
        ({"from": "2026-11-03", "to": "2026-11-01"}, "to"),
        ({"from": "2026-10-01", "to": "2026-11-01"}, "31 days"),
        ({**story.names, "next_token": "made-up"}, "next_token"),
    ):
        answer = system.ask(query)
        assert answer.error, (query, answer.payload)
        assert answer.payload["errorType"] == "JsonValidation", query
        assert named in answer.payload["errorMessage"], query


def test_a_token_is_good_for_its_own_query_only(system: System, story: Story) -> None:
    token = system.ask({**story.names, "limit": 1}).body["next_token"]
    answer = system.ask({"image": story.repository, "next_token": token})
    assert answer.payload["errorType"] == "JsonValidation"
    assert "next_token" in answer.payload["errorMessage"]


# ---- what its role may do --------------------------------------------------------------------------------------------


def test_the_matrix_has_every_action() -> None:
    assert set(HISTORY) == in_matrix("history.json")
    assert {action for kinds in HISTORY.values() for action in kinds} == {
        "service", "account", "image", "change", "key", "organization", "verify",
    }  # fmt: skip


def history_policy(system: System) -> dict[str, Any]:
    """The policy that the history function's role has."""
    found = system.client("iam").get_role_policy(RoleName=system.history_role, PolicyName="history")
    return dict(found["PolicyDocument"])


@pytest.mark.parametrize(("statement", "action", "kinds"), [(*key, kinds) for key, kinds in HISTORY.items()])
def test_the_function_needs_each_of_its_permissions(
    system: System, story: Story, role_policy: Replace, statement: str, action: str, kinds: set[str]
) -> None:
    role_policy(HUB, system.history_role, "history", without(history_policy(system), statement, action))
    for kind, query in story.questions().items():
        answer = system.ask(query)
        assert answer.error == (kind in kinds), (kind, answer.payload)
        if answer.error:
            assert answer.payload["errorType"] == "HistoryUnavailable"
            assert answer.payload["errorMessage"].startswith("[ERROR][")
            assert action in answer.payload["errorMessage"]


def test_the_role_reads_the_history_and_the_heads(system: System, story: Story) -> None:
    dynamodb = system.aws.client("dynamodb", system.historian())
    record = system.records(story.service)[0]
    key = {name: {"S": record[name]} for name in ("service", "record")}
    assert dynamodb.get_item(TableName=system.deployment.history, Key=key)["Item"]
    head = {"id": {"S": f"service#{story.service.key}"}}
    assert dynamodb.get_item(TableName=system.deployment.state, Key=head)["Item"]


def writes_and_scans(system: System) -> list[tuple[str, Callable[[], Any]]]:
    """Calls on both tables that the role may not make, with the action that IAM is asked for."""
    dynamodb = system.aws.client("dynamodb", system.historian())
    history, state = system.deployment.history, system.deployment.state
    calls: list[tuple[str, Callable[[], Any]]] = []
    for table, key in ((history, {"service": {"S": "s"}, "record": {"S": "r"}}), (state, {"id": {"S": "service#x"}})):
        members = ", ".join(f"'{name}': '{value['S']}'" for name, value in key.items())
        where = " AND ".join(f"{name} = '{value['S']}'" for name, value in key.items())
        insert = f'INSERT INTO "{table}" VALUE {{{members}}}'

        def call(operation: str, **parameters: Any) -> Callable[[], Any]:
            return lambda: getattr(dynamodb, operation)(**parameters)

        calls += [
            ("dynamodb:PutItem", call("put_item", TableName=table, Item=key)),
            ("dynamodb:UpdateItem", call("update_item", TableName=table, Key=key)),
            ("dynamodb:DeleteItem", call("delete_item", TableName=table, Key=key)),
            (
                "dynamodb:BatchWriteItem",
                call("batch_write_item", RequestItems={table: [{"PutRequest": {"Item": key}}]}),
            ),
            ("dynamodb:PartiQLInsert", call("execute_statement", Statement=insert)),
            ("dynamodb:PartiQLInsert", call("execute_transaction", TransactStatements=[{"Statement": insert}])),
            (
                "dynamodb:PartiQLUpdate",
                call("execute_statement", Statement=f"UPDATE \"{table}\" SET kind = 'X' WHERE {where}"),
            ),
            ("dynamodb:PartiQLDelete", call("execute_statement", Statement=f'DELETE FROM "{table}" WHERE {where}')),
            ("dynamodb:PartiQLSelect", call("execute_statement", Statement=f'SELECT * FROM "{table}"')),
            ("dynamodb:Scan", call("scan", TableName=table)),
            ("dynamodb:BatchGetItem", call("batch_get_item", RequestItems={table: {"Keys": [key]}})),
            ("dynamodb:DescribeTable", call("describe_table", TableName=table)),
        ]
    return [
        *calls,
        ("dynamodb:Scan", call("scan", TableName=history, IndexName="by-account")),
        (
            "dynamodb:Query",
            call(
                "query",
                TableName=state,
                KeyConditionExpression="id = :id",
                ExpressionAttributeValues={":id": {"S": "service#x"}},
            ),
        ),
    ]


def test_the_role_writes_and_scans_nothing(system: System) -> None:
    items = system.items()
    for action, call in writes_and_scans(system):
        assert action in refused(call)
    assert system.items() == items


def test_the_role_reads_of_the_state_heads_only(system: System) -> None:
    service = system.service()
    system.invoke(service.event(ecs_image_name="nginx", idempotency_key="secret"))
    dynamodb, state = system.aws.client("dynamodb", system.historian()), system.deployment.state
    items = system.client("dynamodb").scan(TableName=state)["Items"]
    key = next(item["id"]["S"] for item in items if item["id"]["S"].startswith("key#"))
    for item in (key, "deployment#222222222222/eu-west-1/x", f"xservice#{service.key}"):
        assert "dynamodb:GetItem" in refused(
            lambda item=item: dynamodb.get_item(TableName=state, Key={"id": {"S": item}})
        )
    # A request that names no key at all must not pass because no key of it is a wrong one.
    refused(lambda: dynamodb.get_item(TableName=state, Key={}))


def test_a_missing_key_is_what_the_null_guard_is_for(system: System, role_policy: Replace) -> None:
    """Shows that the last call above is refused by the guard, and by nothing else."""
    document = history_policy(system)
    for statement in document["Statement"]:
        statement.get("Condition", {}).pop("Null", None)
    role_policy(HUB, system.history_role, "history", document)
    dynamodb = system.aws.client("dynamodb", system.historian())
    with pytest.raises(Exception) as caught:
        dynamodb.get_item(TableName=system.deployment.state, Key={})
    assert "AccessDenied" not in str(caught.value)


def test_the_role_enters_no_account_and_calls_no_ecs(system: System) -> None:
    """Neither in a target account nor in its own, where the target role may do all of this."""
    historian = system.historian()
    refused(lambda: system.assume(TARGET_ROLE_ARN, historian, ExternalId=deploy.EXTERNAL_ID))
    # A role that lets everybody of the hub in: here it is the history role's own policy that refuses.
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{HUB}:root"}, "Action": "sts:AssumeRole"}
    role = system.client("iam", TARGETS[0]).create_role(
        RoleName="open-to-the-hub",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )["Role"]
    assert "sts:AssumeRole" in refused(lambda: system.assume(role["Arn"], historian))
    own, other = system.service(HUB), system.service(HUB)
    calls = attempts(system, historian, own, other)
    named = set()
    for tried, call in calls.items():
        message = refused(call)
        expected = TRIED[tried][0]
        if expected == "iam:PassRole":  # asked for only after the call's own action
            expected = "ecs:"
        assert expected in message, (tried, message)
        named.add(TRIED[tried][0])
    target_role = {action for _, action in in_document("target-role.json")}
    assert target_role <= named, "what the target role may do is not all tried"


def test_the_role_writes_its_own_log_and_no_other(system: System) -> None:
    groups = [
        system.client("lambda").get_function_configuration(FunctionName=name)["LoggingConfig"]["LogGroup"]
        for name in (system.deployment.history_function, system.deployment.function)
    ]
    own, updaters = groups
    assert own != updaters
    logs = system.aws.client("logs", system.historian())
    logs.create_log_stream(logGroupName=own, logStreamName="of-a-test")
    assert "logs:CreateLogStream" in refused(
        lambda: logs.create_log_stream(logGroupName=updaters, logStreamName="of-a-test")
    )


def test_no_document_of_the_history_function_names_a_scan_or_a_write() -> None:
    actions = {action for _, action in in_document("history.json")}
    assert {action for action in actions if action.startswith("dynamodb:")} == {"dynamodb:GetItem", "dynamodb:Query"}
    assert "*" not in "".join(actions)
    assert "Scan" not in (POLICIES / "history.json").read_text()
