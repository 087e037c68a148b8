#!/usr/bin/env python3
"""Writes what AWS takes in the requests that this project sends: crates/aws-stub/src/shapes.json, from the pinned models.

    tools/model/shapes.py ENVIRONMENT            writes it (make model)
    tools/model/shapes.py --check ENVIRONMENT    fails if it is not what would be written (make lint-model)

The stub checks the requests of every Rust test by it, without Python (crates/aws-stub/src/shapes.rs). Only the operations below are in it: a
request of another one is a fault, too. A shape is `{"members": {name: shape}, "required": [name]}`, `{"list": shape}`,
`{"map": [shape, shape]}`, `{"enum": [value]}`, or the name of another; numbers, texts and the like are the words of AWS's models.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models

FILE = models.ROOT / "crates" / "aws-stub" / "src" / "shapes.json"
OPERATIONS = {
    models.ECS: (
        "ContinueServiceDeployment",
        "DescribeServiceDeployments",
        "DescribeServiceRevisions",
        "DescribeServices",
        "DescribeTaskDefinition",
        "DescribeTasks",
        "ListClusters",
        "ListServiceDeployments",
        "ListServices",
        "ListTagsForResource",
        "ListTasks",
        "RegisterTaskDefinition",
        "StopServiceDeployment",
        "TagResource",
        "UntagResource",
        "UpdateExpressGatewayService",
        "UpdateService",
    ),
    models.DYNAMODB: ("BatchGetItem", "ExecuteTransaction", "GetItem", "Query"),
    models.STS: ("AssumeRole", "GetCallerIdentity"),
}
# Answers whose enumerations a test compares with what the code understands.
ANSWERS = {models.ECS: ("ServiceDeployment",)}


def short(model: dict[str, Any], name: str) -> Any:
    """A shape as it stands where it is used: scalars by their kind, everything else by its name."""
    shape = model["shapes"][name]
    kind = shape["type"]
    if kind == "structure" and shape.get("document"):
        return "document"
    return name if kind in ("structure", "list", "map") or "enum" in shape else kind


def whole(model: dict[str, Any], shape: dict[str, Any]) -> Any:
    """A shape under its own name; None where it stands where it is used."""
    match shape:
        case {"enum": values}:
            return {"enum": values}
        case {"type": "structure", "document": True}:
            return None
        case {"type": "structure"}:
            members = {name: short(model, member["shape"]) for name, member in shape["members"].items()}
            required = {"required": shape["required"]} if shape.get("required") else {}
            return {"members": members, **required}
        case {"type": "list", "member": member}:
            return {"list": short(model, member["shape"])}
        case {"type": "map", "key": key, "value": value}:
            return {"map": [short(model, key["shape"]), short(model, value["shape"])]}
    return None


def document(source: models.Models) -> dict[str, Any]:
    """The whole file."""
    written: dict[str, Any] = {"botocore": source.version}
    for folder, operations in OPERATIONS.items():
        model = source.service(folder)
        inputs = {
            operation: model["operations"][operation].get("input", {}).get("shape", "Nothing")
            for operation in operations
            if operation in model["operations"]
        }
        roots = [name for name in inputs.values() if name != "Nothing"]
        shapes = {
            name: found
            for name in sorted(models.reachable(model, [*roots, *ANSWERS.get(folder, ())]))
            if (found := whole(model, model["shapes"][name])) is not None
        }
        if "Nothing" in inputs.values():
            shapes["Nothing"] = {"members": {}}
        written[folder.partition("/")[0]] = {"operations": inputs, "shapes": shapes}
    return written


def text(written: dict[str, Any]) -> str:
    """One line for each operation and each shape, so that a difference can be read."""

    def lines(members: dict[str, Any]) -> str:
        return ",\n".join(f"   {json.dumps(name)}: {json.dumps(member)}" for name, member in members.items())

    services = [
        f' {json.dumps(name)}: {{\n  "operations": {{\n{lines(service["operations"])}\n  }},\n'
        f'  "shapes": {{\n{lines(service["shapes"])}\n  }}\n }}'
        for name, service in written.items()
        if name != "botocore"
    ]
    return f'{{\n "botocore": {json.dumps(written["botocore"])},\n' + ",\n".join(services) + "\n}\n"


def main(arguments: Sequence[str]) -> int:
    """Writes or compares."""
    match arguments:
        case ["--check", environment]:
            if FILE.read_text() == text(document(models.installed(Path(environment)))):
                return 0
            print(f"{FILE.name} of crates/aws-stub/src is not what the pinned models say: run `make model`", file=sys.stderr)
            return 1
        case [environment] if not environment.startswith("-"):
            FILE.write_text(text(document(models.installed(Path(environment)))))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except models.Missing as missing:
        sys.exit(str(missing))
