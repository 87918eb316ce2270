"""What `lanepaint doctor` says of each checkpoint, and of the engines that read it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from lanepaint_assets.checkpoints import smoke_check
from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.checkpoints.observation import observe_checkpoints
from lanepaint_assets.checkpoints.smoke_check import Outcome
from lanepaint_assets.commands import doctor
from lanepaint_assets.commands.doctor import examine
from lanepaint_assets.commands.launch import Session
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.checkpoints.conftest import write_pipeline, write_torch_file

NEXT = "complete; its check comes with the next observation"
SAM2, FLUX, COG = "sam2_checkpoint", "flux_fill_checkpoint", "cogvideox_checkpoint"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    settings = Settings(root=str(tmp_path / "root"), checkpoint_check="load", checkpoint_stable_minutes=0)
    # Sensors are looked up, which an instance in memory has no place for.
    with dg.instance_for_test() as instance:
        yield Session(settings, Platform(settings), instance)


def folder(session: Session, asset: str) -> Path:
    return Path(session.platform.checkpoint_folder(asset).path)


def all_lines(session: Session) -> list[str]:
    lines: list[str] = []
    examine(session, lines.append)
    return lines


def told(session: Session) -> dict[str, str]:
    """The rest of each line by its first word."""
    words = (line.split(maxsplit=1) for line in all_lines(session))
    return {each[0]: each[1] for each in words if len(each) == 2}


def sam2_engine(session: Session) -> str:
    """What the line of the engine says after its name and version."""
    (line,) = (line for line in all_lines(session) if " sam2 1 " in line)
    return line.partition(" sam2 1 ")[2].strip()


def observe(session: Session, reason: str | None) -> None:
    """With the real memory of checks, and an outcome in place of the process that loads."""
    outcome = Outcome(reason=reason, is_final=True, seconds=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smoke_check, "in_child", lambda *_: outcome)
        list(observe_checkpoints(session.platform, [*CHECKPOINT_FOLDERS], datetime.now(UTC)))


def test_every_checkpoint_has_a_line_with_what_is_wrong(session: Session) -> None:
    write_torch_file(folder(session, SAM2) / "sam2.1_hiera_large.pt")
    observe(session, None)
    shard = "transformer/diffusion_pytorch_model-00002-of-00002.safetensors"
    (write_pipeline(folder(session, FLUX)) / shard).unlink()
    write_pipeline(folder(session, COG))
    lines = told(session)
    assert lines[SAM2] == "1 file, 0.0 GB, fine"
    assert f"incomplete: {shard}: this file of the checkpoint is missing" in lines[FLUX]
    assert lines[FLUX].endswith("none was taken before")
    assert lines[COG] == "9 files, 0.0 GB, complete; its check comes with the next observation"
    assert lines["qwen_vl_checkpoint"].startswith("absent (checkpoints/videopainter/ckpt/vlm)")
    assert "dagster job launch -j observe_inputs" in lines["observed"]
    assert any("needs all of its flux_fill_checkpoint" in line for line in all_lines(session))


def test_a_refused_checkpoint_says_why_and_that_the_one_before_stays(session: Session) -> None:
    write_torch_file(folder(session, SAM2) / "sam2.1_hiera_large.pt")
    observe(session, None)
    write_torch_file(folder(session, SAM2) / "sam2.1_hiera_large.pt", b"not numbers")
    observe(session, "the network gave NaN")
    assert told(session)[SAM2] == ("1 file, 0.0 GB, refused: the network gave NaN; the one before stays in force")


def test_an_engine_with_a_refused_checkpoint_is_not_ready(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "lacking_packages", lambda entry, settings: None)
    write_torch_file(folder(session, SAM2) / "sam2.1_hiera_large.pt")
    assert sam2_engine(session) == "ready"
    observe(session, "the network gave NaN")
    assert sam2_engine(session) == "needs another one than the refused sam2_checkpoint"


def test_a_refusal_under_other_settings_is_not_told(session: Session) -> None:
    write_torch_file(folder(session, SAM2) / "sam2.1_hiera_large.pt")
    observe(session, "no kernel image for this device")
    assert "refused" in told(session)[SAM2]
    moved = session.settings.model_copy(update={"device": "cpu"})
    assert told(Session(moved, Platform(moved), session.instance))[SAM2].endswith(NEXT)


def test_a_checkpoint_that_has_rested_since_its_last_observation_is_not_refused(session: Session) -> None:
    write_torch_file(folder(session, SAM2) / "sam2.1_hiera_large.pt")
    hasty = session.settings.model_copy(update={"checkpoint_stable_minutes": 5.0})
    list(observe_checkpoints(Platform(hasty), [SAM2], datetime.now(UTC)))
    assert told(session)[SAM2].endswith(NEXT)


def test_a_removed_checkpoint_is_gone_and_its_engine_not_ready(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "lacking_packages", lambda entry, settings: None)
    file = write_torch_file(folder(session, SAM2) / "sam2.1_hiera_large.pt")
    observe(session, None)
    file.unlink()
    assert told(session)[SAM2] == "gone; the next observation says so"
    assert sam2_engine(session) == "needs its sam2_checkpoint: lanepaint checkpoints download sam2"


def test_an_unstable_checkpoint_says_when_it_is_taken(session: Session) -> None:
    write_torch_file(folder(session, SAM2) / "sam2.1_hiera_large.pt")
    waiting = session.settings.model_copy(update={"checkpoint_stable_minutes": 5.0})
    line = told(Session(waiting, Platform(waiting), session.instance))[SAM2]
    assert "unstable: its files were last touched at" in line
    assert "it is taken 5 minutes after that" in line
