"""HTTP/1.1 servers of the suites' own: a thread a connection, connections that stay open, answers in one packet.

Called by the servers that stand in for others (`gcs_server.py`, `fault_proxy.py`), which say what a request does.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar


class HttpServer(ThreadingHTTPServer):
    """A server on a free port of this machine."""

    daemon_threads = True
    # Of connections that nobody has accepted yet: clients open dozens at once.
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell what went wrong, unless a client only went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HttpHandler(BaseHTTPRequestHandler):
    """What a request does is the subclass's; nothing is logged."""

    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: otherwise every answer waits for the client's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    # Every read lets other threads in, which costs more than most requests do.
    rbufsize = 1 << 16

    def log_message(self, *_: object) -> None:
        pass


Server = TypeVar("Server", bound=HttpServer)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server at work in a thread of this process."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
