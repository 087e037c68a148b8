"""Stands between the function and the local AWS: sees every call, and can hold one up."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit


@dataclass
class Held:
    """A call that is held up. `dropped`: it never arrives, because its caller is no more."""

    arrived: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    dropped: bool = False


class Wire:
    """An HTTP server on loopback that passes everything on. Signatures stay good: no header is touched."""

    def __init__(self, endpoint: str) -> None:
        self.calls: list[str] = []
        self._held: dict[str, Held] = {}
        self._behind = urlsplit(endpoint).netloc
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                operation = self.headers.get("x-amz-target", "").rsplit(".", 1)[-1]
                operation = operation or parse_qs(body.decode())["Action"][0]
                wire.calls.append(operation)
                if held := wire._held.pop(operation, None):
                    held.arrived.set()
                    held.released.wait(30)
                    if held.dropped:
                        self.close_connection = True
                        return
                status, headers, answer = wire._pass_on(self.path, dict(self.headers), body)
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """The calls are kept, not printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _pass_on(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self._behind, timeout=60)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    @contextmanager
    def holding(self, operation: str) -> Iterator[Held]:
        """Holds up the next call of `operation`, until the block ends."""
        held = self._held[operation] = Held()
        try:
            yield held
        finally:
            held.released.set()

    def __enter__(self) -> Wire:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
