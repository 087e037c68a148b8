"""The first version's eight test events, sent as they are, and how each ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy import ROOT, Answer

EVENTS = ROOT / "tests" / "events"
PREFIX = "lambda-ecs-updater.testevent-"

# In the order in which they are sent: the last one that changes something puts the service back to what it was.
# Each ends with this status code, or with this error; the first version raised an `Exception` with the same text.
ENDS: dict[str, int | str] = {
    "base": 200,
    "MULTIPLE_TAGS": 200,
    "SAME_INITIAL_VALUES": 200,
    "MISSING_ECS_CLUSTER": "ClusterNotFound",
    "MISSING_ECS_SERVICE": "ServiceNotFound",
    "MISSING_JSON_FIELD": "JsonValidation",
    "WRONG_IMAGE_NAME": "InvalidImage",
    "WRONG_JSON_FORMAT": "JsonValidation",
}


def path(name: str) -> Path:
    """An event's file."""
    return EVENTS / f"{PREFIX}{name}.json"


def send_all(send: Callable[[bytes], Answer], step: Callable[[str], None], **members: str) -> list[str]:
    """Sends them, prints each answer, and gives a line for each that ended otherwise than it should.

    Byte for byte, but where `members` are to be added to them.
    """
    wrong = []
    for name, should in ENDS.items():
        event = path(name).read_bytes()
        if members:
            event = json.dumps({**json.loads(event), **members}).encode()
        step(path(name).name + "".join(f", {member}: {value}" for member, value in members.items()))
        payload = send(event).payload
        print(json.dumps(payload, indent=2, ensure_ascii=False), end="\n\n", flush=True)
        ended: Any = payload.get("errorType", payload.get("statusCode"))
        if ended != should:
            wrong.append(f"{path(name).name} ended with {ended}, and not with {should}")
    return wrong
