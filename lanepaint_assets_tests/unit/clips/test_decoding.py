from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from lanepaint_assets.clips.decoding import frames_to_decode, read_frames, read_frames_at
from lanepaint_assets.clips.probing import InvalidClipError, probe_clip
from lanepaint_assets.clips.records import ClipFacts, ClipGridName
from lanepaint_assets.clips.sources import open_source
from lanepaint_assets_tests.unit.clips.videos import (
    numbered_picture,
    numbers_of,
    write_coloured,
    write_numbered,
)

CAMERA = "camera_front_wide_120fov"


def probe(path: Path, grid: ClipGridName = "spec_8fps", limit: int = 100) -> ClipFacts:
    source = open_source(str(path), [CAMERA])
    (chunk,) = source.chunks()
    return probe_clip(source, chunk.clips[0], grid, limit)


def test_the_frames_read_are_those_of_the_grid(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 75)
    facts = probe(path)
    clip = read_frames(path, facts)
    expected = [0, 3, 7, 11, 15, 18, 22, 26, 30, 33, 37, 41, 45, 48, 52, 56, 60, 63, 67, 71]
    assert numbers_of(clip.frames) == list(facts.grid_source_index) == expected
    assert np.array_equal(clip.timestamps_us, np.arange(20) * 125_000)


def test_b_frames_come_in_the_order_in_which_they_are_shown(tmp_path: Path) -> None:
    options = {"crf": "12", "preset": "veryfast", "bf": "3", "g": "12", "x264-params": "b-adapt=0"}
    path = write_numbered(tmp_path / "a.mp4", 60, options=options)
    facts = probe(path)
    assert numbers_of(read_frames(path, facts).frames) == list(facts.grid_source_index)


def test_a_part_of_the_grid_equals_that_part_of_the_whole(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 120, options={"crf": "12", "preset": "veryfast", "g": "10", "bf": "2"})
    facts = probe(path)
    whole = read_frames(path, facts)
    for part in (slice(0, 4), slice(13, 19), slice(-3, None), slice(2, 30, 9)):
        piece = read_frames(path, facts, part)
        assert np.array_equal(piece.frames, whole.frames[part])
        assert np.array_equal(piece.grid.source_index, whole.grid.source_index[part])


def test_an_empty_part_has_no_frames_but_their_size(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 30)
    assert read_frames(path, probe(path), slice(90, 99)).frames.shape == (0, 48, 64, 3)


def test_a_variable_frame_rate_is_followed_by_time(tmp_path: Path) -> None:
    # Milliseconds; frames 3 and 4 come late, 5 to 7 in a burst.
    times_ms = [0, 40, 80, 500, 700, 710, 720, 730, 1000, 1040]
    path = write_numbered(tmp_path / "a.mp4", pts=times_ms, time_base=Fraction(1, 1000))
    facts = probe(path)
    assert facts.variable_frame_rate
    assert numbers_of(read_frames(path, facts).frames) == [0, 2, 2, 2, 3, 3, 7, 7, 8]


@pytest.mark.parametrize("form", ["mp4", "mpegts"])
def test_a_start_time_other_than_zero_counts_from_the_first_frame(tmp_path: Path, form: str) -> None:
    late = write_numbered(tmp_path / "a.mp4", pts=range(300, 345), time_base=Fraction(1, 30), form=form)
    facts = probe(late)
    assert facts.grid_timestamps_us[0] == 0
    assert facts.frame_count == 45
    assert numbers_of(read_frames(late, facts).frames) == [0, 3, 7, 11, 15, 18, 22, 26, 30, 33, 37, 41]


@pytest.mark.parametrize("form", ["mp4", "mpegts", "matroska"])
def test_single_frames_are_found_whatever_the_container_seeks_by(tmp_path: Path, form: str) -> None:
    options = {"crf": "12", "preset": "veryfast", "bf": "3", "g": "12", "x264-params": "b-adapt=0"}
    path = write_numbered(tmp_path / "a.mp4", pts=range(30, 120), time_base=Fraction(1, 30), form=form, options=options)
    for number in (0, 11, 12, 13, 14, 35, 36, 59, 88, 89):
        assert numbers_of(read_frames_at(path, np.arange(90) * 33_333, np.array([number * 33_333]))) == [number]


