"""The account that is asked: its clients, the names of what is made in it, and how long to wait for something."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from question import NotHere

PREFIX = "ecs-updater-prove"
ROLE_PATH = f"/{PREFIX}/"
TAG = PREFIX  # the key of the tag; its value is the run
# What is not there: an action that a service does not know, a service that is not on.
UNKNOWN = ("UnknownOperationException", "UnknownOperation", "InvalidAction", "InvalidActionException", "NotImplemented", "UnsupportedOperation")

T = TypeVar("T")


class Stopped(BaseException):
    """Nothing more is asked: whoever runs it has stopped it, or its hour is over. No Exception, so that nothing takes it for an answer."""


class Account:
    """One account and region, for one run.

    Thread-safe: questions are asked side by side. What is made is named `PREFIX-RUN-…` and tagged with the run, so that `leftovers` finds
    it without being told."""

    def __init__(
        self,
        session: boto3.session.Session,
        region: str,
        *,
        endpoint: str = "",
        is_local: bool = False,
        minutes: float = 60,
    ) -> None:
        self.session = session
        self.region = region
        self.endpoint = endpoint
        self.is_local = is_local
        self.run = secrets.token_hex(4)
        self.calls: set[str] = set()
        self.stopping = threading.Event()
        self._until = self.clock() + minutes * 60
        self._lock = threading.RLock()
        self._clients: dict[tuple[str, str], Any] = {}
        self._shared: dict[str, Any] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._removing: set[int] = set()
        identity = self.client("sts").get_caller_identity()
        self.id: str = identity["Account"]
        self.caller: str = identity["Arn"]
        self.partition = self.caller.split(":")[1]
        self.suffix = "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"

    # ---- clients -----------------------------------------------------------------------------------------------------

    def client(self, service: str, credentials: dict[str, str] | None = None) -> Any:
        """A client of `service`, as the one who asks or with these credentials of STS."""
        key = (service, (credentials or {}).get("AccessKeyId", ""))
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._new_client(service, credentials)
            return self._clients[key]

    def _new_client(self, service: str, credentials: dict[str, str] | None) -> Any:
        own = {
            "aws_access_key_id": credentials["AccessKeyId"],
            "aws_secret_access_key": credentials["SecretAccessKey"],
            "aws_session_token": credentials["SessionToken"],
        } if credentials else {}
        # On AWS, throttling is waited for; here, a failure is to be seen.
        retries: Any = {"total_max_attempts": 1} if self.is_local else {"mode": "standard", "total_max_attempts": 8}
        config = Config(retries=retries, read_timeout=60, max_pool_connections=32, **({"proxies": {}} if self.is_local else {}))
        client = self.session.client(service, region_name=self.region, endpoint_url=self.endpoint or None, config=config, **own)
        client.meta.events.register("before-call", self._before_call)
        return client

    def _before_call(self, model: Any, **_: Any) -> None:
        """Notes the call; once the run is stopped, only those who remove go on."""
        if self.stopping.is_set() and threading.get_ident() not in self._removing:
            raise Stopped
        self.calls.add(f"{model.service_model.signing_name}:{model.name}")

    def remove_in_this_thread(self) -> None:
        """From now on this thread may call although the run is stopped."""
        self._removing.add(threading.get_ident())

    # ---- names and rights --------------------------------------------------------------------------------------------

    def name(self, what: str) -> str:
        """The name of something that this run makes."""
        return f"{PREFIX}-{self.run}-{what}"

    @property
    def tags(self) -> dict[str, str]:
        """The tags of everything that this run makes."""
        return {TAG: self.run}

    def tag_list(self, key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
        """The same, as most services take them."""
        return [{key: name, value: text} for name, text in self.tags.items()]

    def arn(self, service: str, resource: str) -> str:
        """The ARN of something in this account and region."""
        region = "" if service == "iam" else self.region
        return f"arn:{self.partition}:{service}:{region}:{self.id}:{resource}"

    def role(self, what: str, statements: list[dict[str, Any]], trust: list[dict[str, Any]] | None = None) -> str:
        """A role with these rights; the asker may assume it, if nobody else is named. Its ARN."""
        name = self.name(what)
        own = {"Effect": "Allow", "Principal": {"AWS": f"arn:{self.partition}:iam::{self.id}:root"}, "Action": "sts:AssumeRole"}
        made = self.client("iam").create_role(
            RoleName=name, Path=ROLE_PATH, AssumeRolePolicyDocument=document(trust or [own]), Tags=self.tag_list()
        )
        if statements:
            self.client("iam").put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(statements))
        return str(made["Role"]["Arn"])

    def assume(self, role: str) -> dict[str, str]:
        """Credentials of a role; it takes IAM some seconds until a new one can be assumed."""
        assume = self.client("sts").assume_role

        def attempt() -> dict[str, str] | None:
            try:
                return dict(assume(RoleArn=role, RoleSessionName=PREFIX)["Credentials"])
            except ClientError as error:
                if code(error) != "AccessDenied":
                    raise
                return None

        return self.wait(attempt, 60, f"role {role} cannot be assumed by who asks this")

    # ---- waiting -----------------------------------------------------------------------------------------------------

    def clock(self) -> float:
        """Seconds, of which only differences mean something."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """A pause that ends with the run."""
        left = self._until - self.clock()
        if left <= 0 or self.stopping.wait(min(seconds, left)) or seconds > left:
            raise Stopped

    def wait(self, look: Callable[[], T | None], seconds: float, otherwise: str, *, pause: float = 2, local: float = 15) -> T:
        """What `look` finds, at last. After `seconds` (on a local AWS: `local`) it is not to be had here, and `otherwise` says why."""
        found = self.poll(look, seconds, pause=pause, local=local)
        if found is None:
            raise NotHere(otherwise)
        return found

    def poll(self, look: Callable[[], T | None], seconds: float, *, pause: float = 2, local: float = 15) -> T | None:
        """The same; nothing, if it is not found in time."""
        until = self.clock() + (local if self.is_local else seconds)
        while True:
            found = look()
            if found is not None:
                return found
            if self.clock() >= until:
                return None
            self.sleep(0.1 if self.is_local else pause)

    # ---- what questions share ----------------------------------------------------------------------------------------

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """Something that several questions need: made by the first that comes. Where that failed, it fails for all."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._shared:
                try:
                    self._shared[name] = (make(), None)
                except Exception as error:
                    self._shared[name] = (None, error)
            value, error = self._shared[name]
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]


def document(statements: list[dict[str, Any]]) -> str:
    """A policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def code(error: ClientError) -> str:
    """The code of AWS's error."""
    return str(error.response["Error"]["Code"])


def said(error: ClientError) -> str:
    """What AWS said."""
    return f"{code(error)}: {error.response['Error'].get('Message', '')}"


def refusal(call: Callable[[], Any]) -> ClientError | None:
    """AWS's refusal of a call; nothing, where it was done."""
    try:
        call()
    except ClientError as error:
        if code(error) in UNKNOWN:
            raise
        return error
    return None


def denied(error: ClientError | None) -> bool:
    """Whether it is a refusal for want of permission."""
    return error is not None and code(error) in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
