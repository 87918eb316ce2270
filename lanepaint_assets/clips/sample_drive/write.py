"""Write sample drives as a PhysicalAI-AV data set: camera zips, ego motion, calibration, indices, and the truth beside.

Called through `write_sample_drive` by the command line, the demo, tests and benchmarks. The layout is what the
`physical_ai_av` package reads; the unpublished details (columns of the blurred boxes) are left empty.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lanepaint_assets.clips.encoding import DEFAULT_PRESET, write_video
from lanepaint_assets.clips.sample_drive.ground_kernel import FIRST_VEHICLE, ROAD
from lanepaint_assets.clips.sample_drive.profile import PROFILE_VERSION
from lanepaint_assets.clips.sample_drive.render import CameraTrack, ClipRenderer, Frame
from lanepaint_assets.clips.sample_drive.rig import FRONT_CAMERA, MOUNTS, frame_times_us, sample_camera
from lanepaint_assets.clips.sample_drive.tables import (
    CALIBRATIONS,
    Row,
    add_calibration,
    motion_table,
    parquet_bytes,
    write_calibration,
    write_indices,
)
from lanepaint_assets.clips.sample_drive.truth import write_truth
from lanepaint_assets.clips.sample_drive.world import World, build_world, clip_identifier
from lanepaint_assets.rendering.cameras import RigCamera

Progress = Callable[[int, int, str], None]

# Written last: a folder without it is not a finished sample drive.
MARKER = "sample_drive.json"
# Bump when the same arguments give other files.
GENERATOR_VERSION = 1
# A front frame counts as this many small ones towards the progress.
FRONT_WEIGHT = 8
# About what a 1080p consumer encoder leaves; higher would be unrealistically clean.
CRF = 19
# The small pictures are for models to glance at; effort on them would be a third of all encoding.
SMALL_PRESET = "ultrafast"
# Pixels that one task of a worker renders at least.
BATCH_PIXELS = 300_000


class SampleDriveError(ValueError):
    """No sample drive can be written like this, or there; the message says what is allowed."""


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

    def rig(self, world: World) -> dict[str, RigCamera]:
        return {name: sample_camera(name, world.conditions, *self.size(name)) for name in self.cameras}

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
    other_size: tuple[int, int] = (128, 72),
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
        raise SampleDriveError(f"{folder} is not empty and not a sample drive; give another folder or empty it")
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
        raise SampleDriveError(
            f"a sample drive needs 1 chunk and 1 clip or more, not {order.chunks} x {order.clips_per_chunk}"
        )
    if not 0.2 <= order.seconds <= 120:
        raise SampleDriveError(f"a clip of {order.seconds} s cannot be made; allowed are 0.2 to 120 s")
    if not 1 <= order.fps <= 60:
        raise SampleDriveError(f"{order.fps} frames a second cannot be made; allowed are 1 to 60")
    if any(side < 32 or side % 2 for side in sizes):
        raise SampleDriveError(f"picture sides must be even and 32 pixels or more, not {sizes}")


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

    write_indices(folder, drive.chunks, drive.cameras)
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
                add_calibration(tables, clip_id, order.rig(renderer.world))
                motions[f"{clip_id}.egomotion.parquet"] = motion_table(renderer.world)
            for archive in archives.values():
                archive.close()
            motion = folder / "labels" / "egomotion" / f"egomotion.chunk_{chunk:04d}.zip"
            motion.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(motion, "w") as archive:
                for name, data in motions.items():
                    _add(archive, name, data)
            write_calibration(folder, chunk, tables)


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
    write_video(video, pictures(), float(order.fps), crf=CRF, preset=DEFAULT_PRESET if front else SMALL_PRESET)
    _add(archive, video.name, video.read_bytes())
    video.unlink()
    _add(archive, f"{world.clip_id}.{name}.timestamps.parquet", parquet_bytes(pd.DataFrame({"timestamp": times})))
    boxes = {"frame_index": "int64", "x1": "float64", "y1": "float64", "x2": "float64", "y2": "float64"}
    empty = pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in boxes.items()})
    _add(archive, f"{world.clip_id}.{name}.blurred_boxes.parquet", parquet_bytes(empty))
    if front:
        poses = np.stack([renderer.vehicle_poses(int(t)) for t in times])
        write_truth(folder, world, times, (width, height), np.stack(road), np.stack(vehicles), poses)


def _in_order(renderer: ClipRenderer, track: CameraTrack, pool: ThreadPoolExecutor, ahead: int) -> Iterator[Frame]:
    """Frames in order, a few batches of them rendered ahead by the pool."""
    count = track.times_us.size
    # Small pictures take less time than handing them from thread to thread: several at once.
    batch = max(1, min(16, BATCH_PIXELS // track.falloff.size))

    def render(first: int) -> list[Frame]:
        return [renderer.frame(track, index) for index in range(first, min(first + batch, count))]

    waiting: deque[Future[list[Frame]]] = deque()
    for first in range(0, count, batch):
        waiting.append(pool.submit(render, first))
        if len(waiting) >= ahead:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _open_archive(folder: Path, camera: str, chunk: int) -> zipfile.ZipFile:
    path = folder / "camera" / camera / f"{camera}.chunk_{chunk:04d}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    return zipfile.ZipFile(path, "w")


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Store a member under a fixed date, so that the same drive gives the same bytes."""
    archive.writestr(zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0)), data)
