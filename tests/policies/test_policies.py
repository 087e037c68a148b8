"""What the documents of `policies/` allow and what they do not, simulated one layer at a time with all others open; and
whether any mechanical widening or narrowing of them would go unnoticed.

The cases are data: `cases/NAME.yaml` for each document. CONTRIBUTING.md says how to write one.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
VALIDATORS = ROOT / "infrastructure" / "validators"
sys.path[:0] = [str(VALIDATORS), str(VALIDATORS.parent)]

from documents import ORGANIZATION_POLICIES, POLICIES, listed, load  # noqa: E402
from render import OPTIONAL_KEYS  # noqa: E402

from mutants import Mutant, canonical, mutants  # noqa: E402

CASES = Path(__file__).parent / "cases"
PATHS = {path.name: path for folder in (POLICIES, ORGANIZATION_POLICIES) for path in folder.glob("*.json")}
DOCUMENTS = sorted(PATHS)
# A pattern's open partition, region and account, and one of each.
ANYWHERE = re.compile(r"^arn:[^:]+:([^:]+):([^:]*):([^:]*):")
KMS_PATTERNS = {"kms:GenerateDataKey*", "kms:ReEncrypt*"}
# The key's account decides by its own IAM: without this statement nobody could ever change the key.
PATTERNS = {("notices-key.json", "kms:*")}
# Documents that the templates leave out whole where there is no organization.
ONLY_WITH_ORGANIZATION = {"api-organization.json", "event-bus.json"}
MEMBERS = {"allowed", "actions", "resource", "by", "with", "unchecked", "but not"}
Question = dict[str, Any]


def somewhere(match: re.Match[str]) -> str:
    """The beginning of an ARN with its open parts filled in."""
    service, region, account = match.groups()
    return f"arn:aws:{service}:{region.replace('*', 'eu-west-1')}:{account.replace('*', '222222222222')}:"


def node(request: dict[str, Any]) -> list[Any]:
    """What simulate.mjs answers."""
    done = subprocess.run(
        [VALIDATORS / "run", "node", Path(__file__).parent / "simulate.mjs", ROOT / ".tools" / "node"],
        input=json.dumps(request), stdout=subprocess.PIPE, text=True, timeout=1800, check=True,
    )
    return list(json.loads(done.stdout))


@functools.cache
def actions_of(service: str, resource: str | None = None) -> list[tuple[str, str, set[str]]]:
    """The actions of a service that take the resource, or all with a made-up resource of each type; and their keys."""
    (found,) = node({"list": [{"service": service, "resource": resource}]})
    return [(action, taken, set(keys)) for action, taken, keys in found]


def document(name: str) -> dict[str, Any]:
    """A document as samples.json fills it in."""
    return load(PATHS[name])


@functools.cache
def suite(name: str) -> dict[str, Any]:
    """The cases of a document."""
    loaded = yaml.safe_load((CASES / f"{Path(name).stem}.yaml").read_text())
    assert loaded["document"] == name
    assert set(loaded) <= {"document", "layer", "by", "cases", "nothing but"}
    return dict(loaded)


def question(what: str, expect: str, action: str, resource: str, by: str, context: dict[str, Any], **more: Any) -> Question:
    """One question to the simulator. The context's own keys win; null takes one away."""
    account = resource.split(":")[4] if resource != "*" else ""
    known = {"aws:PrincipalArn": by, "aws:PrincipalAccount": by.split(":")[4]} if by.startswith("arn:") else {}
    return {
        "what": f"{what}: {by} {action} {resource} {context}",
        "expect": expect,
        "action": action,
        "resource": resource,
        "by": by,
        # IAM's and STS's resources without an account belong to the one that asks.
        "account": account or (by.split(":")[4] if by.startswith("arn:") else "111111111111"),
        "with": {key: value for key, value in {**known, **context}.items() if value is not None},
        "strict": True,
        **more,
    }


@functools.cache
def questions(name: str) -> list[Question]:
    """All questions about a document: each case, each of its deviations, and all there is beside."""
    cases = suite(name)
    asked: list[Question] = []
    for case in cases["cases"]:
        assert set(case) <= MEMBERS, case
        base = {"by": cases["by"], "with": {}, **case}
        unchecked = {"unchecked": bool(case.get("unchecked"))}
        for action in base["actions"]:
            asked.append(question(case["allowed"], "allowed", action, base["resource"], base["by"], base["with"], **unchecked))
        for how, deviation in case.get("but not", {}).items():
            assert set(deviation) <= {"actions", "resource", "by", "with"}, deviation
            other = {**base, **deviation, "with": {**base["with"], **deviation.get("with", {})}}
            # What a deviating action has for context keys is not the point of the case.
            strict = {"strict": "actions" not in deviation and "resource" not in deviation}
            about = {"about": sorted(deviation.get("with", {}))}
            for action in other["actions"]:
                asked.append(
                    question(f"{case['allowed']}; but not: {how}", "denied", action, other["resource"], other["by"], other["with"],
                             **unchecked, **strict, **about)
                )  # fmt: skip
    for world in cases.get("nothing but", []):
        service = world.get("service") or world["resource"].split(":")[2]
        pairs = actions_of(service, world.get("resource"))
        assert set(world["actions"]) <= {action for action, *_ in pairs}, f"{name}: an action of {world} takes no such resource"
        for action, resource, _ in pairs:
            # A service's actions are asked on made-up resources: whether one is allowed is said by the cases.
            if action in world["actions"] and "resource" not in world:
                continue
            expect = "allowed" if action in world["actions"] else "denied"
            asked.append(
                question("nothing but", expect, action, resource, world.get("by", cases["by"]), world.get("with", {}), strict=False)
            )
    return asked


