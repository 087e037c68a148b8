"""The local AWS: MiniStack under `strict.py`, started, reached and stopped.

Used by `run.py` and by the end-to-end tests, so that both mean the same thing by "the local AWS".
"""

from __future__ import annotations

import atexit
import http.client
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


class LocalAws:
    """A running local AWS, on loopback and a free port. A context manager; `stop` may be called at any time."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = Path(tempfile.mkdtemp(prefix="ecs-updater-local-aws-"))
        self._session = boto3.session.Session()
        self._clients: dict[tuple[str, Credentials, str], Any] = {}
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
            with (self._directory / "log").open("wb") as log:
                self._process = self._launch(port, log)
            if self._answers(port):
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
            "LOCAL_AWS_ORGANIZATION_ID": ORGANIZATION_ID,
            "LOCAL_AWS_ORGANIZATION_ACCOUNTS": ",".join((HUB, *TARGETS, DISTRUSTFUL)),
        }
        return subprocess.Popen(
            [sys.executable, str(STRICT)],
            stdin=subprocess.PIPE,  # its end is how strict.py learns that this process is gone
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self._directory,
            env=environment,
            start_new_session=True,
        )

    def _answers(self, port: int) -> bool:
        """Waits for the health page; false where the process ended first (somebody took the port, for one)."""
        assert self._process
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                connection.request("GET", "/_ministack/health")
                if connection.getresponse().status == 200:
                    return True
            except OSError:
                time.sleep(0.05)
        return False

    def stop(self) -> None:
        """Ends it, with every function it runs, and removes its files."""
        if self._process and self._process.stdin:
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
