"""What a dataset folder says of itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import mlcroissant
import pytest

from lanepaint_assets.training.dataset_card import DatasetStory, croissant, dataset_card
from lanepaint_assets.training.samples import RefusedRow, SampleFacts, TrainingSample, facts_csv, train_csv

CAPTIONS = ["road with single white solid lane markings"] * 2 + ["road with double yellow solid lane markings"]
SAMPLES = [
    TrainingSample(
        f"images/{at}.png",
        f"masks/{at}.png",
        caption,
        caption,
        SampleFacts(
            "chunk_0001", "a.front", "f" * 64, "classical 2 + measured 3", at, 2_000_000 * at, 0.5, 0.25, "0" * 16
        ),
    )
    for at, caption in enumerate(CAPTIONS)
]
STORY = DatasetStory(
    name="roads | one",
    url="file:///data/roads",
    licence="CC-BY-4.0",
    made_by="LanePaint 1.0",
    published="2030-01-02",
    origin="All samples of chunk_0001.",
    removed={"count": 4},
    refused=[RefusedRow("images/x.png", "masks/x.png is missing")],
    near_duplicates=7,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text(train_csv(SAMPLES))
    (tmp_path / "facts.csv").write_text(facts_csv(SAMPLES))
    (tmp_path / "croissant.json").write_text(croissant(SAMPLES, STORY))
    return tmp_path


def test_croissant_is_valid_and_its_records_are_the_tables(folder: Path) -> None:
    dataset = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    issues = dataset.metadata.issues
    assert not issues.errors, issues.report()
    assert not issues.warnings, issues.report()
    records = list(dataset.records(record_set="train"))
    assert [record["train/prompt"].decode() for record in records] == CAPTIONS
    assert [record["train/mask"].decode() for record in records] == [sample.mask for sample in SAMPLES]
    facts = list(dataset.records(record_set="facts"))
    assert [record["facts/frame"] for record in facts] == [0, 1, 2]
    assert [record["facts/confidence"] for record in facts] == [0.5] * 3


def test_croissant_gives_the_digests_of_the_tables_as_they_are_written(folder: Path) -> None:
    record = json.loads((folder / "croissant.json").read_text())
    assert record["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert record["license"] == "CC-BY-4.0"
    digests = {file["@id"]: file["sha256"] for file in record["distribution"] if "sha256" in file}
    assert digests == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("train.csv", "facts.csv")
    }


def test_the_card_counts_samples_by_style_and_names_engines_lineage_rules_refusals_and_licence() -> None:
    card = dataset_card(SAMPLES, STORY)
    for said in (
        "| road with single white solid lane markings | 2 |",
        "| road with double yellow solid lane markings | 1 |",
        "| count | another count | 4 |",
        "| images/x.png | masks/x.png is missing |",
        "| chunk_0001 | a.front | 3 | classical 2 + measured 3 | ffffffffffffffff |",
        "Near-duplicates left out when the samples were made: 7.",
        "Licence named for this dataset: CC-BY-4.0.",
        "Made by LanePaint 1.0 on 2030-01-02.",
    ):
        assert said in card


def test_a_card_of_strangers_samples_claims_no_lineage() -> None:
    strangers = [TrainingSample("images/a.png", "masks/a.png", CAPTIONS[0], CAPTIONS[0])]
    card = dataset_card(strangers, STORY)
    assert "`facts.csv`: 0 rows" in card
    assert "| none |" in card
