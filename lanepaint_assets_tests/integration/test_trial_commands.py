"""`lanepaint segment|inspect|edit`: one real engine on a picture, a folder of frames and a video, without Dagster."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lanepaint_assets.cli import main
from lanepaint_assets.clips.decoding import read_all_frames
from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.pictures import read_picture, write_picture
from lanepaint_assets.clips.probing import probe_clip
from lanepaint_assets.clips.sources import open_source
from lanepaint_assets_tests.unit.clips.videos import write_numbered

CAMERA = "camera_front_wide_120fov"
FRAMES = 6
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """(6, 270, 480, 3): frames of a sample drive, large enough for lines to be found in a single picture."""
    from lanepaint_assets.clips.decoding import read_frames
    from lanepaint_assets.clips.sample_drive import write_sample_drive

    folder = tmp_path_factory.mktemp("street") / "drive"
    write_sample_drive(
        folder, seed=3, chunks=1, clips_per_chunk=1, seconds=1.0, width=480, height=270, fps=10, other_cameras=False
    )
    source = open_source(str(folder), (CAMERA,))
    ref = next(source.chunks()).clips[0]
    facts = probe_clip(source, ref, "spec_8fps", FRAMES)
    with source.open_video(ref) as path:
        return read_frames(path, facts).frames


@pytest.fixture
def lanepaint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("LANEPAINT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("LANEPAINT_FRAME_LIMIT", str(FRAMES))

    def type_in(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lanepaint", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return type_in


@pytest.fixture(params=["picture", "folder", "video"])
def given(request: pytest.FixtureRequest, road: np.ndarray, tmp_path: Path) -> tuple[Path, list[str]]:
    """A PATH of each kind, and the stems that its results get."""
    if request.param == "picture":
        path = tmp_path / "street.png"
        write_picture(path, road[0])
        return path, ["street"]
    if request.param == "folder":
        folder = tmp_path / "frames"
        folder.mkdir()
        stems = [f"shot_{3 * number:03d}" for number in range(3)]
        for stem, frame in zip(stems, road, strict=False):
            write_picture(folder / f"{stem}.png", frame)
        (folder / "notes.txt").write_text("not a frame")
        return folder, stems
    path = tmp_path / "drive.mp4"
    write_video(path, road, 8.0)
    return path, [f"{number:05d}" for number in range(FRAMES)]


def test_segment_writes_one_mask_a_frame_with_the_same_stem(
    lanepaint: Command, given: tuple[Path, list[str]], road: np.ndarray, tmp_path: Path
) -> None:
    path, stems = given
    code, out, err = lanepaint("segment", path, "--out", tmp_path / "out")
    assert code == 0, err
    assert f"{len(stems)} mask(s)" in out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"{stem}.png" for stem in stems]
    for stem in stems:
        mask = read_picture((tmp_path / "out" / f"{stem}.png").read_bytes())[..., 0]
        assert mask.shape == road.shape[1:3]
        assert set(np.unique(mask)) <= {0, 255}
        assert 0.05 < (mask == 255).mean() < 0.7
    assert not (tmp_path / "root").exists(), "a trial leaves nothing behind but its results"


def test_inspect_writes_one_json_a_frame_with_every_line(
    lanepaint: Command, given: tuple[Path, list[str]], tmp_path: Path
) -> None:
    path, stems = given
    code, _, err = lanepaint("inspect", path, "--out", tmp_path / "out")
    assert code == 0, err
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"{stem}.json" for stem in stems]
    for stem in stems:
        found = json.loads((tmp_path / "out" / f"{stem}.json").read_text())
        assert found["caption"].startswith("road with ")
        assert found["lines"] or found["reason"]
        for line in found["lines"]:
            assert {"count", "color", "pattern", "confidence", "polyline_px", "role"} <= set(line)
            assert 0 <= line["confidence"] <= 1
            assert np.asarray(line["polyline_px"]).shape[1] == 2


def test_edit_writes_what_it_was_given_edited(
    lanepaint: Command, given: tuple[Path, list[str]], road: np.ndarray, tmp_path: Path
) -> None:
    path, stems = given
    code, _, err = lanepaint("edit", path, "--out", tmp_path / "out", "--prompt", "double_yellow_solid")
    assert code == 0, err
    if path.suffix == ".mp4":
        edited = read_all_frames(tmp_path / "out" / "drive_double_yellow_solid.mp4")
        assert edited.shape == road.shape
    else:
        assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"{stem}.png" for stem in stems]
        edited = np.stack([read_picture((tmp_path / "out" / f"{stem}.png").read_bytes()) for stem in stems])
        # The sky is no road: outside the mask every pixel is the source's.
        assert np.array_equal(edited[:, :20], road[: len(stems), :20])
        assert not np.array_equal(edited, road[: len(stems)])


def test_results_never_join_old_ones_and_never_replace_the_source(
    lanepaint: Command, road: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "frames").mkdir()
    write_picture(tmp_path / "frames" / "street.png", road[0])
    before = (tmp_path / "frames" / "street.png").read_bytes()
    for command in (["segment"], ["edit", "--prompt", "roundtrip"]):
        code, _, err = lanepaint(*command, tmp_path / "frames", "--out", tmp_path / "frames")
        assert code == 2
        assert "holds .png files already, such as street.png" in err
    assert (tmp_path / "frames" / "street.png").read_bytes() == before


def test_a_picture_without_lane_lines_says_so(lanepaint: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "grey.png", np.full((270, 480, 3), 120, np.uint8))
    code, out, err = lanepaint("inspect", tmp_path / "grey.png", "--out", tmp_path / "out")
    assert code == 0, err
    assert "no lane markings found" in out
    assert "unknown" not in out


def test_the_roundtrip_prompt_paints_nothing(lanepaint: Command, road: np.ndarray, tmp_path: Path) -> None:
    write_picture(tmp_path / "street.png", road[0])
    code, _, err = lanepaint("edit", tmp_path / "street.png", "--out", tmp_path / "out", "--prompt", "roundtrip")
    assert code == 0, err
    assert np.array_equal(read_picture((tmp_path / "out" / "street.png").read_bytes()), road[0])


@pytest.mark.parametrize("command", ["segment", "inspect", "edit"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.png", "nowhere.png"),
        ("empty_folder", "give a folder of frames"),
        ("broken.png", "broken.png is not a readable picture"),
        ("broken.mp4", "broken.mp4"),
        ("mixed", "pictures of 2 sizes"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    lanepaint: Command, tmp_path: Path, command: str, name: str, words: str
) -> None:
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "mixed").mkdir()
    write_picture(tmp_path / "mixed" / "a.png", np.zeros((20, 30, 3), np.uint8))
    write_picture(tmp_path / "mixed" / "b.png", np.zeros((30, 20, 3), np.uint8))
    extra = ["--prompt", "1"] if command == "edit" else []
    code, _, err = lanepaint(command, tmp_path / name, "--out", tmp_path / "out", *extra)
    assert code == 2
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert words in err


def test_an_unknown_prompt_is_one_line_with_the_known_ones(lanepaint: Command, tmp_path: Path) -> None:
    write_numbered(tmp_path / "a.mp4", count=8)
    code, _, err = lanepaint("edit", tmp_path / "a.mp4", "--out", tmp_path / "out", "--prompt", "pink")
    assert code == 2
    assert "no prompt 'pink'" in err
    assert "double_yellow_solid" in err


def test_a_picture_without_a_road_is_no_accident(lanepaint: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "wall.png", np.full((108, 192, 3), 128, np.uint8))
    for command, extra in (("segment", []), ("inspect", []), ("edit", ["--prompt", "1"])):
        code, _, err = lanepaint(command, tmp_path / "wall.png", "--out", tmp_path / command, *extra)
        assert code in (0, 2), err
        assert "Traceback" not in err
