"""The listing of a checkpoint and its digest: it changes with the files, and with nothing else."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fsspec import AbstractFileSystem
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from lanepaint_assets.checkpoints.digest import CONTENT_BELOW_BYTES, CheckpointFile, list_checkpoint
from lanepaint_assets.store.observed import ABSENT
from lanepaint_assets_tests.unit.checkpoints.conftest import age

SECOND = 1_700_000_000
GIB = 1 << 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "sam2"
    (made / "configs").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"\0" * (CONTENT_BELOW_BYTES + 1))
    (made / "configs" / "model.yaml").write_text("layers: 4")
    age(made, SECOND)
    return made


def version(folder: Path, file: str | None = None) -> str:
    return list_checkpoint(UPath(folder), file).version


def test_a_missing_or_empty_folder_is_absent(tmp_path: Path) -> None:
    assert version(tmp_path / "none") == ABSENT
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    listing = list_checkpoint(UPath(tmp_path / "empty"))
    assert (listing.version, listing.files, listing.size, listing.touched) == (ABSENT, (), 0, None)


def test_the_same_files_have_the_same_digest_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    listing = list_checkpoint(UPath(folder))
    assert [file.name for file in listing.files] == ["configs/model.yaml", "model.safetensors"]
    assert listing.size == CONTENT_BELOW_BYTES + 1 + len("layers: 4")
    assert version(folder) == listing.version
    elsewhere = tmp_path / "moved" / "to"
    shutil.copytree(folder, elsewhere)  # keeps times
    assert version(elsewhere) == listing.version


def test_a_small_file_rewritten_within_the_same_second_changes_the_digest(folder: Path) -> None:
    before = version(folder)
    config = folder / "configs" / "model.yaml"
    config.write_text("layers: 5")
    os.utime(config, (SECOND, SECOND))
    assert version(folder) != before


def test_a_new_time_of_a_large_file_changes_the_digest(folder: Path) -> None:
    before = version(folder)
    os.utime(folder / "model.safetensors", (SECOND + 60, SECOND + 60))
    assert version(folder) != before
    os.utime(folder / "model.safetensors", (SECOND, SECOND))
    assert version(folder) == before


def test_a_renamed_file_changes_the_digest(folder: Path) -> None:
    before = version(folder)
    (folder / "model.safetensors").rename(folder / "model_2.safetensors")
    assert version(folder) != before


def test_files_of_tools_are_no_part_of_a_checkpoint(folder: Path) -> None:
    before = version(folder)
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "model.safetensors.metadata").write_text("etag")
    (folder / ".gitattributes").write_text("lfs")
    listing = list_checkpoint(UPath(folder))
    assert listing.version == before
    assert not listing.unfinished


def test_a_link_to_a_folder_on_another_disk_is_followed_once(folder: Path, tmp_path: Path) -> None:
    plain = version(folder)
    shutil.move(folder / "configs", tmp_path / "other_disk")
    (folder / "configs").symlink_to(tmp_path / "other_disk")
    assert version(folder) == plain
    (folder / "configs" / "round").symlink_to(folder)
    assert [file.name for file in list_checkpoint(UPath(folder)).files] == ["configs/model.yaml", "model.safetensors"]


def test_a_checkpoint_of_one_file_is_not_concerned_by_its_neighbours(folder: Path) -> None:
    before = list_checkpoint(UPath(folder), "model.safetensors")
    (folder / "larger.safetensors").write_bytes(b"1")
    (folder / "larger.safetensors.part").write_bytes(b"1")
    after = list_checkpoint(UPath(folder), "model.safetensors")
    assert (after.version, after.mark) == (before.version, before.mark)
    assert version(folder, "none.safetensors") == ABSENT
    (folder / "model.safetensors.part").write_bytes(b"1")
    uploading = list_checkpoint(UPath(folder), "model.safetensors")
    assert uploading.version == before.version
    assert uploading.mark != before.mark
    assert uploading.unfinished == ("model.safetensors.part",)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors.part",
        "model.safetensors.tmp",
        "transformer/model.safetensors.crdownload",
        ".cache/huggingface/download/0a1b.2c3d.incomplete",
        "model.safetensors_.gstmp",
        "vae/.diffusion_pytorch_model.safetensors.Xk29aQ",
        "model.safetensors.aria2",
    ],
)
def test_what_copying_tools_have_not_finished_is_recognized(name: str) -> None:
    assert CheckpointFile(name, 1, "", datetime.now(UTC)).is_unfinished


@given(st.from_regex(r"[a-z0-9_]{1,12}(-0000[1-9]-of-0000[1-9])?\.(safetensors|json|txt|model|pt|bin)", fullmatch=True))
def test_names_of_finished_files_are_not_taken_for_unfinished_ones(name: str) -> None:
    for whole in (name, f"transformer/{name}", f".cache/{name}", f"{name}.index.json"):
        assert not CheckpointFile(whole, 1, "", datetime.now(UTC)).is_unfinished


def test_an_untouched_checkpoint_keeps_its_mark_and_a_touch_changes_it(folder: Path) -> None:
    listing = list_checkpoint(UPath(folder))
    assert list_checkpoint(UPath(folder)).mark == listing.mark
    time.sleep(0.02)
    (folder / "new").write_text("")
    (folder / "new").unlink()
    touched = list_checkpoint(UPath(folder))
    assert touched.version == listing.version
    assert touched.mark != listing.mark


def test_the_time_of_a_copy_is_told_though_the_copy_keeps_older_times(folder: Path) -> None:
    listing = list_checkpoint(UPath(folder))
    assert listing.touched is not None
    assert abs((datetime.now(UTC) - listing.touched).total_seconds()) < 60


def test_sixty_gigabytes_are_observed_in_milliseconds(tmp_path: Path) -> None:
    for number in range(20):
        with (tmp_path / f"model-{number}.safetensors").open("wb") as file:
            file.truncate(3 * GIB)
    for number in range(20):
        (tmp_path / f"config_{number}.json").write_text("{}" * 2000)
    started = time.perf_counter()
    listing = list_checkpoint(UPath(tmp_path))
    assert time.perf_counter() - started < 1.0  # 4 ms; hashing the content would take a minute
    assert listing.size > 60 * GIB


class FakeBucket(AbstractFileSystem):
    """Lists as gcsfs does, with what GCS says of its objects, and forbids to read them."""

    listings = 0

    def find(self, path: str, **options: Any) -> dict[str, dict[str, Any]]:
        type(self).listings += 1
        return {
            "bucket/sam2/model.safetensors": self.entry("1700", "AAAA=="),
            "bucket/sam2/config.json": self.entry("1701", "BBBB=="),
        }

    def entry(self, generation: str, crc: str) -> dict[str, Any]:
        return {
            "size": 10,
            "type": "file",
            "generation": generation,
            "crc32c": crc,
            "mtime": datetime(2026, 1, 2, tzinfo=UTC),
        }

    def cat_file(self, *_: Any, **__: Any) -> bytes:
        raise AssertionError("an observation downloads nothing")

    open = cat_file


class FakeFolder:
    """As much of a UPath as a listing asks for."""

    protocol, path = "gs", "bucket/sam2"

    def __init__(self, fs: AbstractFileSystem) -> None:
        self.fs = fs


def test_a_bucket_is_listed_once_and_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = FakeBucket(skip_instance_cache=True)
    place: Any = FakeFolder(bucket)
    before = FakeBucket.listings
    listing = list_checkpoint(place)
    assert FakeBucket.listings == before + 1
    assert [file.name for file in listing.files] == ["config.json", "model.safetensors"]
    assert listing.touched == datetime(2026, 1, 2, tzinfo=UTC)
    for generation, crc in (("1702", "AAAA=="), ("1700", "CCCC==")):
        monkeypatch.setattr(
            bucket, "find", lambda *_, g=generation, c=crc, **__: {"bucket/sam2/model.safetensors": bucket.entry(g, c)}
        )
        changed = list_checkpoint(place).version
        assert changed != listing.version
        monkeypatch.undo()


def test_a_checkpoint_in_memory_is_observed_too() -> None:
    folder = UPath(f"memory://{uuid.uuid4().hex}/sam2")
    assert list_checkpoint(folder).version == ABSENT
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text("layers: 4")
    listing = list_checkpoint(folder)
    assert len(listing.files) == 1
    assert listing.version != ABSENT
    assert listing.touched is not None
