from __future__ import annotations

from pathlib import Path

import pytest

from lanepaint_assets.clips.probing import InvalidClipError, probe_clip
from lanepaint_assets.clips.records import ClipFacts
from lanepaint_assets.clips.sources import ClipSource, open_source
from lanepaint_assets_tests.unit.clips.videos import write_numbered, write_sound

CAMERA = "camera_front_wide_120fov"


def probe(path: Path) -> ClipFacts:
    source = open_source(str(path), [CAMERA])
    (chunk,) = source.chunks()
    return probe_clip(source, chunk.clips[0], "spec_8fps", 100)


def test_a_good_clip_gets_its_facts(tmp_path: Path) -> None:
    facts = probe(write_numbered(tmp_path / "My drive.mp4", 60))
    assert facts.ref.clip_id.startswith("My_drive_")
    assert facts.ref.camera == CAMERA
    assert (facts.fps, facts.frame_count, facts.duration_s) == (pytest.approx(30), 60, pytest.approx(2.0, abs=1e-4))
    assert (facts.width, facts.height, facts.codec, facts.pixel_format) == (64, 48, "h264", "yuv420p")
    assert (facts.rotation_deg, facts.variable_frame_rate, facts.has_egomotion, facts.has_calibration) == (
        0, False, False, False,
    )  # fmt: skip
    assert facts.grid_rate_hz == 8.0
    assert len(facts.grid) == 16
    assert facts == ClipFacts.model_validate_json(facts.model_dump_json())


def test_the_model_grid_is_ten_a_second_up_to_the_limit(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60)
    source = open_source(str(path), [CAMERA])
    (chunk,) = source.chunks()
    facts = probe_clip(source, chunk.clips[0], "model_10hz", 7)
    assert facts.grid_source_index == (0, 3, 6, 9, 12, 15, 18)


def test_an_empty_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InvalidClipError, match="empty"):
        probe(tmp_path / "a.mp4")


def test_a_file_without_its_index_is_refused_as_truncated(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(InvalidClipError, match=r"truncated.*moov"):
        probe(path)


def test_a_file_whose_packets_are_cut_off_is_refused_as_truncated(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60, faststart=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 8 // 10])
    with pytest.raises(InvalidClipError, match="truncated"):
        probe(path)


def test_an_unfinished_copy_filled_with_zeros_is_refused_as_truncated(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60, faststart=True)
    data = path.read_bytes()
    keep = len(data) * 8 // 10
    path.write_bytes(data[:keep] + bytes(len(data) - keep))
    with pytest.raises(InvalidClipError, match=r"truncated.*blank"):
        probe(path)


@pytest.mark.parametrize(
    "content", [b"This is a text about driving.\n" * 200, bytes(range(256)) * 40, bytes(5000)], ids=str
)
def test_what_is_not_a_video_is_refused_with_its_reason(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InvalidClipError, match=r"not a video|zeros"):
        probe(tmp_path / "a.mp4")


def test_sound_alone_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidClipError, match="audio only"):
        probe(write_sound(tmp_path / "a.mp4"))


def test_a_clip_of_three_grid_frames_is_too_short_and_of_four_is_not(tmp_path: Path) -> None:
    with pytest.raises(InvalidClipError, match="too short: 11 frames give 3 at 8 Hz, at least 4"):
        probe(write_numbered(tmp_path / "a.mp4", 11))
    assert len(probe(write_numbered(tmp_path / "b.mp4", 12)).grid) == 4


def test_a_video_whose_pictures_are_noise_is_refused_as_unreadable(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 30, faststart=True)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = b"\x5a" * (len(data) - start)
    path.write_bytes(data)
    with pytest.raises(InvalidClipError, match=r"unreadable|truncated"):
        probe(path)


def test_a_file_that_vanished_is_refused_with_its_reason(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 30)
    source = open_source(str(tmp_path), [CAMERA])
    (chunk,) = source.chunks()
    (clip,) = chunk.clips
    path.unlink()
    with pytest.raises(InvalidClipError, match="no such file"):
        probe_clip(source, clip, "spec_8fps", 100)


def test_a_link_to_nothing_is_listed_and_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "gone")
    write_numbered(tmp_path / "b.mp4", 30)
    source: ClipSource = open_source(str(tmp_path), [CAMERA])
    (chunk,) = source.chunks()
    assert len(chunk.clips) == 2
    with pytest.raises(InvalidClipError, match="no such file"):
        probe_clip(source, chunk.clips[0], "spec_8fps", 100)


def test_a_folder_named_like_a_video_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    write_numbered(tmp_path / "b.mp4", 30)
    (chunk,) = open_source(str(tmp_path), [CAMERA]).chunks()
    assert [Path(ref.uri).name for ref in chunk.clips] == ["b.mp4"]
