"""`all_masks.npz`: written by hand, read by everybody's tools."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.segmentation.npz_masks import PART_FRAMES, write_npz_masks


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3 * PART_FRAMES), st.integers(0, 30), st.integers(0, 70), st.integers(0, 99))
def test_numpy_and_zip_tools_read_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, frames: int, height: int, width: int, seed: int
) -> None:
    masks = np.random.default_rng(seed).random((frames, height, width)) < 0.2
    path = tmp_path_factory.mktemp("npz") / "all_masks.npz"
    write_npz_masks(path, masks)
    with np.load(path, allow_pickle=False) as archive:
        assert archive.files == ["arr_0"]
        assert archive["arr_0"].dtype == np.uint8
        assert np.array_equal(archive["arr_0"], masks)
        assert archive["arr_0"].shape == masks.shape
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        (member,) = archive.infolist()
        assert (member.filename, member.compress_type) == ("arr_0.npy", zipfile.ZIP_DEFLATED)


def test_the_bytes_inside_are_those_of_numpys_own_archive(tmp_path: Path) -> None:
    masks = np.random.default_rng(1).random((20, 40, 50)) < 0.01
    write_npz_masks(tmp_path / "ours.npz", masks)
    np.savez_compressed(tmp_path / "theirs.npz", masks.astype(np.uint8))
    ours, theirs = ((zipfile.ZipFile(tmp_path / name)) for name in ("ours.npz", "theirs.npz"))
    with ours, theirs:
        assert ours.read("arr_0.npy") == theirs.read("arr_0.npy")


def test_masks_may_bear_another_number_and_lie_in_memory_as_they_like(tmp_path: Path) -> None:
    masks = (np.random.default_rng(2).random((40, 30, 9)) < 0.5).transpose(2, 0, 1)[::2, ::-1]
    write_npz_masks(tmp_path / "all_masks.npz", masks, mask_id=200)
    with np.load(tmp_path / "all_masks.npz") as archive:
        assert np.array_equal(archive["arr_0"], masks * np.uint8(200))


def test_the_same_masks_give_the_same_file(tmp_path: Path) -> None:
    masks = np.random.default_rng(3).random((30, 40, 50)) < 0.1
    for name in ("one", "two"):
        write_npz_masks(tmp_path / name, masks)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
