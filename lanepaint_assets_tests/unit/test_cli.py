"""The command line: what a person types, and the one line that a mistake gets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lanepaint_assets import __version__
from lanepaint_assets.cli import _names, _stages
from lanepaint_assets.commands import launch
from lanepaint_assets.platform import Platform, ProgressListener
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.fixtures import (
    AgreeingInspector,
    Journal,
    JournallingDriver,
    StripePainter,
    TrapezoidSegmenter,
)
from lanepaint_assets_tests.terminal import Answer, typed
from lanepaint_assets_tests.unit.clips.videos import write_numbered

CAMERA = "camera_front_wide_120fov"


Command = Callable[..., Answer]


@pytest.fixture
def lanepaint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Types a command line in an empty folder of one's own."""
    monkeypatch.setenv("LANEPAINT_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)

    def type_in(*words: str) -> Answer:
        return typed(monkeypatch, capsys, *words)

    return type_in


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "clips"
    for chunk in range(2):
        path = folder / CAMERA / f"chunk_{chunk:04d}"
        path.mkdir(parents=True)
        write_numbered(path / "a.mp4", count=90, rate=10, size=(128, 72))
    monkeypatch.setenv("LANEPAINT_SOURCE", str(folder))
    monkeypatch.setenv("LANEPAINT_FRAME_LIMIT", "8")
    monkeypatch.setenv("LANEPAINT_SAMPLES", "1")
    monkeypatch.setenv("LANEPAINT_MIN_ROAD_CONFIDENCE", "0")
    return folder


@pytest.fixture
def fast_engines(monkeypatch: pytest.MonkeyPatch) -> Journal:
    journal = Journal()

    def platform(settings: Settings, progress: ProgressListener | None = None) -> Platform:
        painter = StripePainter(journal)
        return Platform(
            settings,
            progress=progress,
            segmenter=TrapezoidSegmenter(journal),
            first_frame_painter=painter,
            video_painter=painter,
            inspector=AgreeingInspector(),
            driver=JournallingDriver(journal),
        )

    monkeypatch.setattr(launch, "Platform", platform)
    return journal


def _assert_one_line(answer: Answer, *words: str) -> None:
    assert answer.code == 2, answer
    assert "Traceback" not in answer.err
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("lanepaint: ")
    for word in words:
        assert word in lines[0], lines[0]


def test_the_version_is_told(lanepaint: Command) -> None:
    assert lanepaint("--version").out.strip().endswith(__version__)


def test_every_command_has_a_line_of_help(lanepaint: Command) -> None:
    shown = lanepaint("--help").out
    for command in ("demo", "sample-data", "chunks", "run", "doctor", "export", "import", "segment", "inspect", "edit"):
        (line,) = [line for line in shown.splitlines() if line.strip().startswith(f"{command} ")]
        assert len(line.split()) > 3, line


def test_a_wrong_setting_is_one_line(lanepaint: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEPAINT_FRAME_LIMIT", "1")
    for command in (["run"], ["doctor"], ["chunks", "list"]):
        _assert_one_line(lanepaint(*command), "LANEPAINT_FRAME_LIMIT='1' is not allowed")


def test_an_unknown_engine_is_one_line(lanepaint: Command, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEPAINT_DRIVER", "alpamajo")
    for command in (["run"], ["doctor"]):
        _assert_one_line(lanepaint(*command), "LANEPAINT_DRIVER='alpamajo'", "lane_follow, constant_velocity")


def test_stages_without_a_variant_are_refused_with_the_variants(lanepaint: Command, clips: Path) -> None:
    _assert_one_line(lanepaint("run", "--stages", "13"), "--stages '13'", "123 (master_pipeline)", "23 (vp_alpamayo)")
    _assert_one_line(lanepaint("run", "--stages", ""), "allowed")
    _assert_one_line(lanepaint("run", "--stages", "4"), "allowed")


def test_an_unknown_prompt_is_refused_before_anything_is_computed(lanepaint: Command, clips: Path) -> None:
    _assert_one_line(lanepaint("run", "--prompts", "9"), "no prompt '9'", "1 single_white_solid", "roundtrip")
    assert "no chunk" in lanepaint("chunks", "list").out


def test_a_prompt_outside_the_setting_is_refused_before_anything_is_computed(
    lanepaint: Command, clips: Path, monkeypatch: pytest.MonkeyPatch, fast_engines: Journal
) -> None:
    monkeypatch.setenv("LANEPAINT_PROMPTS", "single_white_solid")
    _assert_one_line(lanepaint("run", "--prompts", "double_yellow_solid"), "double_yellow_solid", "LANEPAINT_PROMPTS")
    assert fast_engines.take() == []


def test_an_unknown_chunk_is_refused_with_the_command_that_registers_it(lanepaint: Command, clips: Path) -> None:
    _assert_one_line(lanepaint("run", "--chunks", "chunk_9999"), "chunk_9999", "lanepaint chunks add")


def test_a_source_that_is_not_there_is_one_line(lanepaint: Command, tmp_path: Path) -> None:
    _assert_one_line(lanepaint("run", "--source", str(tmp_path / "nowhere")), "nowhere")
    _assert_one_line(lanepaint("chunks", "add", "--source", str(tmp_path / "nowhere")), "nowhere")


def test_editing_without_masks_names_the_chunk_and_the_command_that_makes_them(lanepaint: Command, clips: Path) -> None:
    _assert_one_line(lanepaint("run", "--stages", "2"), "'chunk_0000'", "lanepaint run --stages 1 --chunks chunk_0000")


def test_evaluation_without_edits_names_the_stage_that_makes_them(
    lanepaint: Command, clips: Path, fast_engines: Journal
) -> None:
    assert lanepaint("run", "--stages", "1", "--chunks", "").code == 0
    _assert_one_line(
        lanepaint("run", "--stages", "3", "--chunks", "chunk_0001"), "lanepaint run --stages 2 --chunks chunk_0001"
    )


def test_chunks_are_added_once_and_listed_with_what_was_made(
    lanepaint: Command, clips: Path, fast_engines: Journal
) -> None:
    assert lanepaint("chunks", "list").out.startswith("no chunk is registered")
    assert lanepaint("chunks", "add", "--limit", "1").out.strip() == "registered 1 chunk(s): chunk_0000"
    assert lanepaint("chunks", "add").out.strip() == "registered 1 chunk(s): chunk_0001"
    assert lanepaint("chunks", "add").out.strip() == "no new chunk"
    lanepaint("run", "--stages", "1", "--chunks", "chunk_0001")
    listed = lanepaint("chunks", "list").out.splitlines()
    assert listed[0] == "chunk_0000: 1 clips; nothing made yet"
    assert listed[1].startswith("chunk_0001: 1 clips; raw_clips 1/1, road_masks 1/1, vp_inputs 1/1")


def test_a_run_tells_items_and_the_report_and_stamps_its_name(
    lanepaint: Command, clips: Path, fast_engines: Journal
) -> None:
    lanepaint("chunks", "add")
    told = lanepaint("run", "--prompts", "1", "--chunks", "chunk_0000", "--run-id", "night")
    assert told.code == 0, told.err
    assert "master_pipeline of chunk_0000 (1 of 1), run name night_" in told.out
    assert "edited_videos: " in told.out
    (report,) = [line.split("report: ")[1] for line in told.out.splitlines() if "report: " in line][:1]
    assert Path(report).is_file()
    row = next(iter(launch.open_session(Settings()).platform.store.manifest("road_masks", "chunk_0000").rows.values()))
    assert row.run_id.startswith("night_20")


def test_samples_are_made_and_exported_from_the_terminal(
    lanepaint: Command, clips: Path, tmp_path: Path, fast_engines: Journal
) -> None:
    told = lanepaint("dataset", "make")
    assert told.code == 0, told.err
    assert "training_data of chunk_0000 (1 of 2)" in told.out
    assert "training_samples: 1 of 1 items" in told.out
    told = lanepaint("dataset", "export", str(tmp_path / "samples"))
    assert told.code == 0, told.err
    pictures = list((tmp_path / "samples" / "images").glob("*.png"))
    assert pictures
    assert f"{len(pictures)} samples" in told.out


def test_samples_of_a_broken_chunk_fail_with_its_reasons(
    lanepaint: Command, tmp_path: Path, fast_engines: Journal
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"")
    told = lanepaint("dataset", "make", "--source", str(folder))
    assert told.code == 1
    assert "raw_clips failed: 1 of 1 items" in told.out


def test_a_chunk_whose_clips_are_all_broken_fails_with_their_reasons(
    lanepaint: Command, tmp_path: Path, fast_engines: Journal
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"")
    told = lanepaint("run", "--source", str(folder))
    assert told.code == 1
    assert "raw_clips failed: 1 of 1 items" in told.out
    assert "empty" in told.out
    assert "Traceback" not in told.out + told.err


def test_the_doctor_tells_everything_and_is_content_with_the_cpu_engines(lanepaint: Command, clips: Path) -> None:
    told = lanepaint("doctor")
    assert told.code == 0, told.err
    for expected in (
        "Extras",
        "Engines (* chosen)",
        "Checkpoints",
        "Sensors",
        "Settings",
        "absent (checkpoints/sam2)",
        "needs its cogvideox_checkpoint and videopainter_branch_checkpoint",
        "new_chunks",
        "dagster sensor start new_chunks",
        "LANEPAINT_FRAME_LIMIT",
        "first chunk chunk_0000 with 1 clips",
    ):
        assert expected in told.out, expected
    assert any(line.strip().startswith("*") and "lane_follow 3" in line for line in told.out.splitlines())


@pytest.mark.parametrize(
    ("python", "lacking"),
    [
        ("/nowhere/python", "needs an interpreter; LANEPAINT_ALPAMAYO_PYTHON names none"),
        (sys.executable, "needs its alpamayo_checkpoint: lanepaint checkpoints download alpamayo"),
    ],
)
def test_the_doctor_says_what_alpamayo_lacks_in_an_environment_of_its_own(
    lanepaint: Command, clips: Path, monkeypatch: pytest.MonkeyPatch, python: str, lacking: str
) -> None:
    monkeypatch.setenv("LANEPAINT_DRIVER", "alpamayo")
    monkeypatch.setenv("LANEPAINT_ALPAMAYO_PYTHON", python)
    told = lanepaint("doctor")
    assert told.code == 1
    (line,) = [line for line in told.out.splitlines() if "alpamayo 1" in line]
    assert line.strip().startswith("* driver")
    assert line.endswith(lacking)


def test_the_doctor_says_what_is_wrong_with_the_source(lanepaint: Command, tmp_path: Path) -> None:
    told = lanepaint("doctor")
    assert told.code == 0
    assert "Source: " in told.out
    assert str(tmp_path / "root" / "input" / "data") in told.out


def test_a_root_that_the_store_cannot_keep_is_one_line(
    lanepaint: Command, clips: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LANEPAINT_ROOT", "ftp://somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    _assert_one_line(lanepaint("chunks", "add"), "ftp://somewhere", "not on ftp://")


def test_a_broken_catalogue_is_one_line(
    lanepaint: Command, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompts.yaml").write_text("prompts: [{key: x}]")
    monkeypatch.setenv("LANEPAINT_PROMPT_FILE", str(tmp_path / "prompts.yaml"))
    answer = lanepaint("run")
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert "prompts.yaml" in answer.err


def test_a_dagster_home_that_does_not_exist_is_one_line(
    lanepaint: Command, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "no_such_home"))
    _assert_one_line(lanepaint("chunks", "list"), "DAGSTER_HOME", "no_such_home")


def test_sample_data_is_written_and_kept(lanepaint: Command, tmp_path: Path) -> None:
    size = ["--seconds", "1", "--width", "64", "--height", "36", "--chunks", "1", "--clips", "1"]
    first = lanepaint("sample-data", str(tmp_path / "drive"), *size)
    assert first.code == 0, first.err
    assert "1 chunks x 1 clips" in first.out
    again = lanepaint("sample-data", str(tmp_path / "drive"), *size)
    assert again.code == 0
    assert lanepaint("chunks", "add", "--source", str(tmp_path / "drive")).out.startswith("registered 1 chunk(s)")
    assert "lanepaint run --source" in first.out


@pytest.mark.parametrize("option", [("--width", "65"), ("--seconds", "500")])
def test_a_sample_drive_that_cannot_be_made_is_one_line(
    lanepaint: Command, tmp_path: Path, option: tuple[str, str]
) -> None:
    _assert_one_line(lanepaint("sample-data", str(tmp_path / "drive"), *option), option[1])


def test_a_root_that_is_a_file_or_cannot_be_made_is_one_line(
    lanepaint: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for command in (["status"], ["doctor"], ["chunks", "list"]):
        monkeypatch.setenv("LANEPAINT_ROOT", str(tmp_path / "file"))
        _assert_one_line(lanepaint(*command), "LANEPAINT_ROOT", "is a file")
    monkeypatch.setenv("LANEPAINT_ROOT", "/proc/no_such_place")
    _assert_one_line(lanepaint("doctor"), "LANEPAINT_ROOT", "/proc/no_such_place", "cannot be written")


def test_the_doctor_says_which_prompts_cannot_be_used(
    lanepaint: Command, clips: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LANEPAINT_PROMPTS", "zzz")
    told = lanepaint("doctor")
    assert told.code == 1
    assert "Prompts: no prompt 'zzz'" in told.out
    monkeypatch.setenv("LANEPAINT_PROMPTS", "")
    monkeypatch.setenv("LANEPAINT_PROMPT_FILE", str(tmp_path / "absent.yaml"))
    told = lanepaint("doctor")
    assert told.code == 1
    assert "absent.yaml" in next(line for line in told.out.splitlines() if line.startswith("Prompts: "))


def test_the_doctor_lists_changed_settings_first(lanepaint: Command, clips: Path) -> None:
    listed = lanepaint("doctor").out.partition("Settings (* changed)")[2].splitlines()
    marked = [" *" in line[:4] for line in listed if "LANEPAINT_" in line[:14]]
    assert marked[:4] == [True, True, True, True]
    assert marked == sorted(marked, reverse=True)
    assert max(len(line) for line in listed if line.startswith("      ")) <= 100


def test_stages_and_chunks_are_read_in_both_spellings() -> None:
    assert _stages("1,2") == _stages("12") == ("1", "2")
    assert _stages("3,training") == ("3", "training")
    assert _names("a, b,a,") == ("a", "b")


def test_a_chunk_that_is_not_registered_is_not_exported(lanepaint: Command, clips: Path, tmp_path: Path) -> None:
    _assert_one_line(lanepaint("export", str(tmp_path / "out"), "--chunks", "nope"), "nope is not registered")
    _assert_one_line(lanepaint("export", str(tmp_path / "out")), "no chunk is registered")
