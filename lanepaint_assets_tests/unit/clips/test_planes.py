"""A video's planes: views into pictures, colours, and files that are none."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.clips.decoding import read_all_frames
from lanepaint_assets.clips.encoding import write_pictures, write_video
from lanepaint_assets.clips.planes import Planes, decoded_planes, frame_count, new_frame, yuv_of
from lanepaint_assets.clips.video_file import InvalidClipError


def plain_frame(width: int, height: int, color: tuple[int, int, int]) -> av.VideoFrame:
    frame = new_frame(width, height)
    for plane, value in zip(Planes.of(frame).all, np.round(yuv_of(color)), strict=True):
        plane[:] = value
    return frame


@given(color=st.tuples(*[st.integers(0, 255)] * 3))
def test_colours_survive_the_way_into_planes_and_back(color: tuple[int, int, int]) -> None:
    shown = Planes.of(plain_frame(4, 4, color)).to_rgb()
    assert np.abs(shown.astype(int) - color).max() <= 3


def test_planes_agree_with_the_conversion_that_all_other_videos_use(tmp_path: Path) -> None:
    color = (200, 90, 30)
    write_video(tmp_path / "a.mp4", np.full((2, 32, 32, 3), color, dtype=np.uint8), 8.0, crf=1)
    picture = next(decoded_planes((tmp_path / "a.mp4").read_bytes()))
    for plane, value in zip(picture.all, yuv_of(color), strict=True):
        assert abs(float(plane.mean()) - value) < 1.0


def test_a_part_is_a_view_of_the_whole() -> None:
    whole = Planes.of(plain_frame(16, 8, (0, 0, 0)))
    part = whole.part(4, 2, 6, 4)
    assert part.size == (6, 4)
    part.y[:], part.u[:], part.v[:] = 200, 90, 80
    assert int((whole.y == 200).sum()) == 24
    assert int((whole.u == 90).sum()) == 6
    assert whole.y[2, 4] == 200
    assert whole.v[1, 2] == 80
    assert whole.y[6, 4] == 16


def test_written_pictures_come_back_in_order_at_their_rate(tmp_path: Path) -> None:
    path = tmp_path / "b.mp4"
    levels = [20, 80, 140, 200]
    write_pictures(
        path, (plain_frame(64, 32, (level, level, level)) for level in levels), 10.0, qp=12, preset="ultrafast"
    )
    assert [round(float(frame.mean()), -1) for frame in read_all_frames(path)] == levels
    assert frame_count(path.read_bytes()) == 4
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 10
        assert [frame.time for frame in container.decode(stream)] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = []
    for _ in range(6):
        frame = plain_frame(192, 108, (90, 90, 90))
        Planes.of(frame).y[:] = rng.integers(16, 235, (108, 192))
        noisy.append(frame)
    for name in ("one.mp4", "two.mp4"):
        write_pictures(tmp_path / name, noisy, 8.0, qp=22, preset="ultrafast")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


@pytest.mark.parametrize("content", [b"", b"no video at all" * 99])
def test_what_is_no_video_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidClipError, match="not a video"):
        frame_count(content)
    with pytest.raises(InvalidClipError):
        next(decoded_planes(content))


def test_a_video_without_pictures_or_rate_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_pictures(tmp_path / "c.mp4", [], 8.0, qp=20, preset="ultrafast")
    with pytest.raises(ValueError, match="above 0"):
        write_pictures(tmp_path / "c.mp4", [plain_frame(16, 16, (0, 0, 0))], 0.0, qp=20, preset="ultrafast")
    assert list(tmp_path.iterdir()) == []
