"""What the binaries call is what the roles allow, both ways: nothing is missing, and nothing is there that nobody uses.

The calls are found in the source: `src/aws` has a method for each, and a role's function uses the methods that its files await. Names
are matched, not types: a call too many would be found here, a call too few only on the local AWS (tests/e2e/test_permissions.py).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import botocore.session
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "src"

# A function's files, beside those of src/aws. What both updater and recorder use stands in both.
UPDATER = ("updater/*.rs", "aws/deployment_watcher.rs")
RECORDER = ("recorder/*.rs", "outcomes.rs", "aws/deployment_watcher.rs")
FILES = {
    "updater.json": UPDATER,
    "history.json": ("history/*.rs",),
    "recorder.json": RECORDER,
    "trigger.json": ("trigger/*.rs",),
    "target-role.json": UPDATER,
    "target-boundary.json": UPDATER,
    "session.json": UPDATER,
    "target-reader.json": (*RECORDER, "../crates/cli/src/aws/discovery.rs"),
}
# With target accounts' documents only ECS is meant, with the hub's everything else.
IN_TARGETS = ("target-", "session")

# PartiQL has no permission of its own.
OPERATIONS = {
    "dynamodb:ExecuteTransaction": {"dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate"},
    "lambda:Invoke": {"lambda:InvokeFunction"},
}
# Of whom nobody sees the call here.
BY_AWS = {
    # Nobody calls it. Whether AWS asks for it where DescribeServices or DescribeTaskDefinition include tags, its documentation does not
    # say; users of ECS give it to roles that describe with tags. Missing, it would refuse every change on the first day; given, it lets
    # a role read tags, which it sees anyway. docs/IAM.md names the sources.
    "ecs:ListTagsForResource": "ECS, perhaps, where a description includes tags",
    "iam:PassRole": "asked for by ECS where a definition or service names roles",
    "kms:Decrypt": "DynamoDB, with the tables' key",
    "kms:DescribeKey": "DynamoDB",
    "kms:Encrypt": "DynamoDB",
    "kms:GenerateDataKey*": "DynamoDB",
    "kms:GenerateDataKey": "SQS, with the key of its queues",
    "kms:ReEncrypt*": "DynamoDB",
    "logs:CreateLogStream": "Lambda",
    "organizations:ListAccountsForParent": "src/aws/organization.rs, by the request of documents.rs",
    "organizations:ListOrganizationalUnitsForParent": "src/aws/organization.rs",
    "s3:GetObject": "src/aws/documents.rs, which makes its request itself",
    "ssm:GetParameter": "src/aws/documents.rs",
    "logs:PutLogEvents": "Lambda",
    "sqs:DeleteMessage": "Lambda, which polls the queue",
    "sqs:GetQueueAttributes": "Lambda",
    "sqs:ReceiveMessage": "Lambda",
    "sqs:SendMessage": "Lambda, with what failed",
    "sts:SetSourceIdentity": "STS, where AssumeRole says for whom",
}
# What a function has the code for, and never comes to.
NEVER = {"trigger.json": {"secretsmanager:GetSecretValue": "its template gives it no REGISTRY_CREDENTIALS"}}


def camel(name: str) -> str:
    """`batch_get_item` as AWS writes it."""
    return "".join(part.title() for part in name.split("_"))


MODELS = botocore.session.get_session()


def operations(text: str, service: str) -> set[str]:
    """Operations of a service that are begun in a text: `client.batch_get_item()`."""
    found = {camel(name) for name in re.findall(r"\.\s*([a-z]+(?:_[a-z]+)*)\(\)", text)}
    return {f"{service}:{name}" for name in found & set(MODELS.get_service_model(service).operation_names)}


def functions(path: Path) -> dict[str, str]:
    """The functions of a file, each with its text."""
    parts = re.split(r"^\s*(?:pub(?:\([a-z]+\))? )?(?:async )?fn (\w+)", path.read_text().split("#[cfg(test)]")[0], flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def awaited(text: str) -> Iterator[str]:
    """Names of methods whose call is awaited, or whose answer goes on into a call that is."""
    for call in re.finditer(r"\.(\w+)\(", text):
        depth, at = 1, call.end()
        while depth and at < len(text):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        if re.match(r"\s*\.await|\s*\.send\(\)|\s*[,)]|\s*;|\s*\.into_paginator", text[at:]):
            yield call[1]


# Which file of src/aws talks to which service.
CLIENTS = {
    "ecs.rs": ("ecs",),
    "history_reader.rs": ("dynamodb",),
    "images.rs": ("ecr", "secretsmanager"),
    "ledger_store.rs": ("dynamodb",),
    "sessions.rs": ("sts",),
    "push_queue.rs": ("sqs",),
    "updater_client.rs": ("lambda",),
}


@functools.cache
def methods() -> dict[str, set[str]]:
    """Each function of src/aws with the operations that it, or another of its file that it uses, begins."""
    found: dict[str, set[str]] = {}
    for file, services in CLIENTS.items():
        texts = functions(SOURCE / "aws" / file)
        begun = {name: {each for service in services for each in operations(text, service)} for name, text in texts.items()}
        uses = {name: {other for other in re.findall(r"\b(\w+)\(", text) if other in texts} for name, text in texts.items()}
        before = None
        while before != begun:
            before = begun
            begun = {name: called.union(*(begun[other] for other in uses[name])) for name, called in begun.items()}
        for name, called in begun.items():
            found.setdefault(name, set()).update(called)
    return {name: called for name, called in found.items() if called}


def called_by(patterns: Iterable[str]) -> set[str]:
    """The actions that the code of these files needs."""
    known, needed = methods(), set()
    for pattern in patterns:
        for path in SOURCE.glob(pattern):
            text = path.read_text().split("#[cfg(test)]")[0]
            for method in awaited(text):
                needed |= known.get(method, set())
            # The command line has clients of its own.
            if path.name == "discovery.rs":
                needed |= operations(text, "ecs")
    return {action for operation in needed for action in OPERATIONS.get(operation, {operation})}


def allowed(name: str) -> set[str]:
    """The actions that a document allows, but those that only AWS makes use of."""
    statements = json.loads((ROOT / "policies" / name).read_text())["Statement"]
    return {
        action
        for statement in statements
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    } - (set(BY_AWS) - called_by(FILES[name]))


@pytest.mark.parametrize("name", FILES)
def test_a_role_allows_what_its_function_calls_and_no_more(name: str) -> None:
    there = name.startswith(IN_TARGETS)
    called = {action for action in called_by(FILES[name]) if action.startswith("ecs:") == there}
    assert allowed(name) == called - set(NEVER.get(name, ()))
    assert set(NEVER.get(name, ())) <= called


def test_every_client_is_looked_at() -> None:
    clients = {path.name for path in (SOURCE / "aws").glob("*.rs") if ".send()" in path.read_text()}
    assert clients == set(CLIENTS)
