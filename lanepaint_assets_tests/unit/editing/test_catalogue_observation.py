"""The observed prompt catalogue: it follows the file and the promoted LoRAs, and stays while the file is broken."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lanepaint_assets.editing.catalogue import load_catalogue
from lanepaint_assets.editing.catalogue_observation import due_catalogue, observe_catalogue
from lanepaint_assets.editing.loras import catalogue_version
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.observed import ABSENT

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PROMPTS = """
prompts:
  - key: mine
    instruction: {instruction}
    style: {{count: single, color: white, pattern: solid}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.yaml"
    path.write_text(PROMPTS.format(instruction="One line."))
    return path


@pytest.fixture
def platform(tmp_path: Path, file: Path) -> Platform:
    return Platform(Settings(root=str(tmp_path / "root"), prompt_file=str(file)))


def test_a_changed_prompt_is_a_new_version_in_a_process_that_read_the_file_before(
    platform: Platform, file: Path
) -> None:
    before = observe_catalogue(platform, NOW)
    assert before.state.version == catalogue_version(platform.catalogue, {})
    assert "mine" in {prompt.key for prompt in before.prompts}
    assert due_catalogue(platform, NOW) == []
    file.write_text(PROMPTS.format(instruction="Another line."))
    assert due_catalogue(platform, NOW) == ["prompt_catalogue"]
    after = observe_catalogue(platform, NOW)
    assert after.state.version == catalogue_version(load_catalogue(str(file)), {}) != before.state.version
    assert due_catalogue(platform, NOW) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [("prompts: [{key: x}]", "x"), ("prompts: [", "not valid YAML"), (None, "the prompt catalogue cannot be read")],
)
def test_a_broken_file_keeps_the_version_and_says_why_and_since_when(
    platform: Platform, file: Path, content: str | None, told: str
) -> None:
    good = file.read_text()
    before = observe_catalogue(platform, NOW).state
    file.unlink() if content is None else file.write_text(content)
    assert due_catalogue(platform, NOW) == ["prompt_catalogue"]
    for hours in (1, 2):
        broken = observe_catalogue(platform, NOW + timedelta(hours=hours))
        assert (broken.state.version, broken.state.since) == (before.version, NOW + timedelta(hours=1))
        assert told in (broken.state.problem or "")
        assert str(file) in (broken.state.problem or "")
        assert broken.prompts == ()
    assert due_catalogue(platform, NOW) == []
    file.write_text(good)
    mended = observe_catalogue(platform, NOW + timedelta(hours=3)).state
    assert (mended.version, mended.published, mended.problem) == (before.version, NOW, None)


def test_a_catalogue_that_was_never_usable_is_absent(platform: Platform, file: Path) -> None:
    file.write_text("prompts: 3")
    assert observe_catalogue(platform, NOW).state.version == ABSENT


def test_a_promoted_lora_is_a_new_version_and_a_damaged_pointer_none(platform: Platform, tmp_path: Path) -> None:
    before = observe_catalogue(platform, NOW).state
    lora = tmp_path / "root" / "outputs" / "training" / "single_white_solid"
    lora.mkdir(parents=True)
    (lora / "weights.safetensors").write_bytes(b"1")
    pointer = lora / "promoted_lora.json"
    pointer.write_text(
        json.dumps(
            {
                "style": "single_white_solid",
                "version": "v1",
                "fingerprint": "a" * 64,
                "base": "b" * 64,
                "file": "outputs/training/single_white_solid/weights.safetensors",
                "promoted_by": "person",
            }
        )
    )
    assert due_catalogue(platform, NOW) == ["prompt_catalogue"]
    promoted = observe_catalogue(platform, NOW)
    assert promoted.state.version != before.version
    assert promoted.with_lora == {"single_white_solid"}
    pointer.write_text("{half")
    damaged = observe_catalogue(platform, NOW)
    assert damaged.state.version == promoted.state.version
    assert "promoted_lora.json names no LoRA" in (damaged.state.problem or "")
