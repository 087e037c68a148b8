"""The documents of `policies/` as one deployment would have them: samples.json fills in the tokens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
POLICIES = HERE.parent.parent / "policies"
SAMPLES: dict[str, Any] = json.loads((HERE / "samples.json").read_text())
TOKEN = re.compile(r"__[A-Z_]+?__")


def filled(node: Any) -> Any:
    """A document, or a part of it, with its tokens filled in. KeyError where samples.json lacks one."""
    if isinstance(node, dict):
        return {name: filled(member) for name, member in node.items()}
    if isinstance(node, list):
        return [filled(item) for item in node]
    if not isinstance(node, str):
        return node
    if isinstance(SAMPLES.get(node), list):
        return SAMPLES[node]
    return TOKEN.sub(lambda token: str(SAMPLES[token.group()]), node)


def listed(value: Any) -> list[Any]:
    """What IAM takes as one thing or as a list of them, as a list."""
    return value if isinstance(value, list) else [value]


def kind(document: dict[str, Any]) -> str:
    """`identity`, or of those that name principals `trust` (of a role) or `resource`."""
    statements = document["Statement"]
    if not any("Principal" in statement for statement in statements):
        return "identity"
    return "resource" if any("Resource" in statement for statement in statements) else "trust"
