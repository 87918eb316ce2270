"""`lanepaint dataset export|filter`: what a person types and reads."""

from __future__ import annotations

import csv
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lanepaint_assets.cli import main
from lanepaint_assets.clips.pictures import write_picture
from lanepaint_assets.clips.records import ChunkMembership, ClipRef
from lanepaint_assets.partitions import LANE_STYLES
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.items import ItemOutput, ItemTask, run_chunk_item, run_items
from lanepaint_assets.training.filter_steps import make_filtered_samples
from lanepaint_assets.training.samples import SampleFacts, TrainingSample, clip_samples, facts_csv, train_csv

SINGLE = "road with single white solid lane markings"
DOUBLE = "road with double white solid lane markings"
UNKNOWN = "road with single white unknown lane markings"

Lanepaint = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lanepaint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Lanepaint:
    """Types a command line; returns exit code, output and errors."""
    monkeypatch.setenv("LANEPAINT_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    # What the command adds would outlive the stream that it writes to.
    monkeypatch.setattr(logging.getLogger("lanepaint_assets"), "handlers", [])

    def type_in(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lanepaint", *words])
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
        else:
            code = 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return type_in


@pytest.fixture
def chunks(tmp_path: Path) -> tuple[str, ...]:
    """Two chunks with two clips of two samples each, and their subsets."""
    platform = Platform(Settings(root=str(tmp_path / "root")), progress=lambda *_: None)
    store = platform.store
    for number, chunk in enumerate(keys := ("chunk_0001", "chunk_0002")):
        clips = ("a.front", "b.front")
        refs = tuple(ClipRef(clip_id=c[0], camera="front", uri=f"{c}.mp4", size=1, etag="1") for c in clips)
        store.save_chunk(ChunkMembership(key=chunk, source="nowhere", clips=refs))

        def compute(task: ItemTask, folder: Path, chunk: str = chunk) -> ItemOutput:
            samples = []
            for at, caption in enumerate((SINGLE, DOUBLE if task.key == "a.front" else UNKNOWN)):
                names = [f"{kind}/{task.key}_{at:05d}.png" for kind in ("images", "masks")]
                for name, level in zip(names, (90, 255), strict=True):
                    (folder / name).parent.mkdir(exist_ok=True)
                    picture = np.zeros((10, 20), np.uint8)
                    picture[5:] = level
                    write_picture(folder / name, picture)
                facts = SampleFacts(chunk, task.key, task.fingerprint, "x", at, at, 0.4 + 0.4 * at, 0.5, "0" * 16)
                samples.append(TrainingSample(*names, caption, caption, facts))
            write(folder, samples)
            return ItemOutput(facts={"near_duplicates": 3})

        tasks = [ItemTask(key, f"{number}{at}" * 32) for at, key in enumerate(clips)]
        outcome = run_items(store, "training_samples", chunk, tasks, compute, run_id="t", progress=lambda *_: None)

        def assemble(_: ItemTask, folder: Path, chunk: str = chunk, outcome=outcome) -> ItemOutput:  # type: ignore[no-untyped-def]
            write(folder, [sample for row in outcome.rows for sample in clip_samples(store, chunk, row)])
            return ItemOutput(facts={"near_duplicates": 1, "samples": 4})

        run_chunk_item(store, "training_samples", chunk, "c" * 64, assemble, run_id="t")
        make_filtered_samples(platform, chunk, "t", LANE_STYLES)
    return keys


def test_a_table_that_is_older_than_its_clips_samples_is_named(
    lanepaint: Lanepaint, chunks: tuple[str, ...], tmp_path: Path
) -> None:
    store = Platform(Settings(root=str(tmp_path / "root"))).store
    newer = (
        store.manifest("training_samples", "chunk_0001").rows["a.front"].model_copy(update={"fingerprint": "e" * 64})
    )
    store.merge("training_samples", "chunk_0001", [newer])
    code, out, _ = lanepaint("dataset", "export", "out")
    assert code == 0
    assert "chunk_0001: no sample: its table is older than its clips' samples; materialize it again" in out
    assert len(rows(tmp_path / "out")) == 4


def write(folder: Path, samples: list[TrainingSample]) -> None:
    (folder / "train.csv").write_text(train_csv(samples))
    (folder / "facts.csv").write_text(facts_csv(samples))


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "train.csv").open()))