def test_frames_that_an_edit_list_hides_do_not_count(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", pts=range(-6, 39), time_base=Fraction(1, 30))
    facts = probe(path)
    numbers = numbers_of(read_frames(path, facts).frames)
    assert facts.frame_count == 39
    assert numbers == [index + 6 for index in facts.grid_source_index]


@pytest.mark.parametrize(("degrees", "shape"), [(90, (64, 48)), (-90, (64, 48)), (180, (48, 64))])
def test_the_rotation_flag_is_applied(tmp_path: Path, degrees: int, shape: tuple[int, int]) -> None:
    flat = write_numbered(tmp_path / "flat.mp4", 20)
    turned = write_numbered(tmp_path / "turned.mp4", 20, rotation=degrees)
    facts = probe(turned)
    frames = read_frames(turned, facts).frames
    assert (facts.height, facts.width) == frames.shape[1:3] == shape
    assert facts.rotation_deg == degrees % 360
    upright = np.rot90(read_frames(flat, probe(flat)).frames, degrees // 90, axes=(1, 2))
    assert np.array_equal(frames, upright)


def test_odd_sizes_are_read_to_the_last_column(tmp_path: Path) -> None:
    path = write_numbered(
        tmp_path / "a.mp4", 20, size=(67, 49), pixel_format="yuv444p", options={"crf": "5", "preset": "ultrafast"}
    )
    facts = probe(path)
    frames = read_frames(path, facts).frames
    assert frames.shape[1:] == (49, 67, 3)
    assert np.abs(frames[:, -1, -1].astype(int) - 90).max() <= 4


def test_a_stream_without_times_is_counted_at_its_frame_rate(tmp_path: Path) -> None:
    raw = write_numbered(tmp_path / "raw.mp4", 50, rate=25, form="h264")
    facts = probe(raw)
    assert facts.fps == pytest.approx(25, abs=0.01)
    assert numbers_of(read_frames(raw, facts).frames) == list(facts.grid_source_index)


def test_a_container_without_a_frame_rate_is_timed_by_its_frames(tmp_path: Path) -> None:
    path = write_numbered(
        tmp_path / "a.mp4", pts=range(0, 1600, 40), time_base=Fraction(1, 1000), rate=1000, form="matroska"
    )
    facts = probe(path)
    assert facts.fps == pytest.approx(25, abs=0.01)
    assert numbers_of(read_frames(path, facts).frames) == [0, 3, 6, 9, 12, 15, 18, 21, 25, 28, 31, 34, 37]


def test_uncompressed_pictures_are_read_to_the_last_level(tmp_path: Path) -> None:
    path = write_numbered(
        tmp_path / "a.mp4", 30, rate=10, codec="rawvideo", pixel_format="bgr24", form="avi", options={}
    )
    facts = probe(path)
    frames = read_frames(path, facts).frames
    assert np.array_equal(frames, [numbered_picture(index) for index in facts.grid_source_index])


COLOURS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [200, 30, 90], [128, 128, 128], [255, 255, 255], [0, 0, 0]],
    dtype=np.uint8,
)


