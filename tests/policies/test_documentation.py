"""`docs/IAM.md` names each statement of `policies/` with all of its actions, and a reason for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
POLICIES = ROOT / "policies"
PAGE = ROOT / "docs" / "IAM.md"
ROW = re.compile(r"^\| `(?P<sid>\w+)` \| (?P<denies>denies )?(?P<actions>[^|]+) \| (?P<why>[^|]+) \|$")


def documented() -> dict[str, dict[str, tuple[bool, list[str]]]]:
    """Document -> statement -> whether it denies, and its actions, as the page has them."""
    found: dict[str, dict[str, tuple[bool, list[str]]]] = {}
    name = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            name = line.removeprefix("### ") if line.startswith("### ") else ""
        elif row := ROW.match(line):
            assert row["sid"] not in found.setdefault(name, {}), f"twice: {name} {row['sid']}"
            found[name][row["sid"]] = bool(row["denies"]), re.findall(r"`([^`]+)`", row["actions"])
    return found


def actual(document: dict[str, Any]) -> dict[str, tuple[bool, list[str]]]:
    """The same of a document."""
    return {
        statement["Sid"]: (
            statement["Effect"] == "Deny",
            statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]],
        )
        for statement in document["Statement"]
    }


def test_the_page_has_every_statement_with_its_actions() -> None:
    assert documented() == {path.name: actual(json.loads(path.read_text())) for path in POLICIES.glob("*.json")}
