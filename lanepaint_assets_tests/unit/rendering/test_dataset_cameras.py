"""The projection of trajectory videos against the data set's own calibration classes, on a sample drive.

Ours reads the drive through `clips`, theirs through `physical_ai_av` itself; nothing is shared but the files. Their
projection divides by zero on the axis and is wrong behind the camera, so points there are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.clips.records import ClipRef
from lanepaint_assets.clips.sample_drive import SampleDrive, write_sample_drive
from lanepaint_assets.clips.sources import ClipSource, open_source
from lanepaint_assets.rendering.projection import densified, project_lines, rig_motion

FRONT = "camera_front_wide_120fov"
LEFT = "camera_cross_left_120fov"
MAX_ERROR_PX = 1.0
REACH_M = 40.0


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> SampleDrive:
    folder = tmp_path_factory.mktemp("cameras") / "drive"
    # Small pictures render at once; the error is scaled to the data set's 1920 pixels.
    return write_sample_drive(
        folder, chunks=2, clips_per_chunk=1, seconds=1.0, width=320, height=180, fps=10, other_size=(320, 180)
    )


@pytest.fixture(scope="module")
def source(drive: SampleDrive) -> ClipSource:
    return open_source(str(drive.folder), (FRONT, LEFT))


class Theirs:
    """The package's reading of one clip's calibration and motion."""

    def __init__(self, drive: SampleDrive, clip_id: str, cache: Path, camera: str) -> None:
        from lanepaint_assets.clips.physical_ai import _offline_interface

        revision = "0" * 39 + "1"
        snapshots = cache / "datasets--nvidia--PhysicalAI-Autonomous-Vehicles" / "snapshots"
        snapshots.mkdir(parents=True)
        (snapshots / revision).symlink_to(drive.folder.resolve(), target_is_directory=True)
        data = _offline_interface(cache, revision)
        self.lens = data.get_clip_feature(clip_id, "camera_intrinsics").camera_models[camera]
        self.mount = data.get_clip_feature(clip_id, "sensor_extrinsics").sensor_poses[camera]
        self.ego = data.get_clip_feature(clip_id, "egomotion")

    def ground_truth_m(self, times_us: NDArray[np.int64], now_us: int) -> NDArray[np.float64]:
        """Places of the vehicle at `times_us` on the ground of the rig frame at `now_us`."""
        now = self.ego(np.array([now_us])).pose[0]
        places: NDArray[np.float64] = now.inv().apply(self.ego(times_us).pose.translation)
        places[:, 2] = 0.0
        return places

    def pixels(self, points_rig: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Their projection, and where it is valid: ahead of the lens and off its axis."""
        rays = self.mount.inv().apply(points_rig)
        valid = (rays[:, 2] > 0.5) & (np.hypot(rays[:, 0], rays[:, 1]) > 1e-6)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.lens.ray2pixel(rays), dtype=np.float64), valid


def path_times_us(start_us: int, end_us: int) -> NDArray[np.int64]:
    return np.arange(start_us, end_us, 20_000, dtype=np.int64)


def reference(source: ClipSource, clip_id: str, camera: str) -> ClipRef:
    return next(ref for ref in source.sibling_cameras(clip_id) if ref.camera == camera)


@pytest.mark.parametrize("chunk", [0, 1])
def test_the_ground_truth_line_lies_within_a_pixel_of_the_data_sets_projection_within_forty_metres(
    chunk: int, drive: SampleDrive, source: ClipSource, tmp_path: Path
) -> None:
    clip_id = drive.chunks[chunk][0]
    theirs = Theirs(drive, clip_id, tmp_path, FRONT)
    ref = reference(source, clip_id, FRONT)
    camera, ego = source.camera(ref), source.egomotion(ref)
    assert camera is not None
    assert ego is not None
    first, last = ego.span_us
    t0_us = (first + last) // 2
    times = path_times_us(t0_us + 20_000, last)
    # Frames before, at and after t0, as an overlay shows them.
    shown_us = np.array([t0_us - 200_000, t0_us, t0_us + 200_000], dtype=np.int64)
    rotations, offsets, known = rig_motion(ego, shown_us, t0_us)
    assert known.all()
    ours_t0 = ego.relative(times, t0_us)[0]
    compared = 0
    for now_us, rotation, offset in zip(shown_us, rotations, offsets, strict=True):
        their_places = theirs.ground_truth_m(times, int(now_us))
        near = np.hypot(*their_places[:, :2].T) < REACH_M
        wanted, valid = theirs.pixels(their_places)
        for line in project_lines(camera, [ours_t0[near & valid]], rotation, offset, margin_px=1e6):
            expected = wanted[near & valid]
            # Points of ours are vertices of theirs: the nearest one is the same place.
            gaps = np.hypot(*(line.points_px[:, None] - expected[None]).transpose(2, 0, 1)).min(axis=1)
            inside = line.depths_m > 0.5 + 1e-6
            assert gaps[inside].max() * 1920 / camera.width < MAX_ERROR_PX
            compared += int(inside.sum())
    assert compared > 30


@pytest.mark.parametrize("camera_name", [FRONT, LEFT])
def test_points_all_over_the_ground_project_as_in_the_data_sets_classes(
    camera_name: str, drive: SampleDrive, source: ClipSource, tmp_path: Path
) -> None:
    clip_id = drive.chunks[0][0]
    theirs = Theirs(drive, clip_id, tmp_path, camera_name)
    camera = source.camera(reference(source, clip_id, camera_name))
    assert camera is not None
    across, along = np.meshgrid(np.linspace(-REACH_M, REACH_M, 41), np.linspace(-REACH_M, REACH_M, 41))
    points = np.stack([along.ravel(), across.ravel(), np.zeros(along.size)], axis=1)
    ours, seen = camera.project(points)
    expected, valid = theirs.pixels(points)
    assert (seen <= valid).all()
    assert seen.sum() > 100
    error = np.hypot(*(ours[seen] - expected[seen]).T) * 1920 / camera.width
    assert error.max() < MAX_ERROR_PX


def test_a_plan_is_cut_into_its_waypoints_and_the_places_between() -> None:
    line = np.stack([np.arange(1, 5) * 2.0, np.zeros(4), np.zeros(4)], axis=1)
    assert np.diff(densified(line)[:, 0]).max() == pytest.approx(1.0)
