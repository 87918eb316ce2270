"""Dataset folders: read row by row, written whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from lanepaint_assets.training import dataset_folder
from lanepaint_assets.training.dataset_folder import (
    CopyMode,
    DatasetFolderError,
    read_dataset,
    write_dataset,
)
from lanepaint_assets.training.samples import SampleFacts, TrainingSample, facts_csv, train_csv

CAPTION = "road with single white solid lane markings"
FACTS = SampleFacts("chunk_0001", "a.front", "f" * 64, "x/1", 0, 0, 0.5, 0.25, "0" * 16)

Folder = Callable[[str], UPath]


def sample(name: str) -> TrainingSample:
    return TrainingSample(f"images/{name}", f"masks/{name}", CAPTION, CAPTION, FACTS)


def fill(folder: UPath, *names: str) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / kind / name).write_bytes(f"{kind} {name}".encode())
    samples = [sample(name) for name in names]
    (folder / "train.csv").write_text(train_csv(samples))
    (folder / "facts.csv").write_text(facts_csv(samples))


@pytest.fixture(params=["local", "memory", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """Folders on a local disk and on object stores."""
    if request.param == "local":
        return lambda name: UPath(tmp_path / name)
    if request.param == "gs":
        bucket = request.getfixturevalue("gcs_folder")
        return lambda name: UPath(f"{bucket}/{name}", token="anon")
    # Brackets, as in a test's name, are wildcards to file systems.
    return lambda name: UPath(f"memory://datasets{abs(hash(request.node.name))}/{name}")


def test_what_is_written_is_read_back_with_its_files(place: Folder) -> None:
    fill(place("in"), "a.png", "b.png")
    rows = read_dataset(place("in")).rows
    assert write_dataset(place("out"), rows, "copy", {"README.md": "card"}) == "copy"
    again = read_dataset(place("out"))
    assert [row.sample for row in again.rows] == [sample("a.png"), sample("b.png")]
    assert again.refused == ()
    assert (place("out") / "images" / "b.png").read_bytes() == b"images b.png"
    assert (place("out") / "masks" / "a.png").read_bytes() == b"masks a.png"
    assert (place("out") / "README.md").read_text() == "card"


@pytest.mark.parametrize(
    ("damage", "row", "reason"),
    [
        (lambda folder: (folder / "images/b.png").unlink(), "images/b.png", "images/b.png is missing"),
        (lambda folder: (folder / "masks/b.png").unlink(), "images/b.png", "masks/b.png is missing"),
        (lambda folder: (folder / "masks/b.png").write_bytes(b""), "images/b.png", "masks/b.png is empty"),
        (lambda folder: _rewrite(folder, "masks/b.png", ""), "line 3", "no mask"),
        (lambda folder: _rewrite(folder, f"{CAPTION},{CAPTION}\nimages/c", "\nimages/c"), "line 3", "no prompt"),
        (lambda folder: _rewrite(folder, "images/b.png", "../b.png"), "../b.png", "../b.png does not lie below"),
        (lambda folder: _rewrite(folder, "images/b.png", "/b.png"), "/b.png", "/b.png does not lie below"),
    ],
)
def test_a_bad_row_is_refused_by_name_and_the_others_go_on(
    place: Folder, damage: Callable[[UPath], None], row: str, reason: str
) -> None:
    fill(place("in"), "a.png", "b.png", "c.png")
    damage(place("in"))
    found = read_dataset(place("in"))
    assert [kept.sample.image for kept in found.rows] == ["images/a.png", "images/c.png"]
    (refused,) = found.refused
    assert refused.row == row
    assert refused.reason.startswith(reason)


def _rewrite(folder: UPath, old: str, new: str) -> None:
    text = (folder / "train.csv").read_text()
    assert old in text
    (folder / "train.csv").write_text(text.replace(old, new))


def test_a_folder_without_a_table_is_refused(place: Folder) -> None:
    with pytest.raises(
        DatasetFolderError, match=r"has no train.csv; a dataset folder holds train.csv, images/ and masks/"
    ):
        read_dataset(place("nowhere"))


def test_a_table_that_is_no_text_is_refused(place: Folder) -> None:
    fill(place("in"), "a.png")
    (place("in") / "train.csv").write_bytes(b"image\xff")
    with pytest.raises(DatasetFolderError, match=r"train.csv is no UTF-8 text"):
        read_dataset(place("in"))


def test_facts_are_optional(place: Folder) -> None:
    fill(place("in"), "a.png")
    (place("in") / "facts.csv").unlink()
    (row,) = read_dataset(place("in")).rows
    assert row.sample.facts is None


def test_nothing_is_written_into_a_folder_that_holds_something(place: Folder) -> None:
    fill(place("in"), "a.png")
    rows = read_dataset(place("in")).rows
    with pytest.raises(DatasetFolderError, match="exists and is not empty"):
        write_dataset(place("in"), rows, "copy", {})


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_local_pictures_are_copied_or_linked_as_asked(tmp_path: Path, mode: CopyMode) -> None:
    fill(UPath(tmp_path / "in"), "a.png")
    rows = read_dataset(UPath(tmp_path / "in")).rows
    assert write_dataset(UPath(tmp_path / "out"), rows, mode, {}) == mode
    source, target = tmp_path / "in/images/a.png", tmp_path / "out/images/a.png"
    assert target.read_bytes() == b"images a.png"
    assert target.samefile(source) == (mode != "copy")
    assert target.is_symlink() == (mode == "symlink")
    # A dataset of links is a dataset.
    assert len(read_dataset(UPath(tmp_path / "out")).rows) == 1


@pytest.mark.parametrize("mode", ["hardlink", "symlink"])
def test_on_an_object_store_pictures_are_always_copied(tmp_path: Path, mode: CopyMode) -> None:
    fill(UPath(tmp_path / "in"), "a.png")
    rows = read_dataset(UPath(tmp_path / "in")).rows
    target = UPath(f"memory://always_copied_{mode}")
    assert write_dataset(target, rows, mode, {}) == "copy"
    assert (target / "images/a.png").read_bytes() == b"images a.png"


def test_links_that_the_disk_refuses_name_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(UPath(tmp_path / "in"), "a.png")
    rows = read_dataset(UPath(tmp_path / "in")).rows

    def across_disks(source: Path, target: str) -> None:
        raise OSError(18, "Invalid cross-device link", str(source))

    monkeypatch.setattr(dataset_folder.os, "link", across_disks)
    with pytest.raises(DatasetFolderError, match=r"hardlink of .*a.png \(Invalid cross-device link\); use --mode copy"):
        write_dataset(UPath(tmp_path / "out"), rows, "hardlink", {})


def test_a_dataset_that_was_cut_off_has_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(UPath(tmp_path / "in"), "a.png", "b.png")
    rows = read_dataset(UPath(tmp_path / "in")).rows
    (tmp_path / "in/masks/b.png").unlink()
    with pytest.raises(DatasetFolderError, match=r"b.png vanished while it was copied"):
        write_dataset(UPath(tmp_path / "out"), rows, "copy", {})
    assert not (tmp_path / "out/train.csv").exists()
