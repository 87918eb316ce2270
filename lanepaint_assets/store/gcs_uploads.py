"""Putting files into a Google Cloud Storage bucket: in parallel, with bounded memory, checked, and tried again.

Called by `publishing.py`; connections come from `gcs_client.py`. Objects that several writers change do not belong
here: they are replaced on condition (`replace.GcsFile`).

The requests are made here because both client libraries fall short of it. google-cloud-storage spends 1.7 ms of
processor time on a small file, gcsfs 0.6 and this 0.3, and a folder of masks is a hundred of them; gcsfs sends no
checksum along, and separates the parts of a request by a fixed line that a file may hold.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from lanepaint_assets.store.errors import StoreError

# A request to the same continent takes 30 to 60 ms, so 64 at a time are some 1400 small files a second.
THREADS: Final = 64

# What all of them may hold of files at a time.
MEMORY_BYTES: Final = 128 << 20

# A larger file goes in parts, of which a cut connection costs only the last; Google says so from 8 MiB on. The body of
# one request is a second copy of the file.
_ONE_REQUEST_BYTES: Final = 8 << 20
# Of one part; Google asks for multiples of 256 KiB. An edited video of ten seconds is 12 MB: a single one.
_PART_BYTES: Final = 16 << 20

# What may succeed when it is asked again (https://cloud.google.com/storage/docs/retry-strategy).
_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
FIRST_WAIT_S: Final = 0.25
LONGEST_WAIT_S: Final = 32.0
# Longer than any short outage; a step that waits much longer keeps a GPU idle.
GIVE_UP_AFTER_S: Final = 300.0

# A damaged transfer, or an upload that the server forgot, begins anew. More of them in a row are no accident.
_TRIES: Final = 3

# Between the parts of a request; random, so that no file holds it. One a process: servers written in Python compile a
# pattern for every new one, which costs them more than the rest of a small file.
_BOUNDARY: Final = secrets.token_hex(16)

_DONE: Final = frozenset({200, 201})
_GO_ON: Final = 308
_BEGIN_ANEW: Final = frozenset({400, 404, 410})


class Headers(Protocol):
    """Of an answer, by name in any case."""

    def get(self, name: str, /) -> str | None: ...


class Answer(Protocol):
    """Status, whole body and headers of an answer."""

    @property
    def status(self) -> int: ...

    @property
    def data(self) -> bytes: ...

    @property
    def headers(self) -> Headers: ...


class Send(Protocol):
    """One request, with credentials; may be called from several threads.

    Raises:
        ConnectionError: no answer came, and another try may get one.
        StoreError: there are no valid credentials.
    """

    def __call__(self, method: str, url: str, body: Sequence[bytes], headers: Mapping[str, str]) -> Answer:
        """Send it once, its body in pieces, and read the whole answer."""
        ...


@dataclass(frozen=True)
class UploadedFile:
    """A file that is in the bucket as it was on the disk: its bytes and their SHA-256."""

    size: int
    sha256: str


class Budget:
    """Bytes that several threads share; one that needs more than are left waits for the others."""

    def __init__(self, size: int) -> None:
        self._left, self._changed = size, threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Hold `size` bytes of it; no more than the whole, or it waits for ever."""
        with self._changed:
            self._changed.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            with self._changed:
                self._left += size
                self._changed.notify_all()


class _DamagedError(Exception):
    """The server has not taken the file as it is; said in words for people."""


