#!/usr/bin/env python3
"""The main job on the local AWS: one event in, one service changed, the change in the history.

    local/run.py PACKAGE [EVENT]   deploy, send the event (default: the base event) to the first target account,
                                   show answer, service and history
    local/run.py PACKAGE --all     deploy, send the eight events of the first version, print each answer

Everything it starts ends with it.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import deploy
from local_aws import HUB, REGION, TARGETS, LocalAws, forget_aws_settings

EVENTS = deploy.ROOT / "tests" / "events"
PREFIX = "lambda-ecs-updater.testevent-"


def step(text: str) -> None:
    """Says what is done next; at once, because the next step may take a while."""
    print(f"==> {text}", flush=True)


def pretty(document: Any) -> str:
    """JSON for people."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def show_answer(answer: deploy.Answer, seconds: float) -> None:
    """A response as a table of BEFORE and AFTER, an error as its text."""
    print()
    if answer.error:
        print(f"    {answer.payload.get('errorType')} after {seconds:.2f} s")
        print("    " + str(answer.payload.get("errorMessage")).replace("\n", "\n    "))
        return
    body = answer.body
    change = f", change {body['change_id']}" if "change_id" in body else ""
    print(f"    {answer.payload['statusCode']} {body['status']} in {seconds:.2f} s{change}\n")
    before, after = body["BEFORE"], body["AFTER"]
    revision = [str(side["taskDefinitionArn"]).rsplit("/", 1)[-1] for side in (before, after)]
    tags = [{tag["key"]: tag["value"] for tag in side["tags"]} for side in (before, after)]
    rows = [
        ("", "BEFORE", "AFTER"),
        ("image", before["serviceImage"], after["serviceImage"]),
        ("container", before["taskDefinitionName"], after["taskDefinitionName"]),
        ("memory", before["serviceMemory"], after["serviceMemory"]),
        ("task definition", *revision),
        *((f"tag {key}", tags[0].get(key, "-"), tags[1].get(key, "-")) for key in sorted({**tags[0], **tags[1]})),
    ]
    widths = [max(len(str(row[column])) for row in rows) + 2 for column in (0, 1)]
    for name, was, is_now in rows:
        print(f"    {name:{widths[0]}}{was!s:{widths[1]}}{is_now}")
    if planned := body.get("changes"):
        print(f"\n    planned: {pretty(planned)}")


def show_history(records: list[dict[str, Any]]) -> None:
    """The records of a service in the order of their chain: what each says, and what it is tied to."""
    print()
    # Items without a seq only help to find a change of several images.
    for record in sorted((each for each in records if "seq" in each), key=lambda record: record["seq"]):
        before, after = (
            json.loads(record[side])["serviceImage"] if side in record else "" for side in ("before", "after")
        )
        images = f"{before} -> {after}" if after else f"from {before}"
        print(f"    {record['seq']}  {record['at']}  {record['kind']:10}{images}")
        print(f"       change {record['change_id']}, session {record['session']}")
        print(f"       hash {record['hash'][:16]}…, after {record['prev_hash'][:16] or 'nothing: the first'}")


def run_one(aws: LocalAws, deployment: deploy.Deployment, path: Path) -> int:
    """Sends one event to the first target account, unless it names another."""
    event = json.loads(path.read_text())
    if isinstance(event, dict):
        event.setdefault("account_id", TARGETS[0])
    step(f"invoke {deployment.function} with {path.name}")
    print(pretty(event))
    started = time.monotonic()
    answer = deploy.invoke(aws, deployment, event)
    show_answer(answer, time.monotonic() - started)
    if answer.error:
        return 1
    key = f"{event['account_id']}/{event.get('region', REGION)}/{event['ecs_cluster_name']}/{event['ecs_service_name']}"
    print()
    step(f"history of {key}")
    show_history(deploy.history_of(aws, deployment, key))
    return 0


def run_all(aws: LocalAws, deployment: deploy.Deployment) -> int:
    """Sends the first version's eight events as they are: to services of the hub itself."""
    names = [path.name.removeprefix(PREFIX) for path in EVENTS.glob(f"{PREFIX}*.json")]
    for name in sorted(names, key=lambda name: (name != "base.json", name)):
        step(f"{PREFIX}{name}")
        print(pretty(deploy.invoke(aws, deployment, (EVENTS / f"{PREFIX}{name}").read_bytes()).payload), end="\n\n")
    return 0


def main(arguments: list[str]) -> int:
    """Starts, deploys, sends, shows, stops."""
    if not 1 <= len(arguments) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    package, what = Path(arguments[0]), arguments[1] if len(arguments) > 1 else f"{EVENTS}/{PREFIX}base.json"
    if what != "--all":
        try:
            json.loads(Path(what).read_text())
        except (OSError, ValueError) as error:
            print(f"{what} is no event: {error}", file=sys.stderr)
            return 2
    forget_aws_settings()
    # So that the local AWS is stopped on SIGTERM the same way as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    step(f"local AWS: hub account {HUB}, target accounts {' and '.join(TARGETS)}, region {REGION}, IAM enforced")
    with LocalAws() as aws:
        deployment = deploy.deploy(aws, package, step)
        if what == "--all":
            return run_all(aws, deployment)
        code = run_one(aws, deployment, Path(what))
        print()
        step("what to try next")
        print(
            '    make run EVENT=my-event.json   another event; with "dry_run": true, only the plan\n'
            "    make run-lambda-test-sam       the first version's eight events, errors included\n"
            "    make test                      every test, with each permission taken away once\n"
        )
        return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
