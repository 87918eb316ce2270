"""Which version of a checkpoint is in force while it is copied, replaced, broken, mended and removed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lanepaint_assets.checkpoints import observation
from lanepaint_assets.checkpoints.observation import Observation, due_checkpoints, look_at, observe_checkpoints
from lanepaint_assets.checkpoints.smoke_check import Outcome, check_mode
from lanepaint_assets.engines import EngineEntry, engine_reading
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.observed import ABSENT
from lanepaint_assets_tests.unit.checkpoints.conftest import write_pipeline, write_torch_file

FLUX, COG, BRANCH = "flux_fill_checkpoint", "cogvideox_checkpoint", "videopainter_branch_checkpoint"
PASSED = Outcome(reason=None, is_final=True, seconds=2.0)
REFUSED = Outcome(reason="the network gave NaN", is_final=True, seconds=2.0)
BUSY = Outcome(reason="it does not fit into the memory of cuda:0", is_final=False, seconds=2.0)


class Watch:
    """A platform, a clock that tests turn, and a smoke check whose outcome they choose."""

    def __init__(self, root: Path, **settings: Any) -> None:
        chosen = {"checkpoint_check": "load", **settings}
        self.platform = Platform(Settings(root=str(root), **chosen))
        self.outcome = PASSED
        self.checked: list[tuple[str, dict[str, str]]] = []
        self.minutes = 0.0

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=self.minutes)

    def folder(self, asset: str) -> Path:
        return Path(self.platform.checkpoint_folder(asset).path)

    def observe(self, *assets: str) -> dict[str, Observation]:
        wanted = assets or (FLUX,)
        return {each.asset: each for each in observe_checkpoints(self.platform, wanted, self.now, self._check)}

    def flux(self) -> Observation:
        return self.observe(FLUX)[FLUX]

    def due(self) -> list[str]:
        return due_checkpoints(self.platform, self.now)

    def _check(self, _: Platform, entry: EngineEntry, versions: Mapping[str, str], __: datetime) -> Outcome:
        self.checked.append((entry.name, dict(versions)))
        return self.outcome


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path / "root")


@pytest.fixture
def in_force(watch: Watch) -> Watch:
    """FLUX is there and was taken."""
    write_pipeline(watch.folder(FLUX))
    watch.minutes = 6
    assert watch.flux().condition == "fine"
    watch.checked.clear()
    return watch


def test_absent_checkpoints_are_absent_without_a_problem(watch: Watch) -> None:
    for found in watch.observe(FLUX, COG, BRANCH, "alpamayo_checkpoint").values():
        assert (found.condition, found.state.version, found.state.problem) == ("absent", ABSENT, None)
    assert watch.checked == []


def test_a_new_checkpoint_waits_until_nobody_has_touched_it_for_a_while(watch: Watch) -> None:
    write_pipeline(watch.folder(FLUX))
    watch.minutes = 4
    waiting = watch.flux()
    assert (waiting.condition, waiting.state.version) == ("unstable", ABSENT)
    assert "it is taken 5 minutes after that" in (waiting.state.problem or "")
    assert watch.checked == []
    assert FLUX not in watch.due()
    watch.minutes = 6
    assert FLUX in watch.due()
    taken = watch.flux()
    assert (taken.condition, taken.state.problem) == ("fine", None)
    assert taken.state.version == look_at(watch.platform, FLUX, watch.now).listing.version
    assert watch.checked == [("flux_fill", {FLUX: taken.state.version})]
    assert FLUX not in watch.due()


def test_a_version_in_force_is_not_checked_again(in_force: Watch) -> None:
    in_force.minutes += 60
    assert in_force.flux().condition == "fine"
    assert in_force.checked == []


def test_a_half_copied_successor_leaves_the_version_before_in_force_and_says_since_when(in_force: Watch) -> None:
    before = in_force.flux().state.version
    shard = in_force.folder(FLUX) / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    assert FLUX in in_force.due()
    started = in_force.now
    for minutes in (0, 30, 300):
        in_force.minutes += minutes
        half = in_force.flux()
        assert (half.condition, half.state.version) == ("incomplete", before)
        assert f"{shard.name}: this file of the checkpoint is damaged or cut short" in (half.state.problem or "")
        assert half.state.since is not None
        assert abs(half.state.since - started) < timedelta(minutes=1)
        # Nothing is worth another look until a file changes.
        assert FLUX not in in_force.due()
    shard.write_bytes(whole)
    in_force.minutes = 1
    assert in_force.flux().condition == "unstable"
    in_force.minutes = 6
    completed = in_force.flux()
    assert completed.condition == "fine"
    assert completed.state.version != before
    assert completed.state.problem is None


def test_an_upload_beside_the_old_files_is_told_and_the_old_version_stays(in_force: Watch) -> None:
    before = in_force.flux().state.version
    part = in_force.folder(FLUX) / "vae" / "diffusion_pytorch_model.safetensors.part"
    part.write_bytes(b"1")
    told = in_force.flux()
    assert (told.condition, told.state.version) == ("incomplete", before)
    part.unlink()
    assert in_force.flux().state.problem is None


def test_a_checkpoint_that_fails_its_check_is_refused_with_the_reason_and_the_old_one_stays(in_force: Watch) -> None:
    before = in_force.flux().state.version
    write_pipeline(in_force.folder(FLUX), value=float("nan"))
    in_force.outcome, in_force.minutes = REFUSED, 6
    refused = in_force.flux()
    assert (refused.condition, refused.state.version) == ("refused", before)
    assert refused.state.problem == "the network gave NaN"
    assert FLUX not in in_force.due()


def test_the_old_files_put_back_end_the_problem_without_another_check(in_force: Watch, tmp_path: Path) -> None:
    folder, before = in_force.folder(FLUX), in_force.flux().state.version
    shutil.copytree(folder, tmp_path / "kept")
    write_pipeline(folder, value=float("nan"))
    in_force.outcome, in_force.minutes = REFUSED, 6
    assert in_force.flux().condition == "refused"
    in_force.checked.clear()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "kept", folder)
    back = in_force.flux()
    assert (back.condition, back.state.version, back.state.problem) == ("fine", before, None)
    assert in_force.checked == []


def test_what_says_nothing_about_the_files_is_tried_again_later(watch: Watch) -> None:
    write_pipeline(watch.folder(FLUX))
    watch.outcome, watch.minutes = BUSY, 6
    assert watch.flux().condition == "refused"
    assert FLUX not in watch.due()
    watch.minutes += 61
    assert FLUX in watch.due()
    watch.outcome = PASSED
    assert watch.flux().condition == "fine"


def test_a_checkpoint_that_vanishes_counts_as_absent_only_after_a_while(in_force: Watch) -> None:
    before = in_force.flux().state.version
    shutil.rmtree(in_force.folder(FLUX))
    gone = in_force.flux()
    assert (gone.condition, gone.state.version) == ("unstable", before)
    in_force.minutes += 4
    assert in_force.flux().state.version == before
    assert FLUX not in in_force.due()
    in_force.minutes += 2
    assert FLUX in in_force.due()
    absent = in_force.flux()
    assert (absent.condition, absent.state.version, absent.state.problem) == ("absent", ABSENT, None)
    assert in_force.checked == []


def test_a_file_removed_from_a_checkpoint_restarts_the_wait(in_force: Watch) -> None:
    (in_force.folder(FLUX) / "README.md").write_text("about")
    in_force.minutes = 6
    assert in_force.flux().condition == "fine"
    in_force.minutes = 0
    time.sleep(0.01)
    (in_force.folder(FLUX) / "README.md").unlink()
    assert in_force.flux().condition == "unstable"


def test_only_the_file_that_the_settings_choose_is_sam_2s_checkpoint(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "root", sam2_model="tiny", checkpoint_stable_minutes=0)
    asset = "sam2_checkpoint"
    write_torch_file(watch.folder(asset) / "sam2.1_hiera_large.pt")
    assert watch.observe(asset)[asset].condition == "absent"
    write_torch_file(watch.folder(asset) / "sam2.1_hiera_tiny.pt")
    taken = watch.observe(asset)[asset]
    assert taken.condition == "fine"
    write_torch_file(watch.folder(asset) / "sam2.1_hiera_large.pt", b"other")
    assert watch.observe(asset)[asset].state == taken.state


def write_branch(folder: Path) -> Path:
    for path in (write_pipeline(folder.with_name("whole")) / "vae").iterdir():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, folder / path.name)
    shutil.rmtree(folder.with_name("whole"))
    return folder


def test_two_checkpoints_of_one_engine_are_checked_together(watch: Watch) -> None:
    write_pipeline(watch.folder(COG))
    write_branch(watch.folder(BRANCH))
    watch.minutes = 6
    observed = watch.observe(COG, BRANCH)
    versions = {asset: observed[asset].state.version for asset in (COG, BRANCH)}
    assert watch.checked == [("videopainter", versions)] * 2
    watch.checked.clear()
    (watch.folder(BRANCH) / "config.json").write_text('{"_diffusers_version": "1"}')
    watch.outcome = REFUSED
    observed = watch.observe(COG, BRANCH)
    assert observed[COG].condition == "fine"
    assert observed[BRANCH].condition == "refused"
    assert f"checked together with {COG}" in (observed[BRANCH].state.problem or "")


def test_a_checkpoint_waits_for_a_half_copied_partner_and_not_for_an_absent_one(watch: Watch) -> None:
    write_pipeline(watch.folder(COG))
    watch.minutes = 6
    alone = watch.observe(COG)[COG]
    assert alone.condition == "fine"
    assert f"{BRANCH} is absent" in alone.check
    assert watch.checked == []
    write_pipeline(watch.folder(COG), value=2.0)
    (watch.folder(BRANCH)).mkdir(parents=True)
    (watch.folder(BRANCH) / "config.json").write_text("{}")
    waiting = watch.observe(COG)[COG]
    assert (waiting.condition, waiting.state.version) == ("unstable", alone.state.version)
    assert f"{BRANCH}, which is incomplete" in (waiting.state.problem or "")


def test_without_loading_a_whole_checkpoint_is_taken_and_says_so(tmp_path: Path) -> None:
    for mode, words in (("header", "the model was not loaded"), ("off", "none but that all files are there")):
        watch = Watch(tmp_path / mode, checkpoint_check=mode, checkpoint_stable_minutes=0)
        write_pipeline(watch.folder(FLUX))
        taken = watch.flux()
        assert (taken.condition, watch.checked) == ("fine", [])
        assert words in taken.check


def test_a_folder_of_several_models_is_checked_like_any_other(watch: Watch) -> None:
    asset = "alpamayo_checkpoint"
    model = watch.folder(asset) / "Alpamayo-R1-10B"
    write_branch(model)
    watch.minutes = 6
    taken = watch.observe(asset)[asset]
    assert taken.condition == "fine"
    assert watch.checked == [("alpamayo", {asset: taken.state.version})]
    os.truncate(model / "diffusion_pytorch_model.safetensors", 20)
    assert watch.observe(asset)[asset].condition == "incomplete"


def test_where_the_settings_leave_it_open_models_are_loaded_only_beside_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lanepaint_assets.checkpoints import smoke_check

    entry = engine_reading(FLUX)
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(smoke_check, "_GPU_FILES", (str(tmp_path / "none"),))
    assert check_mode(Settings(), entry) == "header"
    assert check_mode(Settings(checkpoint_check="load"), entry) == "load"
    monkeypatch.setattr(smoke_check, "_GPU_FILES", (str(tmp_path / "none"), str(tmp_path / "nvidia0")))
    assert check_mode(Settings(), entry) == "load"
    monkeypatch.setattr(smoke_check, "lacking_packages", lambda entry, settings: "needs torch")
    assert check_mode(Settings(), entry) == "header"


def test_a_folder_that_may_not_be_read_is_no_absent_checkpoint(
    in_force: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = in_force.flux().state.version
    list_it = observation.list_checkpoint

    def refused(folder: Any, file: str | None = None) -> Any:
        if folder == in_force.platform.checkpoint_folder(FLUX):
            raise PermissionError(13, "Permission denied", str(folder))
        return list_it(folder, file)

    monkeypatch.setattr(observation, "list_checkpoint", refused)
    assert FLUX in in_force.due()
    observed = in_force.observe(FLUX, COG)
    assert (observed[FLUX].condition, observed[FLUX].state.version) == ("unreadable", before)
    assert "Permission denied" in (observed[FLUX].state.problem or "")
    assert observed[COG].condition == "absent"
    monkeypatch.undo()
    assert FLUX in in_force.due()
    assert in_force.flux().condition == "fine"
