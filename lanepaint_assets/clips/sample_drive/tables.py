"""The tables of a PhysicalAI-AV data set: indices, calibration, ego motion. Called by `write.py`.

Columns and names are what the `physical_ai_av` package reads. No pictures and no decisions about folders here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lanepaint_assets.clips.sample_drive.render import EGO_MIDDLE_M, EGO_SIZE_M
from lanepaint_assets.clips.sample_drive.world import World
from lanepaint_assets.rendering.cameras import FThetaLens, RigCamera

Row = dict[str, object]
CALIBRATIONS = ("camera_intrinsics", "sensor_extrinsics", "vehicle_dimensions")


def add_calibration(tables: dict[str, list[Row]], clip_id: str, cameras: dict[str, RigCamera]) -> None:
    """Append one clip's rows to the tables of `CALIBRATIONS`."""
    for name, camera in cameras.items():
        tables["camera_intrinsics"].append({"clip_id": clip_id, "camera_name": name, **_intrinsics(camera)})
        x, y, z, w = Rotation.from_matrix(camera.rotation).as_quat()
        place = dict(zip(("x", "y", "z"), camera.position_m.tolist(), strict=True))
        turn = {"qx": x, "qy": y, "qz": z, "qw": w}
        tables["sensor_extrinsics"].append({"clip_id": clip_id, "sensor_name": name, **turn, **place})
    length, width, height = EGO_SIZE_M
    tables["vehicle_dimensions"].append(
        {"clip_id": clip_id, "length": length, "width": width, "height": height,
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


def motion_table(world: World) -> bytes:
    """100 Hz ego motion: pose, velocity and acceleration in the local world frame, curvature of the path."""
    motion = world.egomotion
    seconds = motion.timestamps_us / 1e6
    velocity = np.gradient(motion.positions_m, seconds, axis=0)
    acceleration = np.gradient(velocity, seconds, axis=0)
    columns: dict[str, NDArray[np.int64] | NDArray[np.float64]] = {"timestamp": motion.timestamps_us}
    columns |= {f"q{axis}": motion.quaternions_xyzw[:, i] for i, axis in enumerate("xyzw")}
    for prefix, values in (("", motion.positions_m), ("v", velocity), ("a", acceleration)):
        columns |= {f"{prefix}{axis}": values[:, i] for i, axis in enumerate("xyz")}
    return parquet_bytes(pd.DataFrame(columns | {"curvature": world.ego_curvature}))


def write_calibration(folder: Path, chunk: int, tables: dict[str, list[Row]]) -> None:
    """Write one chunk's calibration tables under the data set's root."""
    keys = {
        "camera_intrinsics": ["clip_id", "camera_name"],
        "sensor_extrinsics": ["clip_id", "sensor_name"],
        "vehicle_dimensions": ["clip_id"],
    }
    for name, rows in tables.items():
        path = folder / "calibration" / name / f"{name}.chunk_{chunk:04d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).set_index(keys[name]).to_parquet(path)


def write_indices(folder: Path, clips_by_chunk: Sequence[Sequence[str]], cameras: Sequence[str]) -> None:
    """Write features, clip index and metadata into the data set's root."""
    rows: list[tuple[str, str, str, str | None]] = []
    for camera in cameras:
        members = {
            "video": f"{{clip_id}}.{camera}.mp4",
            "frame_timestamps": f"{{clip_id}}.{camera}.timestamps.parquet",
            "blurred_boxes": f"{{clip_id}}.{camera}.blurred_boxes.parquet",
        }
        rows.append((camera, "camera", f"camera/{camera}/{camera}.chunk_{{chunk_id:04d}}.zip", json.dumps(members)))
    rows += [
        (name, "calibration", f"calibration/{name}/{name}.chunk_{{chunk_id:04d}}.parquet", None)
        for name in CALIBRATIONS
    ]
    rows.append(
        ("egomotion", "labels", "labels/egomotion/egomotion.chunk_{chunk_id:04d}.zip",
         json.dumps({"egomotion": "{clip_id}.egomotion.parquet"}))
    )  # fmt: skip
    features = pd.DataFrame(rows, columns=["feature", "directory", "chunk_path", "clip_files_in_zip"])
    features.to_csv(folder / "features.csv", index=False)
    index = pd.Index([clip for clips in clips_by_chunk for clip in clips], name="clip_id")
    chunks = [number for number, clips in enumerate(clips_by_chunk) for _ in clips]
    table = pd.DataFrame(
        {"chunk": np.asarray(chunks, dtype=np.int64), "split": "train", "clip_is_valid": True}, index=index
    )
    table.to_parquet(folder / "clip_index.parquet")
    (folder / "metadata").mkdir()
    pd.DataFrame({row[0]: True for row in rows}, index=index).to_parquet(
        folder / "metadata" / "feature_presence.parquet"
    )
    pd.DataFrame(
        {"country": "Sample", "month": 6, "hour_of_day": 12, "platform_class": "sample_drive"}, index=index
    ).to_parquet(folder / "metadata" / "data_collection.parquet")


def parquet_bytes(table: pd.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file, for a zip."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
