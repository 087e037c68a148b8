#!/usr/bin/env python3
"""The main job on the local AWS: one event in, one service changed, the change in the history.

    tools/deploy/run.py BUILT [EVENT]          deploy, send the event (default: the base event) to the first target
                                        account, show answer and history
    tools/deploy/run.py BUILT --keep [EVENT]   the same, and then wait: the command line can be tried
    tools/deploy/run.py BUILT --all            deploy, send the eight events of the first version, print each answer

BUILT is cargo's folder: the packages are in its `local`, the command line is its `debug/ecs-updater`. Everything that
this starts ends with it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import deploy
import eight_events
from local_aws import HUB, REGION, TARGETS, LocalAws, forget_aws_settings


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


def show_command(built: Path, environment: dict[str, str], *arguments: str) -> int:
    """Runs the command line as a person does, who has nothing but leave to invoke the two functions."""
    step(shlex.join(("ecs-updater", *arguments)))
    print(flush=True)
    command = [built / "debug" / "ecs-updater", *arguments]
    # No home: nobody's AWS profile is to have a say.
    ran = subprocess.run(command, env={"PATH": os.environ.get("PATH", os.defpath), **environment}, check=False)
    print(flush=True)
    return ran.returncode


def run_one(aws: LocalAws, deployment: deploy.Deployment, built: Path, path: Path) -> int:
    """Sends one event to the first target account, unless it names another."""
    event = json.loads(path.read_text())
    if isinstance(event, dict):
        event.setdefault("account_id", TARGETS[0])
    step(f"invoke {deployment.function} with {path.name}")
    print(pretty(event))
    started = time.monotonic()
    answer = deploy.invoke(aws, deployment, event)
    show_answer(answer, time.monotonic() - started)
    print()
    if answer.error:
        return 1
    body = answer.body
    names = (body["account_id"], body["region"], body["ecs_cluster_name"], body["ecs_service_name"])
    environment = deploy.command_line_environment(aws, deployment)
    shown = show_command(built, environment, "history", "/".join(names))
    # A plan leaves no record, and a ledger without one proves nothing.
    if shown or body["status"] == "PLANNED":
        return shown
    return show_command(built, environment, "verify", "/".join(names))


def wait(built: Path, environment: dict[str, str]) -> None:
    """Says how another terminal gets to the command line, and waits until nobody wants it any more."""
    step("the local AWS stays. In another terminal:")
    print("    unset AWS_PROFILE AWS_SESSION_TOKEN")  # one's own would be mixed with these
    print("    export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items()))
    print(f"    PATH={shlex.quote(str(built.absolute() / 'debug'))}:$PATH")
    service = f"{TARGETS[0]}/{REGION}/{deploy.CLUSTER}/{deploy.SERVICE}"
    for command in (f"plan {service} --image nginx:1.27", f"restore {service} --previous", "history", "history --web"):
        print(f"    ecs-updater {command}")
    print()
    step("Enter, or Ctrl-C, ends it")
    try:
        sys.stdin.readline()
    except KeyboardInterrupt:
        print()


def run_all(aws: LocalAws, deployment: deploy.Deployment) -> int:
    """Sends the first version's eight events as they are: to services of the hub itself."""
    wrong = eight_events.send_all(lambda event: deploy.invoke(aws, deployment, event), step)
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


def main(arguments: list[str]) -> int:
    """Starts, deploys, sends, shows, stops."""
    keep = "--keep" in arguments
    arguments = [argument for argument in arguments if argument != "--keep"]
    if not 1 <= len(arguments) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    built, what = Path(arguments[0]), arguments[1] if len(arguments) > 1 else str(eight_events.path("base"))
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
        deployment = deploy.deploy(aws, built / "local", step)
        if what == "--all":
            return run_all(aws, deployment)
        code = run_one(aws, deployment, built, Path(what))
        if keep:
            wait(built, deploy.command_line_environment(aws, deployment))
            return code
        step("what to try next")
        print(
            "    make run KEEP=1                the same, and the local AWS stays: restore, history --web, ...\n"
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
