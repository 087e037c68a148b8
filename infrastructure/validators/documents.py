"""The documents of `policies/` as one deployment would have them: samples.json fills in the tokens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
POLICIES = HERE.parent.parent / "policies"
# Service control policies: samples, which an organization adapts. They have no tokens.
ORGANIZATION_POLICIES = HERE.parent / "organizations"
SAMPLES: dict[str, Any] = json.loads((HERE / "samples.json").read_text())
TOKEN = re.compile(r"__[A-Z_]+?__")


def load(path: Path) -> dict[str, Any]:
    """A document with its tokens filled in. KeyError where samples.json lacks one."""
    target = path.name.startswith(("target-", "sandbox-"))
    account = SAMPLES["__TARGET_ACCOUNT_ID__" if target else "__HUB_ACCOUNT_ID__"]
    return dict(filled(json.loads(path.read_text()), {**SAMPLES, "__ACCOUNT_ID__": account}))


def filled(node: Any, samples: dict[str, Any]) -> Any:
    """A document, or a part of it, with its tokens filled in."""
    if isinstance(node, dict):
        return {name: filled(member, samples) for name, member in node.items()}
    if isinstance(node, list):
        return [filled(item, samples) for item in node]
    if not isinstance(node, str):
        return node
    if isinstance(samples.get(node), list):
        return filled(samples[node], samples)
    # API Gateway puts the ARN of the API in front of a resource that leaves it out.
    if node.startswith("execute-api:/"):
        node = node.replace("execute-api:", "__API_ARN__", 1)
    while TOKEN.search(node):
        node = TOKEN.sub(lambda token: str(samples[token.group()]), node)
    return node


def listed(value: Any) -> list[Any]:
    """What IAM takes as one thing or as a list of them, as a list."""
    return value if isinstance(value, list) else [value]


def kind(document: dict[str, Any]) -> str:
    """`identity`, or of those that name principals `trust` (of a role) or `resource`."""
    statements = document["Statement"]
    if not any("Principal" in statement for statement in statements):
        return "identity"
    return "resource" if any("Resource" in statement for statement in statements) else "trust"
