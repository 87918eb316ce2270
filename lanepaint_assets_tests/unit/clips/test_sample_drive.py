"""The sample drive as files: layout, atomicity, and a truth that agrees with the pictures."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from lanepaint_assets.clips.sample_drive import SampleDrive, write_sample_drive
from lanepaint_assets.clips.sample_drive.profile import draw_conditions
from lanepaint_assets.clips.sample_drive.rig import FRONT_CAMERA, MOUNTS, sample_camera
from lanepaint_assets.clips.sample_drive.truth import ClipTruth, TrueLine, read_truth
from lanepaint_assets.rendering.cameras import RigCamera

SIZE = (320, 180)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> SampleDrive:
    folder = tmp_path_factory.mktemp("sample") / "drive"
    return write_sample_drive(
        folder, chunks=2, clips_per_chunk=1, seconds=1.0, width=SIZE[0], height=SIZE[1], fps=10, other_size=(64, 36)
    )


def member(drive: SampleDrive, chunk: int, camera: str, suffix: str) -> bytes:
    path = drive.folder / "camera" / camera / f"{camera}.chunk_{chunk:04d}.zip"
    with zipfile.ZipFile(path) as archive:
        return archive.read(f"{drive.chunks[chunk][0]}.{camera}.{suffix}")


def front_frames(drive: SampleDrive, chunk: int) -> list[NDArray[np.uint8]]:
    with av.open(io.BytesIO(member(drive, chunk, FRONT_CAMERA, "mp4"))) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def projected(
    truth: ClipTruth, camera: RigCamera, frame: int, points: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Pixel indices, rig x, and whether each world point is in the picture."""
    place, turn = truth.ego.poses(truth.timestamps_us[frame : frame + 1])
    rig = turn[0].inv().apply(points - place[0])
    pixels, seen = camera.project(rig)
    return np.round(np.where(seen[:, None], pixels, 0)).astype(np.int64), rig[:, 0], seen


