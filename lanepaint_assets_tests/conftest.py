"""Fixtures that more than one suite needs."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lanepaint_assets.store.artifacts import ArtifactStore
    from lanepaint_assets_tests.gcs_server import GcsServer

# TensorBoard and mlcroissant log through absl, whose handler takes the standard error that it meets at its import. Here
# that would be a stream of pytest's, and the handler closes it as soon as somebody configures logging.
with suppress(ImportError):
    from absl import logging as absl_logging

    absl_logging.get_absl_handler().python_handler.setStream(sys.__stderr__)

# A suite that a script starts in its background ignores SIGINT. After each run Dagster gives SIGTERM what SIGINT has;
# the servers that tests start would inherit that, and none of them could be told to end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips and pictures; its licences forbid committing it, so it may be absent."""
    folder = Path(os.environ.get("LANEPAINT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}; set LANEPAINT_TEST_DATA to a folder that has them")
    return folder


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Settings of the shell that runs the tests do not reach them, and what a test sets ends with it."""
    before = dict(os.environ)
    for name in before:
        if (name.startswith("LANEPAINT_") and name != "LANEPAINT_TEST_DATA") or name == "DAGSTER_HOME":
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def tiny_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample drive of one chunk with two clips, front camera only, small enough to run the whole graph in seconds."""
    from lanepaint_assets.clips.sample_drive import write_sample_drive

    folder = tmp_path_factory.mktemp("tiny_drive") / "drive"
    # The driver's moment needs 1.6 s before and 6.4 s after it.
    write_sample_drive(
        folder, seed=3, chunks=1, clips_per_chunk=2, seconds=9.0, width=192, height=108, fps=10, other_cameras=False
    )
    return folder


@pytest.fixture
def torch_on_one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from threads, and lose seconds where other programs hold the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    """A bucket over HTTP that enforces preconditions and checksums; shared, so every test has a prefix of its own."""
    from lanepaint_assets_tests.gcs_server import running_gcs_server

    with running_gcs_server("lane-bucket") as server:
        yield server


@pytest.fixture
def gcs_folder(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty gs:// address on that server, for settings and for client libraries alike."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    return f"gs://{gcs_server.bucket.name}/{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "memory", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A store of each kind: a local folder, memory, and a bucket."""
    from lanepaint_assets.store.artifacts import ArtifactStore

    if request.param == "local":
        return ArtifactStore(str(tmp_path / "store"))
    if request.param == "memory":
        return ArtifactStore(f"memory://{uuid.uuid4().hex}")
    return ArtifactStore(request.getfixturevalue("gcs_folder"))
