from __future__ import annotations

import numpy as np
import pytest

from lanepaint_assets.editing.lane_tracks import LaneTrack
from lanepaint_assets.editing.line_strips import LineStrip, sample_strip
from lanepaint_assets.editing.placed_lines import moved_onto_road
from lanepaint_assets.editing.road_course import course_of, plan_poses
from lanepaint_assets.editing.road_surface import SURFACE_GRID
from lanepaint_assets.lanes.inspector import LineRole
from lanepaint_assets_tests.unit.editing.road_scene import WHITE_SOLID, FlatRoad

NAN = float("nan")


def track(role: LineRole, d_m: float, measured: bool) -> LaneTrack:
    """A straight line."""
    return LaneTrack(
        role, np.full(400, d_m), (0.0, 150.0), WHITE_SOLID, 0.12, NAN, NAN, NAN, 0.9, measured=measured
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seen_m", "placed_m", "stands_m"),
    [
        # The mask ends at 5.7 m; a double line's half fits before it.
        (2.9, 6.56, 5.4),
        (-2.9, -6.56, -5.4),
        (-1.8, 1.86, 1.86),
        # What is left of the lane would be none.
        (3.9, 7.56, 7.56),
    ],
)
def test_a_placed_line_is_moved_as_far_as_the_road_ends_and_no_farther(seen_m: float, placed_m: float, stands_m: float):
    scene = FlatRoad().scene(4)
    positions, rotations = scene.ego.poses(scene.timestamps_us)
    poses = plan_poses(positions, rotations)
    course = course_of(poses)

    def sample(k: int, line: LaneTrack) -> LineStrip:
        here = course.along(poses[k])
        at = line.at(here + SURFACE_GRID.ahead_m)
        return sample_strip(
            scene.frames[k], scene.paint_masks[k], scene.camera, course, poses[k], here, at, SURFACE_GRID
        )

    roles: tuple[LineRole, LineRole] = ("ego_right", "ego_left") if placed_m > seen_m else ("ego_left", "ego_right")
    seen, placed = track(roles[0], seen_m, measured=True), track(roles[1], placed_m, measured=False)
    found = moved_onto_road((seen, placed), 4, sample)
    assert found[0] is seen
    assert float(np.median(found[1].offset_m)) == pytest.approx(stands_m, abs=0.2)
