"""Requests on connections that stay open, end, break, or are not allowed any more."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import certifi
import pytest

from lanepaint_assets.store.gcs_requests import HttpSender

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Kept: yes\r\n\r\ndone"


@dataclass
class Host:
    """What a server heard: the requests of every connection that was opened to it."""

    url: str
    connections: list[list[bytes]] = field(default_factory=list)

    @property
    def requests(self) -> list[bytes]:
        return [request for requests in self.connections for request in requests]


@contextmanager
def _host(*answers: list[bytes]) -> Iterator[Host]:
    """A server that gives each connection in turn a list of answers, and then ends it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = Host(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def serve() -> None:
            for told in answers:
                connection, _ = listener.accept()
                host.connections.append([])
                with connection:
                    for answer in told:
                        host.connections[-1].append(_request(connection))
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield host
        thread.join(30)
        assert not thread.is_alive()


def _request(connection: socket.socket) -> bytes:
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += connection.recv(1 << 16)
    head, _, body = heard.partition(b"\r\n\r\n")
    size = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")).split()[1])
    while len(body) < size:
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body


class Token:
    """Credentials whose token is a number that grows when they are renewed."""

    def __init__(self) -> None:
        self.number = 1

    def before_request(self, request: object, method: str, url: str, headers: dict[str, str]) -> None:
        headers["authorization"] = f"Bearer {self.number}"

    def refresh(self, request: object) -> None:
        self.number += 1


@pytest.fixture
def sender() -> HttpSender:
    return HttpSender(Token(), None, certifi.where())


@pytest.mark.parametrize("size", [0, 5, 1 << 20])
def test_a_request_arrives_with_its_target_headers_and_whole_body(sender: HttpSender, size: int) -> None:
    with _host([OK]) as host:
        answer = sender.send(
            "POST", f"{host.url}/o?a=b%2Fc", (b"head ", b"x" * size, b" tail"), {"Content-Type": "a/b"}
        )
    assert (answer.status, answer.data, answer.headers.get("x-kept")) == (200, b"done", "yes")
    head, _, body = host.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /o?a=b%2Fc HTTP/1.1"
    assert {b"Content-Type: a/b", b"authorization: Bearer 1"} <= set(head.split(b"\r\n"))
    assert body == b"head " + b"x" * size + b" tail"


def test_requests_of_a_thread_share_a_connection(sender: HttpSender) -> None:
    with _host([OK, OK, OK]) as host:
        for _ in range(3):
            sender.send("PUT", host.url, (), {})
    assert len(host.connections) == 1


def test_a_connection_that_the_server_ended_meanwhile_is_opened_again(sender: HttpSender) -> None:
    with _host([OK], [OK]) as host:
        sender.send("PUT", host.url, (), {})
        while len(host.connections[0]) < 1:
            threading.Event().wait(0.01)
        threading.Event().wait(0.05)  # its end arrives
        assert sender.send("PUT", host.url, (), {}).data == b"done"


@pytest.mark.parametrize("answer", [b"", OK[:-2], b"HTTP/1.1 200", b"nonsense\r\n\r\n"])
def test_an_answer_that_is_cut_is_no_answer_and_the_next_request_begins_anew(sender: HttpSender, answer: bytes) -> None:
    with _host([answer], [OK]) as host:
        with pytest.raises(ConnectionError, match=r"127\.0\.0\.1"):
            sender.send("PUT", host.url, (b"x",), {})
        assert sender.send("PUT", host.url, (b"y",), {}).data == b"done"


def test_a_server_that_is_not_there_is_a_connection_error(sender: HttpSender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionError, match="ConnectionRefusedError"):
        sender.send("PUT", f"http://127.0.0.1:{port}", (), {})


def test_a_token_that_the_server_does_not_take_any_more_is_renewed_once(sender: HttpSender) -> None:
    refused = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
    with _host([refused, OK, refused, refused]) as host:
        assert sender.send("PUT", host.url, (b"x",), {}).status == 200
        assert sender.send("PUT", host.url, (b"x",), {}).status == 401
    tokens = [line for request in host.requests for line in request.split(b"\r\n") if line.startswith(b"authorization")]
    assert tokens == [f"authorization: Bearer {number}".encode() for number in (1, 2, 2, 3)]
