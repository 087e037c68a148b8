#!/usr/bin/env python3
"""Start, warm updates, calls, memory and size, side by side in one run: `make bench-start`.

benches/start.py PACKAGES   the folder that holds updater.zip

Measured are this project's updater, the first version's behaviour written anew in Python (first_version/handler.py) under Lambda's
runtime client, once as it was and once with what this project does beyond it, and ecs-deploy, a command line that does one
update and ends. They take turns, so that what else the machine does meets all of them alike, and medians are printed.
All call one stub (stub.py) in this process.

* first poll, first answer: from the process's start until the runtime API is asked for an event, and until the answer to one that
  was waiting there. For ecs-deploy, which is no function, the answer is its end.
* CPU: user and system time of the process until then. It hardly depends on what else runs, and is what a small function waits
  for: Lambda gives a function of 256 MB a seventh of a processor once it is initialized.
* warm update: an image and a tag change on a function that has had its first event; with 50 ms, each call takes that long.
* the critical path is what the calls that must follow each other took on the stub's side: eight, since AssumeRole and the read of
  the tables go side by side.
* memory: VmHWM after the warm updates.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from stub import CLUSTER, HUB, REGION, SERVICE, Stub  # noqa: E402

STARTS, WARM, SLOW_WARM, DELAY = 15, 40, 15, 0.05
CRITICAL_CALLS = 8
# How much of this project's figure may be of the first version's, and its sizes in MB.
START_SHARE, MEMORY_SHARE, PATH_SHARE, ZIPS = 1 / 10, 1 / 3, 1.1, {"updater": 4.9, "history": 3.6}


@dataclass
class Contender:
    """What is measured, and what was."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    is_function: bool = True
    polls: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)
    # How long a call took on the stub's side while `slow` was measured.
    call: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)
    memory: int = 0
    zip: str = "-"


def event(account: str, number: int) -> dict[str, object]:
    """Asks for another image and tag each time."""
    return {
        "account_id": account, "region": REGION, "ecs_cluster_name": CLUSTER, "ecs_service_name": SERVICE,
        "ecs_image_name": f"nginx:1.{number}", "ecs_tag": {"release": str(number)},
    }  # fmt: skip


