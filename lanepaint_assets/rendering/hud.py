"""The words on a trajectory video: the strip at the top, the clock in it, and the legend.

Used by the overlay's painter. All but the clock is drawn once a video.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from lanepaint_assets.clips.planes import Planes
from lanepaint_assets.rendering import canvas, drawing
from lanepaint_assets.rendering.scene import (
    GT_COLOR,
    HISTORY_COLOR,
    SAMPLE_COLORS,
    ArmName,
    TrajectoryScene,
)

CPU_NOTICE = "CPU ENGINE, not a foundation model"
WIDEST_CLOCK = "t0 −00.00 s"


@dataclass(frozen=True, eq=False)
class Hud:
    """The prepared strip, and where the clock goes in it: the right end of its text, the top, and the font size."""

    layer: canvas.Layer
    clock_right_px: int
    clock_top_px: int
    clock_size_px: int

    @property
    def clock_fits(self) -> bool:
        """False in pictures of a few dozen pixels, which go without."""
        width, height = self.layer.size
        return (
            drawing.text_width(WIDEST_CLOCK, self.clock_size_px) <= self.clock_right_px <= width
            and self.clock_top_px + drawing.line_height(self.clock_size_px) < height
        )


def hud_layer(scene: TrajectoryScene, arm: ArmName, follows_road: bool) -> Hud:
    """Three lines over the picture's whole width.

    What was edited and the arm's minADE; clip, camera and the clock; the engines and how the camera is known. A CPU
    engine is announced before the engines' names, where no truncation can reach it.

    Args:
        scene: what is shown.
        arm: whose panel this is.
        follows_road: False where no ego motion is known and the plan is fixed to the vehicle.
    """
    width, height = scene.canvas_size
    scale = drawing.picture_scale(width, height)
    large, small = drawing.font_px(17, scale), drawing.font_px(13, scale)
    pad = max(3, round(8 * scale))
    rows = [pad // 2, pad // 2 + drawing.line_height(large), pad // 2 + drawing.line_height(large)]
    rows[2] += drawing.line_height(small)
    strip = canvas.even(rows[2] + drawing.line_height(small) + pad // 2)
    builder = canvas.LayerBuilder(width, min(height, strip))
    inner = width - 2 * pad

    title = "Original" if arm == "original" else f"Edited: {scene.prompt_text or scene.prompt_key}"
    _row(builder, rows[0], inner, pad, title, scene.min_ade_text(arm), large, bold=True)
    clock_width = drawing.text_width(WIDEST_CLOCK, small)
    clip = drawing.fit_text(f"{scene.clip_id} · {scene.camera_name}", inner - clock_width - pad, small)
    drawing.draw_text(builder.picture, clip, pad, rows[1], small, drawing.SOFT_WHITE)

    engines = scene.engines_of(arm)
    left = pad
    if any(engine.is_foundation_model is False for engine in engines):
        notice = drawing.fit_text(CPU_NOTICE, inner, small, True)
        drawing.draw_text(builder.picture, notice, left, rows[2], small, drawing.AMBER, True)
        left += drawing.text_width(notice, small, True) + pad
    quality = f"camera {scene.camera.quality}" + ("" if follows_road else ", no ego motion: plan fixed to vehicle")
    names = " · ".join(engine.text for engine in engines)
    _row(builder, rows[2], width - pad - left, left, names, quality, small, bold=False)
    return Hud(builder.layer(0, 0), width - pad, rows[1], small)


def draw_clock(picture: Planes, hud: Hud, seconds_after_t0: float) -> None:
    """Write the frame's time, relative to the prediction, into the strip."""
    sign = "−" if seconds_after_t0 < -0.005 else "+"
    text = f"t0 {sign}{abs(seconds_after_t0):.2f} s"
    left = hud.clock_right_px - drawing.text_width(text, hud.clock_size_px)
    if hud.clock_fits:
        canvas.draw_text(picture, text, left, hud.clock_top_px, hud.clock_size_px, drawing.WHITE)


def legend_layer(scene: TrajectoryScene, arm: ArmName) -> canvas.Layer:
    """The translucent box at the bottom right that says what each colour is; only what is drawn is listed."""
    width, height = scene.canvas_size
    scale = drawing.picture_scale(width, height)
    size = drawing.font_px(13, scale)
    pad = max(3, round(8 * scale))
    swatch = max(12, round(30 * scale))
    entries: list[tuple[str, tuple[drawing.Color, ...]]] = []
    if scene.gt_future_m is not None:
        entries.append(("driven (ground truth)", (GT_COLOR,)))
    count = len(scene.trajectories_m(arm))
    if count:
        entries.append((f"predicted, {count} sample{'s' if count > 1 else ''}", SAMPLE_COLORS[:count]))
    else:
        entries.append(("no prediction", ()))
    entries.append(("ego history", (HISTORY_COLOR,)))
    row = drawing.line_height(size)
    box_width = min(width, canvas.even(3 * pad + swatch + drawing.widest([text for text, _ in entries], size)))
    box_height = min(height, canvas.even(2 * pad + row * len(entries)))
    builder = canvas.LayerBuilder(box_width, box_height)
    for number, (text, colors) in enumerate(entries):
        top = pad + number * row
        thick = max(2, round(4 * scale))
        for part, color in enumerate(colors):
            x0, x1 = (pad + swatch * part // len(colors), pad + swatch * (part + 1) // len(colors))
            y = top + row // 2
            cv2.rectangle(builder.picture, (x0, y - thick // 2), (x1 - 1, y + (thick - 1) // 2), color, -1)
        label = drawing.fit_text(text, box_width - 3 * pad - swatch, size)
        drawing.draw_text(builder.picture, label, 2 * pad + swatch, top, size, drawing.WHITE)
    margin = max(4, round(8 * scale))
    left, top = canvas.even(width - margin - box_width), canvas.even(height - margin - box_height)
    return builder.layer(max(0, left), max(0, top))


def _row(
    builder: canvas.LayerBuilder, top: int, inner_px: int, left: int, text: str, right_text: str, size: int, bold: bool
) -> None:
    """One line: `text` at the left and `right_text` at the right, which gets at most half of the line."""
    right = drawing.fit_text(right_text, inner_px // 2, size, bold)
    right_width = drawing.text_width(right, size, bold)
    drawing.draw_text(builder.picture, right, left + inner_px - right_width, top, size, drawing.WHITE, bold)
    fitted = drawing.fit_text(text, inner_px - right_width - size, size, bold)
    drawing.draw_text(builder.picture, fitted, left, top, size, drawing.WHITE, bold)