@pytest.mark.parametrize(
    ("matrix", "levels", "tag_matrix", "tag_range", "lines"),
    [
        (Colorspace.ITU709, ColorRange.MPEG, 1, 1, 64),
        (Colorspace.ITU601, ColorRange.MPEG, 6, 1, 64),
        (Colorspace.ITU601, ColorRange.MPEG, 5, 1, 64),
        (Colorspace.ITU709, ColorRange.JPEG, 1, 2, 64),
        (Colorspace.ITU601, ColorRange.JPEG, 6, 2, 64),
        (Colorspace.BT2020, ColorRange.MPEG, 9, 1, 64),
        (Colorspace.ITU601, ColorRange.MPEG, 6, 1, 720),
        (Colorspace.ITU601, ColorRange.MPEG, None, None, 718),
        (Colorspace.ITU709, ColorRange.MPEG, None, None, 720),
    ],
)
def test_matrix_and_range_are_honoured(
    tmp_path: Path, matrix: Colorspace, levels: ColorRange, tag_matrix: int | None, tag_range: int | None, lines: int
) -> None:
    path = write_coloured(
        tmp_path / "a.mp4", COLOURS, matrix, levels, tag_matrix=tag_matrix, tag_range=tag_range, lines=lines
    )
    frame = read_frames(path, probe(path), slice(0, 1)).frames[0]
    seen = frame[lines // 2, 16::32].astype(int)
    assert np.abs(seen - COLOURS).max() <= 3


def test_a_file_that_lost_frames_since_it_was_probed_is_refused(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60)
    facts = probe(path)
    write_numbered(path, 40)
    with pytest.raises(InvalidClipError, match="40 frames, but 60 when it was probed"):
        read_frames(path, facts)


def test_a_file_of_another_size_than_probed_is_refused(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60)
    facts = probe(path)
    write_numbered(path, 60, size=(96, 64))
    with pytest.raises(InvalidClipError, match="96x64, but 64x48"):
        read_frames(path, facts)


def test_damage_in_the_middle_is_an_error_and_not_a_grey_picture(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60, options={"crf": "1", "preset": "ultrafast", "g": "10"})
    facts = probe(path)
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + data.index(b"moov")) // 2
    data[middle : middle + 100] = b"\x55" * 100
    path.write_bytes(data)
    with pytest.raises(InvalidClipError, match="damaged"):
        read_frames(path, facts)


def test_other_cameras_are_read_at_given_times(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60, options={"crf": "12", "preset": "veryfast", "g": "10"})
    clock = 5_000_000_000 + np.rint(np.arange(60) * 1e6 / 30).astype(np.int64) + 500
    wanted = 5_000_000_000 + np.array([1_700_000, 1_600_000, 1_500_000, 1_500_000, 500])
    assert numbers_of(read_frames_at(path, clock, wanted)) == [50, 47, 44, 44, 0]
    assert numbers_of(read_frames_at(path, None, np.array([1_500_000]))) == [45]


def test_times_outside_another_camera_are_refused(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 30)
    with pytest.raises(InvalidClipError, match="last frame ends at"):
        read_frames_at(path, None, np.array([1_000_010]))
    with pytest.raises(InvalidClipError, match="first frame is at 0 us"):
        read_frames_at(path, None, np.array([-1]))
    with pytest.raises(InvalidClipError, match="29 frame timestamps, the file has 30 frames"):
        read_frames_at(path, np.arange(29), np.array([5]))


def test_a_real_recording_reads_as_probed(real_data: Path) -> None:
    path = real_data / "clips" / "05_forest_road_shadows_white_edges.mp4"
    facts = probe(path)
    whole = read_frames(path, facts)
    assert whole.frames.shape == (100, 360, 640, 3)
    assert np.array_equal(read_frames(path, facts, slice(60, 64)).frames, whole.frames[60:64])


@pytest.mark.parametrize("options", [{"g": "10", "bf": "2"}, {"g": "48", "bf": "0"}, {"g": "250", "bf": "3"}])
def test_single_frames_far_apart_are_those_of_the_whole(tmp_path: Path, options: dict[str, str]) -> None:
    path = write_numbered(tmp_path / "a.mp4", 240, options={"crf": "12", "preset": "veryfast", **options})
    facts = probe(path)
    whole = read_frames(path, facts)
    for chosen in ([0], [3, 20, 21, 50], [7, 33, 59, 63], list(range(0, 64, 16)), list(range(64))):
        index = np.array(chosen, dtype=np.int64)
        piece = read_frames(path, facts, index)
        assert numbers_of(piece.frames) == [facts.grid_source_index[at] for at in chosen]
        assert np.array_equal(piece.frames, whole.frames[index])


def test_the_work_before_each_frame_counts_from_its_key_frame(tmp_path: Path) -> None:
    options = {"crf": "12", "preset": "veryfast", "g": "12", "bf": "0", "sc_threshold": "0", "keyint_min": "12"}
    path = write_numbered(tmp_path / "a.mp4", 75, options=options)
    facts = probe(path)
    assert frames_to_decode(path, facts).tolist() == [number % 12 for number in facts.grid_source_index]
