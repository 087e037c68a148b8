"""Runs parliament, through its Python API, over IAM documents, and measures them.

    parliament_check.py FILE_OR_FOLDER…

Each document is read with the tokens that samples.json fills in, and judged statement by statement, so that a finding
names its statement. Exit code 1 where parliament finds anything that parliament.yaml does not suppress with a reason, where
a suppression is no longer needed, or where a document is larger than AWS takes.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from documents import HERE, kind, load

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # parliament imports pkg_resources, which says that it is old
    import parliament

# What AWS takes, in characters without white space (IAM) or bytes with it (DynamoDB: 20 KB). A session policy is further
# packed by STS into a space of its own measure; 2,048 is what AssumeRole takes as text.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
LIMITS = {"boundary": 6_144, "session": 2_048, "trust": 2_048, "resource": 20_480, "identity": 10_240}


def limit(name: str, document: dict[str, Any]) -> int:
    """The most characters that this document may have: by its name where IAM has two places for the same kind."""
    for part in ("boundary", "session"):
        if part in name:
            return LIMITS[part]
    return LIMITS[kind(document)]


def size(document: dict[str, Any]) -> int:
    """A document's characters, without white space between its members."""
    return len(json.dumps(document, separators=(",", ":"), ensure_ascii=False))


def findings(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What parliament finds: statement, code, detail."""
    for statement in document["Statement"]:
        # A trust policy has no Resource, which parliament takes for a fault.
        complete = {**statement, "Resource": "*"} if kind(document) == "trust" else statement
        policy = parliament.analyze_policy_string(json.dumps({**document, "Statement": [complete]}))
        for finding in policy.findings:
            # What a document is attached to, and nothing else, is the resource of those that name principals.
            if kind(document) == "identity" or finding.issue not in ("RESOURCE_STAR", "RESOURCE_MISMATCH"):
                yield str(statement.get("Sid")), finding.issue, str(finding.detail)


def main(arguments: list[str]) -> int:
    """Checks the files, or the JSON files of folders, that are named."""
    paths = [Path(argument) for argument in arguments]
    files = sorted(file for path in paths for file in (path.glob("*.json") if path.is_dir() else [path]))
    suppressed = {
        (entry["document"], entry["statement"], entry["finding"]): entry.get("about", "")
        for entry in yaml.safe_load((HERE / "parliament.yaml").read_text())["suppressions"]
        if entry["reason"]
    }
    used, faults = set(), 0
    for file in files:
        document = load(file)
        if size(document) > limit(file.name, document):
            faults += 1
            print(f"{file}: {size(document)} characters, AWS takes {limit(file.name, document)}")
        for statement, code, detail in findings(document):
            about = suppressed.get((file.name, statement, code))
            if about is not None and about in detail:
                used.add((file.name, statement, code))
                continue
            faults += 1
            print(f"{file}: {statement}: {code}: {detail}")
    for name, statement, code in sorted(suppressed.keys() - used):
        if any(file.name == name for file in files):
            faults += 1
            print(f"parliament.yaml: {name}: {statement}: {code} is suppressed and no longer found: take it out")
    print(f"{len(files)} documents, {faults} faults, {len(used)} suppressed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
