"""The files of one segmented clip."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanepaint_assets.clips.pictures import read_picture
from lanepaint_assets.segmentation.outputs import (
    MASKS_FILE,
    MASKS_MAGIC,
    MasksFileError,
    SegmentationStatistics,
    VideoMasks,
    draw_masks,
    mask_statistics,
    read_masks,
    write_masks,
    write_segmentation,
)
from lanepaint_assets.segmentation.plausibility import Plausibility


def clip(count: int = 4, height: int = 48, width: int = 64) -> tuple[np.ndarray, VideoMasks]:
    frames = np.full((count, height, width, 3), 90, dtype=np.uint8)
    road = np.zeros((count, height, width), dtype=np.bool_)
    road[:, 24:, 8:56] = True
    paint = road.copy()
    paint[:, 30:36, 20:30] = False
    return frames, VideoMasks(road, paint)


def test_every_file_is_written_and_holds_the_paint_mask(tmp_path: Path) -> None:
    frames, masks = clip()
    write_segmentation(tmp_path, frames, masks, 8.0, {"segment": 1.5})

    pictures = sorted((tmp_path / "masks").iterdir())
    assert [path.name for path in pictures] == ["00000.png", "00001.png", "00002.png", "00003.png"]
    for path, paint in zip(pictures, masks.paint, strict=True):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert picture.dtype == np.uint8
        assert np.array_equal(picture, paint * 255)

    with np.load(tmp_path / "all_masks.npz") as archive:
        assert archive.files == ["arr_0"]
        assert archive["arr_0"].dtype == np.uint8
        assert np.array_equal(archive["arr_0"], masks.paint)

    read = read_masks(tmp_path / MASKS_FILE)
    assert np.array_equal(read.road, masks.road)
    assert np.array_equal(read.paint, masks.paint)

    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4
    assert read_picture((tmp_path / "preview.png").read_bytes()).shape == (48, 192, 3)


def test_the_metadata_line_holds_statistics_and_timings(tmp_path: Path) -> None:
    frames, masks = clip()
    statistics = write_segmentation(tmp_path, frames, masks, 8.0, {"segment": 1.5, "clean_up": 0.25})
    with (tmp_path / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1
    assert list(rows[0]) == [*(field.name for field in fields(SegmentationStatistics)), "segment_s", "clean_up_s"]
    for name, value in asdict(statistics).items():
        assert rows[0][name] == str(value)
    assert float(rows[0]["segment_s"]) == 1.5


def test_statistics_count_shares_objects_empty_frames_and_flicker() -> None:
    _, masks = clip()
    road, paint = masks.road.copy(), masks.paint.copy()
    road[3] = paint[3] = False
    statistics = mask_statistics(VideoMasks(road, paint), 8.0, Plausibility(0.75, ""))
    share = 24 * 48 / (48 * 64)
    assert statistics.road_share_max == pytest.approx(share)
    assert statistics.road_share_mean == pytest.approx(share * 3 / 4)
    assert statistics.road_share_min == 0
    assert statistics.empty_frames == 1
    assert statistics.object_holes == 3
    assert statistics.temporal_iou_mean == pytest.approx(2 / 3)
    assert statistics.temporal_iou_min == 0
    assert statistics.confidence == 0.75


def test_the_overlay_tints_paint_and_leaves_objects_and_surroundings_as_they_are() -> None:
    frames, _ = clip(1, 200, 200)
    road = np.zeros((200, 200), dtype=np.bool_)
    road[100:, 20:180] = True
    paint = road.copy()
    paint[120:160, 60:120] = False
    drawn = draw_masks(frames[0], road, paint)
    assert drawn[180, 100, 1] > drawn[180, 100, 0] + 20
    assert drawn[140, 90].tolist() == [90, 90, 90]
    assert drawn[50, 100].tolist() == [90, 90, 90]
    assert frames[0, 180, 100].tolist() == [90, 90, 90]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.integers(0, 13), st.integers(0, 140), st.integers(0, 99))
def test_masks_of_any_size_survive_packing(
    tmp_path_factory: pytest.TempPathFactory, frames: int, height: int, width: int, seed: int
) -> None:
    road = np.random.default_rng(seed).random((frames, height, width)) > 0.4
    paint = road & (np.random.default_rng(seed + 1).random(road.shape) > 0.4)
    path = tmp_path_factory.mktemp("masks") / MASKS_FILE
    write_masks(path, VideoMasks(road, paint))
    read = read_masks(path)
    assert np.array_equal(read.road, road)
    assert np.array_equal(read.paint, paint)


def test_the_file_of_masks_says_what_it_is_and_takes_few_bytes(tmp_path: Path) -> None:
    _, masks = clip(20, 270, 480)
    write_masks(tmp_path / MASKS_FILE, masks)
    data = (tmp_path / MASKS_FILE).read_bytes()
    lines = data.split(b"\n")
    assert lines[0] == b"lanepaint masks 1"
    assert lines[1] == b'{"shape":[20,270,480],"planes":["road","unpainted"]}'
    assert len(data) < masks.road.size / 500


def refused(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(MasksFileError, match=rf"masks\.lpm.*{reason}.*materialize road_masks again"):
        read_masks(path)


def test_unreadable_masks_are_refused_with_file_reason_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / MASKS_FILE
    with pytest.raises(MasksFileError, match="not readable"):
        read_masks(path)
    for foreign in (b"", b"no masks", b"PK\x03\x04 an archive", MASKS_MAGIC[:-1]):
        refused(path, foreign, "begins with")
    _, masks = clip()
    write_masks(path, masks)
    good = path.read_bytes()
    head, frame = good[: good.index(b"}") + 2], good[good.index(b"}") + 2 :]
    for length in range(len(MASKS_MAGIC), len(good)):
        refused(path, good[:length], "truncated or damaged")
    refused(path, good + b"x", "truncated or damaged")
    for shape in ("[4,48,65]", "[4,47,64]", "[5,48,64]", "[0,0,0]"):
        refused(path, head.replace(b"[4,48,64]", shape.encode()) + frame, "contradict its shape")
    for shape in ("[4,48]", "[4,48,-64]", "[4,48,1.5]", "null"):
        refused(path, head.replace(b"[4,48,64]", shape.encode()) + frame, "damaged")
    refused(path, head.replace(b"unpainted", b"vehicles") + frame, "damaged")


def test_a_damaged_file_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / MASKS_FILE
    _, masks = clip()
    write_masks(path, masks)
    good = path.read_bytes()
    refusals = 0
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            read = read_masks(path)
        except MasksFileError:
            refusals += 1
        else:
            # A bit of the compressed form that means nothing.
            assert np.array_equal(read.road, masks.road)
            assert np.array_equal(read.paint, masks.paint)
    assert refusals > 0.95 * len(good)


def test_frames_and_masks_of_different_clips_are_refused(tmp_path: Path) -> None:
    frames, masks = clip()
    with pytest.raises(ValueError, match="do not belong"):
        write_segmentation(tmp_path, frames[:2], masks, 8.0)
    with pytest.raises(ValueError, match="one shape"):
        VideoMasks(masks.road, masks.paint[:2])
