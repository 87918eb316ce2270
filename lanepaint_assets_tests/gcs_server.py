"""A Google Cloud Storage over HTTP that enforces what the real one does: preconditions, checksums, atomic uploads.

Called by suites that need real client libraries against a real server, as a context manager or as a program of its own
(`python -m lanepaint_assets_tests.gcs_server BUCKET`, which prints its address). It holds one bucket in memory and
knows the requests of google-cloud-storage and gcsfs that the platform makes; any other one answers 405. Faults do not
belong here: see `fault_proxy.py`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import json
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from functools import cached_property
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

from lanepaint_assets_tests.http_server import HttpHandler, HttpServer, running

_OBJECTS = re.compile(r"/storage/v1/b/([^/]+)/o")
_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)")
_REWRITE = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)")
_BUCKET = re.compile(r"/storage/v1/b/([^/]+)")
_UPLOAD = re.compile(r"/(?:resumable/)?upload/storage/v1/b/([^/]+)/o")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")

# As the real server: names of one page of a listing.
_PAGE = 1000


class Refused(Exception):
    """An answer other than the one that was hoped for."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class StoredObject:
    """One generation of an object."""

    name: str
    content: bytes
    content_type: str
    generation: int
    created: datetime

    @cached_property
    def md5(self) -> str:
        return base64.b64encode(hashlib.md5(self.content).digest()).decode()

    @cached_property
    def crc32c(self) -> str:
        return base64.b64encode(google_crc32c.Checksum(self.content).digest()).decode()

    def resource(self, bucket: str) -> dict[str, object]:
        written = self.created.isoformat().replace("+00:00", "Z")
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{self.name}/{self.generation}",
            "name": self.name,
            "bucket": bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "size": str(len(self.content)),
            "md5Hash": self.md5,
            "crc32c": self.crc32c,
            "etag": f"{self.generation:x}",
            "timeCreated": written,
            "updated": written,
            "storageClass": "STANDARD",
        }


@dataclass
class Upload:
    """A resumable upload under way: nothing of it is visible."""

    name: str
    metadata: dict[str, str]
    generation_match: int | None
    received: bytearray = field(default_factory=bytearray)


@dataclass
class Bucket:
    """Objects by name; every change is one atomic step."""

    name: str
    objects: dict[str, StoredObject] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    # Lets a test act as another writer at the worst moment: called once, before the next write.
    before_write: Callable[[], None] | None = None
    # Shows a test every state that a reader can see: called with the name after each write and each removal.
    after_change: Callable[[str], None] = lambda name: None
    written: int = 0
    refused: int = 0

    def get(self, name: str, generation_match: int | None = None) -> StoredObject:
        found = self.objects.get(name)
        if found is None:
            raise Refused(404, f"No such object: {self.name}/{name}")
        if generation_match is not None and found.generation != generation_match:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
        return found

    def put(self, name: str, content: bytes, metadata: dict[str, str], generation_match: int | None) -> StoredObject:
        meanwhile, self.before_write = self.before_write, None
        if meanwhile is not None:
            meanwhile()
        with self.lock:
            current = self.objects.get(name)
            if generation_match is not None and generation_match != (current.generation if current else 0):
                self.refused += 1
                raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
            kind = metadata.get("contentType", "application/octet-stream")
            made = StoredObject(name, content, kind, next(self.numbers), datetime.now(UTC))
            for key, actual in (("md5Hash", made.md5), ("crc32c", made.crc32c)):
                if metadata.get(key, actual) != actual:
                    raise Refused(400, f"Provided {key} {metadata[key]} doesn't match calculated {actual}.")
            self.objects[name] = made
            self.written += 1
            self.after_change(name)
            return made

    def delete(self, name: str) -> None:
        with self.lock:
            if self.objects.pop(name, None) is None:
                raise Refused(404, f"No such object: {self.name}/{name}")
            self.after_change(name)


class GcsServer(HttpServer):
    """One bucket at `url`."""

    def __init__(self, bucket: str) -> None:
        super().__init__(_Handler)
        self.bucket = Bucket(bucket)
        self.requests = 0
        self.latency_s = 0.0
        # The real server does; the emulator of PyPI does not.
        self.tells_generation = True


