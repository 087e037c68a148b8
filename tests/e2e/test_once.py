"""One change is made once, and one at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from conftest import Service, System, end_lease
from wire import Wire

from ledger import assert_chain


def test_the_same_key_gives_the_same_answer_and_changes_nothing(system: System) -> None:
    service = system.service()
    event = service.event(ecs_image_name="nginx", ecs_tag={"a": "b"}, idempotency_key="deploy-17")
    first = system.invoke(event).body
    # What happened since must not be undone by a repeated event.
    system.invoke(service.event(ecs_image_name="nginx:2"))
    again = system.invoke(event).body
    assert again == {**first, "replayed": True}
    assert system.running(service)[0] == "nginx:2"
    assert system.revisions(service) == 3
    assert len(assert_chain(system.records(service), system.state(f"service#{service.key}"))) == 4


def test_the_same_key_with_another_event_is_refused(system: System) -> None:
    service = system.service()
    system.invoke(service.event(ecs_image_name="nginx", idempotency_key="deploy-18"))
    answer = system.invoke(service.event(ecs_image_name="nginx:2", idempotency_key="deploy-18"))
    assert answer.payload["errorType"] == "IdempotencyKeyReused"
    assert answer.payload["errorMessage"].startswith("[ERROR][idempotency] ")
    assert system.running(service)[0] == "nginx"


def test_the_same_key_means_another_change_for_another_service(system: System) -> None:
    first, second = system.service(), system.service()
    for service in (first, second):
        body = system.invoke(service.event(ecs_image_name="nginx", idempotency_key="deploy-19")).body
        assert (body["status"], body["replayed"]) == ("APPLIED", False)


def test_of_two_changes_at_once_one_is_told_to_wait(system: System, wire: Wire) -> None:
    service = system.service()
    with ThreadPoolExecutor(1) as pool:
        with wire.holding("UpdateService") as held:
            first = pool.submit(system.invoke, service.event(ecs_image_name="nginx:1"))
            assert held.arrived.wait(20), "the first change never came to UpdateService"
            second = system.invoke(service.event(ecs_image_name="nginx:2"))
        one = first.result().body
    assert one["status"] == "APPLIED"
    assert second.error
    assert second.payload["errorType"] == "ChangeInProgress"
    expected = f"[ERROR][service_lease] service {service.key} is being changed by change {one['change_id']}"
    assert second.payload["errorMessage"].startswith(expected)
    assert system.running(service)[0] == "nginx:1"
    # Nothing stays locked, and the refused change left no record.
    assert system.invoke(service.event(ecs_image_name="nginx:2")).body["status"] == "APPLIED"
    assert len(assert_chain(system.records(service), system.state(f"service#{service.key}"))) == 4


def test_many_changes_at_once_leave_one_unbroken_chain(system: System) -> None:
    service = system.service()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(system.invoke, [service.event(ecs_image_name=f"nginx:{n}") for n in range(6)]))
    applied = [answer.body["change_id"] for answer in answers if not answer.error]
    assert applied
    assert {answer.payload["errorType"] for answer in answers if answer.error} <= {"ChangeInProgress"}
    chain = assert_chain(system.records(service), system.state(f"service#{service.key}"))
    assert [record["change_id"] for record in chain if record["kind"] == "APPLIED"] == sorted(applied)
    assert len(chain) == 2 * len(applied)
    assert system.revisions(service) == 1 + len(applied)


def killed_before_update_service(system: System, wire: Wire, event: dict[str, Any], service: Service) -> None:
    """Sends an event whose function is killed when its revision is registered and the service not yet updated."""
    with ThreadPoolExecutor(1) as pool, wire.holding("UpdateService") as held:
        answer = pool.submit(system.invoke, event)
        assert held.arrived.wait(20), "the change never came to UpdateService"
        system.kill_functions()
        assert answer.result().error
        held.dropped = True
    assert [record["kind"] for record in system.records(service)] == ["STARTED"]


def test_a_change_whose_function_was_killed_is_completed_by_its_key(system: System, wire: Wire) -> None:
    service = system.service()
    event = service.event(ecs_image_name="nginx", ecs_tag={"a": "b"}, idempotency_key="deploy-20")
    killed_before_update_service(system, wire, event, service)
    assert system.revisions(service) == 2
    # While its lease lives, nobody can know that it does not.
    assert system.invoke(event).payload["errorType"] == "ChangeInProgress"
    end_lease(system, service)
    again = system.invoke(event).body
    assert again["status"] == "APPLIED"
    assert (again["BEFORE"]["serviceImage"], again["AFTER"]["serviceImage"]) == ("busybox", "nginx")
    assert system.revisions(service) == 2
    assert system.running(service) == ("nginx", {"a": "b"})
    started, again_started, applied = assert_chain(system.records(service), system.state(f"service#{service.key}"))
    assert [started["kind"], again_started["kind"], applied["kind"]] == ["STARTED", "STARTED", "APPLIED"]
    assert applied["change_id"] == again["change_id"] == started["change_id"]


def test_a_killed_change_is_closed_by_the_next_and_never_undoes_it(system: System, wire: Wire) -> None:
    service = system.service()
    event = service.event(ecs_image_name="nginx", idempotency_key="deploy-21")
    killed_before_update_service(system, wire, event, service)
    end_lease(system, service)
    assert system.invoke(service.event(ecs_image_name="nginx:2")).body["status"] == "APPLIED"
    chain = assert_chain(system.records(service), system.state(f"service#{service.key}"))
    assert [record["kind"] for record in chain] == ["STARTED", "ABANDONED", "STARTED", "APPLIED"]
    assert system.invoke(event).error
    assert system.running(service)[0] == "nginx:2"
