"""The painter roles, what they are given and what they return. Compositing and files are the stage's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.lanes.attributes import LaneStyle
from lanepaint_assets.lanes.inspector import RoadView
from lanepaint_assets.rendering.cameras import RigCamera
from lanepaint_assets.store.items import ItemError


@dataclass(frozen=True, eq=False)
class EditScene:
    """The clip to be edited; the same object serves every prompt of the clip, so engines may cache by identity.

    Attributes:
        item_key: `<clip_id>.<camera>`.
        frames: (T, H, W, 3) sRGB uint8.
        timestamps_us: (T,) int64, when each frame was taken: ego poses are looked up at them. A grid's times will not
            do, for the frame shown at a grid time is up to a source frame older, which is a metre of road at speed.
        paint_masks: (T, H, W) bool, True where paint may go (road without enclosed objects).
        camera, ego: known or estimated geometry; see `lanes.geometry`.
    """

    item_key: str
    frames: NDArray[np.uint8]
    timestamps_us: NDArray[np.int64]
    paint_masks: NDArray[np.bool_]
    camera: RigCamera
    ego: Egomotion

    def view(self, target_index: int) -> RoadView:
        """What an inspector is given of the clip, asked about one of its frames."""
        return RoadView(self.frames, self.timestamps_us, target_index, self.camera, self.ego, self.paint_masks)


@dataclass(frozen=True)
class LoraWeights:
    """A LoRA in diffusers' format, a file on this machine's disk, and how strongly it acts (0: not at all)."""

    path: Path
    scale: float = 1.0


@dataclass(frozen=True)
class PaintInstruction:
    """What to paint.

    Attributes:
        style: wanted style of every line; None repaints each line in the style measured for it.
        caption: the words for engines that read words.
        marking_standard: preset of dash, gap and width, a name of `marking_standards.STANDARD_NAMES`.
        seed: from the study seed, role and clip, never from the prompt (ARCHITECTURE, "Time, pictures and seeds").
        lora: for engines that have a model to adapt.
    """

    style: LaneStyle | None
    caption: str
    marking_standard: str
    seed: int
    lora: LoraWeights | None = None


class FirstFramePainter(Protocol):
    """Paints the first frame of a clip.

    One that holds a device may have a method `release`, which is called when a stage has asked its last question: other
    models may want the device then. It answers later calls all the same.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def prepare(self, captions: Sequence[str]) -> None:
        """Told the captions of coming calls, so that a text encoder takes them together and once."""
        ...

    def paint_first_frame(self, scene: EditScene, instruction: PaintInstruction) -> NDArray[np.uint8]:
        """(H, W, 3) sRGB uint8.

        Raises:
            UnpaintableSceneError: no lane could be found to paint; the message says why.
        """
        ...

    def notes(self, scene: EditScene, instruction: PaintInstruction) -> tuple[str, ...]:
        """What a person who reads the edit's results should know of it: doubts, unusual markings; often nothing.

        Raises:
            UnpaintableSceneError: as `paint_first_frame`.
        """
        ...


class VideoPainter(Protocol):
    """Carries the first frame's edit through the clip; may have a method `release` as a `FirstFramePainter`."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def prepare(self, captions: Sequence[str]) -> None:
        """Told the captions of coming calls, so that a text encoder takes them together and once."""
        ...

    def paint_video(
        self, scene: EditScene, first_frame: NDArray[np.uint8], instruction: PaintInstruction
    ) -> NDArray[np.uint8]:
        """(T, H, W, 3) sRGB uint8; frame 0 continues `first_frame`.

        Raises:
            UnpaintableSceneError: no lane could be found to paint; the message says why.
        """
        ...

    def notes(self, scene: EditScene, instruction: PaintInstruction) -> tuple[str, ...]:
        """See `FirstFramePainter`."""
        ...


class UnpaintableSceneError(ItemError):
    """The clip shows no road or no lane that an engine could paint; its item fails with this reason."""
