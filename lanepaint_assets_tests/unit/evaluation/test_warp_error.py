"""Paint that moves with the road against paint that swims, on a flat textured road whose motion is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.evaluation.warp_error import WARP_PAIRS, warp_errors
from lanepaint_assets_tests.unit.evaluation.drives import camera, circle_drive, grid_times

Bool = NDArray[np.bool_]
Pictures = NDArray[np.uint8]

FRAMES, CURVATURE = 12, 1 / 120
EGO = circle_drive(10.0, CURVATURE, duration_s=6.0)
TIMES = grid_times(FRAMES)
VIEW = camera(320, 180)
# Metres from the drive's first rig frame; what a line of the edit is displaced by at each frame.
Displaced = Callable[[int], float]


@cache
def ground_texture() -> NDArray[np.float32]:
    """Asphalt in world cells of 0.1 m: blotches that are much wider than a cell."""
    noise = np.random.default_rng(0).normal(0.0, 1.0, (1200, 1200)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3.0)
    return np.asarray(100 + 12 * smooth / smooth.std(), dtype=np.float32)


def drawn(line_m: Displaced | None = None) -> tuple[Pictures, Bool]:
    """The drive with and without a new line 1 m left of the vehicle's path, and where road is seen."""
    height, width = VIEW.height, VIEW.width
    rows, columns = np.mgrid[0:height, 0:width]
    ground, is_ground = VIEW.ground(np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64))
    positions, rotations = EGO.relative(TIMES, int(TIMES[0]))
    frames = np.zeros((FRAMES, height, width, 3), dtype=np.uint8)
    masks = np.zeros((FRAMES, height, width), dtype=np.bool_)
    for k in range(FRAMES):
        world = ground @ rotations[k][:2, :2].T + positions[k][:2]
        cells = (world / 0.1 + 300).astype(np.float32).reshape(height, width, 2)
        light = cv2.remap(ground_texture(), cells[..., 0], cells[..., 1], cv2.INTER_LINEAR, borderValue=100.0)
        lateral = 1 / CURVATURE - np.hypot(world[:, 0], world[:, 1] - 1 / CURVATURE)
        road = is_ground & (np.abs(lateral) < 6.0) & (np.hypot(*ground.T) < 60.0)
        if line_m is not None:
            # A soft edge, as a camera gives it.
            cover = np.clip(1.5 - np.abs(lateral - 1.0 - line_m(k)) / 0.15, 0.0, 1.0).reshape(height, width)
            light = light + np.where(road.reshape(height, width), cover * 120.0, 0.0)
        sky = ~is_ground.reshape(height, width)
        frames[k] = np.where(sky, 200.0, light)[..., None].clip(0, 255)
        masks[k] = road.reshape(height, width)
    return frames, masks


def errors(edited: Pictures, masks: Bool | None = None) -> tuple[float, float]:
    original, road = drawn()
    found = warp_errors(original, edited, road if masks is None else masks, TIMES, VIEW, EGO)
    assert found.reason is None
    assert found.edited is not None
    assert found.original is not None
    assert found.pairs == FRAMES - 1 <= WARP_PAIRS
    return found.edited, found.original


def test_the_original_scores_as_itself() -> None:
    original, _ = drawn()
    edited_error, original_error = errors(original.copy())
    assert edited_error == original_error
    # Rounding on both sides, and far asphalt, which these pictures show sharper than a camera would.
    assert original_error < (4 / 255) ** 2


def test_a_line_that_swims_scores_worse_than_one_that_is_locked_to_the_road_and_the_farther_the_worse() -> None:
    jitter = np.random.default_rng(3).choice([-1.0, 1.0], FRAMES)
    locked, small, large = (errors(drawn(lambda k, m=metres: m * jitter[k])[0])[0] for metres in (0.0, 0.05, 0.2))
    _, original_error = errors(drawn()[0])
    assert small > 1.5 * locked
    assert large > 3.0 * small
    assert locked < 3.0 * original_error


def test_a_line_that_stays_in_the_picture_while_the_road_turns_scores_worse_than_a_locked_one() -> None:
    original, _ = drawn()
    first = drawn(lambda _: 0.0)[0][0].astype(np.int16) - original[0]
    frozen = np.clip(original + first[None], 0, 255).astype(np.uint8)
    drifting = errors(drawn(lambda k: 0.06 * k)[0])[0]
    assert drifting > 1.5 * errors(drawn(lambda _: 0.0)[0])[0]
    # A solid line along the path looks alike in every frame of a steady bend: being frozen is no fault of it.
    assert errors(frozen)[0] < drifting


def test_the_motion_does_not_come_from_the_edited_pictures() -> None:
    locked, _ = drawn(lambda _: 0.0)
    # The whole edit slides by two pixels a frame; flow of its own pictures would carry it perfectly.
    sliding = np.stack([np.roll(frame, 2 * k, axis=1) for k, frame in enumerate(locked)])
    assert errors(sliding)[0] > 2.0 * errors(locked)[0]


def test_what_the_masks_leave_out_does_not_count() -> None:
    original, road = drawn()
    edited, masks = original.copy(), road.copy()
    # A vehicle that flickers: not road.
    edited[::2, 100:140, 140:180] = 255
    masks[:, 96:144, 136:184] = False
    edited_error, original_error = errors(edited, masks)
    assert edited_error == pytest.approx(original_error)
    assert errors(edited)[0] > 10 * original_error


def test_a_thing_that_does_not_move_with_the_road_is_left_out_for_both() -> None:
    original, road = drawn()
    passing = original.copy()
    for k in range(FRAMES):
        passing[k, 100:150, 10 * k : 10 * k + 60] = 20
    found = warp_errors(passing, passing.copy(), road, TIMES, VIEW, EGO)
    assert found.original is not None
    assert found.original < 6 * errors(original)[1]


def test_an_empty_mask_has_no_error_and_says_so() -> None:
    original, road = drawn()
    found = warp_errors(original, original, np.zeros_like(road), TIMES, VIEW, EGO)
    assert (found.edited, found.original, found.pairs) == (None, None, 0)
    assert found.reason == "the paint mask is empty in every frame"


def test_without_the_vehicles_motion_there_is_no_error_and_that_is_said() -> None:
    original, road = drawn()
    found = warp_errors(original, original, road, TIMES + 60_000_000, VIEW, EGO)
    assert found.edited is None
    assert found.reason is not None
    assert "motion is not known" in found.reason


def test_a_frame_that_is_shown_twice_is_no_pair() -> None:
    original, road = drawn()
    taken = TIMES.copy()
    taken[5] = taken[4]
    assert warp_errors(original, original, road, taken, VIEW, EGO).pairs == FRAMES - 2


def test_videos_of_other_lengths_are_refused() -> None:
    original, road = drawn()
    with pytest.raises(ValueError, match="the original is"):
        warp_errors(original, original[:-1], road, TIMES, VIEW, EGO)
