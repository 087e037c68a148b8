"""Lambda's runtime API and the AWS calls of one change, in one process on loopback, each call after a set delay.

It answers fast and judges nothing: signatures are not checked, and the tables keep nothing, so that each change is the first
of its ledger. tests/it has stubs that judge. Everything here is timed on the stub's side too, so that a bound can be
computed from how long calls really took.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

REGION, HUB = "eu-west-1", "111111111111"
CLUSTER, SERVICE, FAMILY = "ECSCluster", "ecs-dummy-service", "web"
FUNCTION_ARN = f"arn:aws:lambda:{REGION}:{HUB}:function:ecs-updater"
RUNTIME = "/2018-06-01/runtime/"
# Longer than any measurement.
DEADLINE_MS = 300_000

ASSUMED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><AssumedRoleUser>\
<AssumedRoleId>AROA:bench</AssumedRoleId><Arn>arn:aws:sts::222222222222:assumed-role/target/bench</Arn></AssumedRoleUser>\
<Credentials><AccessKeyId>ASIATARGET</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>\
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult><ResponseMetadata>\
<RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"""


class Stub:
    """Starts with its making, in a thread of its own, and ends with `close`."""

    def __init__(self) -> None:
        self.delay = 0.0
        # Where the service lives that it tells of.
        self.account = HUB
        self.calls: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "DescribeServices": lambda _: {"services": [self._service()], "failures": []},
            "DescribeTaskDefinition": lambda _: {"taskDefinition": self._definition(), "tags": []},
            "RegisterTaskDefinition": self._register,
            "UpdateService": self._update,
            "TagResource": self._tag,
            "BatchGetItem": lambda _: {"Responses": {}, "UnprocessedKeys": {}},
            "ExecuteTransaction": lambda body: {"Responses": [{} for _ in body["TransactStatements"]]},
            "PutItem": lambda _: {},
        }
        self._revision = 1
        self._containers: list[dict[str, Any]] = [
            {"name": "web", "image": "busybox", "cpu": 0, "memory": 64, "essential": True, "environment": [],
             "command": ["sleep", "1000"], "portMappings": [], "mountPoints": [], "volumesFrom": []}
        ]
        self._running = self._arn(1)
        self._tags: dict[str, str] = {}
        self._answered: dict[str, tuple[float, bytes, bool]] = {}
        self._polls: list[float] = []
        self._changed = threading.Condition()
        self._sent = 0
        self._loop = asyncio.new_event_loop()
        self._events: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        # Polls of ended processes still wait on them.
        self._abandoned: list[asyncio.Queue[tuple[str, bytes]]] = []
        self._server = self._loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening, and ends."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget(self) -> None:
        """Counts from now on, for a fresh process; a poll of one that was killed gets no event."""
        with self._changed:
            self._abandoned.append(self._events)
            self._events = asyncio.Queue()
            self.calls.clear()
            self.seconds.clear()
            self._answered.clear()
            self._polls.clear()

    # ---- the function's side ----

    def send(self, event: dict[str, Any]) -> str:
        """Queues an event, and gives its request id."""
        self._sent += 1
        request_id = f"8f5a1b2c-0000-4000-8000-{self._sent:012}"
        self._loop.call_soon_threadsafe(self._events.put_nowait, (request_id, json.dumps(event).encode()))
        return request_id

    def answer(self, request_id: str, timeout: float = 60) -> tuple[float, dict[str, Any]]:
        """When the answer came, and what it is. Fails where it is an error."""
        with self._changed:
            if not self._changed.wait_for(lambda: request_id in self._answered, timeout):
                raise TimeoutError("no answer came")
            at, body, went_well = self._answered[request_id]
        if not went_well:
            raise RuntimeError(body.decode())
        return at, json.loads(body)

    def first_poll(self, timeout: float = 60) -> float:
        """When the first event was asked for that was given out."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._polls, timeout):
                raise TimeoutError("nobody polled")
            return self._polls[0]

    # ---- AWS's side ----

    def _arn(self, revision: int) -> str:
        return f"arn:aws:ecs:{REGION}:{self.account}:task-definition/{FAMILY}:{revision}"

    def _definition(self) -> dict[str, Any]:
        return {
            "taskDefinitionArn": self._arn(self._revision), "family": FAMILY, "revision": self._revision,
            "status": "ACTIVE", "containerDefinitions": self._containers, "volumes": [], "placementConstraints": [],
            "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
            "requiresAttributes": [], "compatibilities": ["EC2", "FARGATE"], "registeredAt": 1.7e9, "registeredBy": "x",
        }

    def _service(self) -> dict[str, Any]:
        deployment = {
            "id": f"ecs-svc/{self._revision:019}", "status": "PRIMARY", "taskDefinition": self._running,
            "desiredCount": 1, "runningCount": 1, "pendingCount": 0, "failedTasks": 0, "createdAt": 1.7e9,
            "updatedAt": 1.7e9, "launchType": "FARGATE", "rolloutState": "COMPLETED", "rolloutStateReason": "",
        }
        return {
            "serviceArn": f"arn:aws:ecs:{REGION}:{self.account}:service/{CLUSTER}/{SERVICE}", "serviceName": SERVICE,
            "clusterArn": f"arn:aws:ecs:{REGION}:{self.account}:cluster/{CLUSTER}", "status": "ACTIVE", "desiredCount": 1,
            "runningCount": 1, "pendingCount": 0, "launchType": "FARGATE", "taskDefinition": self._running,
            "deployments": [deployment], "events": [], "loadBalancers": [], "createdAt": 1.7e9,
            "tags": [{"key": key, "value": value} for key, value in self._tags.items()],
        }

    def _register(self, body: dict[str, Any]) -> dict[str, Any]:
        # Whatever of the container was left out stays: what comes next should find the same work to do.
        self._containers = [{**self._containers[0], **body["containerDefinitions"][0]}]
        self._revision += 1
        return {"taskDefinition": self._definition(), "tags": []}

    def _update(self, body: dict[str, Any]) -> dict[str, Any]:
        self._running = body.get("taskDefinition", self._running)
        return {"service": self._service()}

    def _tag(self, body: dict[str, Any]) -> dict[str, Any]:
        self._tags.update({tag["key"]: tag["value"] for tag in body["tags"]})
        return {}

    # ---- HTTP ----

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                body = await self._body(reader, headers)
                path = head[0].split(" ")[1]
                status, kind, answer, more = await self._answer(reader, path, headers, body)
                lines = [
                    # By the date of DynamoDB's answers the updater looks at its own clock.
                    f"HTTP/1.1 {status} OK", f"date: {formatdate(usegmt=True)}", f"content-type: {kind}",
                    f"content-length: {len(answer)}", *more,
                ]
                writer.write("\r\n".join([*lines, "", ""]).encode() + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await reader.readexactly(int(headers.get("content-length", 0)))
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        while (await reader.readline()).strip():
            pass
        return body

    async def _answer(
        self, reader: asyncio.StreamReader, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, str, bytes, list[str]]:
        at = time.perf_counter()
        if path.startswith(RUNTIME):
            return await self._runtime(reader, path.removeprefix(RUNTIME), body, at)
        action = headers.get("x-amz-target", "AssumeRole").rsplit(".", 1)[-1]
        self.calls[action] += 1
        if self.delay:
            await asyncio.sleep(self.delay)
        if action == "AssumeRole":
            kind, answer = "text/xml", ASSUMED.encode()
        else:
            kind, answer = "application/x-amz-json-1.1", json.dumps(self._handlers[action](json.loads(body))).encode()
        self.seconds.append(time.perf_counter() - at)
        return 200, kind, answer, ["x-amzn-requestid: r"]

    async def _runtime(
        self, reader: asyncio.StreamReader, path: str, body: bytes, at: float
    ) -> tuple[int, str, bytes, list[str]]:
        if path == "invocation/next":
            events = self._events
            request_id, event = await events.get()
            if reader.at_eof():
                # The poll of a process that was ended meanwhile, read late: the event is for the next one.
                events.put_nowait((request_id, event))
                raise ConnectionResetError
            with self._changed:
                self._polls.append(at)
                self._changed.notify_all()
            headers = [
                f"lambda-runtime-aws-request-id: {request_id}",
                f"lambda-runtime-deadline-ms: {int(time.time() * 1000) + DEADLINE_MS}",
                f"lambda-runtime-invoked-function-arn: {FUNCTION_ARN}",
                "lambda-runtime-trace-id: Root=1-00000000-000000000000000000000000;Sampled=0",
            ]
            return 200, "application/json", event, headers
        _, request_id, result = (path.split("/") + ["", ""])[:3]
        with self._changed:
            self._answered[request_id] = (at, body, result == "response")
            self._changed.notify_all()
        return 202, "application/json", b'{"status":"OK"}', []
