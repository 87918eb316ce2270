"""Settings: what a person chooses, and the one line that a wrong choice gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from lanepaint_assets.settings import SPEC_NAMES, Settings, SettingsError, load_settings


def _refusal(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> str:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    return str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("LANEPAINT_ENGINES", "gpu", ["cpu", "models"]),
        ("LANEPAINT_CLIP_GRID", "8fps", ["spec_8fps", "model_10hz"]),
        ("LANEPAINT_EXECUTOR", "docker", ["in_process", "multiprocess", "k8s"]),
        ("LANEPAINT_MARKING_STANDARD", "fr", ["us", "de", "at", "uk"]),
        ("LANEPAINT_FRAME_LIMIT", "2", ["greater than or equal to 4"]),
        ("LANEPAINT_SAMPLES", "many", ["integer"]),
        ("LANEPAINT_SAMPLES", "65", ["less than or equal to 64"]),
        ("LANEPAINT_MAX_FAILED_SHARE", "1.5", ["less than or equal to 1"]),
        ("LANEPAINT_MAX_FAILED_SHARE", "nan", ["less than or equal to 1"]),
        ("LANEPAINT_KEEP_MASKED_PIXELS", "perhaps", ["true", "false"]),
        ("LANEPAINT_CAMERAS", " , ", ["at least one camera"]),
        ("LANEPAINT_STUDY_SEED", "-1", ["greater than or equal to 0"]),
        ("LANEPAINT_PER_CHUNK", "0", ["greater than or equal to 1"]),
        ("LANEPAINT_ALPAMAYO_MODEL", "2", ["r1", "1.5"]),
        ("LANEPAINT_ALPAMAYO_TOP_P", "0", ["greater than 0"]),
        ("LANEPAINT_ALPAMAYO_DEVICE", "gpu", ["pattern"]),
    ],
)
def test_a_wrong_value_is_one_line_with_setting_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: list[str]
) -> None:
    message = _refusal(monkeypatch, variable, value)
    assert message.startswith(f"{variable}={value!r} is not allowed: ")
    assert "\n" not in message
    for word in allowed:
        assert word in message


def test_a_misspelt_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    message = _refusal(monkeypatch, "LANEPAINT_FRAMELIMIT", "3")
    assert message == "LANEPAINT_FRAMELIMIT='3' is not a setting; did you mean LANEPAINT_FRAME_LIMIT?"


def test_a_variable_like_no_setting_gets_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    message = _refusal(monkeypatch, "LANEPAINT_QQQQQQQQQQQQQQQQ", "1")
    assert "LANEPAINT_CLIP_GRID" in message
    assert "TEST_DATA" not in message
    assert "\n" not in message


def test_the_test_suites_own_variable_is_no_misspelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEPAINT_TEST_DATA", "somewhere")
    assert load_settings().root


def test_comma_lists_are_trimmed_and_name_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEPAINT_PROMPTS", " 1, double_yellow_solid,,1 ")
    monkeypatch.setenv("LANEPAINT_CAMERAS", "camera_a,camera_b,camera_a")
    settings = load_settings()
    assert settings.prompts == ("1", "double_yellow_solid")
    assert settings.cameras == ("camera_a", "camera_b")


@pytest.mark.parametrize("name", ["ROOT", "SOURCE", "DRIVER", "PROMPTS", "CAMERAS", "SAMPLES"])
def test_an_empty_variable_means_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    untouched = load_settings()
    monkeypatch.setenv(f"LANEPAINT_{name}", "")
    assert load_settings() == untouched


def test_a_commands_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEPAINT_SOURCE", "from_environment")
    assert load_settings(source="from_option").source_address == "from_option"
    assert load_settings(source=None).source_address == "from_environment"


def test_the_source_is_below_the_root_unless_it_is_set() -> None:
    assert Settings(root="/data/lane/").source_address == "/data/lane/input/data"
    assert Settings(root="gs://bucket/lane", source="gs://clips").source_address == "gs://clips"


def test_a_remote_root_is_refused_where_a_local_folder_is_needed(tmp_path: Path) -> None:
    assert Settings(root=str(tmp_path)).local_root == tmp_path.resolve()
    with pytest.raises(SettingsError, match="LANEPAINT_ROOT='gs://bucket' is not a local folder"):
        _ = Settings(root="gs://bucket").local_root


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize(("variable", "setting"), SPEC_NAMES.items())
def test_a_setting_can_be_given_by_the_name_that_the_specification_has_for_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, setting: str
) -> None:
    by_spec, by_own = ("cuda:1", "cuda:2") if setting.endswith("device") else ("0", "1")
    monkeypatch.setenv(variable, by_spec)
    assert str(int(value) if isinstance(value := getattr(load_settings(), setting), bool) else value) == by_spec
    monkeypatch.setenv(f"LANEPAINT_{setting.upper()}", by_own)
    assert str(int(value) if isinstance(value := getattr(load_settings(), setting), bool) else value) == by_own


def test_a_wrong_value_under_a_name_of_the_specification_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP_QWEN_DEVICE", "gpu1")
    with pytest.raises(SettingsError, match="LANEPAINT_QWEN_DEVICE='gpu1' is not allowed"):
        load_settings()