@dataclass(frozen=True)
class GcsUploads:
    """Uploads to one bucket.

    Attributes:
        send: makes a request.
        endpoint: address of the service, without a slash at the end.
        bucket: name of the bucket.
        pool: the threads of all uploads of the process.
        memory: what they may hold of files.
        sleep, clock: waiting and measuring time, in seconds.
    """

    send: Send
    endpoint: str
    bucket: str
    pool: ThreadPoolExecutor
    memory: Budget
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def upload(self, files: Sequence[tuple[Path, str]]) -> list[UploadedFile]:
        """Upload files (path, object's name), several at a time; an object is visible once it is complete.

        Returns:
            What was uploaded, in the order of `files`.

        Raises:
            StoreError: a file could not be uploaded; no other one is being uploaded any more.
        """
        futures = [self.pool.submit(self._upload_file, path, name) for path, name in files]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # After a failure, those that have not begun never do.
            for future in futures:
                future.cancel()
        wait(futures)
        failed = [future for future in futures if not future.cancelled() and future.exception() is not None]
        return [future.result() for future in failed or futures]

    def _upload_file(self, path: Path, name: str) -> UploadedFile:
        trouble = ""
        for _ in range(_TRIES):
            try:
                return self._upload_once(path, name)
            except _DamagedError as damage:
                trouble = str(damage)
        raise StoreError(f"{self._shown(name)} could not be uploaded in {_TRIES} tries: {trouble}; {REMEDY}")

    def _upload_once(self, path: Path, name: str) -> UploadedFile:
        size, digests = path.stat().st_size, _Digests()
        with self.memory.taken(min(2 * size, _PART_BYTES)):
            if size <= _ONE_REQUEST_BYTES:
                content = path.read_bytes()
                digests.update(content)
                resource = self._in_one_request(name, content, digests.crc32c)
            else:
                resource = self._in_parts(name, path, size, digests)
        crc32c = digests.crc32c
        # Also where a server takes a checksum along without looking at it.
        if (str(resource.get("size")), resource.get("crc32c", crc32c)) != (str(size), crc32c):
            raise _DamagedError(
                f"{size} bytes of CRC32C {crc32c} were sent, and the server has {resource.get('size')} bytes"
            )
        return UploadedFile(size, digests.sha256)

    def _in_one_request(self, name: str, content: bytes, crc32c: str) -> dict[str, object]:
        head = (
            f"--{_BOUNDARY}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps({'name': name, 'crc32c': crc32c})}\r\n"
            f"--{_BOUNDARY}\r\nContent-Type: {_content_type(name)}\r\n\r\n"
        )
        request = partial(
            self.send,
            "POST",
            self._address("multipart"),
            (head.encode(), content, f"\r\n--{_BOUNDARY}--".encode()),
            {"Content-Type": f"multipart/related; boundary={_BOUNDARY}"},
        )
        return self._finished(name, self._asked(request, self._patience(name)))

    def _in_parts(self, name: str, path: Path, size: int, digests: _Digests) -> dict[str, object]:
        """Upload a file that is read once: its checksum is known, and sent along, with the last part."""
        begin = partial(
            self.send,
            "POST",
            self._address("resumable"),
            (json.dumps({"name": name}).encode(),),
            {
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Type": _content_type(name),
                "X-Upload-Content-Length": str(size),
            },
        )
        begun = self._asked(begin, self._patience(name))
        self._check(name, begun, _DONE)
        session = begun.headers.get("Location")
        if session is None:
            raise _DamagedError("the server began an upload in parts and has not said where to send them")
        # Where a part was cut off, the server is asked how much of it has arrived.
        how_far = partial(self.send, "PUT", session, (), {"Content-Range": f"bytes */{size}"})
        # A server may turn away every part and yet answer that question each time, so the waits begin anew only when it
        # has more than ever before.
        patience = self._patience(name)
        sent = digested = furthest = 0
        with path.open("rb") as file:
            while True:
                file.seek(sent)
                part = file.read(min(_PART_BYTES, size - sent))
                end = sent + len(part)
                if end > digested:
                    digests.update(part[digested - sent :])
                    digested = end
                placed = {"Content-Range": f"bytes {sent}-{end - 1}/{size}"}
                if end == size:
                    placed["X-Goog-Hash"] = f"crc32c={digests.crc32c}"
                answer = self._asked(partial(self._send_part, session, part, placed, sent), patience, then=how_far)
                if answer.status != _GO_ON:
                    return self._finished(name, answer)
                sent = _received(answer)
                if sent > furthest:
                    furthest, patience = sent, self._patience(name)

    def _send_part(self, session: str, part: bytes, placed: Mapping[str, str], sent: int) -> Answer:
        """Send a part of a file of which the server has `sent` bytes.

        Raises:
            ConnectionError: see `Send`; or the server goes on without a byte of the part.
            StoreError: see `Send`.
        """
        answer = self.send("PUT", session, (part,), placed)
        if answer.status == _GO_ON and _received(answer) <= sent:
            raise ConnectionError("the server keeps nothing of what it is sent")
        return answer

    def _asked(
        self, request: Callable[[], Answer], patience: _Patience, then: Callable[[], Answer] | None = None
    ) -> Answer:
        """The answer to a request, which is repeated, or followed by `then`, for as long as there is hope.

        Raises:
            StoreError: there is none left.
        """
        while True:
            try:
                answer = request()
            except ConnectionError as error:
                trouble = str(error)
            else:
                if answer.status not in _TRANSIENT:
                    return answer
                trouble = _said(answer)
            patience.wait(trouble)
            request = then or request

    def _patience(self, name: str) -> _Patience:
        return _Patience(self._shown(name), self.sleep, self.clock)

    def _finished(self, name: str, answer: Answer) -> dict[str, object]:
        self._check(name, answer, _DONE)
        try:
            resource = json.loads(answer.data)
        except ValueError:
            resource = None
        if not isinstance(resource, dict):
            raise _DamagedError(f"an answer that is no description of an object: {_said(answer)}")
        return resource

    def _check(self, name: str, answer: Answer, expected: frozenset[int]) -> None:
        if answer.status in expected:
            return
        if answer.status in _BEGIN_ANEW:
            raise _DamagedError(_said(answer))
        raise StoreError(f"{self._shown(name)} may not be written: {_said(answer)}; {REMEDY}")

    def _address(self, kind: str) -> str:
        return f"{self.endpoint}/upload/storage/v1/b/{quote(self.bucket, safe='')}/o?uploadType={kind}"

    def _shown(self, name: str) -> str:
        return f"gs://{self.bucket}/{name}"


