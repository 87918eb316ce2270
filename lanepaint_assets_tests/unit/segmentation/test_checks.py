"""What is checked of road masks, from the statistics of masks as they are made."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.item_checks import WARN, check_result
from lanepaint_assets.segmentation.checks import ROAD_MASK_CHECKS
from lanepaint_assets.segmentation.outputs import VideoMasks, mask_statistics
from lanepaint_assets.segmentation.plausibility import Plausibility
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets_tests.unit.check_rows import made, partition

CHECKS = {check.name: check for check in ROAD_MASK_CHECKS}
SIZE = (40, 80)


def _row(road: NDArray[np.bool_]) -> ItemRow:
    return made(asdict(mask_statistics(VideoMasks(road, road), 8.0, Plausibility(1.0, ""))))


def _steady(frames: int = 6, rows: int = 12) -> NDArray[np.bool_]:
    """A road over the lowest rows, which grows by a column a frame."""
    road = np.zeros((frames, *SIZE), dtype=np.bool_)
    for k in range(frames):
        road[k, -rows:, : 70 + k] = True
    return road


def _passed(row: ItemRow) -> dict[str, bool]:
    results = {name: check_result("road_masks", check, partition(row)) for name, check in CHECKS.items()}
    assert {result.severity for result in results.values()} == {WARN}
    return {name: result.passed for name, result in results.items()}


def test_a_steady_road_of_plausible_size_passes() -> None:
    assert _passed(_row(_steady())) == {"mask_coverage": True, "mask_stability": True, "no_empty_masks": True}


@pytest.mark.parametrize("rows", [1, 36])
def test_a_road_that_is_next_to_nothing_or_nearly_everything_is_told(rows: int) -> None:
    row = _row(_steady(rows=rows))
    assert _passed(row) == {"mask_coverage": False, "mask_stability": True, "no_empty_masks": True}
    told = check_result("road_masks", CHECKS["mask_coverage"], partition(row))
    assert "of the picture" in str(told.description)
    assert told.metadata["road_share_mean"].value == pytest.approx(row.facts["road_share_mean"], abs=1e-6)


def test_a_mask_that_flickers_is_told() -> None:
    road = _steady()
    road[1::2, :, :40] = False
    assert _passed(_row(road)) == {"mask_coverage": True, "mask_stability": False, "no_empty_masks": True}


def test_one_jump_in_a_steady_clip_is_told() -> None:
    road = _steady(frames=60)
    road[30:, :, :] = False
    road[30:, -12:, 40:] = True
    row = _row(road)
    assert row.facts["temporal_iou_mean"] > 0.9  # type: ignore[operator]
    assert not _passed(row)["mask_stability"]


def test_a_frame_without_a_road_is_told() -> None:
    road = _steady(frames=60)
    road[7] = False
    told = check_result("road_masks", CHECKS["no_empty_masks"], partition(_row(road)))
    assert not told.passed
    assert "1 of 60 frames have no road" in str(told.description)


def test_masks_without_statistics_pass_no_check() -> None:
    assert set(_passed(made({"origin": "imported"})).values()) == {False}
