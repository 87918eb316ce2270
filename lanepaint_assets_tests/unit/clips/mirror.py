"""A tiny data set in PhysicalAI-AV layout, made in code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from lanepaint_assets.rendering.cameras import mounting_rotation
from lanepaint_assets_tests.unit.clips.videos import write_numbered

WIDE, TELE = "camera_front_wide_120fov", "camera_front_tele_30fov"
FRAMES = 45
CLOCK_START_US = 7_000_003
FW_POLY = (0.0, 30.9, 0.77, -1.95, 0.55)
WIDE_POSITION_M = (1.75, 0.02, 1.45)


def frame_times_us(camera: str) -> np.ndarray:
    """The tele camera fires 500 us after the wide one."""
    return CLOCK_START_US + np.rint(np.arange(FRAMES) * 1e6 / 30).astype(np.int64) + (500 if camera == TELE else 0)


def write_mirror(root: Path, clips_of_chunk: dict[int, list[str]], *, invalid: Iterable[str] = ()) -> Path:
    features = [
        (
            camera,
            "camera",
            f"camera/{camera}/{camera}.chunk_{{chunk_id:04d}}.zip",
            json.dumps(
                {
                    "video": f"{{clip_id}}.{camera}.mp4",
                    "frame_timestamps": f"{{clip_id}}.{camera}.timestamps.parquet",
                }
            ),
        )
        for camera in (WIDE, TELE)
    ]
    features += [
        (name, "calibration", f"calibration/{name}/{name}.chunk_{{chunk_id:04d}}.parquet", None)
        for name in ("camera_intrinsics", "sensor_extrinsics")
    ]
    features.append(
        (
            "egomotion",
            "labels",
            "labels/egomotion/egomotion.chunk_{chunk_id:04d}.zip",
            json.dumps({"egomotion": "{clip_id}.egomotion.parquet"}),
        )
    )
    (root / "metadata").mkdir(parents=True)
    columns = ["feature", "directory", "chunk_path", "clip_files_in_zip"]
    pd.DataFrame(features, columns=columns).to_csv(root / "features.csv", index=False)
    rows = [(clip, chunk) for chunk, clips in clips_of_chunk.items() for clip in clips]
    index = pd.Index([clip for clip, _ in rows], name="clip_id")
    bad = set(invalid)
    pd.DataFrame(
        {
            "chunk": [chunk for _, chunk in rows],
            "split": "train",
            "clip_is_valid": [clip not in bad for clip, _ in rows],
        },
        index=index,
    ).to_parquet(root / "clip_index.parquet")
    presence = pd.DataFrame({feature[0]: True for feature in features}, index=index)
    presence.to_parquet(root / "metadata/feature_presence.parquet")
    pd.DataFrame({"country": "Nowhere"}, index=index).to_parquet(root / "metadata/data_collection.parquet")
    for chunk, clips in clips_of_chunk.items():
        _write_chunk(root, chunk, clips)
    return root


def _write_chunk(root: Path, chunk: int, clips: list[str]) -> None:
    video = write_numbered(root / "numbered.tmp", FRAMES)
    for camera in (WIDE, TELE):
        times = pd.DataFrame({"timestamp": frame_times_us(camera)}).to_parquet()
        with _archive(root / f"camera/{camera}/{camera}.chunk_{chunk:04d}.zip") as archive:
            for clip in clips:
                archive.writestr(f"{clip}.{camera}.mp4", video.read_bytes())
                archive.writestr(f"{clip}.{camera}.timestamps.parquet", times)
    video.unlink()
    with _archive(root / f"labels/egomotion/egomotion.chunk_{chunk:04d}.zip") as archive:
        for clip in clips:
            archive.writestr(f"{clip}.egomotion.parquet", _egomotion().to_parquet())
    lenses = {
        "width": 64, "height": 48, "cx": 31.9, "cy": 25.1,
        **{f"fw_poly_{i}": value for i, value in enumerate(FW_POLY)},
        **{f"bw_poly_{i}": 0.0 for i in range(5)},
    }  # fmt: skip
    pose = dict(
        zip(("qx", "qy", "qz", "qw"), Rotation.from_matrix(mounting_rotation(0.0, 0.05)).as_quat(), strict=True),
        **dict(zip("xyz", WIDE_POSITION_M, strict=True)),
    )
    for name, key, values in (("camera_intrinsics", "camera_name", lenses), ("sensor_extrinsics", "sensor_name", pose)):
        table = pd.DataFrame([{"clip_id": clip, key: camera, **values} for clip in clips for camera in (WIDE, TELE)])
        path = root / f"calibration/{name}/{name}.chunk_{chunk:04d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.set_index(["clip_id", key]).to_parquet(path)


def _egomotion() -> pd.DataFrame:
    """10 m/s straight ahead, 100 Hz, half a second more than the frames on both sides."""
    seconds = np.arange(-0.5, 2.0, 0.01)
    still = np.zeros_like(seconds)
    return pd.DataFrame(
        {
            "timestamp": CLOCK_START_US + np.rint(seconds * 1e6).astype(np.int64),
            "qx": still, "qy": still, "qz": still, "qw": still + 1,
            "x": 10 * seconds, "y": still, "z": still,
            "vx": still + 10, "vy": still, "vz": still,
            "ax": still, "ay": still, "az": still,
            "curvature": still,
        }
    )  # fmt: skip


def _archive(path: Path) -> zipfile.ZipFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    return zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
