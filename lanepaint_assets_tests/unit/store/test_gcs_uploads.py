"""Uploads: how long they wait, what they hold in memory, and that what the server took is what was sent."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import pytest

from lanepaint_assets.store import gcs_uploads
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.gcs_uploads import Answer, Budget, GcsUploads


@dataclass
class Told:
    """An answer of a server."""

    status: int
    data: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)


def _stored(content: bytes) -> Told:
    crc32c = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
    return Told(200, json.dumps({"size": str(len(content)), "crc32c": crc32c}).encode())


@dataclass
class Clock:
    """Time that passes only where somebody waits."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@dataclass
class InParts:
    """A server that answers every part with `answer`, having kept `kept` more bytes of it, and says how many it has."""

    answer: Callable[[], Told]
    clock: Clock
    kept: int = 0
    part_s: float = 0.0
    has: int = 0
    parts: int = 0
    questions: int = 0

    def __call__(self, method: str, url: str, body: Sequence[bytes], headers: Mapping[str, str]) -> Told:
        assert self.parts + self.questions < 200, "an upload without an end"
        if method == "POST":
            return Told(200, headers={"Location": "http://host/session"})
        if not body:
            self.questions += 1
            return Told(308, headers={"Range": f"bytes=0-{self.has - 1}"} if self.has else {})
        self.parts += 1
        self.clock.now += self.part_s
        if self.kept and self.has + self.kept >= NINE_MIB:
            return _stored(bytes(NINE_MIB))
        self.has += self.kept
        return self.answer()


NINE_MIB = 9 << 20  # more than one request takes


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def _uploads(pool: ThreadPoolExecutor, send: Callable[..., Answer], memory: int = 1 << 20, **clocks) -> GcsUploads:
    return GcsUploads(send, "http://host", "bucket", pool, Budget(memory), **clocks)


def test_waits_grow_while_the_server_says_that_it_is_busy(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    waits: list[float] = []
    answers = iter([Told(status) for status in (429, 500, 503, 429, 504, 502)] + [_stored(b"content")])
    uploads = _uploads(pool, lambda *_: next(answers), sleep=waits.append)
    (uploaded,) = uploads.upload([(tmp_path / "file", "file")])
    assert uploaded.size == 7
    assert [0.25 * 2**number / 2 <= wait_s <= 0.25 * 2**number for number, wait_s in enumerate(waits)] == [True] * 6


def _reset() -> Told:
    raise ConnectionResetError("connection reset by peer")


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (lambda: Told(503, b'{"error": {"message": "busy"}}'), "503 busy"),
        (_reset, "connection reset by peer"),
        (lambda: Told(308), "the server keeps nothing of what it is sent"),
    ],
    ids=["turned away", "reset", "nothing kept"],
)
def test_an_upload_of_which_no_part_arrives_ends_though_the_server_answers_how_far_it_is(
    pool: ThreadPoolExecutor, tmp_path: Path, answer: Callable[[], Told], trouble: str
) -> None:
    (tmp_path / "file").write_bytes(bytes(NINE_MIB))
    clock = Clock()
    server = InParts(answer, clock)
    uploads = _uploads(pool, server, memory=NINE_MIB * 2, sleep=clock.sleep, clock=clock)
    with pytest.raises(StoreError, match=rf"gs://bucket/file could not be uploaded in 300 s \({trouble}\); mat"):
        uploads.upload([(tmp_path / "file", "file")])
    assert gcs_uploads.GIVE_UP_AFTER_S < clock.now <= gcs_uploads.GIVE_UP_AFTER_S + gcs_uploads.LONGEST_WAIT_S
    # Seven waits until the longest one, and then one in 16 to 32 s; a question follows every part but the last.
    assert server.questions == len(clock.waits) == server.parts - 1 < 30


def test_an_upload_that_slowly_goes_on_is_not_given_up_and_never_waits_long(
    pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(NINE_MIB))
    clock = Clock()
    server = InParts(lambda: Told(503), clock, kept=256 << 10, part_s=20.0)
    uploads = _uploads(pool, server, memory=NINE_MIB * 2, sleep=clock.sleep, clock=clock)
    (uploaded,) = uploads.upload([(tmp_path / "file", "file")])
    assert uploaded.sha256 == hashlib.sha256(bytes(NINE_MIB)).hexdigest()
    assert server.parts == 36
    assert clock.now > 2 * gcs_uploads.GIVE_UP_AFTER_S
    assert max(clock.waits) <= gcs_uploads.FIRST_WAIT_S


