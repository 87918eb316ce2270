"""The VideoPainter folder, as it is written and as it is checked on import."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from lanepaint_assets.segmentation.vp_folder import (
    VideoPainterFolderError,
    read_vp_folder,
    read_vp_masks,
    video_painter_id,
    write_vp_folder,
)


def write(folder: Path, caption: str = "road, seen from a car", rate_hz: float = 8.0) -> np.ndarray:
    frames = np.full((5, 32, 48, 3), 120, dtype=np.uint8)
    paint = np.zeros((5, 32, 48), dtype=np.bool_)
    paint[:, 16:] = True
    write_vp_folder(folder, "clip_a", frames, paint, rate_hz, caption)
    return paint


def test_the_folder_holds_exactly_the_files_that_videopainter_reads(tmp_path: Path) -> None:
    paint = write(tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["masks/clip_a/all_masks.npz", "meta.csv", "raw_videos/clip_a/clip_a.0.mp4"]
    assert (tmp_path / "meta.csv").read_text() == (
        'path,start_frame,end_frame,fps,mask_id,caption\nclip_a.0.mp4,0,5,8,1,"road, seen from a car"\n'
    )
    with np.load(tmp_path / "masks/clip_a/all_masks.npz") as archive:
        assert archive.files == ["arr_0"]
        assert archive["arr_0"].shape == (5, 32, 48)
        assert archive["arr_0"].dtype == np.uint8
        assert np.array_equal(archive["arr_0"] == 1, paint)
        assert set(np.unique(archive["arr_0"])) == {0, 1}
    with av.open(str(tmp_path / "raw_videos/clip_a/clip_a.0.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == 8.0
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    paint = write(tmp_path, rate_hz=7.5, caption="two\nlines")
    (item,) = read_vp_folder(tmp_path)
    assert (item.video_id, item.start_frame, item.end_frame, item.mask_id) == ("clip_a", 0, 5, 1)
    assert item.rate_hz == 7.5
    assert item.caption == "two lines"
    assert item.shape == (5, 32, 48)
    assert np.array_equal(item.paint_masks(), paint)
    assert np.array_equal(read_vp_masks(item.masks), paint)


def test_ids_of_videopainter_hold_no_dot() -> None:
    assert video_painter_id("clip_1.camera_front") == "clip_1__camera_front"


def test_ids_that_are_no_folder_names_and_mixed_clips_are_refused(tmp_path: Path) -> None:
    frames, paint = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.bool_)
    for bad in ("", "../up", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="cannot name a folder"):
            write_vp_folder(tmp_path, bad, frames, paint, 8, "")
    with pytest.raises(ValueError, match="do not belong"):
        write_vp_folder(tmp_path, "a", frames, paint[:1], 8, "")
    assert not (tmp_path / "meta.csv").exists()


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(VideoPainterFolderError) as caught:
        read_vp_folder(folder)
    for word in words:
        assert word in str(caught.value)


def meta(folder: Path, text: str) -> None:
    (folder / "meta.csv").write_text(text)


HEADER = "path,start_frame,end_frame,fps,mask_id,caption\n"


def test_a_wrong_meta_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    refused(tmp_path, "meta.csv", "no such file")
    write(tmp_path)
    meta(tmp_path, "")
    refused(tmp_path, "columns are missing")
    meta(tmp_path, "path,fps\n")
    refused(tmp_path, "columns are path,fps", "path,start_frame")
    meta(tmp_path, HEADER)
    refused(tmp_path, "lists no video")
    meta(tmp_path, HEADER + "clip_a.0.mp4,0,5,8,1,a caption, unquoted\n")
    refused(tmp_path, "line 2", "7 fields", "quote")
    meta(tmp_path, HEADER + "clip_a.mp4,0,5,8,1,x\n")
    refused(tmp_path, "clip_a.mp4", "rename")
    meta(tmp_path, HEADER + "../up.0.mp4,0,5,8,1,x\n")
    refused(tmp_path, "rename")
    meta(tmp_path, HEADER + "clip_b.0.mp4,0,5,8,1,x\n")
    refused(tmp_path, "clip_b.0.mp4", "no such file")
    meta(tmp_path, HEADER + "clip_a.0.mp4,zero,5,8,1,x\n")
    refused(tmp_path, "zero", "whole numbers")
    meta(tmp_path, HEADER + "clip_a.0.mp4,0,9,8,1,x\n")
    refused(tmp_path, "has 5")
    meta(tmp_path, HEADER + "clip_a.0.mp4,0,5,0,1,x\n")
    refused(tmp_path, "fps is 0")
    meta(tmp_path, HEADER + "clip_a.0.mp4,0,5,8,7,x\n")
    refused(tmp_path, "mask_id 7", "[0, 1]")


def test_wrong_mask_archives_are_refused_with_their_reason(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "masks/clip_a/all_masks.npz"
    path.write_bytes(b"nothing")
    refused(tmp_path, "all_masks.npz", "arr_0")
    np.savez(path, other=np.zeros((5, 4, 4), np.uint8))
    refused(tmp_path, "arr_0")
    np.savez(path, np.zeros((5, 4), np.uint8))
    refused(tmp_path, "shape (5, 4)")
    np.savez(path, np.zeros((5, 4, 4), np.float32))
    refused(tmp_path, "float32")
