"""From filtered samples in the store to the LoRA that a style is painted with, and the commands around it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.clips.pictures import write_picture
from lanepaint_assets.clips.records import ChunkMembership
from lanepaint_assets.definitions import build
from lanepaint_assets.lanes.attributes import LaneStyle, parse_caption
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.items import ItemOutput, ItemTask, StepError, run_items
from lanepaint_assets.store.promoted_loras import WEIGHTS_FILE, promoted_lora
from lanepaint_assets.training.flux_lora import run as training
from lanepaint_assets.training.lora_checkpoints import StopRequest
from lanepaint_assets.training.lora_steps import make_lane_lora
from lanepaint_assets.training.samples import FACTS_FILE, TRAIN_FILE, SampleFacts, TrainingSample, facts_csv, train_csv
from lanepaint_assets_tests.terminal import typed
from lanepaint_assets_tests.unit.training.flux_lora.tiny_training import CAPTION, STYLE, road

CHUNK = "chunk_0001"
WHITE_SOLID: LaneStyle = parse_caption(CAPTION)
CLIPS, A_CLIP = 4, 2


SMALL: dict[str, object] = {
    "lora_rank": 4,
    "lora_learning_rate": 1e-2,
    "lora_epochs": 1,
    "lora_warmup_steps": 1,
    "lora_width": 64,
    "lora_height": 64,
    "mask_dilation_px": 4,
    "lora_validation_share": 0.2,
    "lora_checkpoint_steps": 3,
    "lora_pictures": 0,
    "flux_device": "cpu",
}


def settings(root: Path, **changes: object) -> Settings:
    return Settings(root=str(root), **{**SMALL, **changes})  # type: ignore[arg-type]


def fill_store(platform: Platform, clips: int = CLIPS) -> None:
    """Samples of some clips, all of one style, and their subset, as the two assets before this one leave them."""
    store = platform.store
    store.save_chunk(ChunkMembership(key=CHUNK, source="test", clips=()))
    tasks = [
        ItemTask(f"clip{clip}", fingerprint(asset="t", item_key=f"clip{clip}", upstream={}, engine=None, params={}))
        for clip in range(clips)
    ]
    listed: list[TrainingSample] = []

    def samples_of(task: ItemTask, folder: Path) -> ItemOutput:
        own = []
        for name in ("images", "masks"):
            (folder / name).mkdir()
        for number in range(A_CLIP):
            picture, mask = road(A_CLIP * int(task.key[-1]) + number)
            file = f"{task.key}_{number}.png"
            write_picture(folder / "images" / file, picture)
            write_picture(folder / "masks" / file, mask.astype("uint8") * 255)
            facts = SampleFacts(CHUNK, task.key, task.fingerprint, "e", number, number, 0.9, 0.3, "0" * 16)
            own.append(TrainingSample(f"images/{file}", f"masks/{file}", CAPTION, CAPTION, facts))
        (folder / TRAIN_FILE).write_text(train_csv(own))
        (folder / FACTS_FILE).write_text(facts_csv(own))
        listed.extend(sample.below(f"{task.key}/{task.fingerprint}") for sample in own)
        return ItemOutput()

    run_items(store, "training_samples", CHUNK, tasks, samples_of, run_id="r")

    def subset(task: ItemTask, folder: Path) -> ItemOutput:
        kept = listed if task.key == STYLE else []
        (folder / TRAIN_FILE).write_text(train_csv(kept))
        (folder / FACTS_FILE).write_text(facts_csv(kept))
        count = len(listed)
        return ItemOutput(facts={"samples": count, "kept": len(kept), "removed_by_count": count - len(kept)})

    subsets = [
        ItemTask(key, fingerprint(asset="f", item_key=key, upstream={"clips": str(clips)}, engine=None, params={}))
        for key in (STYLE, "double_yellow_solid")
    ]
    run_items(store, "filtered_samples", CHUNK, subsets, subset, run_id="r")


@pytest.fixture
def platform_with(checkpoint: Path, tmp_path: Path) -> Callable[..., Platform]:
    """A platform on a store with samples and the tiny base model."""

    def make(**changes: object) -> Platform:
        platform = Platform(settings(tmp_path / "root", **changes), progress=lambda *_: None)
        base = tmp_path / "root/checkpoints/videopainter/ckpt/flux_inp"
        if not base.exists():
            shutil.copytree(checkpoint, base)
            fill_store(platform)
        return platform

    return make


def test_a_finished_training_is_the_styles_lora_and_is_not_trained_again(
    platform_with: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = platform_with()
    first = make_lane_lora(platform, WHITE_SOLID, "r1")
    assert first.in_use is not None
    assert first.in_use.version == first.row.key
    assert first.in_use.path.read_bytes() == platform.store.read_bytes(first.row, WEIGHTS_FILE)
    assert (first.row.facts["samples"], first.row.facts["held_out"], first.row.facts["steps"]) == (6, 2, 6)
    names = {record.name for record in first.row.files}
    assert {WEIGHTS_FILE, "README.md", "lineage.csv", "loss.csv", "validation_loss.csv", "loss.png"} <= names
    assert any(name.startswith("tensorboard/") for name in names) == first.row.facts["tensorboard"]
    card = platform.store.read_bytes(first.row, "README.md").decode()
    assert str(first.row.facts["base"]) in card
    assert "| rank | 4 |" in card
    lineage = platform.store.read_bytes(first.row, "lineage.csv").decode().splitlines()
    assert len(lineage) == 1 + CLIPS * A_CLIP

    monkeypatch.setattr(training, "train_lora", None)
    again = make_lane_lora(platform, WHITE_SOLID, "r2")
    assert again.partition.reused == (first.row.key,)
    assert again.in_use == first.in_use


def test_new_settings_are_a_new_version_and_old_ones_can_be_promoted_again(
    platform_with: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_lane_lora(platform_with(), WHITE_SOLID, "r1")
    platform = platform_with(lora_alpha=4, lora_promotion="manual")
    second = make_lane_lora(platform, WHITE_SOLID, "r2")
    assert second.row.key != first.row.key
    assert second.in_use == first.in_use

    monkeypatch.setenv("LANEPAINT_ROOT", platform.settings.root)
    run = partial(typed, monkeypatch, capsys)
    listed = run("loras", "list").out
    assert f"single_white_solid: {first.row.key} (by training)" in listed
    assert f" * {first.row.key}  6 samples, 6 steps, held-out loss" in listed
    assert f"   {second.row.key}  6 samples, 6 steps, held-out loss" in listed
    assert "double_yellow_solid: base model" in listed

    assert "is painted with" in run("loras", "promote", STYLE).out
    assert promoted_lora(platform.store, STYLE).version == second.row.key  # type: ignore[union-attr]
    # A person's choice stands as long as nothing new is trained.
    run("loras", "promote", STYLE, first.row.key)
    assert make_lane_lora(platform_with(lora_alpha=4), WHITE_SOLID, "r3").in_use.version == first.row.key  # type: ignore[union-attr]


def test_the_command_trains_and_says_what_the_style_is_painted_with(
    platform_with: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    platform = platform_with()
    for name, value in {"root": platform.settings.root, **SMALL, "lora_promotion": "manual"}.items():
        monkeypatch.setenv(f"LANEPAINT_{name.upper()}", str(value))
    run = partial(typed, monkeypatch, capsys)
    done = run("loras", "train", STYLE)
    assert done.code == 0
    (version,) = platform.store.manifest("lane_loras", STYLE).rows
    assert f"{STYLE}: {version}, 6 samples, 6 steps, held-out loss" in done.out
    assert f"{STYLE} is painted with the base model; to change that: lanepaint loras promote" in done.out
    monkeypatch.setenv("LANEPAINT_LORA_PROMOTION", "automatic")
    assert f"{STYLE} is painted with it" in run("loras", "train", STYLE).out
    failed = run("loras", "train", "double_yellow_solid")
    assert failed.code != 0
    assert "no samples to train the LoRA of double_yellow_solid" in failed.out


def test_a_training_that_a_person_ended_is_kept_but_not_promoted(
    platform_with: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = platform_with()
    monkeypatch.setattr(training, "_STOP_EVERY_S", 0.0)

    class Asked(training.Trainer):
        def run_step(self) -> None:
            super().run_step()
            if self.state.step == 2:
                StopRequest(platform.store, STYLE).make()

    monkeypatch.setattr(training, "Trainer", Asked)
    outcome = make_lane_lora(platform, WHITE_SOLID, "r1")
    assert outcome.row.facts["stopped"] is True
    assert outcome.in_use is None
    assert "ended early by request; 6 were meant" in platform.store.read_bytes(outcome.row, "README.md").decode()


def test_without_held_out_samples_the_card_says_that_nothing_was_measured(
    platform_with: Callable[..., Platform],
) -> None:
    platform = platform_with(lora_validation_share=0.0)
    row = make_lane_lora(platform, WHITE_SOLID, "r").row
    assert (row.facts["samples"], row.facts["held_out"], row.facts["loss_after"]) == (8, 0, None)
    assert "No sample was held out" in platform.store.read_bytes(row, "README.md").decode()
    assert not [record for record in row.files if record.name.startswith("pictures/")]


def test_a_style_without_samples_says_which_rules_removed_them(platform_with: Callable[..., Platform]) -> None:
    yellow = parse_caption("road with double yellow solid lane markings")
    with pytest.raises(StepError, match=r"no samples .* double_yellow_solid .*of 8 samples.* count"):
        make_lane_lora(platform_with(), yellow, "r")


def test_a_damaged_sample_fails_the_training_by_its_name(platform_with: Callable[..., Platform]) -> None:
    platform = platform_with()
    row = platform.store.manifest("training_samples", CHUNK).rows["clip1"]
    Path(platform.store.file_path(row, "images/clip1_0.png").path).write_bytes(b"no picture")
    with pytest.raises(StepError, match=r"could not be trained: .*clip1_0\.png"):
        make_lane_lora(platform, WHITE_SOLID, "r")


def test_a_loss_that_becomes_nan_fails_with_the_learning_rate(
    platform_with: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(training.Trainer):
        def show(self) -> None:
            super().show()
            if self.state.step == 1:
                for weight in self.state.weights:
                    weight.data.fill_(float("nan"))

    monkeypatch.setattr(training, "Trainer", Broken)
    with pytest.raises(StepError, match="lower the learning rate"):
        make_lane_lora(platform_with(), WHITE_SOLID, "r")


def test_the_asset_shows_curve_card_and_the_lora_in_use(platform_with: Callable[..., Platform]) -> None:
    platform = platform_with(lora_pictures=1)
    definitions = build(platform.settings, platform=platform)
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("lora_training").execute_in_process(partition_key=STYLE, instance=instance)
        assert result.success
        (event,) = result.asset_materializations_for_node("lane_loras")
        failed = definitions.resolve_job_def("lora_training").execute_in_process(
            partition_key="double_white_dashed", instance=instance, raise_on_error=False
        )
        assert not failed.success
    metadata = {name: value.value for name, value in event.metadata.items()}
    assert metadata["loss_curve"].startswith("![loss curve](data:image/png;base64,")
    assert metadata["painted"].startswith("![a held-out sample")
    assert "# LoRA `single_white_solid`" in metadata["model_card"]
    assert metadata["in_use"] == f"{metadata['version']}, training"
    assert metadata["loss_after"] < metadata["loss_before"]


@pytest.mark.parametrize(
    "command", [["promote", "no_style"], ["stop", "no_style"], ["promote", STYLE, "nothing"], ["promote", STYLE]]
)
def test_commands_refuse_what_there_is_not(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LANEPAINT_ROOT", str(tmp_path))
    answer = typed(monkeypatch, capsys, "loras", *command)
    assert answer.code != 0
    assert answer.err.startswith("lanepaint: ")
    assert "Traceback" not in answer.err
