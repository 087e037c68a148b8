"""`make run` and `make run-lambda-test-sam`, as a person on a new machine calls them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import deploy
from conftest import BUILT
from local_aws import OUTSIDER, REGION, TARGETS

SAMPLE = f"{TARGETS[0]}/{REGION}/{deploy.CLUSTER}/{deploy.SERVICE}"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`tools/deploy/run.py`, with next to nothing in its environment."""
    return subprocess.run(
        [sys.executable, deploy.ROOT / "tools/deploy" / "run.py", BUILT, *arguments],
        env={"PATH": os.environ["PATH"], "AWS_PROFILE": "no-such-profile", "HTTP_PROXY": "http://127.0.0.1:9"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_main_job_is_shown_from_before_to_after() -> None:
    ran = run()
    assert ran.returncode == 0, ran.stderr
    assert "200 APPLIED" in ran.stdout
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert ["image", "busybox", "nginx"] in rows
    assert ["tag", "old-custom-tag-name", "old-custom-tag-value", "-"] in rows
    assert ["tag", "updated-tag-name", "-", "updated-tag-value"] in rows
    # What the command line tells, through the history function.
    told = ran.stdout.partition(f"==> ecs-updater history {SAMPLE}\n")[2]
    assert re.search(rf"\n{SAMPLE}\n .* APPLIED ", told)
    assert "image web: busybox → nginx" in told
    assert f"\nINTACT  {SAMPLE}\n" in told
    assert "==> what to try next" in told
    assert f'"account_id": "{TARGETS[0]}"' in ran.stdout


def test_a_dry_run_is_shown_and_leaves_no_history(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    names = {"ecs_cluster_name": deploy.CLUSTER, "ecs_service_name": deploy.SERVICE}
    event.write_text(json.dumps({**names, "ecs_image_name": "nginx", "dry_run": True}))
    ran = run("--keep", event)  # the end of its standard input ends it
    assert ran.returncode == 0, ran.stderr
    assert "200 PLANNED" in ran.stdout
    assert "APPLIED" not in ran.stdout
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:" in ran.stdout


def test_an_own_event_may_fail_and_says_why(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"account_id": OUTSIDER, "ecs_cluster_name": "a", "ecs_service_name": "b"}))
    ran = run(event)
    assert ran.returncode == 1
    assert "[ERROR][json_validation] Needed: " in ran.stdout
    event.write_text("{")
    ran = run(event)
    assert ran.returncode == 2
    assert f"{event} is no event: " in ran.stderr


def test_all_eight_events_are_answered() -> None:
    ran = run("--all")
    assert ran.returncode == 0, ran.stderr
    answers = [answer.split("\n", 1) for answer in ran.stdout.split("==> lambda-ecs-updater.testevent-")[1:]]
    said = {name.removesuffix(".json"): json.loads(answer) for name, answer in answers}
    assert {name: answer.get("errorType", answer.get("statusCode")) for name, answer in said.items()} == {
        "base": 200,
        "MISSING_ECS_CLUSTER": "ClusterNotFound",
        "MISSING_ECS_SERVICE": "ServiceNotFound",
        "MISSING_JSON_FIELD": "JsonValidation",
        "MULTIPLE_TAGS": 200,
        "SAME_INITIAL_VALUES": 200,
        "WRONG_IMAGE_NAME": "InvalidImage",
        "WRONG_JSON_FORMAT": "JsonValidation",
    }
