"""Every way in which a document could be a little wider, or a little narrower, than it should be: made mechanically.

A mutant is the document with one change. Whichever case notices it shows that the change would not go unnoticed.
"""

from __future__ import annotations

import copy
import fnmatch
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from documents import listed

# The actions of a service that take a resource, and the condition keys of each, in lower case. The resource is a pattern, as
# policies have it, or None in a trust policy.
Reference = Callable[[str, str | None], dict[str, set[str]]]
Statement = dict[str, Any]

# Condition operators and what takes patterns in their place.
PATTERN = {"StringEquals": "StringLike", "StringNotEquals": "StringNotLike", "ArnEquals": "ArnLike", "ArnNotEquals": "ArnNotLike"}
ANOTHER_ACCOUNT = "arn:aws:iam::999999999999:root"


class Mutant(NamedTuple):
    """What was changed, the changed document, and the action that was added, if one was."""

    name: str
    document: dict[str, Any]
    action: str = ""


def mutants(document: dict[str, Any], reference: Reference) -> Iterator[Mutant]:
    """All mutants of a document. `reference` knows AWS's actions."""
    for index, statement in enumerate(document["Statement"]):
        sid = statement["Sid"]

        def changed(name: str, *replacement: Statement, action: str = "", index: int = index, sid: str = sid) -> Mutant:
            statements = [*document["Statement"][:index], *replacement, *document["Statement"][index + 1 :]]
            return Mutant(f"{sid}: {name}", {**document, "Statement": statements}, action)

        if len(document["Statement"]) > 1:
            yield changed("without the statement")
        for make in (principals, actions, resources, conditions):
            for name, replacement, *action in make(statement, reference):
                yield changed(name, replacement, action=action[0] if action else "")


Changes = Iterator[tuple[Any, ...]]


def items(statement: Statement, member: str) -> Iterator[tuple[str, Callable[[Any], Statement]]]:
    """Each value of a member that is one value or a list, and the statement with others in its place."""
    values = listed(statement[member])
    for position, value in enumerate(values):

        def put(*others: Any, position: int = position) -> Statement:
            return {**statement, member: [*values[:position], *others, *values[position + 1 :]]}

        yield value, put


def principals(statement: Statement, _: Reference) -> Changes:
    """Of an Allow more principals, of a Deny fewer."""
    if "Principal" not in statement:
        return
    principal = statement["Principal"]
    if statement["Effect"] == "Deny":
        yield "only another account is denied", {**statement, "Principal": {"AWS": ANOTHER_ACCOUNT}}
        return
    if principal == "*":
        return
    yield "any principal", {**statement, "Principal": "*"}
    yield "any AWS principal", {**statement, "Principal": {**principal, "AWS": "*"}}
    for service in {"ec2.amazonaws.com", "ecs-tasks.amazonaws.com"} - set(listed(principal.get("Service", []))):
        yield f"also {service}", {**statement, "Principal": {**principal, "Service": [*listed(principal.get("Service", [])), service]}}
    for arn in listed(principal.get("AWS", [])):
        account = arn.split(":")[4]
        wider = [*listed(principal["AWS"]), ANOTHER_ACCOUNT]
        yield "also another account", {**statement, "Principal": {**principal, "AWS": wider}}
        if not arn.endswith(":root"):
            yield "the whole account", {**statement, "Principal": {**principal, "AWS": f"arn:aws:iam::{account}:root"}}


def needed_keys(statement: Statement) -> set[str]:
    """The condition keys, in lower case, without which the statement does not apply."""
    optional = ("Not", "IfExists", "ForAllValues:")
    return {
        key.lower()
        for operator, keys in statement.get("Condition", {}).items()
        if not any(part in operator for part in optional)
        for key, value in keys.items()
        if operator != "Null" or value == "false"
    }


def actions(statement: Statement, reference: Reference) -> Changes:
    """Each action taken away; of an Allow each other action of the same services added; all of a service, and all."""
    present = listed(statement["Action"])
    if len(present) > 1:
        for action, put in items(statement, "Action"):
            yield f"without {action}", put()
    if statement["Effect"] == "Deny":
        for action, put in items(statement, "Action"):
            if action.endswith(":*"):
                yield f"reading only of {action}", put(action.replace(":*", ":Get*"), action.replace(":*", ":List*"))
        # Of a service control policy, which has no principals: what it refuses beside is an outage.
        if "Principal" not in statement:
            yield "every action", {**statement, "Action": "*"}
            for service in sorted({action.split(":")[0] for action in present}):
                yield f"and {service}:*", {**statement, "Action": [*present, f"{service}:*"]}
        return
    yield "and every action", {**statement, "Action": [*present, "*"]}
    for service in sorted({action.split(":")[0] for action in present}):
        if f"{service}:*" not in present:
            yield f"and {service}:*", {**statement, "Action": [*present, f"{service}:*"]}
        # An action without the key never meets the condition: adding it would add nothing.
        taken = {
            action
            for resource in listed(statement.get("Resource"))
            for action, keys in reference(service, resource).items()
            if needed_keys(statement) <= keys
        }
        for action in sorted(each for each in taken if not any(fnmatch.fnmatch(each, pattern) for pattern in present)):
            yield f"and {action}", {**statement, "Action": [*present, action]}, action


