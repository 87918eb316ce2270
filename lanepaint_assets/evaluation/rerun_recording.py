"""A `.rrd` of one item for the rerun viewer: both arms' frames, the plans on them and in space, camera and vehicle.

Written by `lanepaint render FILE.npz --rrd FILE`, on a timeline in the data set's time. rerun (extra `rerun`) is
imported here and nowhere else. The frames stay the H.264 of the NPZ: the viewer in a browser plays it, the one on the
desktop asks for ffmpeg.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lanepaint_assets.evaluation.vis_data import VisData
from lanepaint_assets.rendering.birds_eye_inset import BirdsEyeView
from lanepaint_assets.rendering.cameras import PinholeLens
from lanepaint_assets.rendering.overlay import ScenePainter
from lanepaint_assets.rendering.projection import focal_px, rig_motion
from lanepaint_assets.rendering.scene import GT_COLOR, HISTORY_COLOR, ArmName, TrajectoryScene, sample_color

if TYPE_CHECKING:
    import rerun as rr

APPLICATION = "lanepaint"
TIMELINE = "dataset_time"
ARMS: tuple[ArmName, ...] = ("original", "edited")
# Radius of a line in space: as wide as it is painted on the videos' road.
LINE_RADIUS_M = 0.07


class RerunMissingError(RuntimeError):
    """A recording was asked for, but rerun is not installed; the message says how to install it."""


def write_recording(data: VisData, path: Path) -> None:
    """Write the recording in one step.

    Args:
        data: the item.
        path: the `.rrd`; its folder must exist.

    Raises:
        RerunMissingError: rerun is not installed.
        VisDataError: a video of the item is none.
        OSError: the file cannot be written.
    """
    try:
        import rerun as rr
    except ImportError as error:
        raise RerunMissingError(
            f"a rerun recording needs rerun-sdk ({error}); install it with: pip install 'lanepaint[rerun]'"
        ) from error
    scene = data.scene()
    recording = rr.RecordingStream(APPLICATION, recording_id=f"{data.clip_id}/{data.prompt_key}")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
        partial = Path(folder) / "recording.rrd"
        recording.save(partial, default_blueprint=_layout())
        recording.log("about", rr.TextDocument(_about(data, scene), media_type="text/markdown"), static=True)
        _log_space(recording, scene)
        for arm in ARMS:
            _log_arm(recording, scene, arm)
        recording.flush()
        recording.disconnect()
        partial.replace(path)


def _layout() -> rr.blueprint.Blueprint:
    import rerun.blueprint as rrb

    pictures = rrb.Vertical(*(rrb.Spatial2DView(origin=f"/{arm}", name=arm) for arm in ARMS))
    beside = rrb.Vertical(
        rrb.Spatial3DView(origin="/world", name="rig frame at t0"), rrb.TextDocumentView(origin="/about")
    )
    return rrb.Blueprint(rrb.Horizontal(pictures, beside), rrb.TimePanel(timeline=TIMELINE), collapse_panels=True)


def _log_space(recording: rr.RecordingStream, scene: TrajectoryScene) -> None:
    """Paths in the rig frame at t0; the vehicle with its camera moves along."""
    import rerun as rr

    recording.log("world", rr.ViewCoordinates.FLU, static=True)
    paths = [("history", scene.history_m, HISTORY_COLOR), ("ground_truth", scene.gt_future_m, GT_COLOR)]
    for arm in ARMS:
        paths += [
            (f"{arm}/sample_{number}", sample, sample_color(number))
            for number, sample in enumerate(scene.trajectories_m(arm))
        ]
    for name, path_m, color in paths:
        if path_m is not None and np.isfinite(path_m).all():
            line = rr.LineStrips3D([path_m], colors=[color], radii=LINE_RADIUS_M)
            recording.log(f"world/{name}", line, static=True)
    camera, lens = scene.camera, scene.camera.lens
    # rerun knows no fisheye: near the axis this is the lens, towards the edges it sees too little.
    focal = (lens.fx, lens.fy) if isinstance(lens, PinholeLens) else (focal_px(camera), focal_px(camera) * lens.aspect)
    recording.log(
        "world/vehicle/camera", rr.Transform3D(translation=camera.position_m, mat3x3=camera.rotation), static=True
    )
    pinhole = rr.Pinhole(
        focal_length=focal,
        principal_point=(lens.cx, lens.cy),
        resolution=(lens.width, lens.height),
        camera_xyz=rr.ViewCoordinates.RDF,
    )
    recording.log("world/vehicle/camera", pinhole, static=True)
    rotations, offsets, known = rig_motion(scene.ego, scene.taken_us, scene.t0_us)
    for time_us, rotation, offset, is_known in zip(scene.timestamps_us, rotations, offsets, known, strict=True):
        if is_known:
            _set_time(recording, int(time_us))
            # `rotation` and `offset` carry points from t0 to the frame; the vehicle's pose is the way back.
            recording.log("world/vehicle", rr.Transform3D(translation=-offset @ rotation, mat3x3=rotation.T))


def _log_arm(recording: rr.RecordingStream, scene: TrajectoryScene, arm: ArmName) -> None:
    """The frames and, on each, the plan as the videos draw it: through the true lens."""
    import rerun as rr

    video = rr.AssetVideo(
        contents=scene.original_mp4 if arm == "original" else scene.edited_mp4, media_type="video/mp4"
    )
    recording.log(f"{arm}/frames", video, static=True)
    painter = ScenePainter(scene, arm, BirdsEyeView.around(scene))
    shown_ns = video.read_frame_timestamps_nanos()
    for index, (time_us, frame_ns) in enumerate(zip(scene.timestamps_us, shown_ns, strict=True)):
        _set_time(recording, int(time_us))
        reference = rr.VideoFrameReference(nanoseconds=int(frame_ns), video_reference=f"{arm}/frames")
        recording.log(f"{arm}/frames", reference)
        lines = painter.plan(index)
        strips = rr.LineStrips2D(
            [line.points_px for _, line in lines], colors=[mark.color for mark, _ in lines], draw_order=1.0
        )
        recording.log(f"{arm}/plan", strips)


def _set_time(recording: rr.RecordingStream, time_us: int) -> None:
    recording.set_time(TIMELINE, duration=np.timedelta64(time_us, "us"))


def _about(data: VisData, scene: TrajectoryScene) -> str:
    engines = ", ".join(engine.text for engine in scene.engines)
    words = [
        f"# {data.clip_id}",
        f"{data.edited_camera}, camera {scene.camera.quality}",
        f"**{data.prompt_key}**: {data.prompt_text}",
        f"t0 at {data.t0_us / 1e6:.3f} s of the data set's time. Made by {engines}.",
    ]
    for arm, reasoning in (("original", data.original_reasoning), ("edited", data.edited_reasoning)):
        words.append(f"## {arm}: {scene.min_ade_text('original' if arm == 'original' else 'edited')}")
        words += [f"- {text}" for text in dict.fromkeys(reasoning) if text]
    return "\n\n".join(words) + "\n"
