"""Answers as files, without what belongs to one account only: its ids, its names, its secrets."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import botocore
from account import Account
from question import Answer, Question

# What could tell an account or let somebody in, wherever it stands, and what stands for it in a fixture.
PATTERNS = (
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA|AGPA|AIPA|ANPA|ANVA|ACCA|APKA)[A-Z0-9]{12,}"), "AKIDEXAMPLE"),
    (re.compile(r"((?:X-Amz-(?:Signature|Security-Token|Credential)=)|(?:[Ss]ignature=))[^&\s\"]+"), r"\1REDACTED"),
    (re.compile(r"\b(subnet|vpc|sg|eni|igw|rtb|vpce|i)-[0-9a-f]{8,17}\b"), r"\g<1>-0123456789abcdef0"),
    # Decoded or encoded messages of refusals, which name everything.
    (re.compile(r"(Encoded authorization failure message:\s*)\S+"), r"\1REDACTED"),
    (re.compile(r"(?<![\d.])\d{12}(?![\d.])"), "123456789012"),
)


def plain(node: Any) -> Any:
    """As JSON has it."""
    if isinstance(node, dict):
        return {str(name): plain(member) for name, member in node.items() if name != "ResponseMetadata"}
    if isinstance(node, list | tuple | set | frozenset):
        return [plain(item) for item in node]
    if isinstance(node, datetime.datetime):
        return node.astimezone(datetime.UTC).isoformat()
    if isinstance(node, str | int | float | bool) or node is None:
        return node
    return str(node)


def secrets_of(account: Account) -> Iterable[tuple[str, str]]:
    """What belongs to this account and this run, the longest first."""
    held = account.session.get_credentials()
    known = {account.id: "123456789012", account.run: "00000000", account.caller: f"arn:aws:iam::{account.id}:role/asker"}
    known[account.caller.rsplit("/", 1)[-1]] = "asker"
    if held:
        frozen = held.get_frozen_credentials()
        known |= {text: "REDACTED" for text in (frozen.secret_key, frozen.token) if text}
        known[frozen.access_key] = "AKIDEXAMPLE"
    # A name of few letters would be found in every word.
    return sorted(((text, stand_in) for text, stand_in in known.items() if len(text) > 3), key=lambda pair: -len(pair[0]))


def redacted(text: str, account: Account) -> str:
    """The text without what belongs to the account."""
    for secret, stand_in in secrets_of(account):
        text = text.replace(secret, stand_in)
    for pattern, stand_in in PATTERNS:
        text = pattern.sub(stand_in, text)
    return text


def fixture(question: Question, answer: Answer, account: Account) -> dict[str, Any]:
    """What is kept of an answer."""
    kept = {
        "question": question.name,
        "asked": question.asked,
        "believes": question.believes,
        "verdict": answer.verdict.value,
        "answer": answer.text,
        "facts": plain(answer.facts),
        "by": {
            "aws": "local" if account.is_local else "AWS",
            "region": account.region,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "botocore": botocore.__version__,
        },
    }
    return dict(json.loads(redacted(json.dumps(kept, ensure_ascii=False), account)))


def write(folder: Path, question: Question, answer: Answer, account: Account) -> Path:
    """Writes it, under the question's name."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{question.name}.json"
    text = json.dumps(fixture(question, answer, account), indent=2, ensure_ascii=False, sort_keys=False)
    file.write_text(text + "\n")
    return file