REMEDY: Final = (
    "see that the bucket exists and that this account may create, read and delete objects in it "
    "(roles/storage.objectUser)"
)


class _Patience:
    """The waits between tries that bring a file no further: they grow, and end `GIVE_UP_AFTER_S` after the first try.

    Made when a file begins, and anew when more of it has arrived.
    """

    def __init__(self, shown: str, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._shown, self._sleep, self._clock = shown, sleep, clock
        self._give_up, self._wait_s = clock() + GIVE_UP_AFTER_S, FIRST_WAIT_S

    def wait(self, trouble: str) -> None:
        """Wait before the next try.

        Args:
            trouble: what became of the last one, in words for people.

        Raises:
            StoreError: there have been tries for long enough.
        """
        if self._clock() > self._give_up:
            raise StoreError(
                f"{self._shown} could not be uploaded in {GIVE_UP_AFTER_S:.0f} s ({trouble}); materialize "
                "the partition again when the bucket can be reached: finished items are kept"
            )
        # Random, so that writers that were turned away together do not come back together.
        self._sleep(random.uniform(self._wait_s / 2, self._wait_s))
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)


class _Digests:
    """SHA-256 as hex digits, and CRC32C as Google writes it, of the same bytes."""

    def __init__(self) -> None:
        import google_crc32c

        self._sha256, self._crc32c = hashlib.sha256(), google_crc32c.Checksum()

    def update(self, block: bytes) -> None:
        self._sha256.update(block)
        self._crc32c.update(block)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def crc32c(self) -> str:
        return base64.b64encode(self._crc32c.digest()).decode()


def _content_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _received(answer: Answer) -> int:
    """Bytes that the server has of an upload in parts: it names the last one, or nothing."""
    said = answer.headers.get("Range")
    return 0 if said is None else int(said.rpartition("-")[2]) + 1


def _said(answer: Answer) -> str:
    """Status and reason, whatever the body looks like."""
    try:
        message = json.loads(answer.data)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = answer.data[:200].decode(errors="replace").strip()
    return f"{answer.status} {message}".strip()
