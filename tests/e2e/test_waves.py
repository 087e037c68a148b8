"""Waves: the state machine of hub.yaml, as its role, through the real functions."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import deploy
import pytest
import render
from botocore.exceptions import ClientError
from conftest import Service, System
from jsonata import Jsonata
from local_aws import HUB, REGION, TARGETS
from test_permissions import Replace, actions_of, refused
from wire import Wire

NOWHERE = Service(TARGETS[0], REGION, "no-such-service")
CHANGE = {"ecs_cluster_name": deploy.CLUSTER, "ecs_image_name": "nginx:1.27", "reason": "release 7"}

SUMMARY = json.loads((deploy.ROOT / "schema" / "waves-summary.schema.json").read_text())


def target(service: Service, **more: Any) -> dict[str, Any]:
    """The service as a target of a wave."""
    return {"account_id": service.account, "region": service.region, "ecs_service_name": service.name, **more}


def start(system: System, waves: list[Any], client: Any = None, **more: Any) -> str:
    """Starts an execution; its ARN. A wave may be written as services."""
    waves = [[target(t) if isinstance(t, Service) else t for t in w] if isinstance(w, list) else w for w in waves]
    given = {"change": CHANGE, "waves": waves, "bake_seconds": 0, **more}
    states = client or system.client("stepfunctions")
    answer = states.start_execution(stateMachineArn=system.deployment.waves, input=json.dumps(given))
    return str(answer["executionArn"])


def wait(system: System, execution: str, seconds: int = 60) -> dict[str, Any]:
    """The execution when it has ended."""
    deadline = time.monotonic() + seconds
    while (found := system.client("stepfunctions").describe_execution(executionArn=execution))["status"] == "RUNNING":
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.05)
    return dict(found)


def run(system: System, waves: list[Any], seconds: int = 60, **more: Any) -> dict[str, Any]:
    """The summary of a whole execution, from the bucket; its other copy must say the same, where it is not shortened."""
    ended = wait(system, start(system, waves, **more), seconds)
    if ended["status"] == "SUCCEEDED":
        told = json.loads(ended["output"])
    else:
        assert (ended["status"], ended["error"]) == ("FAILED", "RolloutStopped"), ended
        told = json.loads(ended["cause"])
    kept: dict[str, Any] = json.loads(read(system, told["key"]))
    assert told == kept or "shortened" in told
    assert kept["status"] == ("SUCCEEDED" if ended["status"] == "SUCCEEDED" else "STOPPED")
    assert kept["execution"] == ended["executionArn"]
    assert set(kept) == set(SUMMARY["required"])
    for wave in kept["waves"]:
        known = SUMMARY["$defs"]["wave"]
        assert set(wave) <= set(known["properties"])
        if wave["status"] in ("PASSED", "STOPPED"):
            assert set(wave) >= {*known["required"], *known["then"]["required"]}
        for failure in wave.get("failures", []):
            assert set(SUMMARY["$defs"]["failure"]["required"]) <= set(failure)
            assert set(failure) <= set(SUMMARY["$defs"]["failure"]["properties"])
    return kept


def read(system: System, key: str) -> bytes:
    """An object of the results bucket."""
    found = system.client("s3").get_object(Bucket=system.deployment.waves_bucket, Key=key)
    return bytes(found["Body"].read())


def statuses(summary: dict[str, Any]) -> list[str]:
    """How each wave ended."""
    return [wave["status"] for wave in summary["waves"]]


def attempts(system: System, execution: str) -> int:
    """How often batches of the execution have got an answer from the updater."""
    states = system.client("stepfunctions")
    count = 0
    for map_run in states.list_map_runs(executionArn=execution)["mapRuns"]:
        for child in states.list_executions(mapRunArn=map_run["mapRunArn"])["executions"]:
            events = states.get_execution_history(executionArn=child["executionArn"])["events"]
            count += sum(event["type"] == "TaskSucceeded" for event in events)
    return count


def until(true: Callable[[], Any]) -> Any:
    """Waits for it."""
    deadline = time.monotonic() + 20
    while not (value := true()):
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)
    return value


def test_a_caller_runs_waves_with_few_rights_and_sees_how_far_they_are(system: System) -> None:
    states = system.aws.client("stepfunctions", system.deployment.invoker)
    services = [system.service() for _ in range(2)]
    execution = start(system, [services], client=states)
    summary = json.loads(wait(system, execution)["output"])
    runs = states.list_map_runs(executionArn=execution)["mapRuns"]
    counts = [states.describe_map_run(mapRunArn=run["mapRunArn"])["itemCounts"] for run in runs]
    assert [(count["total"], count["succeeded"]) for count in counts] == [(2, 2), (2, 2)]  # changed, then judged
    s3 = system.aws.client("s3", system.deployment.invoker)
    assert s3.get_object(Bucket=summary["bucket"], Key=summary["key"])
    s3.put_object(Bucket=summary["bucket"], Key="inputs/mine.jsonl", Body=b"{}")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(Bucket=summary["bucket"], Key=summary["key"], Body=b"{}")


def test_a_change_goes_through_all_waves(system: System) -> None:
    one, two, other = system.service(), system.service(), system.service(TARGETS[1])
    summary = run(system, [[one], [two, other]], rollout_id="all-waves")
    assert (summary["rollout_id"], summary["reason"], summary["failed"]) == ("all-waves", None, 0)
    assert statuses(summary) == ["PASSED", "PASSED"]
    assert [wave["changed"] for wave in summary["waves"]] == [1, 2]
    for service in (one, two, other):
        assert system.running(service)[0] == "nginx:1.27"
        [started, applied] = system.records(service)
        assert (applied["kind"], applied["reason"]) == ("APPLIED", "release 7")
    again = run(system, [[one], [two, other]])  # another rollout: nothing differs any more
    assert (again["changed"], again["restore"], again["restore_keys"]) == (0, None, [])
    assert [wave["unchanged"] for wave in again["waves"]] == [1, 2]


def test_it_stops_behind_the_wave_that_failed_and_says_what_to_restore(system: System) -> None:
    first, second, third = (system.service() for _ in range(3))
    waves = [[first], [second, NOWHERE], [third]]
    summary = run(system, waves, rollout_id="stops")
    assert statuses(summary) == ["PASSED", "STOPPED", "NOT_STARTED"]
    assert "wave 2 of 3: 1 of 2 targets failed (50 %)" in summary["reason"]
    assert (summary["changed"], summary["failed"]) == (2, 1)
    [failure] = summary["waves"][1]["failures"]
    assert (failure["ecs_service_name"], failure["code"]) == (NOWHERE.name, "ServiceNotFound")
    assert system.records(third) == []
    assert system.revisions(third) == 1

    # A restart of the same rollout: the same answers, and nothing is changed twice.
    before = {service: (system.records(service), system.revisions(service)) for service in (first, second, third)}
    again = run(system, waves, rollout_id="stops")
    assert statuses(again) == statuses(summary)
    assert {service: (system.records(service), system.revisions(service)) for service in before} == before
    changes = {update["restore"] for update in summary["restore"]["updates"]}
    assert {update["restore"] for update in again["restore"]["updates"]} == changes
    # With other values it is refused, service by service.
    other = run(system, waves, rollout_id="stops", change={**CHANGE, "ecs_image_name": "nginx:1.28"})
    assert statuses(other) == ["STOPPED", "NOT_STARTED", "NOT_STARTED"]
    assert other["waves"][0]["failures"][0]["code"] == "IdempotencyKeyReused"

    # The event that it names restores, last wave first; so do the events of its keys.
    assert [update["ecs_service_name"] for update in summary["restore"]["updates"]] == [second.name, first.name]
    kept = [json.loads(read(system, key)) for key in summary["restore_keys"]]
    assert [event["idempotency_key"] for event in kept] == ["undo/stops/2", "undo/stops/1"]
    keyed = [{**update, "idempotency_key": event["idempotency_key"]} for event in kept for update in event["updates"]]
    assert keyed == summary["restore"]["updates"], "the same keys, in whichever event it goes"
    assert system.invoke(summary["restore"]).body["summary"]["applied"] == 2
    for service in (first, second):
        assert system.running(service)[0] == deploy.IMAGE


def test_what_is_tolerated_does_not_stop_it(system: System) -> None:
    one, two = system.service(), system.service()
    summary = run(system, [[one, NOWHERE], [two]], tolerated_failure_percentage=50)
    assert statuses(summary) == ["PASSED", "PASSED"]
    assert (summary["failed"], summary["waves"][0]["failed_percentage"]) == (1, 50)
    assert system.running(two)[0] == "nginx:1.27"
    summary = run(system, [[one, NOWHERE], [two]], tolerated_failure_percentage=49.9)
    assert statuses(summary) == ["STOPPED", "NOT_STARTED"]


def test_targets_from_an_object_go_in_batches(system: System) -> None:
    """One line a target; 50 to a batch, so that the third of these is in a batch of its own."""
    services = [system.service() for _ in range(3)]
    nowhere = [Service(TARGETS[0], REGION, f"nowhere-{n}") for n in range(49)]
    lines = [target(service) for service in (*services[:2], *nowhere, services[2])]
    lines[0]["ecs_image_name"] = "nginx:1.28"  # a target may have values of its own
    key = f"inputs/{uuid.uuid4()}.jsonl"
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    system.client("s3").put_object(Bucket=system.deployment.waves_bucket, Key=key, Body=body)
    summary = run(system, [{"key": key}], tolerated_failure_percentage=99)
    [wave] = summary["waves"]
    assert (wave["targets"], wave["changed"], wave["failed"]) == (52, 3, 49)
    assert len(wave["failures"]) <= 10
    assert len(summary["restore_keys"]) == 2  # one for each batch
    assert len(summary["restore"]["updates"]) == 3
    assert [system.running(service)[0] for service in services] == ["nginx:1.28", "nginx:1.27", "nginx:1.27"]
    objects = system.client("s3").list_objects_v2(Bucket=system.deployment.waves_bucket, Prefix=wave["results_key"])
    outcomes = [json.loads(read(system, o["Key"])) for o in objects["Contents"] if "/outcomes/" in o["Key"]]
    assert sorted(map(len, outcomes)) == [2, 50]


def test_a_wave_of_ten_thousand_that_fails_has_a_summary_and_an_undo(system: System) -> None:
    """Two hundred batches, names as long as ECS allows: what their children answer has to fit into 256 KiB.

    A line that the updater refuses fails its whole batch, without a call for each of its targets.
    """
    first, key = system.service(), f"inputs/{uuid.uuid4()}.jsonl"
    lines = [
        {
            **target(Service(TARGETS[0], REGION, f"{n}".rjust(255, "s"))),
            "ecs_cluster_name": "c" * 255,
            **({} if n % 50 else {"colour": "red"}),
        }
        for n in range(10_000)
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    system.client("s3").put_object(Bucket=system.deployment.waves_bucket, Key=key, Body=body)
    summary = run(system, [[first], {"key": key}], 500)
    assert statuses(summary) == ["PASSED", "STOPPED"], summary["reason"]
    wave = summary["waves"][1]
    assert (wave["targets"], wave["failed"], wave["failed_percentage"]) == (10_000, 10_000, 100)
    assert len(wave["failures"]) == 10
    assert wave["failures"][0] == {
        "account_id": TARGETS[0],
        "region": REGION,
        "ecs_cluster_name": "c" * 255,
        "ecs_service_name": "0".rjust(255, "s"),
        "status": "FAILED",
        "code": "JsonValidation",
    }
    assert [update["ecs_service_name"] for update in summary["restore"]["updates"]] == [first.name]


def test_an_input_that_would_not_fit_beside_what_is_kept_is_refused(system: System) -> None:
    """An input may have 256 KiB, and what the state machine makes of it, too."""
    with pytest.raises(ClientError, match="ValidationException"):
        start(system, [[NOWHERE]], change={**CHANGE, "reason": "r" * 256 * 1024})
    ended = wait(system, start(system, [[NOWHERE]], change={**CHANGE, "reason": "r" * 255 * 1024}))
    assert (ended["error"], "at most 250,000 characters" in ended["cause"]) == ("InputRefused", True)
    ended = wait(system, start(system, [[NOWHERE]], change={**CHANGE, "reason": "r" * 240_000}))
    assert (ended["error"], "JsonValidation" in ended["cause"]) == ("InputRefused", True)


def test_an_object_that_is_not_there_interrupts(system: System) -> None:
    one, three = system.service(), system.service()
    summary = run(system, [[one], {"key": "inputs/nothing.jsonl"}, [three]])
    assert statuses(summary) == ["PASSED", "INTERRUPTED", "NOT_STARTED"]
    assert "wave 2 of 3 was interrupted: States.ItemReaderFailed" in summary["reason"]
    assert [update["ecs_service_name"] for update in summary["restore"]["updates"]] == [one.name]
    assert system.records(three) == []


def test_a_cause_holds_what_fits() -> None:
    """By the expression itself: an execution that large would take long."""
    cause = render.definition()["States"]["Stopped"]["Cause"][2:-2]
    failures = [{"ecs_service_name": "s" * 255}] * 10
    small = {
        "key": "k",
        "restore": {"updates": [{}]},
        "restore_keys": ["r"],
        "waves": [{"wave": 1, "failures": failures}],
    }
    long = {**small, "restore": {"updates": [{"ecs_cluster_name": "c" * 255, "ecs_service_name": "s" * 255}] * 100}}
    longest = {
        **long,
        "restore_keys": ["r" * 1000] * 50,
        "waves": [{"wave": n, "failures": failures} for n in range(50)],
    }
    told = [json.loads(Jsonata.jsonata(cause).evaluate(None, {"summary": given})) for given in (small, long, longest)]
    assert told[0] == small
    assert told[1] == {**long, "restore": None, "shortened": told[1]["shortened"]}
    assert (told[2]["restore"], told[2]["restore_keys"]) == (None, [])
    assert [wave["failures"] for wave in told[2]["waves"]] == [[]] * 50
    assert told[2]["key"] == "k"
    assert all(len(json.dumps(one)) < 32768 for one in told)


def test_a_batch_that_the_updater_refuses_changes_nothing(system: System) -> None:
    """A line of an object is not seen before its batch: the batch fails whole."""
    service, key = system.service(), f"inputs/{uuid.uuid4()}.jsonl"
    lines = [target(service), {**target(system.service()), "colour": "red"}]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    system.client("s3").put_object(Bucket=system.deployment.waves_bucket, Key=key, Body=body)
    summary = run(system, [{"key": key}])
    assert statuses(summary) == ["STOPPED"]
    assert {failure["code"] for failure in summary["waves"][0]["failures"]} == {"JsonValidation"}
    assert (summary["changed"], summary["failed"]) == (0, 2)
    assert system.records(service) == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"bake_seconds": "300"}, '"bake_seconds": expected a whole number from 0 to 86400'),
        ({"tolerated_failure_percentage": 101}, '"tolerated_failure_percentage": expected a number from 0 to 100'),
        ({"max_concurrency": 0}, '"max_concurrency": expected a whole number from 1 to 50'),
        ({"require_completion": "yes"}, '"require_completion": expected true or false'),
        ({"rollout_id": "a b"}, '"rollout_id": expected 1 to 128 letters'),
        ({"sent_at": "yesterday"}, '"sent_at": expected a time as 2026-11-22T09:30:00Z'),
        ({"sent_at": 7}, '"sent_at": expected a time'),
        ({"colour": "red"}, 'unknown field "colour"'),
        ({"c" * 40_000: "red"}, 'unknown field "ccc'),  # more than a cause holds
        ({"change": {**CHANGE, "dry_run": True}}, 'change: unknown field "dry_run"'),
        ({"change": "nginx"}, '"change": expected an object'),
        ({"waves": []}, '"waves": expected a list of 1 to 50 waves'),
        ({"waves": [[]]}, "waves/0: there is no target"),
        ({"waves": [{"key": "elsewhere/x"}]}, 'waves/0: expected a list of targets, or {"key": "inputs/..."}'),
        ({"waves": [["web"]]}, "waves/0/0: expected an object"),
        ({"waves": [[{"account_id": 222222222222, "ecs_service_name": "x"}]]}, "expected 12 digits, as a string"),
        ({"change": {"ecs_image_name": "nginx"}}, '"ecs_cluster_name" and "ecs_service_name" are required'),
        ({"waves": [[target(NOWHERE)], [target(NOWHERE)]]}, f"the same service twice: {NOWHERE.key}"),
        ({"waves": [[{"ecs_service_name": f"s{n}"} for n in range(501)]]}, "at most 500 targets"),
        ({"change": {**CHANGE, "ecs_image_name": "no image"}}, "InvalidImage"),  # by the updater, as the next two
        ({"change": {**CHANGE, "ecs_tag": {"aws:x": "y"}}}, "JsonValidation"),
        ({"change": {"ecs_cluster_name": deploy.CLUSTER}}, "is a required property"),
    ],
)
def test_a_wrong_input_is_refused_before_anything_is_changed(
    system: System, wrong: dict[str, Any], sentence: str
) -> None:
    service = system.service()
    given = {"waves": [[service]], **wrong}
    ended = wait(system, start(system, **given))
    assert (ended["status"], ended["error"]) == ("FAILED", "InputRefused")
    assert ended["cause"].startswith("Nothing was changed. ")
    assert len(ended["cause"]) < 32_768
    assert sentence in ended["cause"].replace('\\"', '"')
    assert system.records(service) == []


def test_the_history_decides_how_a_wave_ended(system: System) -> None:
    """A deployment that is rolled back during the bake counts as failed, though its change was applied."""
    service, after = system.service(), system.service()
    with ThreadPoolExecutor(1) as pool:
        summary = pool.submit(run, system, [[service], [after]], bake_seconds=200)
        applied = until(lambda: [record for record in system.records(service) if record["kind"] == "APPLIED"])[0]
        outcome = {**applied, "record": applied["record"].replace("#1", "#2"), "kind": "ROLLED_BACK"}
        outcome["seq"] += 1
        items = ", ".join(f"'{name}': ?" for name in outcome)
        values = [{"N": str(value)} if isinstance(value, int) else {"S": value} for value in outcome.values()]
        statement = f'INSERT INTO "{system.deployment.history}" VALUE {{{items}}}'
        system.aws.client("dynamodb", system.updater()).execute_transaction(
            TransactStatements=[{"Statement": statement, "Parameters": values}]
        )
        stopped = summary.result(60)
    assert statuses(stopped) == ["STOPPED", "NOT_STARTED"]
    [failure] = stopped["waves"][0]["failures"]
    assert (failure["status"], failure["change_id"]) == ("ROLLED_BACK", applied["change_id"])
    assert [update["restore"] for update in stopped["restore"]["updates"]] == [applied["change_id"]]


def test_completion_can_be_required(system: System) -> None:
    """Nothing here records how deployments end: whoever requires it waits in vain."""
    summary = run(system, [[system.service()]])
    assert (summary["waves"][0]["unfinished"], statuses(summary)) == (1, ["PASSED"])
    summary = run(system, [[system.service()]], require_completion=True)
    assert (summary["waves"][0]["failures"][0]["status"], statuses(summary)) == ("APPLIED", ["STOPPED"])


@pytest.fixture
def unpublished(system: System) -> Iterator[None]:
    """Lets the state machine invoke the updater as it is configured now, where it does so by an alias of a version."""
    functions, name = system.client("lambda"), system.deployment.function
    aliases = functions.list_aliases(FunctionName=name)["Aliases"]
    for alias in aliases:
        functions.update_alias(FunctionName=name, Name=alias["Name"], FunctionVersion="$LATEST")
    yield
    for alias in aliases:
        functions.update_alias(FunctionName=name, Name=alias["Name"], FunctionVersion=alias["FunctionVersion"])


@pytest.mark.usefixtures("unpublished")
def test_what_is_retryable_is_tried_again(system: System, wire: Wire) -> None:
    service, free = system.service(), system.service()
    with ThreadPoolExecutor(1) as pool, wire.holding("UpdateService") as held:
        other = pool.submit(system.invoke, service.event(ecs_image_name="nginx:1.26"))
        held.arrived.wait(20)
        execution = start(system, [[service, free]])
        until(lambda: attempts(system, execution) >= 2)  # ChangeInProgress, twice
        assert system.running(free)[0] == "nginx:1.27"  # and the other target does not wait
        held.released.set()
        assert other.result(30).body["status"] == "APPLIED"
        summary = json.loads(wait(system, execution)["output"])
    assert (summary["changed"], summary["failed"]) == (2, 0)
    assert system.running(service)[0] == "nginx:1.27"
    assert len(system.records(free)) == 2  # a STARTED and an APPLIED: it was not changed again


@pytest.mark.usefixtures("unpublished")
def test_what_was_not_started_is_sent_again(system: System) -> None:
    service, functions, name = system.service(), system.client("lambda"), system.deployment.function
    timeout = functions.get_function_configuration(FunctionName=name)["Timeout"]
    functions.update_function_configuration(FunctionName=name, Timeout=5)  # no change begins with so little time
    try:
        execution = start(system, [[service]])
        until(lambda: attempts(system, execution) >= 1)
        assert system.records(service) == []
    finally:
        functions.update_function_configuration(FunctionName=name, Timeout=timeout)
    assert json.loads(wait(system, execution)["output"])["changed"] == 1


@pytest.mark.usefixtures("unpublished")
def test_what_is_not_retryable_is_not_tried_again(system: System, wire: Wire) -> None:
    execution = start(system, [[NOWHERE]])
    assert wait(system, execution)["error"] == "RolloutStopped"
    assert wire.calls.count("DescribeServices") == 2  # the rehearsal, and the change


def role_arn(system: System) -> str:
    """The role of the state machine."""
    machine = system.client("stepfunctions").describe_state_machine(stateMachineArn=system.deployment.waves)
    return str(machine["roleArn"])


def test_the_role_is_the_state_machines_alone_and_does_nothing_else(system: System) -> None:
    for other in (system.deployment.invoker, system.updater(), system.historian()):
        assert "sts:AssumeRole" in refused(partial(system.assume, role_arn(system), other))
    own = system.assume(role_arn(system))
    s3, bucket = system.aws.client("s3", own), system.deployment.waves_bucket
    functions, tables = system.aws.client("lambda", own), system.aws.client("dynamodb", own)
    for action, call in {
        "s3:PutObject": lambda: s3.put_object(Bucket=bucket, Key="inputs/x", Body=b""),
        "s3:GetObject": lambda: s3.get_object(Bucket=deploy.PACKAGE_BUCKET, Key="updater.zip"),
        "s3:DeleteObject": lambda: s3.delete_object(Bucket=bucket, Key="rollouts/x"),
        "lambda:GetFunction": lambda: functions.get_function(FunctionName=system.deployment.function),
        "dynamodb:Query": lambda: tables.query(
            TableName=system.deployment.history,
            KeyConditionExpression="service = :s",
            ExpressionAttributeValues={":s": {"S": "x"}},
        ),
        "sts:AssumeRole": lambda: system.assume(system.deployment.role_arn, own),
    }.items():
        assert action in refused(call)


@pytest.fixture
def without(system: System, role_policy: Replace) -> Iterator[Callable[..., None]]:
    """Takes one action, or one resource of a statement, from the state machine's role."""
    role = role_arn(system).rsplit("/", 1)[-1]

    def take(sid: str, what: str, policy: str = "waves") -> None:
        document = system.client("iam").get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        for statement in document["Statement"]:
            if statement["Sid"] == sid:
                actions = [action for action in actions_of(statement) if action != what]
                statement["Action"] = actions or ["s3:ListAllMyBuckets"]
                if isinstance(statement["Resource"], list):
                    statement["Resource"] = [arn for arn in statement["Resource"] if what not in arn]
        role_policy(HUB, role, policy, document)

    yield take


