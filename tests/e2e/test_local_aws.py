"""What local/strict.py adds to MiniStack and nothing else here leans on yet."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from conftest import System
from local_aws import HUB
from test_permissions import Replace, updater_policy

LOCAL = Path(__file__).resolve().parents[2] / "local"


def test_leading_keys_limit_which_items_are_read(system: System, role_policy: Replace) -> None:
    heads_only = {
        "Effect": "Allow",
        "Action": ["dynamodb:GetItem", "dynamodb:BatchGetItem"],
        "Resource": "*",
        "Condition": {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["service#*"]}},
    }
    document = updater_policy(system)
    role_policy(HUB, system.updater_role, "updater", {**document, "Statement": [heads_only]})
    dynamodb, table = system.aws.client("dynamodb", system.updater()), system.deployment.state
    head, key = {"id": {"S": "service#x"}}, {"id": {"S": "key#x"}}
    dynamodb.get_item(TableName=table, Key=head)
    dynamodb.batch_get_item(RequestItems={table: {"Keys": [head]}})
    with pytest.raises(ClientError):
        dynamodb.get_item(TableName=table, Key=key)
    with pytest.raises(ClientError):
        dynamodb.batch_get_item(RequestItems={table: {"Keys": [head, key]}})


def test_nothing_is_left_when_the_parent_is_killed() -> None:
    program = "import local_aws, time; aws = local_aws.LocalAws(); aws.start(); print(aws.process_group, aws.endpoint)"
    with subprocess.Popen(
        [sys.executable, "-uc", f"{program}; time.sleep(60)"], cwd=LOCAL, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        group, endpoint = parent.stdout.readline().split()
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{group}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{group}").exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(endpoint.rsplit(":", 1)[-1]))) != 0


def test_it_listens_on_loopback_only(system: System) -> None:
    """Every listening socket of the local AWS and of the functions it runs."""
    inodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        # Processes and their files come and go while this looks.
        with contextlib.suppress(OSError):
            if os.getpgid(int(process.name)) == system.aws.process_group:
                inodes |= {os.readlink(descriptor) for descriptor in (process / "fd").iterdir()}
    listening = [
        fields[1].split(":")[0]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in map(str.split, Path(table).read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes
    ]
    assert listening
    assert set(listening) == {"0100007F"}
