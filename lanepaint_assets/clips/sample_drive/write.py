"""Write sample drives as a PhysicalAI-AV data set: camera zips, ego motion, calibration, indices, and the truth beside.

Called through `write_sample_drive` by the command line, the demo, tests and benchmarks. The layout is what the
`physical_ai_av` package reads; the unpublished details (columns of the blurred boxes) are left empty.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.sample_drive.kernels import FIRST_VEHICLE, ROAD
from lanepaint_assets.clips.sample_drive.profile import PROFILE_VERSION
from lanepaint_assets.clips.sample_drive.render import EGO_MIDDLE_M, EGO_SIZE_M, CameraTrack, ClipRenderer, Frame
from lanepaint_assets.clips.sample_drive.rig import FRONT_CAMERA, MOUNTS, frame_times_us, sample_camera
from lanepaint_assets.clips.sample_drive.truth import write_truth
from lanepaint_assets.clips.sample_drive.world import World, build_world, clip_identifier
from lanepaint_assets.rendering.cameras import FThetaLens, RigCamera

Progress = Callable[[int, int, str], None]
Row = dict[str, object]

# Written last: a folder without it is not a finished sample drive.
MARKER = "sample_drive.json"
# Bump when the same arguments give other files.
GENERATOR_VERSION = 1
# A front frame counts as this many small ones towards the progress.
FRONT_WEIGHT = 8
# About what a 1080p consumer encoder leaves; higher would be unrealistically clean.
CRF = 19
CALIBRATIONS = ("camera_intrinsics", "sensor_extrinsics", "vehicle_dimensions")


@dataclass(frozen=True)
class SampleDrive:
    """A finished sample drive: its folder, its clips by chunk, and the cameras of every clip."""

    folder: Path
    chunks: tuple[tuple[str, ...], ...]
    cameras: tuple[str, ...]

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return tuple(clip for chunk in self.chunks for clip in chunk)


@dataclass(frozen=True)
class _Order:
    """The arguments, as the marker keeps them."""

    seed: int
    chunks: int
    clips_per_chunk: int
    seconds: float
    width: int
    height: int
    fps: int
    other_cameras: bool
    other_size: tuple[int, int]
    profile: int = PROFILE_VERSION
    generator: int = GENERATOR_VERSION

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(MOUNTS) if self.other_cameras else (FRONT_CAMERA,)

    def size(self, camera: str) -> tuple[int, int]:
        return (self.width, self.height) if camera == FRONT_CAMERA else self.other_size

    def drive(self, folder: Path) -> SampleDrive:
        clips = [clip_identifier(self.seed, i) for i in range(self.chunks * self.clips_per_chunk)]
        step = self.clips_per_chunk
        return SampleDrive(
            folder, tuple(tuple(clips[i * step : (i + 1) * step]) for i in range(self.chunks)), self.cameras
        )


def write_sample_drive(
    folder: Path,
    *,
    seed: int = 0,
    chunks: int = 2,
    clips_per_chunk: int = 2,
    seconds: float = 14.0,
    width: int = 960,
    height: int = 540,
    fps: int = 30,
    other_cameras: bool = True,
    other_size: tuple[int, int] = (192, 108),
    progress: Progress | None = None,
) -> SampleDrive:
    """Render sample drives into `folder`, in the layout of the PhysicalAI-AV data set.

    `folder` appears in one step when all is done. A second call with the same arguments returns at once; other
    arguments replace the sample drive that was there. The same arguments give the same pictures on one machine.

    Args:
        folder: where to; absent, empty, or an earlier sample drive.
        seed: another seed, other roads.
        chunks, clips_per_chunk: how many clips; the first four show one scenario each.
        seconds: length of a clip.
        width, height, fps: of the front wide camera; even sides.
        other_cameras: also render the six other cameras, at `other_size`.
        progress: called with (done, total, what) from time to time.

    Raises:
        ValueError: an argument is out of range, or `folder` holds something else.
    """
    order = _Order(seed, chunks, clips_per_chunk, float(seconds), width, height, fps, other_cameras, other_size)
    _validate(order)
    folder = folder.absolute()
    if _finished(folder) == asdict(order):
        return order.drive(folder)
    if folder.exists() and _finished(folder) is None and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and not a sample drive; give another folder or empty it")
    with _workshop(folder) as partial:
        if _finished(folder) == asdict(order):  # another process was faster
            return order.drive(folder)
        _generate(partial, order, progress)
        (partial / MARKER).write_text(json.dumps(asdict(order), indent=1))
        if folder.exists():
            retired = folder.with_name(f".{folder.name}.old-{os.getpid()}")
            folder.rename(retired)
            partial.rename(folder)
            shutil.rmtree(retired)
        else:
            partial.rename(folder)
    return order.drive(folder)


def _validate(order: _Order) -> None:
    sizes = [order.width, order.height, *order.other_size]
    if order.chunks < 1 or order.clips_per_chunk < 1:
        raise ValueError(f"a sample drive needs 1 chunk and 1 clip or more, not {order.chunks} x {order.clips_per_chunk}")
    if not 0.2 <= order.seconds <= 120:
        raise ValueError(f"a clip of {order.seconds} s cannot be made; allowed are 0.2 to 120 s")
    if not 1 <= order.fps <= 60:
        raise ValueError(f"{order.fps} frames a second cannot be made; allowed are 1 to 60")
    if any(side < 32 or side % 2 for side in sizes):
        raise ValueError(f"picture sides must be even and 32 pixels or more, not {sizes}")


def _finished(folder: Path) -> Row | None:
    """The arguments of the sample drive in `folder`; None where there is none or it is not finished."""
    try:
        row: Row = json.loads((folder / MARKER).read_text())
    except (OSError, json.JSONDecodeError):
        return None
    row["other_size"] = tuple(row.get("other_size", ()))  # type: ignore[arg-type]
    return row


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, locked against a second process; what a killed one left there is cleared."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    while True:
        partial.mkdir(exist_ok=True)
        lock = os.open(partial, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever held the lock may have renamed the folder meanwhile: then this lock is on the finished drive.
        try:
            same = partial.stat().st_ino == os.fstat(lock).st_ino
        except FileNotFoundError:
            same = False
        if same:
            break
        os.close(lock)
    try:
        for leftover in partial.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield partial
        if partial.exists():
            shutil.rmtree(partial)
    finally:
        os.close(lock)


def _generate(folder: Path, order: _Order, progress: Progress | None) -> None:
    drive = order.drive(folder)
    count = round(order.seconds * order.fps)
    total = len(drive.clip_ids) * count * (FRONT_WEIGHT + len(order.cameras) - 1)
    done = 0

    def step(weight: int, what: str) -> None:
        nonlocal done
        done += weight
        if progress is not None:
            progress(done, total, what)

    _write_indices(folder, drive)
    workers = max(2, min(os.cpu_count() or 2, 8))
    with ThreadPoolExecutor(workers) as pool:
        number = 0
        # The next clip's world is baked while this one is rendered.
        ahead: Future[ClipRenderer] = pool.submit(_prepare, order, 0)
        for chunk, clips in enumerate(drive.chunks):
            tables: dict[str, list[Row]] = {name: [] for name in CALIBRATIONS}
            motions: dict[str, bytes] = {}
            archives = {camera: _open_archive(folder, camera, chunk) for camera in order.cameras}
            for clip_id in clips:
                renderer = ahead.result()
                number += 1
                if number < len(drive.clip_ids):
                    ahead = pool.submit(_prepare, order, number)
                what = f"clip {number} of {len(drive.clip_ids)}, {renderer.world.conditions.scenario.name}"
                for camera in order.cameras:
                    _render_camera(folder, archives[camera], renderer, camera, order, pool, step, what, workers)
                _calibrate(tables, renderer.world, order)
                motions[f"{clip_id}.egomotion.parquet"] = _motion_table(renderer.world)
            for archive in archives.values():
                archive.close()
            motion = folder / "labels" / "egomotion" / f"egomotion.chunk_{chunk:04d}.zip"
            motion.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(motion, "w") as archive:
                for name, data in motions.items():
                    _add(archive, name, data)
            _write_calibration(folder, chunk, tables)


def _prepare(order: _Order, number: int) -> ClipRenderer:
    world = build_world(order.seed, number, order.seconds)
    return ClipRenderer(world, _times(world, FRONT_CAMERA, order))


def _times(world: World, camera: str, order: _Order) -> NDArray[np.int64]:
    return frame_times_us(camera, order.seconds, order.fps, world.random(20 + list(MOUNTS).index(camera)))


def _render_camera(
    folder: Path,
    archive: zipfile.ZipFile,
    renderer: ClipRenderer,
    name: str,
    order: _Order,
    pool: ThreadPoolExecutor,
    step: Callable[[int, str], None],
    what: str,
    workers: int,
) -> None:
    """Render one camera of one clip into its chunk's zip; the front camera's truth goes beside it."""
    world = renderer.world
    width, height = order.size(name)
    times = _times(world, name, order)
    track = renderer.track(sample_camera(name, world.conditions, width, height), times, 40 + list(MOUNTS).index(name))
    road: list[NDArray[np.uint8]] = []
    vehicles: list[NDArray[np.uint8]] = []
    front = name == FRONT_CAMERA

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for frame in _in_order(renderer, track, pool, workers + 2):
            if front:
                road.append(np.packbits(frame.label == ROAD))
                vehicles.append(np.packbits(frame.label >= FIRST_VEHICLE))
            step(FRONT_WEIGHT if front else 1, what)
            yield frame.picture

    video = folder / f"{world.clip_id}.{name}.mp4"
    write_video(video, pictures(), float(order.fps), crf=CRF)
    _add(archive, video.name, video.read_bytes())
    video.unlink()
    _add(archive, f"{world.clip_id}.{name}.timestamps.parquet", _parquet(pd.DataFrame({"timestamp": times})))
    boxes = {"frame_index": "int64", "x1": "float64", "y1": "float64", "x2": "float64", "y2": "float64"}
    empty = pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in boxes.items()})
    _add(archive, f"{world.clip_id}.{name}.blurred_boxes.parquet", _parquet(empty))
    if front:
        poses = np.stack([renderer.vehicle_poses(int(t)) for t in times])
        write_truth(folder, world, times, (width, height), np.stack(road), np.stack(vehicles), poses)


def _in_order(renderer: ClipRenderer, track: CameraTrack, pool: ThreadPoolExecutor, ahead: int) -> Iterator[Frame]:
    """Frames in order, a few of them rendered ahead by the pool."""
    waiting: list[Future[Frame]] = []
    for index in range(track.times_us.size):
        waiting.append(pool.submit(renderer.frame, track, index))
        if len(waiting) >= ahead:
            yield waiting.pop(0).result()
    for frame in waiting:
        yield frame.result()


def _calibrate(tables: dict[str, list[Row]], world: World, order: _Order) -> None:
    for name in order.cameras:
        camera = sample_camera(name, world.conditions, *order.size(name))
        tables["camera_intrinsics"].append({"clip_id": world.clip_id, "camera_name": name, **_intrinsics(camera)})
        x, y, z, w = Rotation.from_matrix(camera.rotation).as_quat()
        place = dict(zip(("x", "y", "z"), camera.position_m.tolist(), strict=True))
        turn = {"qx": x, "qy": y, "qz": z, "qw": w}
        tables["sensor_extrinsics"].append({"clip_id": world.clip_id, "sensor_name": name, **turn, **place})
    length, width, height = EGO_SIZE_M
    tables["vehicle_dimensions"].append(
        {"clip_id": world.clip_id, "length": length, "width": width, "height": height,
         "rear_axle_to_bbox_center": EGO_MIDDLE_M, "wheelbase": 2.85, "track_width": 1.6}
    )  # fmt: skip


def _intrinsics(camera: RigCamera) -> Row:
    """One row of the intrinsics: the lens as the data set writes it, with the backward polynomial fitted."""
    lens = camera.lens
    if not isinstance(lens, FThetaLens):
        raise TypeError("the data set has f-theta cameras only")
    theta = np.linspace(1e-4, min(lens.max_theta, 1.15), 400)
    radius = np.polynomial.polynomial.polyval(theta, np.asarray(lens.fw_poly))
    scale = float(radius.max())
    powers = np.stack([(radius / scale) ** k for k in range(1, 5)], axis=1)
    backward = [0.0, *(np.linalg.lstsq(powers, theta, rcond=None)[0] / scale ** np.arange(1, 5))]
    row: Row = {"width": lens.width, "height": lens.height, "cx": lens.cx, "cy": lens.cy}
    row |= {f"bw_poly_{i}": float(value) for i, value in enumerate(backward)}
    return row | {f"fw_poly_{i}": float(value) for i, value in enumerate(lens.fw_poly)}


def _motion_table(world: World) -> bytes:
    """100 Hz ego motion: pose, velocity and acceleration in the local world frame, curvature of the path."""
    motion = world.egomotion
    seconds = motion.timestamps_us / 1e6
    velocity = np.gradient(motion.positions_m, seconds, axis=0)
    acceleration = np.gradient(velocity, seconds, axis=0)
    columns: dict[str, NDArray[np.int64] | NDArray[np.float64]] = {"timestamp": motion.timestamps_us}
    columns |= {f"q{axis}": motion.quaternions_xyzw[:, i] for i, axis in enumerate("xyzw")}
    for prefix, values in (("", motion.positions_m), ("v", velocity), ("a", acceleration)):
        columns |= {f"{prefix}{axis}": values[:, i] for i, axis in enumerate("xyz")}
    return _parquet(pd.DataFrame(columns | {"curvature": world.ego_curvature}))


def _write_calibration(folder: Path, chunk: int, tables: dict[str, list[Row]]) -> None:
    keys = {
        "camera_intrinsics": ["clip_id", "camera_name"],
        "sensor_extrinsics": ["clip_id", "sensor_name"],
        "vehicle_dimensions": ["clip_id"],
    }
    for name, rows in tables.items():
        path = folder / "calibration" / name / f"{name}.chunk_{chunk:04d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).set_index(keys[name]).to_parquet(path)


def _write_indices(folder: Path, drive: SampleDrive) -> None:
    rows: list[tuple[str, str, str, str | None]] = []
    for camera in drive.cameras:
        members = {
            "video": f"{{clip_id}}.{camera}.mp4",
            "frame_timestamps": f"{{clip_id}}.{camera}.timestamps.parquet",
            "blurred_boxes": f"{{clip_id}}.{camera}.blurred_boxes.parquet",
        }
        rows.append((camera, "camera", f"camera/{camera}/{camera}.chunk_{{chunk_id:04d}}.zip", json.dumps(members)))
    rows += [
        (name, "calibration", f"calibration/{name}/{name}.chunk_{{chunk_id:04d}}.parquet", None) for name in CALIBRATIONS
    ]
    rows.append(
        ("egomotion", "labels", "labels/egomotion/egomotion.chunk_{chunk_id:04d}.zip",
         json.dumps({"egomotion": "{clip_id}.egomotion.parquet"}))
    )  # fmt: skip
    features = pd.DataFrame(rows, columns=["feature", "directory", "chunk_path", "clip_files_in_zip"])
    features.to_csv(folder / "features.csv", index=False)
    index = pd.Index(drive.clip_ids, name="clip_id")
    chunks = [number for number, clips in enumerate(drive.chunks) for _ in clips]
    table = pd.DataFrame({"chunk": np.asarray(chunks, dtype=np.int64), "split": "train", "clip_is_valid": True}, index=index)
    table.to_parquet(folder / "clip_index.parquet")
    (folder / "metadata").mkdir()
    pd.DataFrame({row[0]: True for row in rows}, index=index).to_parquet(folder / "metadata" / "feature_presence.parquet")
    pd.DataFrame(
        {"country": "Sample", "month": 6, "hour_of_day": 12, "platform_class": "sample_drive"}, index=index
    ).to_parquet(folder / "metadata" / "data_collection.parquet")


def _open_archive(folder: Path, camera: str, chunk: int) -> zipfile.ZipFile:
    path = folder / "camera" / camera / f"{camera}.chunk_{chunk:04d}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    return zipfile.ZipFile(path, "w")


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Store a member under a fixed date, so that the same drive gives the same bytes."""
    archive.writestr(zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0)), data)


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
