"""Requests over HTTP on connections that stay open, one a thread and host.

Called by `gcs_client.py`, which gives `HttpSender.send` to the uploads. A folder of masks is a hundred small requests,
and for each the standard library's http.client takes half the processor time of urllib3. What an answer means, and what
is tried again, is decided by `gcs_uploads.py`.
"""

from __future__ import annotations

import select
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPSConnection
from typing import Final, Protocol

CONNECT_S: Final = 15.0
# Of one request. The longest is a part of 16 MiB; slower than 140 kB/s is no connection.
ANSWER_S: Final = 120.0

_EXPIRED: Final = 401


class Credentials(Protocol):
    """What is used of `google.auth.credentials.Credentials`; both may ask a server for a token with `request`."""

    def before_request(self, request: object, method: str, url: str, headers: dict[str, str]) -> None:
        """Add to the headers what proves who asks."""
        ...

    def refresh(self, request: object) -> None:
        """Get a new token."""
        ...


@dataclass(frozen=True)
class HttpAnswer:
    """Status, whole body, and headers, whose names may be asked for in any case."""

    status: int
    data: bytes
    headers: HTTPMessage


class HttpSender:
    """Sends requests with credentials; may be used from several threads.

    Args:
        credentials: added to every request, and renewed once where the server does not take them.
        token_request: how they ask for a token.
        certificates: file of the authorities that https servers are checked by.
    """

    def __init__(self, credentials: Credentials, token_request: object, certificates: str) -> None:
        self._credentials, self._token_request = credentials, token_request
        self._tls = ssl.create_default_context(cafile=certificates)
        self._own = threading.local()

    def send(self, method: str, url: str, body: Sequence[bytes], headers: Mapping[str, str]) -> HttpAnswer:
        """Send a request once, its body in pieces, and read the whole answer.

        Raises:
            ConnectionError: no answer came, or half of one.
            google.auth.exceptions.GoogleAuthError: there are no valid credentials.
        """
        allowed = dict(headers)
        self._credentials.before_request(self._token_request, method, url, allowed)
        answer = self._answered(method, url, body, allowed)
        if answer.status == _EXPIRED:
            self._credentials.refresh(self._token_request)
            self._credentials.before_request(self._token_request, method, url, allowed)
            answer = self._answered(method, url, body, allowed)
        return answer

    def _answered(self, method: str, url: str, body: Sequence[bytes], headers: Mapping[str, str]) -> HttpAnswer:
        scheme, _, address = url.partition("://")
        host, _, target = address.partition("/")
        connection = self._connection(scheme, host)
        try:
            _open(connection)
            connection.request(method, f"/{target}", body=b"".join(body), headers=headers)
            answer = connection.getresponse()
            if answer.length is None and not answer.chunked:
                raise HTTPException("an answer that does not say where it ends, so it may be cut")
            data = answer.read()
            if answer.will_close:
                connection.close()
        except (OSError, HTTPException) as error:
            connection.close()
            raise ConnectionError(f"{host}: {type(error).__name__}: {error}") from error
        except BaseException:
            connection.close()  # else the next request would read this one's answer
            raise
        return HttpAnswer(answer.status, data, answer.headers)

    def _connection(self, scheme: str, host: str) -> HTTPConnection:
        """The thread's own connection to a host."""
        known: dict[tuple[str, str], HTTPConnection] = self._own.__dict__.setdefault("connections", {})
        connection = known.get((scheme, host))
        if connection is None:
            if scheme == "https":
                connection = HTTPSConnection(host, timeout=CONNECT_S, context=self._tls)
            else:
                connection = HTTPConnection(host, timeout=CONNECT_S)
            known[scheme, host] = connection
        return connection


def _open(connection: HTTPConnection) -> None:
    """Connect, unless it is connected still: nothing was asked, so there is something to read only at its end."""
    if connection.sock is not None:
        look = select.poll()
        look.register(connection.sock, select.POLLIN)
        if not look.poll(0):
            return
        connection.close()
    connection.connect()
    connection.sock.settimeout(ANSWER_S)