@pytest.mark.parametrize(
    ("sid", "what", "ends"),
    [
        ("ReadTargets", "s3:GetObject", "States.ItemReaderFailed"),
        ("KeepResults", "s3:GetObject", "was interrupted: S3"),
        ("KeepResults", "s3:PutObject", "States.ResultWriterFailed"),
    ],
)
def test_the_role_has_nothing_to_spare(
    system: System, without: Callable[..., None], sid: str, what: str, ends: str
) -> None:
    key = f"inputs/{uuid.uuid4()}.jsonl"
    body = json.dumps(target(system.service())).encode()
    system.client("s3").put_object(Bucket=system.deployment.waves_bucket, Key=key, Body=body)
    without(sid, what)
    ended = wait(system, start(system, [{"key": key}]))
    assert (ended["status"], ended["error"]) == ("FAILED", "RolloutStopped")
    told = json.loads(ended["cause"])
    assert statuses(told) == ["INTERRUPTED"]
    assert ends in told["reason"]


def test_what_the_history_cannot_be_asked_about_counts_as_failed(system: System, without: Callable[..., None]) -> None:
    service, unchanged = system.service(), system.service()
    without("ChangeAndAsk", "HistoryFunction")
    targets = [target(service), target(unchanged, ecs_image_name=deploy.IMAGE)]  # the second one is as wanted
    summary = run(system, [targets, [system.service()]])
    assert statuses(summary) == ["STOPPED", "NOT_STARTED"]
    [failure] = summary["waves"][0]["failures"]
    assert (failure["ecs_service_name"], failure["status"]) == (service.name, "UNKNOWN")
    assert [update["ecs_service_name"] for update in summary["restore"]["updates"]] == [service.name]


def test_without_the_updater_nothing_begins(system: System, without: Callable[..., None]) -> None:
    without("ChangeAndAsk", "UpdaterFunction")
    ended = wait(system, start(system, [[system.service()]]))
    assert ended["error"] == "InputRefused"
    assert "lambda:InvokeFunction" in ended["cause"]


@pytest.mark.parametrize(
    ("sid", "action"), [("RunBatches", "states:StartExecution"), ("FollowBatches", "states:DescribeExecution")]
)
def test_children_need_rights_of_their_own(system: System, without: Callable[..., None], sid: str, action: str) -> None:
    without(sid, action, "waves-children")
    service = system.service()
    told = json.loads(wait(system, start(system, [[service]]))["cause"])
    assert action in told["reason"]
    assert system.records(service) == []
