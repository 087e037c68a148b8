"""The local AWS: MiniStack under `strict.py`, started, reached and stopped.

Used by `run.py`, by `rules.py` and by the end-to-end tests, so that all mean the same thing by "the local AWS".
"""

from __future__ import annotations

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import boto3
from botocore.config import Config

REGION = "eu-west-1"
HUB = "111111111111"
TARGETS = ("222222222222", "333333333333")
ORGANIZATION_ID = "o-localaws00"
# For tests. An account of no organization whose target role trusts the hub, and one of the organization whose target
# role trusts another organization only.
OUTSIDER = "444444444444"
DISTRUSTFUL = "555555555555"

STRICT = Path(__file__).with_name("strict.py")
START_SECONDS = 60


@dataclass(frozen=True)
class Credentials:
    """Keys of a principal, as IAM and STS hand them out."""

    access_key: str
    secret_key: str
    token: str | None = None


def root_of(account: str) -> Credentials:
    """The account's root user: the local AWS takes the account id for its key and lets it do everything."""
    return Credentials(account, "test")


class Endpoint:
    """An AWS that answers at an address, for as many accounts as there are credentials."""

    def __init__(self, endpoint: str = "") -> None:
        self.endpoint = endpoint
        self._session = boto3.session.Session()
        self._clients: dict[tuple[str, Credentials, str], Any] = {}

    def client(self, service: str, who: Credentials, region: str = REGION) -> Any:
        """A boto3 client of `service` that signs as `who`; the same one for the same arguments."""
        key = (service, who, region)
        if key not in self._clients:
            self._clients[key] = self._new_client(service, who, region)
        return self._clients[key]

    def _new_client(self, service: str, who: Credentials, region: str) -> Any:
        return self._session.client(
            service,
            region_name=region,
            endpoint_url=self.endpoint,
            aws_access_key_id=who.access_key,
            aws_secret_access_key=who.secret_key,
            aws_session_token=who.token,
            # No proxy of the environment, no second attempt that would hide a failure.
            config=Config(proxies={}, retries={"total_max_attempts": 1}, read_timeout=120, max_pool_connections=32),
        )


class LocalAws(Endpoint):
    """A running local AWS, on loopback and a free port. A context manager; `stop` may be called at any time.

    It ends with this process, however that ends. With `lasting`, a file, it outlives it: until the file is gone, or
    nobody has asked it anything for `idle_seconds`. The file then holds the endpoint (see `lasting_at`), and what
    the local AWS writes is beside it.
    """

    def __init__(self, lasting: Path | None = None, idle_seconds: int = 0) -> None:
        super().__init__()
        self._process: subprocess.Popen[bytes] | None = None
        self._lasting = lasting
        self._idle_seconds = idle_seconds
        self._directory = Path(
            tempfile.mkdtemp(prefix="ecs-updater-local-aws-", dir=lasting.parent.absolute() if lasting else None)
        )
        if not lasting:
            # Whatever way this process ends with Python still in charge, stop; where it is killed, strict.py notices.
            atexit.register(self.stop)

    def __enter__(self) -> LocalAws:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it and returns when it answers."""
        said = ""
        for _ in range(3):
            port = _free_port()
            self.endpoint = f"http://127.0.0.1:{port}"
            self._directory.mkdir(exist_ok=True)
            if self._lasting:
                self._lasting.write_text(json.dumps({"endpoint": self.endpoint}))
            with (self._directory / "log").open("wb") as log:
                self._process = self._launch(port, log)
            if self._answers():
                return
            said = self.log()
            self.stop()
        raise RuntimeError(f"the local AWS did not start; it said:\n{said}")

    def _launch(self, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        # Nothing of the caller's environment but PATH: functions inherit what is set here, and neither they nor
        # MiniStack are to meet the developer's AWS profile or proxy.
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._directory),
            "TMPDIR": str(self._directory),
            "S3_DATA_DIR": str(self._directory / "s3"),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AUTH": "true",
            # Where the package cryptography is, which user pools need, it would listen on every address, at a fixed port.
            "IOT_MTLS_ENABLED": "0",
            "MINISTACK_ACCOUNT_ID": HUB,
            "MINISTACK_REGION": REGION,
            # Waits and pauses of state machines, which are made for real deployments, take a hundredth of their time.
            "SFN_WAIT_SCALE": "0.01",
            "LOCAL_AWS_ORGANIZATION_ID": ORGANIZATION_ID,
            "LOCAL_AWS_ORGANIZATION_ACCOUNTS": ",".join((HUB, *TARGETS, DISTRUSTFUL)),
        }
        if self._lasting:
            environment |= {
                "LOCAL_AWS_WHILE": str(self._lasting.absolute()),
                "LOCAL_AWS_IDLE_SECONDS": str(self._idle_seconds),
            }
        return subprocess.Popen(
            [sys.executable, str(STRICT)],
            # A pipe's end is how strict.py learns that this process is gone.
            stdin=subprocess.DEVNULL if self._lasting else subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self._directory,
            env=environment,
            start_new_session=True,
        )

    def _answers(self) -> bool:
        """Waits for the health page; false where the process ended first (somebody took the port, for one)."""
        assert self._process
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if _healthy(self.endpoint):
                return True
            time.sleep(0.05)
        return False

    def stop(self) -> None:
        """Ends it, with every function it runs, and removes its files."""
        if self._lasting:
            self._lasting.unlink(missing_ok=True)
        if self._process:
            if self._process.stdin:
                self._process.stdin.close()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def process_group(self) -> int:
        """The process group of the local AWS: itself, by the same number, and the functions it runs."""
        assert self._process
        return self._process.pid

    def log(self) -> str:
        """The end of what the local AWS printed."""
        path = self._directory / "log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""


def lasting_at(file: Path) -> Endpoint | None:
    """The local AWS that was started with `lasting=file`; none where it has ended meanwhile."""
    endpoint = _lasting_endpoint(file)
    return Endpoint(endpoint) if endpoint else None


def end_lasting(file: Path, seconds: float = 20) -> None:
    """Ends the local AWS that was started with `lasting=file`, where it runs, and waits until it is gone."""
    endpoint = _lasting_endpoint(file)
    file.unlink(missing_ok=True)
    deadline = time.monotonic() + seconds
    while endpoint and _healthy(endpoint):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the local AWS at {endpoint} does not end")
        time.sleep(0.1)


def _lasting_endpoint(file: Path) -> str:
    """Where the local AWS of this file answers; empty where it does not."""
    try:
        endpoint = str(json.loads(file.read_text())["endpoint"])
    except (OSError, ValueError, KeyError):
        return ""
    return endpoint if _healthy(endpoint) else ""


def _healthy(endpoint: str) -> bool:
    """Whether the local AWS at this endpoint answers."""
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=2)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def forget_aws_settings() -> None:
    """Keeps boto3 away from the developer's own AWS configuration, which may name profiles that are not there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
