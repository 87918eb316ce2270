from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.editing.line_strips import sample_strip
from lanepaint_assets.editing.marking_map import MAP_M_M, MAP_S_M
from lanepaint_assets.editing.marking_removal import CleanBand, clean_band, paint_borders
from lanepaint_assets.editing.road_band import band_pixels, course_view, pixel_rays, soft_paint_mask
from lanepaint_assets.editing.road_course import course_of, plan_poses
from lanepaint_assets.editing.road_surface import SURFACE_GRID, surface_of
from lanepaint_assets.editing.shading import LUMINANCE, linear_frame
from lanepaint_assets_tests.unit.editing.road_scene import WHITE_SOLID, FlatRoad, TrueLine

COLUMNS = 17
SOLID = (TrueLine(1.8, WHITE_SOLID, "ego_left"), TrueLine(-1.8, WHITE_SOLID, "ego_right"))


def removal_map(half_m: float, lines: int = 2, length_m: float = 300.0) -> NDArray[np.float32]:
    """All along each line old paint to `half_m` on both sides; none for 0."""
    columns = np.abs(np.arange(COLUMNS) - COLUMNS // 2) * MAP_M_M
    row = (columns < half_m).astype(np.float32)
    return np.broadcast_to(row, (lines, int(length_m / MAP_S_M), COLUMNS)).copy()


def cleaned(road: FlatRoad, half_m: float) -> tuple[CleanBand, NDArray[np.float32]]:
    """The first frame's band and its light before."""
    scene = road.scene(2)
    positions, rotations = scene.ego.poses(scene.timestamps_us)
    poses = plan_poses(positions, rotations)
    course = course_of(poses)
    here = course.along(poses[0])
    frame, hard = scene.frames[0], scene.paint_masks[0]
    offsets = [line.d_m for line in road.lines]
    strips = [
        sample_strip(frame, hard, scene.camera, course, poses[0], here, np.full(SURFACE_GRID.count, d), SURFACE_GRID)
        for d in offsets
    ]
    view, mask = course_view(course, poses[0]), soft_paint_mask(hard)
    along = np.stack([np.full(len(view.points), d) for d in offsets])
    pixels = band_pixels(pixel_rays(scene.camera), scene.camera, 0.0, mask, view, along, 0.42)
    linear = linear_frame(frame)
    band = clean_band(linear, mask, pixels, surface_of(strips, here, (0, 1)), removal_map(half_m))
    return band, linear.reshape(-1, 3)[pixels.index]


def near(band: CleanBand) -> NDArray[np.bool_]:
    return band.pixels.s < band.pixels.s.min() + 14


def luminance(light: NDArray[np.float32]) -> NDArray[np.float64]:
    return (light @ np.asarray(LUMINANCE, np.float32)).astype(np.float64)


def test_borders_lie_where_the_maps_paint_ends_and_nowhere_without_paint():
    found = paint_borders(removal_map(0.12))
    assert found[:, 20:-20, 0] == pytest.approx(-0.125, abs=0.01)
    assert found[:, 20:-20, 1] == pytest.approx(0.125, abs=0.01)
    assert not paint_borders(removal_map(0.0)).any()


@pytest.mark.parametrize("shadow", [False, True])
def test_old_paint_becomes_as_bright_as_the_asphalt_beside_it_in_sun_and_shadow(shadow: bool):
    band, before = cleaned(FlatRoad(lines=SOLID, shadow=shadow), 0.14)
    s = np.mod(band.pixels.s - 10.0 + 0.0, 9.0)
    for low, high in ((0.8, 3.2), (5.0, 8.0)) if shadow else ((0.0, 9.0),):
        place = near(band) & (s > low) & (s < high)
        paint, beside = place & (np.abs(band.pixels.m) < 0.04), place & (np.abs(band.pixels.m) > 0.25)
        asphalt = luminance(before[beside]).mean()
        assert luminance(before[paint]).mean() > 2 * asphalt
        assert (band.removed[paint] > 0.99).all()
        assert luminance(band.base[paint]).mean() == pytest.approx(asphalt, rel=0.08)


def test_the_asphalt_that_is_put_in_has_the_roads_grain():
    band, before = cleaned(FlatRoad(lines=SOLID), 0.14)
    paint, beside = near(band) & (np.abs(band.pixels.m) < 0.05), near(band) & (np.abs(band.pixels.m) > 0.25)
    grain = luminance(before[beside]).std()
    assert 0.5 * grain < luminance(band.base[paint]).std() < 1.5 * grain


def test_what_shows_no_old_paint_stays_exactly_as_it_was():
    band, before = cleaned(FlatRoad(lines=SOLID), 0.14)
    untouched = band.removed == 0.0
    assert untouched[near(band) & (np.abs(band.pixels.m) > 0.3)].mean() > 0.95
    assert np.array_equal(band.base[untouched], before[untouched])


def test_without_old_paint_on_the_map_even_bright_pixels_stay():
    band, before = cleaned(FlatRoad(lines=SOLID), 0.0)
    assert not band.removed.any()
    assert np.array_equal(band.base, before)


def test_the_light_under_old_paint_is_asphalts_and_not_paints():
    band, before = cleaned(FlatRoad(lines=SOLID), 0.14)
    paint = near(band) & (np.abs(band.pixels.m) < 0.05)
    assert luminance(band.shade[paint]).max() < 0.6 * luminance(before[paint]).mean()