def test_an_upload_that_the_server_forgets_again_and_again_ends(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(NINE_MIB))
    clock = Clock()

    def half_then_nothing() -> Told:
        server.has = 4 << 20 if server.parts % 2 else 0
        return Told(503, b"busy")

    server = InParts(half_then_nothing, clock)
    uploads = _uploads(pool, server, memory=NINE_MIB * 2, sleep=clock.sleep, clock=clock)
    with pytest.raises(StoreError, match=r"could not be uploaded in 300 s \(503 busy\)"):
        uploads.upload([(tmp_path / "file", "file")])


def test_what_all_threads_hold_of_files_stays_within_the_budget(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    lock, held, most = threading.Lock(), 0, 0
    for number in range(24):
        (tmp_path / f"{number}").write_bytes(b"x" * 200_000)

    def send(method: str, url: str, body: Sequence[bytes], headers: Mapping[str, str]) -> Told:
        nonlocal held, most
        with lock:
            held += sum(map(len, body))
            most = max(most, held)
        time.sleep(0.01)
        with lock:
            held -= sum(map(len, body))
        return _stored(b"x" * 200_000)

    uploads = _uploads(pool, send, memory=1_000_000)
    assert len(uploads.upload([(tmp_path / f"{number}", f"{number}") for number in range(24)])) == 24
    # Two of them at a time, of eight threads, since a body is a second copy of its file.
    assert 200_000 < most < 410_000


def test_an_upload_that_the_server_stored_differently_is_never_taken_for_good(
    pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(StoreError, match="gs://bucket/file could not be uploaded in 3 tries: 7 bytes"):
        _uploads(pool, lambda *_: _stored(b"CONTENT")).upload([(tmp_path / "file", "file")])


def test_an_answer_that_nobody_can_read_is_no_success(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    answers = iter([Told(200, b'{"size": "7", "crc'), Told(200, b"[]"), _stored(b"content")])
    (uploaded,) = _uploads(pool, lambda *_: next(answers)).upload([(tmp_path / "file", "file")])
    assert uploaded.size == 7


def test_after_a_failure_files_that_have_not_begun_never_do(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    asked: list[str] = []

    def send(method: str, url: str, body: Sequence[bytes], headers: Mapping[str, str]) -> Told:
        asked.append(url)
        time.sleep(0.02)
        return Told(403, b'{"error": {"message": "no"}}')

    with pytest.raises(StoreError, match="may not be written: 403 no"):
        _uploads(pool, send).upload([(tmp_path / "file", f"{number}") for number in range(100)])
    assert len(asked) < 50


def test_of_a_file_in_parts_the_server_is_told_the_checksum_of_all_bytes_wherever_a_part_was_cut(
    pool: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_uploads, "_ONE_REQUEST_BYTES", 100)
    monkeypatch.setattr(gcs_uploads, "_PART_BYTES", 300)
    content = bytes(range(250)) * 4
    (tmp_path / "file").write_bytes(content)
    received, hashes = bytearray(), []

    def send(method: str, url: str, body: Sequence[bytes], headers: Mapping[str, str]) -> Told:
        if method == "POST":
            return Told(200, headers={"Location": "http://host/session"})
        first, last = headers["Content-Range"].removeprefix("bytes ").partition("/")[0].split("-")
        part = b"".join(body)
        assert part == content[int(first) : int(last) + 1]
        # The server keeps two thirds of every part.
        received[int(first) :] = part if len(part) < 20 else part[: len(part) * 2 // 3]
        if "X-Goog-Hash" in headers:
            hashes.append(headers["X-Goog-Hash"])
        if len(received) < len(content):
            return Told(308, headers={"Range": f"bytes=0-{len(received) - 1}"})
        return _stored(bytes(received))

    (uploaded,) = _uploads(pool, send).upload([(tmp_path / "file", "file")])
    assert bytes(received) == content
    assert uploaded.sha256 == hashlib.sha256(content).hexdigest()
    crc32c = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
    assert set(hashes) == {f"crc32c={crc32c}"}
