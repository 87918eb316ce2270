"""A proxy that does to the requests between a client and an HTTP server what networks and services do to them.

Called by suites that test what the platform makes of faults: clients are given its `url` instead of the server's. Which
request is hit is the test's plan; what a fault is stands here. It never changes what the server holds by itself.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from lanepaint_assets_tests.http_server import HttpHandler, HttpServer, running


class Fault(Enum):
    """What can happen to a request."""

    UNAVAILABLE = "the server answers 503 and has done nothing"
    TOO_MANY = "the server answers 429 and has done nothing"
    RESET_UPLOAD = "the connection is reset in the middle of the request"
    LOST_ANSWER = "the server does what it is asked, and the connection is reset before the answer"
    CUT_ANSWER = "the connection is reset in the middle of the answer"
    DAMAGED = "a byte of the request is changed on its way"
    FORBIDDEN = "the server answers 403"


@dataclass(frozen=True)
class Request:
    """What a plan decides by.

    Attributes:
        number: of the request, from 0.
        method, path: as in the request line.
        size: bytes of the body.
    """

    number: int
    method: str
    path: str
    size: int

    @property
    def writes(self) -> bool:
        return self.method != "GET"


Plan = Callable[[Request], Fault | None]
"""Which fault hits a request; it may be asked from several threads."""


def share_of(share: float, faults: tuple[Fault, ...], seed: int) -> Plan:
    """A plan that hits a share of all requests, with each of the faults as often as another."""
    dice, lock = random.Random(seed), threading.Lock()

    def plan(request: Request) -> Fault | None:
        with lock:
            hit, fault = dice.random() < share, dice.choice(faults)
        return fault if hit else None

    return plan


def read_only(request: Request) -> Fault | None:
    """The plan of a bucket that may only be read."""
    return Fault.FORBIDDEN if request.writes else None


class FaultProxy(HttpServer):
    """In front of the server at an address; counts what it has done in `injected`."""

    def __init__(self, server: str) -> None:
        super().__init__(_Handler)
        self.target = urlsplit(server).netloc
        self.plan: Plan = lambda request: None
        self.injected: Counter[Fault] = Counter()
        self.requests = 0
        self._lock = threading.Lock()

    def fault_of(self, method: str, path: str, size: int) -> Fault | None:
        with self._lock:
            request = Request(self.requests, method, path, size)
            self.requests += 1
        fault = self.plan(request)
        if fault in (Fault.RESET_UPLOAD, Fault.DAMAGED) and size < 2:
            return None
        if fault is not None:
            with self._lock:
                self.injected[fault] += 1
        return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that was reset is what this is for."""


class _Handler(HttpHandler):
    server: FaultProxy

    def do_GET(self) -> None:
        self._pass_on()

    do_POST = do_PUT = do_DELETE = do_GET

    def _pass_on(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        fault = self.server.fault_of(self.command, self.path, length)
        if fault is Fault.RESET_UPLOAD:
            # The server has got the first half, and then the client is gone.
            half = self.rfile.read(length // 2)
            self._forward(half, length, answered=False)
            self._reset()
            return
        body = bytearray(self.rfile.read(length))
        if fault is Fault.DAMAGED:
            body[length // 2] ^= 0xFF
        if fault in (Fault.UNAVAILABLE, Fault.TOO_MANY, Fault.FORBIDDEN):
            status = {Fault.UNAVAILABLE: 503, Fault.TOO_MANY: 429, Fault.FORBIDDEN: 403}[fault]
            said = f'{{"error": {{"code": {status}, "message": "{fault.value}"}}}}'.encode()
            self._answer(status, [("Content-Type", "application/json")], said, len(said))
            return
        status, headers, content = self._forward(bytes(body), length, answered=True)
        if fault is Fault.LOST_ANSWER:
            self._reset()
        elif fault is Fault.CUT_ANSWER:
            self._answer(status, headers, content[: len(content) // 2], max(1, len(content)))
            self._reset()
        else:
            self._answer(status, headers, content, len(content))

    def _forward(self, body: bytes, length: int, *, answered: bool) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "content-length"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(length))
            connection.endheaders(body)
            if not answered:
                return 0, [], b""
            answer = connection.getresponse()
            content = answer.read()
            dropped = ("connection", "content-length", "transfer-encoding", "date", "server")
            return answer.status, [pair for pair in answer.getheaders() if pair[0].lower() not in dropped], content
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _reset(self) -> None:
        """End the connection with a reset: what the client sent or waits for is lost."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


@contextmanager
def running_fault_proxy(server: str) -> Iterator[FaultProxy]:
    """A proxy before the server at an address; it does no harm until it is given a plan."""
    with running(FaultProxy(server)) as proxy:
        yield proxy