def wider(resource: str) -> list[str]:
    """An ARN's parents: each part open, the name open at its end, each folder of the name, and everything."""
    if resource == "*":
        return []
    parts = resource.split(":", 5)
    found = ["*"]
    for position in (3, 4):
        if parts[position] not in ("", "*"):
            found.append(":".join([*parts[:position], "*", *parts[position + 1 :]]))
    name = parts[5]
    for at, character in enumerate(name):
        if character in "/:":
            found.append(":".join([*parts[:5], f"{name[: at + 1]}*"]))
    # One folder or name between others: a/b/c as a/*/c, log-group:a:log-stream:* as log-group:*:log-stream:*.
    separator = "/" if "/" in name else ":"
    steps = name.split(separator)
    for at in range(1, len(steps) - 1):
        found.append(":".join([*parts[:5], separator.join([*steps[:at], "*", *steps[at + 1 :]])]))
        found.append(":".join([*parts[:5], separator.join([*steps[:at], f"{steps[at]}*", *steps[at + 1 :]])]))
    found += [":".join([*parts[:5], "*"]), f"{resource}*"]
    return sorted({each for each in found if each != resource and each.replace("**", "*") != resource})


def resources(statement: Statement, _: Reference) -> Changes:
    """Each resource taken away; each one widened, but of a Deny with principals: that is attached to one thing."""
    if "Resource" not in statement:
        return
    if len(listed(statement["Resource"])) > 1:
        for resource, put in items(statement, "Resource"):
            yield f"without {resource}", put()
    if statement["Effect"] == "Deny" and "Principal" in statement:
        return
    for resource, put in items(statement, "Resource"):
        # What names principals is attached to one thing, and asked about nothing else.
        for parent in [] if "Principal" in statement and "*" not in resource else wider(resource):
            yield f"{parent} in place of {resource}", put(parent)


def conditions(statement: Statement, _: Reference) -> Changes:
    """Each condition dropped, opened or weakened."""
    condition = statement.get("Condition")
    if not condition:
        return
    yield "without any condition", {name: member for name, member in statement.items() if name != "Condition"}

    def changed(edit: Callable[[dict[str, Any]], None]) -> Statement:
        copied = copy.deepcopy(condition)
        edit(copied)
        kept = {operator: keys for operator, keys in copied.items() if keys}
        rest = {name: member for name, member in statement.items() if name != "Condition"}
        return {**rest, "Condition": kept} if kept else rest

    def move(operator: str, key: str, to: str, values: Any) -> Statement:
        def edit(copied: dict[str, Any]) -> None:
            copied[operator].pop(key)
            copied.setdefault(to, {})[key] = values

        return changed(edit)

    for operator, keys in condition.items():
        quantifier, _, plain = operator.rpartition(":")
        for key, value in keys.items():
            if len(keys) > 1 or len(condition) > 1:
                yield f"without {operator} {key}", changed(lambda copied, o=operator, k=key: copied[o].pop(k))
            if operator in ("Null", "Bool"):
                flipped = "false" if value == "true" else "true"
                yield f"{key} {flipped} under {operator}", move(operator, key, operator, flipped)
                continue
            pattern = f"{quantifier}:{PATTERN.get(plain, plain)}" if quantifier else PATTERN.get(plain, plain)
            # A negated operator and ForAllValues hold where the key is missing, with IfExists or without.
            if "Not" not in plain and quantifier != "ForAllValues":
                yield f"{operator}IfExists {key}", move(operator, key, f"{operator}IfExists", value)
            if quantifier:
                other = "ForAllValues" if quantifier == "ForAnyValue" else "ForAnyValue"
                yield f"{other} in place of {quantifier} {key}", move(operator, key, f"{other}:{plain}", value)
            values = listed(value)
            for position, each in enumerate(values):
                before, after = values[:position], values[position + 1 :]
                if len(values) > 1:
                    yield f"without {each} in {key}", move(operator, key, operator, [*before, *after])
                for opened in sorted({"*", f"{each}*", each.rsplit("/", 1)[0] + "/*" if "/" in each else "*"} - {each}):
                    if not each.endswith("*") or opened != f"{each}*":
                        yield f"{opened} in place of {each} in {key}", move(operator, key, pattern, [*before, opened, *after])


def canonical(document: dict[str, Any]) -> str:
    """A document as text, for telling whether two are the same."""
    return json.dumps(document, sort_keys=True)
