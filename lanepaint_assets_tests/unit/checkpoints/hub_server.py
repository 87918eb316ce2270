"""A hub of Hugging Face's kind on this machine: repositories are dictionaries, files are served over HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34

# From here on files are kept as LFS keeps them, under the digest of their content.
LARGE_BYTES = 100


@dataclass
class Hub:
    """What the server has, and what it was asked for.

    Attributes:
        repositories: name to files, by name.
        gated: repositories whose files are given to nobody.
        down: files that cannot be had just now.
        sent: names of the files that were sent.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    down: set[str] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve it while the context is open."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *_: object) -> None: ...

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0].strip("/")
            if path.startswith("api/models/"):
                owner, name, *rest = path.removeprefix("api/models/").split("/")
                what, *revision = rest or ["revision", "main"]
                self._about(f"{owner}/{name}", what, "/".join(revision))
            else:
                owner, name, _, commit, file = path.split("/", 4)
                self._file(f"{owner}/{name}", commit, file, with_body=with_body)

        def _about(self, repository: str, what: str, revision: str) -> None:
            files = hub.repositories.get(repository)
            if files is None:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif revision not in ("main", COMMIT):
                self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            elif what == "revision":
                siblings = [_sibling(name, content) for name, content in files.items()]
                told = {"id": repository, "sha": COMMIT, "siblings": siblings}
                self._send(200, json.dumps(told).encode())
            else:
                self._send(200, json.dumps([_entry(name, content) for name, content in files.items()]).encode())

        def _file(self, repository: str, revision: str, file: str, *, with_body: bool) -> None:
            content = hub.repositories.get(repository, {}).get(file)
            if repository in hub.gated:
                self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "accept the licence"})
                return
            if content is None or file in hub.down:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            headers = {"ETag": f'"{_tag(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if len(content) >= LARGE_BYTES:
                headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{_tag(content)}"'}
            if not with_body:
                self._send(200, content, headers, with_body=False)
                return
            hub.sent.append(file)
            if first:
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self._send(206 if first else 200, content[first:], headers)

        def _send(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, *, with_body: bool = True
        ) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _tag(content: bytes) -> str:
    if len(content) >= LARGE_BYTES:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": _tag(content)[:40]}
    if len(content) >= LARGE_BYTES:
        entry["lfs"] = {"oid": _tag(content), "size": len(content), "pointerSize": 130}
    return entry


def _sibling(name: str, content: bytes) -> dict[str, object]:
    entry = _entry(name, content)
    sibling = {"rfilename": name, "size": entry["size"], "blobId": entry["oid"]}
    if len(content) >= LARGE_BYTES:
        sibling["lfs"] = {"sha256": _tag(content), "size": len(content), "pointerSize": 130}
    return sibling