class _Handler(HttpHandler):
    server: GcsServer

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, method) -> None:
        self.server.requests += 1
        address = urlsplit(self.path)
        self.route, self.query = address.path, {key: values[0] for key, values in parse_qs(address.query).items()}
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        if len(self.body) < length:
            self.close_connection = True  # the client went away in the middle: nothing of it counts
            return
        if self.server.latency_s:
            time.sleep(self.server.latency_s)
        try:
            method()
        except Refused as refused:
            self._json({"error": {"code": refused.status, "message": str(refused)}}, refused.status)

    def _get(self) -> None:
        if match := _OBJECTS.fullmatch(self.route):
            self._list(self._bucket(match))
        elif match := _OBJECT.fullmatch(self.route):
            bucket = self._bucket(match)
            found = bucket.get(unquote(match[2]), self._generation_match())
            if self.query.get("alt") == "media":
                self._download(found)
            else:
                self._json(found.resource(bucket.name))
        elif match := _BUCKET.fullmatch(self.route):
            self._json({"kind": "storage#bucket", "name": self._bucket(match).name, "location": "HERE"})
        else:
            raise Refused(405, f"GET {self.route}")

    def _list(self, bucket: Bucket) -> None:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        first = self.query.get("pageToken", "")
        most = min(_PAGE, int(self.query.get("maxResults", _PAGE)))
        items: list[dict[str, object]] = []
        prefixes: list[str] = []
        token = None
        with bucket.lock:
            names = sorted(name for name in bucket.objects if name.startswith(prefix) and name >= first)
            for name in names:
                rest = name[len(prefix) :]
                folder = prefix + rest.partition(delimiter)[0] + delimiter if delimiter and delimiter in rest else None
                if folder is not None and folder in prefixes:
                    continue
                if len(items) + len(prefixes) == most:
                    token = name
                    break
                if folder is None:
                    items.append(bucket.objects[name].resource(bucket.name))
                else:
                    prefixes.append(folder)
        page = {"kind": "storage#objects", "items": items, "prefixes": prefixes}
        self._json(page if token is None else {**page, "nextPageToken": token})

    def _download(self, found: StoredObject) -> None:
        content, status, headers = found.content, 200, {}
        if match := _RANGE.fullmatch(self.headers.get("Range", "")):
            first = int(match[1])
            last = min(int(match[2] or len(content) - 1), len(content) - 1)
            if first >= len(content):
                raise Refused(416, "Requested range not satisfiable")
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        if self.server.tells_generation:
            headers["X-Goog-Generation"] = str(found.generation)
        headers["X-Goog-Hash"] = f"crc32c={found.crc32c},md5={found.md5}"
        self._send(status, content, found.content_type, headers)

    def _post(self) -> None:
        if match := _REWRITE.fullmatch(self.route):
            bucket = self._bucket(match)
            source = bucket.get(unquote(match[2]))
            made = bucket.put(unquote(match[4]), source.content, {"contentType": source.content_type}, None)
            size = str(len(source.content))
            self._json(
                {
                    "kind": "storage#rewriteResponse",
                    "totalBytesRewritten": size,
                    "objectSize": size,
                    "done": True,
                    "resource": made.resource(bucket.name),
                }
            )
            return
        match = _UPLOAD.fullmatch(self.route)
        if match is None:
            raise Refused(405, f"POST {self.route}")
        bucket, kind = self._bucket(match), self.query.get("uploadType")
        if "upload_id" in self.query:
            self._put()  # as gcsfs sends the parts of an upload
        elif kind == "multipart":
            metadata, content = _multipart(self.headers["Content-Type"], self.body)
            made = bucket.put(metadata["name"], content, metadata, self._generation_match())
            self._json(made.resource(bucket.name))
        elif kind == "resumable":
            metadata = json.loads(self.body or b"{}")
            name = metadata.get("name") or self.query["name"]
            key = str(next(bucket.numbers))
            bucket.uploads[key] = Upload(name, metadata, self._generation_match())
            # The address that the client used, which may be a proxy's.
            place = f"http://{self.headers['Host']}{self.route}?uploadType=resumable&upload_id={key}"
            self._send(200, b"{}", "application/json", {"Location": place})
        else:
            raise Refused(405, f"upload of type {kind}")

    def _put(self) -> None:
        match = _UPLOAD.fullmatch(self.route)
        if match is None:
            raise Refused(405, f"PUT {self.route}")
        bucket = self._bucket(match)
        upload = bucket.uploads.get(self.query.get("upload_id", ""))
        if upload is None:
            raise Refused(404, "No such upload")
        part = _CONTENT_RANGE.fullmatch(self.headers.get("Content-Range", f"bytes 0-{len(self.body) - 1}/*"))
        if part is None:
            raise Refused(400, "Content-Range")
        if part[1] is not None:
            first = int(part[1])
            if first > len(upload.received):
                raise Refused(400, "a gap in the upload")
            # What was received before is ignored, as the real server does.
            upload.received += self.body[len(upload.received) - first :]
        if part[3] != "*" and len(upload.received) >= int(part[3]):
            hashes = dict(
                entry.strip().split("=", 1) for entry in self.headers.get("X-Goog-Hash", "").split(",") if entry
            )
            named = {"md5Hash": hashes["md5"]} if "md5" in hashes else {}
            named |= {"crc32c": hashes["crc32c"]} if "crc32c" in hashes else {}
            made = bucket.put(
                upload.name, bytes(upload.received), {**upload.metadata, **named}, upload.generation_match
            )
            self._json(made.resource(bucket.name))
            return
        headers = {"Range": f"bytes=0-{len(upload.received) - 1}"} if upload.received else {}
        self._send(308, b"", "application/json", headers)

    def _delete(self) -> None:
        if match := _OBJECT.fullmatch(self.route):
            self._bucket(match).delete(unquote(match[2]))
        elif match := _UPLOAD.fullmatch(self.route):
            self._bucket(match).uploads.pop(self.query.get("upload_id", ""), None)
        else:
            raise Refused(405, f"DELETE {self.route}")
        self._send(204, b"", "application/json", {})

    def _bucket(self, match: re.Match[str]) -> Bucket:
        if unquote(match[1]) != self.server.bucket.name:
            raise Refused(404, "The specified bucket does not exist.")
        return self.server.bucket

    def _generation_match(self) -> int | None:
        value = self.query.get("ifGenerationMatch")
        return None if value is None else int(value)

    def _json(self, record: object, status: int = 200) -> None:
        self._send(status, json.dumps(record).encode(), "application/json; charset=UTF-8", {})

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _multipart(content_type: str, body: bytes) -> tuple[dict[str, str], bytes]:
    """Metadata and content of a multipart/related body; both ends of lines are in use."""
    boundary = re.search(r'boundary="?([^";]+)"?', content_type)
    if boundary is None:
        raise Refused(400, "no boundary")
    mark = b"--" + boundary[1].encode()
    start = body.index(mark) + len(mark)
    middle = body.index(mark, start)
    end = body.rindex(mark)
    metadata = json.loads(_payload(body[start:middle])[1])
    headers, content = _payload(body[middle + len(mark) : end])
    metadata.setdefault("contentType", BytesHeaderParser().parsebytes(headers).get_content_type())
    return metadata, content


def _payload(part: bytes) -> tuple[bytes, bytes]:
    newline = b"\r\n" if part.startswith(b"\r\n") else b"\n"
    headers, _, content = part.removeprefix(newline).partition(2 * newline)
    return headers, content.removesuffix(newline)


@contextmanager
def running_gcs_server(bucket: str) -> Iterator[GcsServer]:
    """A server in this process, with an empty bucket."""
    with running(GcsServer(bucket)) as server:
        yield server


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Google Cloud Storage with one bucket, in memory.")
    parser.add_argument("bucket")
    parser.add_argument("--latency-ms", type=int, default=0, help="wait before each answer")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with running_gcs_server(chosen.bucket) as started:
        started.latency_s = chosen.latency_ms / 1000
        print(started.url, flush=True)
        signal.pause()
