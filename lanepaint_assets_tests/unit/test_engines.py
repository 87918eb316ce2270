"""The engine table: it must tell the truth about the classes that it names."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import get_args

import pytest

import lanepaint_assets_tests.torchvision_ops  # noqa: F401
from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.engines import ENGINES, EngineEntry, Role, chosen_engine, is_foundation_model, parse_label
from lanepaint_assets.settings import Settings, SettingsError

METHODS: dict[str, tuple[str, ...]] = {
    "segmenter": ("segment_video", "segment_picture"),
    "first_frame_painter": ("paint_first_frame",),
    "video_painter": ("paint_video",),
    "inspector": ("inspect", "first_caption", "judge"),
    "driver": ("predict", "cameras", "accepts_one_camera"),
}


@pytest.mark.parametrize("entry", ENGINES, ids=lambda entry: f"{entry.role}-{entry.name}")
def test_the_table_says_the_name_and_version_that_the_class_says(entry: EngineEntry) -> None:
    module, name = entry.target.split(":")
    engine = getattr(import_module(module), name)
    assert (engine.name, engine.version) == (entry.name, entry.version)


@pytest.mark.parametrize(
    "entry", [entry for entry in ENGINES if entry.family != "models"], ids=lambda entry: f"{entry.role}-{entry.name}"
)
def test_every_engine_is_built_without_arguments_and_plays_its_role(entry: EngineEntry) -> None:
    engine = entry.build()
    for method in METHODS[entry.role]:
        assert hasattr(engine, method)
    assert entry.label == f"{engine.name} {engine.version}"


@pytest.mark.parametrize("role", get_args(Role))
def test_every_role_has_a_cpu_engine_by_default(role: Role) -> None:
    entry = chosen_engine(Settings(), role)
    assert (entry.role, entry.family) == (role, "cpu")
    assert entry.extra == "cpu"


def test_a_role_takes_the_engine_that_its_setting_names() -> None:
    assert chosen_engine(Settings(driver="constant_velocity"), "driver").name == "constant_velocity"
    assert chosen_engine(Settings(driver="constant_velocity"), "inspector").name == "measured"


def test_an_unknown_engine_is_refused_with_the_roles_engines() -> None:
    with pytest.raises(SettingsError) as refused:
        chosen_engine(Settings(driver="alpamajo"), "driver")
    assert str(refused.value) == (
        "LANEPAINT_DRIVER='alpamajo' is not an engine; allowed: lane_follow, constant_velocity, alpamayo"
    )


def test_a_family_without_an_engine_for_a_role_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_only = tuple(entry for entry in ENGINES if entry.family != "models")
    monkeypatch.setattr("lanepaint_assets.engines.ENGINES", cpu_only)
    with pytest.raises(SettingsError, match="LANEPAINT_ENGINES='models' has no engine for the driver role") as refused:
        chosen_engine(Settings(engines="models"), "driver")
    assert "LANEPAINT_DRIVER" in str(refused.value)


@pytest.mark.parametrize(
    ("extra", "command"), [("qwen", r"pip install 'lanepaint\[qwen\]'"), ("sam2", "make install-sam2")]
)
def test_an_engine_whose_extra_is_missing_names_the_installation(extra: str, command: str) -> None:
    entry = EngineEntry("segmenter", "ghost", "1", "lanepaint_assets_tests.no_such_module:Ghost", extra, "models")
    with pytest.raises(SettingsError, match=f"'ghost' for LANEPAINT_SEGMENTER .*{command}"):
        entry.build()


def test_settings_choose_the_checkpoint_file_of_an_engine() -> None:
    entry = chosen_engine(Settings(segmenter="sam2", sam2_model="base_plus"), "segmenter")
    [checkpoint] = entry.checkpoints
    assert checkpoint.file_name(Settings(sam2_model="base_plus")) == "sam2.1_hiera_base_plus.pt"


@pytest.mark.parametrize("entry", [entry for entry in ENGINES if entry.checkpoints], ids=lambda entry: entry.name)
def test_what_the_table_gives_a_model_engine_is_what_its_constructor_takes(entry: EngineEntry) -> None:
    module, name = entry.target.split(":")
    taken = set(signature(getattr(import_module(module), name).from_checkpoint).parameters)
    given = {checkpoint.argument for checkpoint in entry.checkpoints} | {*entry.deciding, *entry.other, "cache"}
    assert given <= taken
    assert {*entry.deciding.values(), *entry.other.values()} <= Settings.model_fields.keys()
    assert {checkpoint.asset for checkpoint in entry.checkpoints} <= CHECKPOINT_FOLDERS.keys()


def test_labels_tell_cpu_engines_from_foundation_models() -> None:
    for entry in ENGINES:
        assert is_foundation_model(entry.label) == (entry.family == "models")
    assert is_foundation_model("imported") is None, "nobody knows"


def test_a_label_is_a_name_and_a_version_or_a_name_alone() -> None:
    assert parse_label("qwen2_5_vl 1") == ("qwen2_5_vl", "1")
    assert parse_label("imported") == ("imported", "")
    assert parse_label("") == ("", "")
    assert is_foundation_model("sam2 0.9"), "an item keeps the label of the version that made it"
