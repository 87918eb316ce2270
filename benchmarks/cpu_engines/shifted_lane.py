"""Makes the arms of the driver's shift experiment: one lane, painted again where it was and half a metre to each side.

Called by `driver.py`. The procedural painter takes the old markings out and repaints the lane as measured. How much
brighter its paint made each pixel is then moved sideways over the ground, pixel by pixel, and laid on the same frames
without markings. So the arms differ in nothing but where the new lines lie, and whatever the driver does differently
is its answer to them. What the removal left of the old markings stays in all arms. The painter is not measured here.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cpu_engines.drives import DriveClip
from lanepaint_assets.editing.compositing import composite_video
from lanepaint_assets.editing.engine import EditScene, PaintInstruction
from lanepaint_assets.editing.lane_paint import LinePaint, paint_pixels, paint_table
from lanepaint_assets.editing.marking_standards import marking_standard
from lanepaint_assets.editing.procedural import ProceduralPainter
from lanepaint_assets.editing.scene_analysis import analyse_scene
from lanepaint_assets.editing.shading import linear_frame
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.birds_eye import pitched, road_pitch
from lanepaint_assets.rendering.cameras import RigCamera
from lanepaint_assets.rendering.mask_edges import MaskEdges

Frames = NDArray[np.uint8]

# Grid frames around the moment that the painter sees, as it does in a whole clip: 3 s after it the vehicle has
# passed over what the last four frames show, and old markings are best found from near.
FRAMES_BEFORE, FRAMES_AFTER = 8, 24
# Strokes of no width: the painter then only removes.
NO_PAINT = LinePaint(LaneStyle(Count.SINGLE, Color.WHITE, Pattern.SOLID), 0.0, 0.0, 0.0, 0.0, 0.0)
# Neither the paint's wear nor anything else may differ between the arms.
PAINT_SEED = 0
# Keeps the gain of paint on black pixels finite: a third of the darkest step of 8 bits.
DARKEST = 1e-4


def repainted(clip: DriveClip, last_frame: int, shifts_m: tuple[float, ...], count: int) -> tuple[Frames, ...]:
    """The last `count` grid frames up to `last_frame`, the lane repainted as measured and moved left by each shift.

    Sideways is along rig y at each frame; where the road has turned by 20 degrees, the lines lie 6 % closer.

    Returns:
        For each shift (count, H, W, 3), composited under the clip's paint masks.

    Raises:
        UnpaintableSceneError: the painter found no lane to paint.
    """
    part = slice(max(0, last_frame + 1 - FRAMES_BEFORE), last_frame + 1 + FRAMES_AFTER)
    shown = slice(last_frame + 1 - part.start - count, last_frame + 1 - part.start)
    scene = EditScene(
        clip.facts.ref.item_key,
        clip.video.frames[part],
        clip.video.taken_us[part],
        clip.masks.paint[part],
        clip.geometry.camera,
        clip.geometry.ego,
    )
    settings = clip.platform.settings
    painter = ProceduralPainter(clip.platform.inspector)
    instruction = PaintInstruction(None, "", settings.marking_standard, PAINT_SEED)
    painted = painter.paint_video(scene, painter.paint_first_frame(scene, instruction), instruction)[shown]
    bare = _without_markings(clip, scene)[shown]
    pitches = road_pitch(scene.ego, scene.timestamps_us[shown])
    cameras = [pitched(scene.camera, float(pitch)) for pitch in pitches]
    edges = MaskEdges(settings.mask_dilation_px, settings.mask_feather_px)
    arms = []
    for shift_m in shifts_m:
        moved = np.stack([_moved(*each, shift_m) for each in zip(bare, painted, cameras, strict=True)])
        arms.append(composite_video(scene.frames[shown], moved, scene.paint_masks[shown], edges))
    return tuple(arms)


def _without_markings(clip: DriveClip, scene: EditScene) -> Frames:
    """The scene's frames after the painter took the old markings out."""
    standard = marking_standard(clip.platform.settings.marking_standard)
    analysis = analyse_scene(scene, clip.platform.inspector, standard)
    table = paint_table((NO_PAINT,) * len(analysis.tracks), analysis.arc_m, analysis.brightness, PAINT_SEED)
    return np.stack(
        [paint_pixels(frame, band, table) for frame, band in zip(scene.frames, analysis.bands, strict=True)]
    )


def _moved(bare: Frames, painted: Frames, camera: RigCamera, shift_m: float) -> Frames:
    """`bare` with the paint of `painted` (both (H, W, 3)) moved left over the ground."""
    light = linear_frame(bare) + DARKEST
    gain = (linear_frame(painted) + DARKEST) / light
    height, width = bare.shape[:2]
    v, u = np.mgrid[:height, :width]
    ground, is_ground = camera.ground(np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float64))
    # What lies at y was painted at y - shift.
    below = np.column_stack([ground[:, 0], ground[:, 1] - shift_m, np.zeros(len(ground))])
    pixels, is_seen = camera.project(np.where(is_ground[:, None], below, 1.0))
    at = np.where((is_ground & is_seen)[:, None], pixels, -1.0).astype(np.float32).reshape(height, width, 2)
    there = cv2.remap(
        gain, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(1.0, 1.0, 1.0)
    )
    linear = np.clip(light * there - DARKEST, 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    moved: Frames = np.rint(255.0 * srgb).astype(np.uint8)
    return moved