class Bench:
    """One run."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.number = 0
        url = f"http://127.0.0.1:{stub.port}"
        # Nothing of the caller's environment: settings of its own AWS tools would be measured too.
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{stub.port}",
            "AWS_ENDPOINT_URL": url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "ASIAHUB",
            "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token", "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_LAMBDA_FUNCTION_NAME": "ecs-updater", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "HISTORY_TABLE": "history", "STATE_TABLE": "state",
        }  # fmt: skip

    def next_event(self) -> dict[str, object]:
        """An event that changes something, each in an account of its own: the updater keeps ECS's quotas in each."""
        self.number += 1
        self.stub.account = f"{200_000_000_000 + self.number}"
        return event(self.stub.account, self.number)

    def start(self, contender: Contender, *arguments: str) -> tuple[float, subprocess.Popen[bytes]]:
        """Starts its process, and says when."""
        self.stub.forget()
        at = time.perf_counter()
        return at, subprocess.Popen(
            [*contender.command, *arguments], cwd=contender.folder, env=self.environment | contender.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def function_start(self, contender: Contender) -> None:
        """One fresh process, and its first event, which waits for it."""
        before = children_cpu()
        at, process = self.start(contender)
        try:
            request = self.stub.send(self.next_event())
            answered, _ = self.stub.answer(request)
            contender.polls.append(self.stub.first_poll() - at)
            contender.answers.append(answered - at)
        except Exception as error:
            raise failed(contender, process) from error
        finally:
            end(process)
        contender.cpu.append(children_cpu() - before)

    def command_run(self, contender: Contender) -> float:
        """One run of a command line, from start to end."""
        self.number += 1
        before = children_cpu()
        at, process = self.start(contender, "--image", "web", f"nginx:1.{self.number}")
        # Not `communicate`: how much memory it took can be asked only while it runs.
        while process.poll() is None:
            contender.memory = max(contender.memory, peak_memory(process))
            time.sleep(0.002)
        seconds = time.perf_counter() - at
        if process.returncode:
            raise failed(contender, process)
        process.wait()
        if process.stderr:
            process.stderr.close()
        contender.cpu.append(children_cpu() - before)
        contender.calls = dict(self.stub.calls)
        return seconds

    def warm(self, contender: Contender) -> None:
        """Updates on a function that has had its first event."""
        _, process = self.start(contender)
        try:
            self.stub.answer(self.stub.send(self.next_event()))
            # Not forgotten, which would drop what a poll waits for: counted by difference.
            contender.warm = [self.one() for _ in range(WARM)]
            self.stub.calls.clear()
            self.one()
            contender.calls = dict(self.stub.calls)
            self.stub.delay = DELAY
            self.one()
            self.stub.seconds.clear()
            contender.slow = [self.one() for _ in range(SLOW_WARM)]
            contender.call = statistics.mean(self.stub.seconds)
            contender.memory = peak_memory(process)
        except Exception as error:
            raise failed(contender, process) from error
        finally:
            self.stub.delay = 0.0
            end(process)

    def one(self) -> float:
        """How long one event took, from its delivery on."""
        sent = time.perf_counter()
        return self.stub.answer(self.stub.send(self.next_event()))[0] - sent


def children_cpu() -> float:
    """User and system seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_memory(process: subprocess.Popen[bytes]) -> int:
    """VmHWM in bytes; 0 where the process has just ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a function."""
    process.kill()
    process.wait()
    if process.stderr:
        process.stderr.close()


def failed(contender: Contender, process: subprocess.Popen[bytes]) -> RuntimeError:
    """What went wrong, with what the process said."""
    process.kill()
    said = process.stderr.read().decode(errors="replace") if process.stderr and not process.stderr.closed else ""
    return RuntimeError(f"{contender.name} failed\n{said[-2000:]}")


def python_zip(*distributions: str) -> int:
    """Bytes of a zip of the handler, and of distributions with all that they need."""
    names: set[str] = set()
    todo = list(distributions)
    while todo:
        name = todo.pop()
        if name not in names:
            names.add(name)
            needed = importlib.metadata.requires(name) or []
            todo += [n for n in (requirement_name(text) for text in needed if "extra ==" not in text) if installed(n)]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(HERE / "first_version" / "handler.py", "handler.py")
        for name in sorted(names):
            for file in importlib.metadata.files(name) or []:
                path = Path(str(file.locate()))
                if path.is_file() and ".." not in file.parts and path.suffix != ".pyc":
                    archive.write(path, str(file))
    return len(packed.getvalue())


def requirement_name(requirement: str) -> str:
    """Of `name>=1; marker`, the name."""
    return next((requirement[:at] for at, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), requirement)


def installed(name: str) -> bool:
    """Whether a distribution is there."""
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def ms(seconds: list[float]) -> str:
    """Their median."""
    return f"{statistics.median(seconds) * 1000:.1f}" if seconds else "-"


def table(contenders: list[Contender]) -> None:
    """What was measured."""
    def calls(contender: Contender) -> str:
        sts, dynamodb = ("AssumeRole",), ("BatchGetItem", "ExecuteTransaction", "PutItem")
        count = lambda names: sum(contender.calls.get(name, 0) for name in names)  # noqa: E731
        return f"{count(sts)} + {sum(contender.calls.values()) - count(sts) - count(dynamodb)} + {count(dynamodb)}"
    rows: list[tuple[str, Callable[[Contender], str]]] = [
        ("start to first poll, ms", lambda c: ms(c.polls)),
        ("start to first answer, ms", lambda c: ms(c.answers)),
        ("CPU until first answer, ms", lambda c: ms(c.cpu)),
        ("warm update, 0 ms a call, ms", lambda c: ms(c.warm)),
        ("warm update, 50 ms a call, ms", lambda c: ms(c.slow)),
        ("calls of STS + ECS + DynamoDB", calls),
        ("peak memory, MB", lambda c: f"{c.memory / 1e6:.1f}"),
        ("zip, MB", lambda c: c.zip),
    ]
    print("| | " + " | ".join(contender.name for contender in contenders) + " |")
    print("|---|" + "---:|" * len(contenders))
    for name, value in rows:
        print(f"| {name} | " + " | ".join(value(contender) for contender in contenders) + " |")


def limits(own: Contender, python: Contender, zips: dict[str, int]) -> bool:
    """What was promised, and whether it is kept."""
    median = statistics.median
    path = CRITICAL_CALLS * own.call
    figures = [
        ("first answer / Python's", median(own.answers) / median(python.answers), START_SHARE),
        ("peak memory / Python's", own.memory / python.memory, MEMORY_SHARE),
        (f"warm update / critical path ({path * 1000:.0f} ms)", median(own.slow) / path, PATH_SHARE),
        *((f"{name}.zip, MB", size / 1e6, ZIPS[name]) for name, size in zips.items() if name in ZIPS),
    ]
    print("\n| limit | measured | at most | kept |\n|---|---:|---:|---|")
    for name, measured, most in figures:
        print(f"| {name} | {measured:.3f} | {most:.3f} | {'yes' if measured <= most else 'no'} |")
    return all(measured <= most for _, measured, most in figures)


def main(arguments: list[str]) -> int:
    """Unpacks and measures."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    packages = Path(arguments[0])
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(packages / "updater.zip") as package:
        updater = Path(package.extract("bootstrap", folder))
        updater.chmod(0o755)
        return measure(updater, {path.stem: path.stat().st_size for path in sorted(packages.glob("*.zip"))})


def measure(updater: Path, zips: dict[str, int]) -> int:
    """Measures and prints."""
    python = [sys.executable, "-m", "awslambdaric", "handler.handler"]
    folder = str(HERE / "first_version")
    own = Contender("this project", [str(updater)])
    first = Contender("first version, Python", python, folder=folder)
    fair = Contender("the same, fair", python, {"FAIR": "1"}, folder)
    deploy = Contender(
        "ecs-deploy",
        [sys.executable, "-c", "from ecs_deploy.cli import ecs; ecs()", "deploy", CLUSTER, SERVICE, "--timeout", "-1",
         "--no-deregister", "--region", REGION, "--account", HUB, "--assume-role", "ecs-updater/ecs-updater-target"],
        is_function=False,
    )  # fmt: skip
    contenders = [own, first, fair, deploy]
    first.zip = f"{python_zip('jsonschema') / 1e6:.1f} ({python_zip('jsonschema', 'boto3') / 1e6:.1f} with boto3)"
    fair.zip = "as before"
    own.zip = f"{zips['updater'] / 1e6:.2f}"
    stub = Stub()
    try:
        bench = Bench(stub)
        for _ in range(STARTS):
            for contender in contenders:
                if contender.is_function:
                    bench.function_start(contender)
                else:
                    contender.answers.append(bench.command_run(contender))
        for contender in filter(lambda contender: contender.is_function, contenders):
            bench.warm(contender)
        stub.delay = DELAY
        deploy.slow = [bench.command_run(deploy) for _ in range(SLOW_WARM // 3)]
        deploy.cpu = deploy.cpu[:STARTS]
    finally:
        stub.close()
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"Medians of {STARTS} starts and {WARM} and {SLOW_WARM} warm updates; {os.cpu_count()} processors, load {load}.\n")
    table(contenders)
    print(
        "\necs-deploy is a command line: its figures are of whole runs, also under `warm update, 50 ms`; it sets no tags of the"
        "\nservice. fair: with AssumeRole, a client for its session, and a write before and after the change."
    )
    kept = limits(own, first, zips)
    print(f"\n{'All limits are kept.' if kept else 'Not all limits are kept.'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