def test_the_real_package_reads_the_layout_offline(drive: SampleDrive, tmp_path: Path) -> None:
    revision = "0" * 39 + "1"
    snapshots = tmp_path / "datasets--nvidia--PhysicalAI-Autonomous-Vehicles" / "snapshots"
    snapshots.mkdir(parents=True)
    (snapshots / revision).symlink_to(drive.folder, target_is_directory=True)
    clip = drive.clip_ids[1]
    script = f"""
import numpy as np, physical_ai_av
data = physical_ai_av.PhysicalAIAVDatasetInterface(revision={revision!r}, cache_dir={str(tmp_path)!r}, token=False)
assert list(data.clip_index.index) == {list(drive.clip_ids)!r}
ego = data.get_clip_feature({clip!r}, "egomotion")
first, last = ego.time_range
assert first <= -500_000 and last >= 1_500_000, (first, last)
state = ego(np.array([0, 500_000]))
assert np.allclose(state.pose.translation[0], 0, atol=1e-6)
for name in {list(MOUNTS)!r}:
    reader = data.get_clip_feature({clip!r}, name)
    frames, times = reader.decode_images_from_timestamps(np.array([350_000, 760_000]))
    assert frames.shape == (2, *((180, 320, 3) if name == {FRONT_CAMERA!r} else (36, 64, 3))), frames.shape
lens = data.get_clip_feature({clip!r}, "camera_intrinsics").camera_models[{FRONT_CAMERA!r}]
pose = data.get_clip_feature({clip!r}, "sensor_extrinsics").sensor_poses[{FRONT_CAMERA!r}]
pixel = lens.ray2pixel(pose.inv().apply(np.array([[15.0, 2.0, 0.0]])))
print(*np.asarray(pixel).ravel(), data.get_clip_feature({clip!r}, "vehicle_dimensions").length)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    x, y, length = map(float, done.stdout.split())
    ours, seen = sample_camera(FRONT_CAMERA, draw_conditions(0, 1), *SIZE).project(np.array([[15.0, 2.0, 0.0]]))
    assert seen[0]
    np.testing.assert_allclose([x, y], ours[0], atol=1e-6)
    assert 4 < length < 6


def test_cameras_are_not_quite_synchronous(drive: SampleDrive) -> None:
    times = [
        pd.read_parquet(io.BytesIO(member(drive, 0, name, "timestamps.parquet")))["timestamp"].to_numpy()
        for name in MOUNTS
    ]
    assert all(np.all(np.diff(t) > 90_000) for t in times)
    first = [int(t[0]) for t in times]
    assert len(set(first)) == len(first)
    assert max(first) - min(first) < 5_000


def test_the_truth_has_every_front_frame(drive: SampleDrive) -> None:
    for chunk, (clip,) in enumerate(drive.chunks):
        truth = read_truth(drive.folder, clip)
        table = pd.read_parquet(io.BytesIO(member(drive, chunk, FRONT_CAMERA, "timestamps.parquet")))
        np.testing.assert_array_equal(truth.timestamps_us, table["timestamp"].to_numpy())
        assert len(front_frames(drive, chunk)) == truth.timestamps_us.size == 10
        assert truth.road_mask(0).shape == (SIZE[1], SIZE[0])


def near_points(truth: ClipTruth, line: TrueLine, camera: RigCamera, frame: int) -> NDArray[np.int64]:
    """Pixels (N, 2) of painted points of a line 5 to 14 m ahead that no vehicle hides."""
    pixels, ahead, seen = projected(truth, camera, frame, line.points_m)
    use = seen & line.painted() & (ahead > 5) & (ahead < 14)
    found = pixels[use]
    return found[~truth.vehicle_mask(frame)[found[:, 1], found[:, 0]]]


def test_lane_lines_lie_on_the_road_mask(drive: SampleDrive) -> None:
    for number, clip in enumerate(drive.clip_ids):
        truth = read_truth(drive.folder, clip)
        camera = sample_camera(FRONT_CAMERA, draw_conditions(0, number), *SIZE)
        on_road = [
            truth.road_mask(frame)[p[:, 1], p[:, 0]]
            for frame in (0, 9)
            for line in truth.lines
            if len(p := near_points(truth, line, camera, frame))
        ]
        assert np.concatenate(on_road).size > 20
        assert np.concatenate(on_road).mean() > 0.97


def test_pixels_on_a_line_are_brighter_than_the_asphalt_beside(drive: SampleDrive) -> None:
    for number, clip in enumerate(drive.clip_ids):
        truth = read_truth(drive.folder, clip)
        camera = sample_camera(FRONT_CAMERA, draw_conditions(0, number), *SIZE)
        frames = front_frames(drive, number)
        brighter = []
        for frame in range(10):
            gray = frames[frame].astype(float).max(axis=2)
            for line in truth.lines:
                if line.count == "double" or line.role == "other":
                    continue
                for x, y in near_points(truth, line, camera, frame):
                    if not 6 < x < SIZE[0] - 7:
                        continue
                    row = gray[y]
                    # The peak lies within a pixel of where the truth says; 5 and 6 pixels away there is asphalt.
                    beside = np.median([row[x - 6], row[x - 5], row[x + 5], row[x + 6]])
                    brighter.append(row[x - 1 : x + 2].max() - beside)
        assert len(brighter) > 20
        assert np.median(brighter) > 15
        assert np.mean(np.asarray(brighter) > 3) > 0.75


def test_the_vehicle_ahead_is_in_the_vehicle_mask_and_not_road(drive: SampleDrive) -> None:
    for number, clip in enumerate(drive.clip_ids):
        truth = read_truth(drive.folder, clip)
        camera = sample_camera(FRONT_CAMERA, draw_conditions(0, number), *SIZE)
        found = 0
        for frame in (0, 9):
            for vehicle in truth.vehicles:
                x, y = vehicle.poses[frame][:2]
                middle = np.array([[x, y, 0.5 * vehicle.size_m[2]]])
                pixel, ahead, seen = projected(truth, camera, frame, middle)
                if seen[0] and 5 < ahead[0] < 60:
                    found += 1
                    assert truth.vehicle_mask(frame)[pixel[0, 1], pixel[0, 0]]
                    assert not truth.road_mask(frame)[pixel[0, 1], pixel[0, 0]]
            assert not (truth.vehicle_mask(frame) & truth.road_mask(frame)).any()
        assert found > 0


def test_the_same_arguments_return_at_once_and_others_replace(drive: SampleDrive, tmp_path: Path) -> None:
    small = {"chunks": 1, "clips_per_chunk": 1, "seconds": 0.2, "width": 64, "height": 36, "other_cameras": False}
    calls: list[tuple[int, int, str]] = []
    first = write_sample_drive(tmp_path / "d", **small, progress=lambda *a: calls.append(a))  # type: ignore[arg-type]
    assert calls[-1][0] == calls[-1][1]
    stamp = (first.folder / "clip_index.parquet").stat().st_mtime_ns
    start = time.perf_counter()
    assert write_sample_drive(tmp_path / "d", **small) == first  # type: ignore[arg-type]
    assert time.perf_counter() - start < 0.2
    assert (first.folder / "clip_index.parquet").stat().st_mtime_ns == stamp
    other = write_sample_drive(tmp_path / "d", **small, seed=5)  # type: ignore[arg-type]
    assert other.clip_ids != first.clip_ids
    assert [p.name for p in (other.folder / "truth").iterdir()] == list(other.clip_ids)
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_an_interrupted_generation_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    small = {"chunks": 1, "clips_per_chunk": 1, "seconds": 0.2, "width": 64, "height": 36, "other_cameras": False}

    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample_drive(tmp_path / "d", **small, progress=stop)  # type: ignore[arg-type]
    assert not (tmp_path / "d").exists()
    drive = write_sample_drive(tmp_path / "d", **small)  # type: ignore[arg-type]
    assert read_truth(drive.folder, drive.clip_ids[0]).timestamps_us.size == 6


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty and not a sample drive"):
        write_sample_drive(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"chunks": 0}, "1 chunk"), ({"seconds": 0.0}, "0.2 to 120"), ({"width": 641}, "even"), ({"fps": 0}, "1 to 60")],
)
def test_impossible_arguments_are_named(tmp_path: Path, wrong: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        write_sample_drive(tmp_path / "d", **wrong)  # type: ignore[arg-type]


def test_a_clip_without_truth_is_named(drive: SampleDrive) -> None:
    with pytest.raises(FileNotFoundError, match="nobody"):
        read_truth(drive.folder, "nobody")
