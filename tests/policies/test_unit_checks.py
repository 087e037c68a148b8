"""The first version's checks (tests/first_version) are all there, under their numbers, and find what is wrong.

They run over a function that is deployed (`make run-lambda-test-unittest`). Here one stands in for it that answers as it should, and
one that answers nothing of what it should.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = ROOT / "tests" / "first_version" / "test_first_version.py"

# As many checks as the first version had of each case.
CASES = {"1.1": 5, "2.1": 3, "2.2": 3, "3.1": 3, "3.2": 3, "4.1": 3, "4.2": 5, "4.3": 4}
NUMBERS = [f"{case}.{check}" for case, checks in CASES.items() for check in range(1, checks + 1)]

CODES = {
    "MISSING_JSON_FIELD": ("JsonValidation", "[ERROR][json_validation] wrong input event format: …"),
    "WRONG_JSON_FORMAT": ("JsonValidation", "[ERROR][json_validation] wrong input event format: …"),
    "MISSING_ECS_CLUSTER": ("ClusterNotFound", "[ERROR][ecs_service_read] ecs_cluster_name ProductionFAKE not found…"),
    "MISSING_ECS_SERVICE": ("ServiceNotFound", "[ERROR][ecs_service_read] ecs_service_name ecs-dummy-serviceFAKE not found…"),
    "WRONG_IMAGE_NAME": ("InvalidImage", "[ERROR][ecs_service_update] new task_definition could not be created …"),
}


def load() -> Any:
    """The file as a module of its own."""
    spec = importlib.util.spec_from_file_location("first_version", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for the names of their annotations.
    sys.modules["first_version"] = module
    spec.loader.exec_module(module)
    return module


class Deployed:
    """What boto3 would give for ECS and Lambda: one service, and a function that changes it, or answers nonsense."""

    def __init__(self, module: Any, right: bool) -> None:
        self.module, self.right = module, right
        self.image, self.tags = module.INITIAL_IMAGE, dict(module.INITIAL_TAGS)
        self.sent: list[str] = []

    def client(self, *_: Any, **__: Any) -> Deployed:
        """Every client."""
        return self

    def describe_services(self, **_: Any) -> Any:
        """The service."""
        return {"services": [{"taskDefinition": "it", "tags": self.listed()}]}

    def describe_task_definition(self, **_: Any) -> Any:
        """Its task definition."""
        return {"taskDefinition": {"containerDefinitions": [{"image": self.image}]}}

    def listed(self) -> list[dict[str, str]]:
        """Its tags, with one of AWS's own."""
        own = [{"key": key, "value": value} for key, value in self.tags.items()]
        return [{"key": "aws:cloudformation:stack-name", "value": "stack"}, *own]

    def state(self) -> dict[str, Any]:
        """As BEFORE and AFTER say it."""
        return {"serviceImage": self.image, "tags": self.listed()}

    def invoke(self, Payload: bytes, **_: Any) -> Any:  # noqa: N803 (the API's name)
        """Changes the service, as the event says."""
        events = self.module.EVENTS.glob("*.json")
        name = next(path.stem.partition("testevent-")[2] for path in events if path.read_bytes() == Payload)
        self.sent.append(name)
        if not self.right:
            return {"StatusCode": 500, "Payload": io.BytesIO(b"{}")}
        if name in CODES:
            code, text = CODES[name]
            payload: dict[str, Any] = {"errorType": code, "errorMessage": text}
            return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(payload).encode())}
        before, event = self.state(), json.loads(Payload)
        self.image, self.tags = event["ecs_image_name"], event["ecs_tag"]
        payload = {"statusCode": 200, "body": {"BEFORE": before, "AFTER": self.state()}}
        return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(payload).encode())}


def run(monkeypatch: pytest.MonkeyPatch, right: bool) -> tuple[Deployed, unittest.TestResult]:
    """Runs the checks that have a number, in the order in which `unittest discover` runs them."""
    module = load()
    deployed = Deployed(module, right)
    monkeypatch.setattr(module.boto3.session, "Session", lambda **_: deployed)
    monkeypatch.setenv("ECS_UPDATER_FUNCTION", "updater")
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    numbered = unittest.TestSuite(part for part in suite if isinstance(next(iter(part), None), module.Check))
    result = unittest.TestResult()
    numbered.run(result)
    assert not result.errors, result.errors
    return deployed, result


def test_there_are_the_29_numbers_and_no_others() -> None:
    found = re.findall(r"def test_(\d)_(\d)_(\d)_", FILE.read_text())
    assert [".".join(number) for number in found] == NUMBERS
    assert len(NUMBERS) == 29


def test_they_hold_where_the_function_does_as_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed, result = run(monkeypatch, right=True)
    assert (result.testsRun, result.failures) == (29, [])
    # One event of each kind, in the first version's order; before them, the values to begin with.
    assert deployed.sent == [
        "SAME_INITIAL_VALUES",
        "base",
        "MISSING_JSON_FIELD",
        "WRONG_JSON_FORMAT",
        "MISSING_ECS_CLUSTER",
        "MISSING_ECS_SERVICE",
        "WRONG_IMAGE_NAME",
        "SAME_INITIAL_VALUES",
        "MULTIPLE_TAGS",
    ]


def test_each_fails_with_its_number_where_the_function_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    _, result = run(monkeypatch, right=False)
    said = [re.findall(r"\[FAILED CHECK (\d\.\d\.\d)]", text) for _, text in result.failures]
    assert [number for numbers in said for number in numbers] == NUMBERS


def test_both_names_of_the_rule_do_the_same() -> None:
    def commands(rule: str) -> str:
        done = subprocess.run(["make", "--dry-run", "--silent", rule], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout

    assert "tools/deploy/rules.py" in commands("run-lambda-test-inittest")
    assert commands("run-lambda-test-inittest") == commands("run-lambda-test-unittest")
