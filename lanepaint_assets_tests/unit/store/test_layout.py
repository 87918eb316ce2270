"""Folder names, and which keys may enter a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.store import layout

FINGERPRINT = "0" * 64


@pytest.mark.parametrize(
    ("asset", "folder"),
    [
        ("road_masks", "outputs/sam2/chunk_0001/road_masks.manifest.json"),
        ("vp_inputs", "outputs/preprocessed_data_vp/chunk_0001/vp_inputs.manifest.json"),
        ("edited_videos", "outputs/vp/chunk_0001/edited_videos.manifest.json"),
        ("trajectory_reports", "outputs/alpamayo/chunk_0001/trajectory_reports.manifest.json"),
        ("lane_loras", "outputs/training/chunk_0001/lane_loras.manifest.json"),
    ],
)
def test_manifests_lie_in_the_folders_of_the_spec(asset: str, folder: str) -> None:
    assert layout.manifest_path(asset, "chunk_0001") == folder


def test_an_unknown_asset_is_named() -> None:
    with pytest.raises(ValueError, match="'road_mask' has no folder"):
        layout.manifest_path("road_mask", "chunk_0001")


@pytest.mark.parametrize(
    "key", ["", "../up", "a/..", "a/../b", "/a", "a/", "a//b", "a/b/c", ".hidden", "a\\b", "a b", "a\n"]
)
def test_an_item_key_that_could_leave_or_hide_in_its_folder_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="item key"):
        layout.item_folder("road_masks", "chunk_0001", key, FINGERPRINT)


@pytest.mark.parametrize("key", ["", "Chunk", "../x", "a/b", "_a", "a\n", "a.json"])
def test_a_chunk_key_outside_the_pattern_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="chunk key"):
        layout.chunk_path(key)


@given(st.text(max_size=12))
def test_every_accepted_item_key_stays_two_levels_below_its_asset(key: str) -> None:
    try:
        folder = layout.item_folder("road_masks", "c", key, FINGERPRINT)
    except ValueError:
        return
    parts = folder.removeprefix("outputs/sam2/c/road_masks/").split("/")
    assert len(parts) in (2, 3)
    assert not any(part.startswith(".") or part == "" for part in parts)


@pytest.mark.parametrize("fingerprint", ["", "0" * 63, "G" * 64, "../" + "0" * 61])
def test_a_fingerprint_that_is_no_digest_is_refused(fingerprint: str) -> None:
    with pytest.raises(ValueError, match="64"):
        layout.item_folder("road_masks", "chunk_0001", "clip.front", fingerprint)