def test_all_samples_of_all_chunks_become_one_folder(
    lanepaint: Lanepaint, chunks: tuple[str, ...], tmp_path: Path
) -> None:
    code, out, _ = lanepaint("dataset", "export", "out", "--license", "CC0")
    assert code == 0
    assert f"8 samples, 3 caption(s), in {tmp_path}/out; see README.md there" in out
    table = rows(tmp_path / "out")
    assert list(table[0]) == ["image", "mask", "prompt", "prompt_2"]
    assert table[0]["image"] == "images/chunk_0001_a.front_00000.png"
    assert len({row["image"] for row in table}) == 8
    for row in table:
        assert (tmp_path / "out" / row["image"]).is_file()
        assert (tmp_path / "out" / row["mask"]).is_file()
    card = (tmp_path / "out/README.md").read_text()
    assert "CC0" in card
    assert "Near-duplicates left out when the samples were made: 14." in card


def test_a_styles_subset_of_one_chunk_is_exported_and_says_what_the_rules_removed(
    lanepaint: Lanepaint, chunks: tuple[str, ...], tmp_path: Path
) -> None:
    command = ("dataset", "export", "out", "--chunks", "chunk_0002", "--style", "double_white_solid")
    code, out, _ = lanepaint(*command, "--mode", "hardlink")
    assert code == 0
    assert "pictures are hardlinks: do not edit them" in out
    assert [row["prompt"] for row in rows(tmp_path / "out")] == [DOUBLE]
    card = (tmp_path / "out/README.md").read_text()
    assert "The samples of lane style double_white_solid of 1 chunk(s): chunk_0002." in card
    assert "| count | another count | 2 |" in card
    assert "| clear_road | an attribute is unknown | 1 |" in card