def ask(name: str, changed: list[Mutant] | None = None) -> list[list[tuple[int, str]]]:
    """The surprising answers of the document, or the first one of each mutant."""
    documents = (
        [{"document": document(name)}]
        if changed is None
        else [{"document": mutant.document, "first": mutant.action} for mutant in changed]
    )
    return node({"layer": suite(name)["layer"], "documents": documents, "questions": questions(name)})


def equivalent() -> dict[str, list[dict[str, Any]]]:
    """The mutants that are no other policy, with their reasons."""
    return dict(yaml.safe_load((CASES.parent / "equivalent.yaml").read_text()))


def test_every_document_has_cases() -> None:
    assert sorted(f"{path.stem}.json" for path in CASES.glob("*.yaml")) == DOCUMENTS
    assert set(equivalent()) <= set(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_allows_what_it_must_and_nothing_else(name: str) -> None:
    (surprises,) = ask(name)
    assert [f"{answer}: {questions(name)[number]['what']}" for number, answer in surprises] == []


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name not in ONLY_WITH_ORGANIZATION])
def test_a_lone_account_has_the_same_but_for_organization_and_external_id(name: str) -> None:
    """What the templates leave out where a parameter is empty takes no other refusal with it."""

    def lone(node: Any) -> Any:
        if isinstance(node, list):
            return [lone(item) for item in node]
        if not isinstance(node, dict):
            return node
        kept = {key: lone(member) for key, member in node.items() if key not in OPTIONAL_KEYS}
        return {key: member for key, member in kept.items() if member != {}}

    changed = {"Version": "2012-10-17", "Statement": lone(document(name)["Statement"])}
    if changed == document(name):
        return
    asked = [
        {**each, "with": {key: value for key, value in each["with"].items() if key not in OPTIONAL_KEYS}}
        for each in questions(name)
        if not OPTIONAL_KEYS.keys() & set(each.get("about", []))
    ]
    (surprises,) = node({"layer": suite(name)["layer"], "documents": [{"document": changed}], "questions": asked})
    assert [f"{answer}: {asked[number]['what']}" for number, answer in surprises] == []


def test_the_only_door_knows_each_call_that_changes_a_service() -> None:
    """A call that AWS invents appears in its reference first; then this fails, and somebody has to say where it belongs."""
    kinds = ("service", "service-deployment", "service-revision", "task-set", "daemon", "daemon-deployment", "daemon-revision")
    changing = {
        action
        for action, resource, _ in actions_of("ecs")
        if resource.split(":")[-1].split("/")[0] in kinds
        and not re.match("ecs:(Describe|List|Get)", action)
    }
    refused = {
        action
        for statement in document("only-door.json")["Statement"][:2]
        for action in listed(statement["Action"])
    }
    assert changing == refused


@pytest.mark.parametrize("name", DOCUMENTS)
def test_its_actions_exist(name: str) -> None:
    """An Allow names each: a pattern takes in what AWS has yet to invent. (Two of KMS's are how AWS itself writes them.)"""
    for statement in document(name)["Statement"]:
        for action in listed(statement["Action"]):
            known = {known for known, *_ in actions_of(action.split(":")[0])}
            assert fnmatch.filter(known, action)
            assert "*" not in action or statement["Effect"] == "Deny" or (name, action) in PATTERNS or action in KMS_PATTERNS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_mutant_survives(name: str) -> None:
    """Every mutant is noticed by a case, or listed in equivalent.yaml with the reason why it is no other policy."""
    assert ask(name) == [[]], "what the document itself answers wrongly would hide every mutant"

    def reference(service: str, resource: str | None) -> dict[str, set[str]]:
        if suite(name)["layer"] in ("trust", "resource") and resource in ("*", None):
            resource = suite(name)["cases"][0]["resource"]  # what the document is attached to
        concrete = None if resource == "*" else ANYWHERE.sub(somewhere, str(resource)).replace("*", "invented")
        return {action: keys for action, _, keys in actions_of(service, concrete)}

    made = list(mutants(document(name), reference))
    assert not [mutant.name for mutant in made if canonical(mutant.document) == canonical(document(name))]
    survivors = {mutant.name for mutant, surprises in zip(made, ask(name, made), strict=True) if not surprises}
    excused = {
        mutant: group["reason"]
        for group in equivalent().get(name, [])
        for mutant in group["mutants"]
    }
    assert all(excused.values()), "each needs its reason"
    assert sorted(survivors - set(excused)) == []
    assert sorted(set(excused) - survivors) == [], "in equivalent.yaml, and noticed: take it out"
