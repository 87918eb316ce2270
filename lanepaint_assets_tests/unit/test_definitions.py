"""The table of contents: every asset with its place in the graph, and nothing that needs a machine to load."""

from __future__ import annotations

import dagster as dg
import pytest

from lanepaint_assets.definitions import build
from lanepaint_assets.item_checks import COMPLETE_CHECK, FAILED_ITEMS
from lanepaint_assets.settings import Settings, SettingsError

CHECKPOINTS = {
    "sam2_checkpoint",
    "flux_fill_checkpoint",
    "cogvideox_checkpoint",
    "videopainter_branch_checkpoint",
    "qwen_vl_checkpoint",
    "alpamayo_checkpoint",
}

# The asset graph: group, partitions, upstream assets.
GRAPH: dict[str, tuple[str, str | None, set[str]]] = {
    **{name: ("checkpoints", None, set()) for name in CHECKPOINTS},
    "raw_clips": ("clips", "clip_chunk", set()),
    "road_masks": ("segmentation", "clip_chunk", {"raw_clips", "sam2_checkpoint"}),
    "vp_inputs": ("segmentation", "clip_chunk", {"road_masks", "raw_clips"}),
    "training_samples": ("training", "clip_chunk", {"raw_clips", "sam2_checkpoint", "qwen_vl_checkpoint"}),
    "filtered_samples": ("training", "clip_chunk", {"training_samples"}),
    "lane_loras": ("training", "lane_style", {"filtered_samples", "flux_fill_checkpoint"}),
    "prompt_catalogue": ("editing", None, {"lane_loras"}),
    "first_frames": (
        "editing",
        "clip_chunk",
        {"vp_inputs", "prompt_catalogue", "flux_fill_checkpoint", "qwen_vl_checkpoint"},
    ),
    "edited_videos": (
        "editing",
        "clip_chunk",
        {"first_frames", "vp_inputs", "cogvideox_checkpoint", "videopainter_branch_checkpoint"},
    ),
    "original_trajectories": ("evaluation", "clip_chunk", {"raw_clips", "alpamayo_checkpoint"}),
    "edited_trajectories": (
        "evaluation",
        "clip_chunk",
        {"edited_videos", "original_trajectories", "alpamayo_checkpoint"},
    ),
    "trajectory_videos": ("evaluation", "clip_chunk", {"edited_trajectories", "edited_videos"}),
    "video_quality": (
        "evaluation",
        "clip_chunk",
        {"edited_videos", "first_frames", "vp_inputs", "raw_clips", "qwen_vl_checkpoint"},
    ),
    "trajectory_reports": (
        "evaluation",
        "clip_chunk",
        {"edited_trajectories", "trajectory_videos", "video_quality"},
    ),
    "prompt_leaderboard": ("evaluation", None, {"trajectory_reports"}),
}
OBSERVED = CHECKPOINTS | {"prompt_catalogue"}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build(Settings(root="memory://definitions"))


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_the_definitions_are_loadable(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_the_graph_holds_exactly_the_assets_of_the_design(specs: dict[str, dg.AssetSpec]) -> None:
    assert set(specs) == set(GRAPH)


@pytest.mark.parametrize("asset", GRAPH)
def test_an_asset_lies_in_its_group_with_its_partitions_and_upstream(
    specs: dict[str, dg.AssetSpec], asset: str
) -> None:
    group, partitions, upstream = GRAPH[asset]
    spec = specs[asset]
    assert spec.group_name == group
    assert {dep.asset_key.to_user_string() for dep in spec.deps} == upstream
    if partitions == "clip_chunk":
        assert isinstance(spec.partitions_def, dg.DynamicPartitionsDefinition)
        assert spec.partitions_def.name == "clip_chunk"
    elif partitions == "lane_style":
        assert isinstance(spec.partitions_def, dg.StaticPartitionsDefinition)
        assert "double_yellow_solid" in spec.partitions_def.get_partition_keys()
    else:
        assert spec.partitions_def is None


@pytest.mark.parametrize("asset", GRAPH)
def test_an_asset_says_what_it_is_to_people(specs: dict[str, dg.AssetSpec], asset: str) -> None:
    spec = specs[asset]
    assert spec.owners
    assert spec.kinds
    assert spec.description
    assert spec.description.endswith(".")


def test_checkpoints_and_the_catalogue_are_observed_and_everything_else_is_made(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    observed = {key.to_user_string() for key in graph.observable_asset_keys}
    made = {key.to_user_string() for key in graph.materializable_asset_keys}
    assert observed == OBSERVED
    assert made == set(GRAPH) - OBSERVED


def test_every_asset_of_items_carries_both_checks(definitions: dg.Definitions) -> None:
    checks: dict[str, set[str]] = {}
    for key in definitions.resolve_asset_graph().asset_check_keys:
        checks.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    assert set(checks) == set(GRAPH) - OBSERVED - {"lane_loras"}
    for names in checks.values():
        assert {FAILED_ITEMS.name, COMPLETE_CHECK} <= names


def test_masks_and_videopainter_folder_are_one_step_that_can_be_split(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    asset = graph.get(dg.AssetKey("road_masks")).assets_def
    assert asset.can_subset
    assert asset.keys == {dg.AssetKey("road_masks"), dg.AssetKey("vp_inputs")}


def test_sensors_that_ask_for_computing_are_off_until_a_person_turns_them_on(definitions: dg.Definitions) -> None:
    sensors = {sensor.name: sensor.default_status for sensor in definitions.sensors or []}
    assert sensors.pop("observe_at_start") == dg.DefaultSensorStatus.RUNNING
    assert "new_chunks" in sensors
    assert set(sensors.values()) == {dg.DefaultSensorStatus.STOPPED}


def test_nothing_starts_a_lora_training_by_itself(definitions: dg.Definitions, specs: dict[str, dg.AssetSpec]) -> None:
    assert specs["lane_loras"].automation_condition is None
    assert not [sensor for sensor in definitions.sensors or [] if "lora" in sensor.name]


def _code_versions(settings: Settings) -> dict[str, str | None]:
    return {spec.key.to_user_string(): spec.code_version for spec in build(settings).resolve_all_asset_specs()}


def test_another_engine_is_another_code_version_of_the_assets_that_it_makes() -> None:
    follow = _code_versions(Settings(root="memory://a"))
    constant = _code_versions(Settings(root="memory://a", driver="constant_velocity"))
    changed = {asset for asset in follow if follow[asset] != constant[asset]}
    assert changed == {"original_trajectories", "edited_trajectories"}


def test_every_made_asset_has_a_code_version(specs: dict[str, dg.AssetSpec]) -> None:
    assert {name for name in set(GRAPH) - OBSERVED if not specs[name].code_version} <= {"lane_loras"}


def test_kinds_name_the_engine(specs: dict[str, dg.AssetSpec]) -> None:
    assert "classical" in specs["road_masks"].kinds
    assert "procedural" in specs["edited_videos"].kinds
    assert "lane_follow" in specs["edited_trajectories"].kinds


@pytest.mark.parametrize(
    ("chosen", "expected"), [("in_process", dg.in_process_executor), ("multiprocess", dg.multiprocess_executor)]
)
def test_the_setting_chooses_the_executor(chosen: str, expected: dg.ExecutorDefinition) -> None:
    assert build(Settings(root="memory://a", executor=chosen)).executor is expected


def test_an_unknown_engine_is_refused_when_the_definitions_are_built() -> None:
    with pytest.raises(SettingsError, match="LANEPAINT_VIDEO_PAINTER='oil' is not an engine"):
        build(Settings(root="memory://a", video_painter="oil"))