def test_samples_whose_files_are_lost_are_refused_by_name_and_the_others_exported(
    lanepaint: Lanepaint, chunks: tuple[str, ...], tmp_path: Path
) -> None:
    lost = next((tmp_path / "root/outputs/training/chunk_0001/training_samples/a.front").rglob("masks/*_00001.png"))
    lost.unlink()
    code, out, _ = lanepaint("dataset", "export", "out")
    assert code == 0
    assert "files of its clip are no longer in the store" in out
    assert len(rows(tmp_path / "out")) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--style", "double_yellow_solid"), "nothing to export from chunk_0001, chunk_0002 (of 8 samples, "),
        (("--style", "single_green_solid"), "'single_green_solid' is no lane style; write COUNT_COLOUR_PATTERN"),
        (("--chunks", "chunk_0009"), "chunk chunk_0009 is not registered; registered: chunk_0001, chunk_0002"),
    ],
)
def test_an_export_that_cannot_be_says_why_in_one_line(
    lanepaint: Lanepaint, chunks: tuple[str, ...], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    code, _, err = lanepaint("dataset", "export", "out", *words)
    assert code == 2
    assert said in err
    assert not (tmp_path / "out").exists()


def test_a_folder_is_filtered_by_the_rules_and_told_what_each_removed(
    lanepaint: Lanepaint, chunks: tuple[str, ...], tmp_path: Path
) -> None:
    lanepaint("dataset", "export", "all")
    code, out, _ = lanepaint("dataset", "filter", "all", "some", "--count", "single", "--mode", "symlink")
    assert code == 0
    assert "of 8 samples, clear_road removed 2 (an attribute is unknown), count removed 2 (another count)" in out
    assert {row["prompt"] for row in rows(tmp_path / "some")} == {SINGLE}
    assert (tmp_path / "some" / rows(tmp_path / "some")[0]["image"]).is_symlink()
    code, out, _ = lanepaint("dataset", "filter", "some", "none", "--min-confidence", "0.5")
    assert code == 2
    assert not (tmp_path / "none").exists()


def test_settings_are_the_rules_that_options_leave_out(
    lanepaint: Lanepaint, chunks: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanepaint("dataset", "export", "all")
    monkeypatch.setenv("LANEPAINT_FILTER_MIN_CONFIDENCE", "0.5")
    lanepaint("dataset", "filter", "all", "sure", "--allow-unknown")
    assert sorted(row["prompt"] for row in rows(tmp_path / "sure")) == [DOUBLE] * 2 + [UNKNOWN] * 2
    lanepaint("dataset", "filter", "all", "any", "--min-confidence", "0", "--style", "double_white_solid")
    assert [row["prompt"] for row in rows(tmp_path / "any")] == [DOUBLE] * 2


def strangers(folder: Path, captions: list[str]) -> None:
    """A dataset of somebody else's: no facts."""
    for kind, level in (("images", 90), ("masks", 255)):
        (folder / kind).mkdir(parents=True)
        for at in range(len(captions)):
            picture = np.zeros((10, 20), np.uint8)
            picture[10 - at :] = level
            write_picture(folder / kind / f"{at}.png", picture)
    samples = [TrainingSample(f"images/{at}.png", f"masks/{at}.png", text, text) for at, text in enumerate(captions)]
    (folder / "train.csv").write_text(train_csv(samples))


def test_any_such_folder_can_be_filtered_its_masks_are_measured_and_bad_rows_listed(
    lanepaint: Lanepaint, tmp_path: Path
) -> None:
    strangers(tmp_path / "in", [SINGLE, SINGLE, UNKNOWN, "a lovely road", SINGLE, SINGLE])
    (tmp_path / "in/images/4.png").unlink()
    code, out, _ = lanepaint("dataset", "filter", "in", "out")
    assert code == 0
    # The first one's mask is empty.
    assert [row["image"] for row in rows(tmp_path / "out")] == ["images/1.png", "images/5.png"]
    assert "refused images/4.png: images/4.png is missing" in out
    for rule in ("caption removed 1", "clear_road removed 1", "mask_share removed 1"):
        assert rule in out


def test_a_confidence_that_a_folder_does_not_know_is_refused(lanepaint: Lanepaint, tmp_path: Path) -> None:
    strangers(tmp_path / "in", [SINGLE, SINGLE])
    code, _, err = lanepaint("dataset", "filter", "in", "out", "--min-confidence", "0.5")
    assert code == 2
    assert "the confidence of images/0.png is not known" in err
    assert len(err.splitlines()) == 1


def test_the_exit_code_tells_when_no_row_is_left(lanepaint: Lanepaint, tmp_path: Path) -> None:
    strangers(tmp_path / "in", [SINGLE])
    (tmp_path / "in/images/0.png").unlink()
    code, out, err = lanepaint("dataset", "filter", "in", "out")
    assert code == 2
    assert "refused images/0.png" in out
    assert "nothing is left of in: of 0 samples, none was removed; 1 row(s) were refused" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere", "out"), "nowhere has no train.csv"),
        (("in", "in"), "exists and is not empty"),
        (("in", "out", "--style", "single_white_solid", "--count", "double"), "says count, colour and pattern already"),
        (("in", "out", "--count", "triple"), "'triple' is not one of"),
    ],
)
def test_a_filter_that_cannot_be_says_why(
    lanepaint: Lanepaint, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    strangers(tmp_path / "in", [SINGLE])
    code, _, err = lanepaint("dataset", "filter", *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_datasets_on_an_object_store_are_read_and_written(lanepaint: Lanepaint, chunks: tuple[str, ...]) -> None:
    from upath import UPath

    code, out, _ = lanepaint("dataset", "export", "memory://bucket/all", "--mode", "symlink")
    assert code == 0
    assert "pictures are copies: --mode symlink works between local folders only" in out
    code, _, _ = lanepaint("dataset", "filter", "memory://bucket/all", "memory://bucket/double", "--count", "double")
    assert code == 0
    assert len(list(UPath("memory://bucket/double/images").iterdir())) == 2
