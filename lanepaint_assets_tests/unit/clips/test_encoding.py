from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from lanepaint_assets.clips.decoding import upright_rgb
from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets_tests.unit.clips.videos import numbered_picture, numbers_of


def read_all(path: Path) -> NDArray[np.uint8]:
    converter = VideoReformatter()
    with av.open(str(path)) as container:
        return np.stack([upright_rgb(frame, converter) for frame in container.decode(video=0)])


def numbered(count: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    return np.stack([numbered_picture(number, width, height) for number in range(count)])


def colour_chart() -> NDArray[np.uint8]:
    levels = np.array([0, 64, 128, 192, 255], dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(5, 25, 3)
    return colours.repeat(16, axis=0).repeat(16, axis=1)


def test_frames_come_back_in_order_at_the_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(21), 8.0)
    assert numbers_of(read_all(tmp_path / "a.mp4")) == list(range(21))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.frames) == (8, 21)
        times = sorted(float(packet.pts * stream.time_base) for packet in container.demux(stream) if packet.size)
    assert np.allclose(times, np.arange(21) / 8)


def test_colours_survive_the_way_through_bt709_limited(tmp_path: Path) -> None:
    chart = colour_chart()
    write_video(tmp_path / "a.mp4", [chart] * 3, 8.0, crf=1)
    seen = read_all(tmp_path / "a.mp4")[1]
    # Centres of the patches: the edges between them lose chroma to 4:2:0.
    error = np.abs(seen[8::16, 8::16].astype(int) - chart[8::16, 8::16].astype(int))
    assert error.max() <= 3
    with av.open(str(tmp_path / "a.mp4")) as container:
        luma = next(container.decode(video=0)).to_ndarray()[: chart.shape[0]]
    red, green, blue = (chart[8::16, 8::16, i].astype(float) for i in range(3))
    expected = 16 + 219 / 255 * (0.2126 * red + 0.7152 * green + 0.0722 * blue)
    assert np.abs(luma[8::16, 8::16] - expected).max() <= 2


def test_the_stream_says_what_it_is(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(9), 8.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        tags = (stream.colorspace, stream.color_range, stream.color_primaries, stream.color_trc)
        assert tuple(int(tag) for tag in tags) == (1, 1, 1, 1)


def test_the_index_stands_before_the_pictures(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(9), 8.0)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_player_can_jump_every_two_seconds(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(40), 8.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        keys = sorted(float(packet.pts * stream.time_base) for packet in container.demux(stream) if packet.is_keyframe)
    assert keys[0] == 0
    assert max(np.diff([*keys, 5.0])) <= 2.0


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 49), (65, 49)])
def test_odd_sides_grow_by_a_copy_of_the_edge(tmp_path: Path, width: int, height: int) -> None:
    frames = numbered(5, width, height)
    frames[:, -1], frames[:, :, -1] = (200, 120, 40), (200, 120, 40)
    write_video(tmp_path / "a.mp4", frames, 8.0, crf=1)
    seen = read_all(tmp_path / "a.mp4")
    assert seen.shape == (5, height + height % 2, width + width % 2, 3)
    if width % 2:
        assert np.abs(seen[:, 4:-4, -1].astype(int) - (200, 120, 40)).max() <= 6
    if height % 2:
        assert np.abs(seen[:, -1, 4:-4].astype(int) - (200, 120, 40)).max() <= 6


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 255, (12, 120, 160, 3), dtype=np.uint8)
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, iter(frames), 10.0)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_moving_scene_gives_the_same_bytes_however_busy_the_machine_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = np.cumsum(np.cumsum(rng.normal(size=(160, 260, 3)), axis=0), axis=1)
    scene = ((scene - scene.min()) / np.ptp(scene) * 255).astype(np.uint8)
    noise = rng.integers(0, 12, (18, 108, 192, 3), dtype=np.uint8)
    frames = np.stack([scene[2 * i : 2 * i + 108, 3 * i : 3 * i + 192] for i in range(18)]) // 2 + noise

    def encoded(number: int) -> bytes:
        write_video(tmp_path / f"{number}.mp4", frames, 8.0)
        return (tmp_path / f"{number}.mp4").read_bytes()

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(encoded, range(60)))) == 1


def test_a_television_rate_is_kept_exactly(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(5), 30000 / 1001)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate.as_integer_ratio() == (30000, 1001)


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    def failing() -> Iterator[NDArray[np.uint8]]:
        yield from numbered(3)
        raise RuntimeError("the painter failed")

    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="painter"):
        write_video(tmp_path / "a.mp4", failing(), 8.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("frames", "rate", "why"),
    [
        ([], 8.0, "at least one frame"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], 8.0, "frame 1 is 6x4, not 4x4"),
        ([np.zeros((4, 4), np.uint8)], 8.0, "not uint8"),
        ([np.zeros((4, 4, 3), np.float32)], 8.0, "not uint8"),
        ([np.zeros((4, 4, 3), np.uint8)], 0.0, "rate above 0"),
    ],
)
def test_what_cannot_be_encoded_is_refused(
    tmp_path: Path, frames: list[NDArray[np.uint8]], rate: float, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        write_video(tmp_path / "a.mp4", frames, rate)
    assert not list(tmp_path.iterdir())
