"""Fast engines and small helpers for suites that run the whole graph. Real engines are tested by their own suites."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.definitions import build
from lanepaint_assets.editing.engine import EditScene, PaintInstruction
from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.evaluation.driver import DriverInput, DriverOutput
from lanepaint_assets.jobs import prompt_config
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.lanes.geometry import assumed_camera
from lanepaint_assets.lanes.inspector import AttributeVerdict, LaneInspection, RoadView, Verdict
from lanepaint_assets.partitions import register_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.manifest import Manifest

# Two seconds of an 8 Hz grid: the least that leaves the driver its 1.6 s of history.
FEW_FRAMES = 18

WHITE_DASHED = LaneStyle(Count.SINGLE, Color.WHITE, Pattern.DASHED)


class Journal:
    """What the fast engines were asked for, in order."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, ...]] = []
        self._lock = threading.Lock()

    def add(self, *entry: str) -> None:
        with self._lock:
            self._entries.append(entry)

    def take(self) -> list[tuple[str, ...]]:
        """The entries since the last call."""
        with self._lock:
            entries, self._entries = self._entries, []
        return entries


class TrapezoidSegmenter:
    """Road is the trapezoid in front of the car, whatever the picture shows."""

    name, version = "trapezoid", "1"

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def segment_video(self, frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
        self._journal.add("segment", str(len(frames)))
        return np.repeat(self.segment_picture(frames[0])[None], len(frames), axis=0)

    def segment_picture(self, frame: NDArray[np.uint8]) -> NDArray[np.bool_]:
        height, width = frame.shape[:2]
        rows, columns = np.mgrid[:height, :width]
        depth = np.clip((rows / height - 0.5) * 2, 0, 1)
        return (rows > height * 0.55) & (np.abs(columns / width - 0.5) < 0.1 + 0.35 * depth)


class StripePainter:
    """Paints a vertical stripe in the wanted colour into the mask: cheap, and seen in every frame."""

    name, version = "stripe", "1"

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def prepare(self, captions: Sequence[str]) -> None: ...

    def paint_first_frame(self, scene: EditScene, instruction: PaintInstruction) -> NDArray[np.uint8]:
        self._journal.add("first_frame", scene.item_key, instruction.caption)
        return self._painted(scene.frames[:1], scene.paint_masks[:1], instruction)[0]

    def notes(self, scene: EditScene, instruction: PaintInstruction) -> tuple[str, ...]:
        return ("a stripe, no line",)

    def paint_video(
        self, scene: EditScene, first_frame: NDArray[np.uint8], instruction: PaintInstruction
    ) -> NDArray[np.uint8]:
        self._journal.add("video", scene.item_key, instruction.caption)
        assert first_frame.shape == scene.frames.shape[1:]
        return self._painted(scene.frames, scene.paint_masks, instruction)

    @staticmethod
    def _painted(
        frames: NDArray[np.uint8], masks: NDArray[np.bool_], instruction: PaintInstruction
    ) -> NDArray[np.uint8]:
        painted, width = frames.copy(), frames.shape[2]
        stripe = masks & (np.abs(np.arange(width) - width // 2) < width // 20)[None, None]
        yellow = instruction.style is not None and instruction.style.color is Color.YELLOW
        painted[stripe] = (230, 190, 40) if yellow else (235, 235, 235)
        return painted


class AgreeingInspector:
    """Sees white dashed lines everywhere and passes every edit."""

    name, version = "agreeing", "1"

    def inspect(self, view: RoadView) -> LaneInspection:
        height, width = view.frames.shape[1:3]
        return LaneInspection((), WHITE_DASHED, 0.5, view.camera or assumed_camera(width, height))

    def first_caption(self, instruction: str, wanted: LaneStyle, frame: NDArray[np.uint8]) -> str:
        return wanted.caption

    def judge(self, original: RoadView, edited: RoadView, wanted: LaneStyle, caption: str, instruction: str) -> Verdict:
        return Verdict(True, 1.0, (AttributeVerdict("color", True, "as asked"),), caption)

    def release(self) -> None: ...


class JournallingDriver(ConstantVelocityDriver):
    """Straight on, and tells that it was asked."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        self._journal.add("drive", str(len(seeds)))
        return super().predict(moment, seeds)


class Graph:
    """One root with its source, run as a person runs it: registered chunks, a Dagster instance, jobs.

    Every `run` has a platform of its own, so that nothing is remembered between runs but what the store holds.
    """

    def __init__(self, root: Path, source: Path, instance: dg.DagsterInstance, **settings: Any) -> None:
        self.root, self.source, self.instance = root, source, instance
        self.journal = Journal()
        self._settings = {
            "frame_limit": FEW_FRAMES,
            "workers": 2,
            "samples": 2,
            "prompts": ("single_white_dashed",),
            # Drawn clips show stripes where a road would be; whether it is one has tests of its own.
            "min_road_confidence": 0.0,
        }
        self._settings |= settings

    def settings(self, **changes: Any) -> Settings:
        return Settings(root=str(self.root), source=str(self.source), **{**self._settings, **changes})

    def platform(self, **changes: Any) -> Platform:
        painter = StripePainter(self.journal)
        return Platform(
            self.settings(**changes),
            segmenter=TrapezoidSegmenter(self.journal),
            first_frame_painter=painter,
            video_painter=painter,
            inspector=AgreeingInspector(),
            driver=JournallingDriver(self.journal),
        )

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.root))

    def register(self) -> list[str]:
        return register_chunks(self.platform(), self.instance)

    def run(
        self, job: str, chunk: str, *, narrowed_to: Sequence[str] = (), raise_on_error: bool = True, **changes: Any
    ) -> dg.ExecuteInProcessResult:
        platform = self.platform(**changes)
        definitions = build(platform.settings, platform=platform)
        resolved = definitions.resolve_job_def(job)
        assets = [key.to_user_string() for key in resolved.asset_layer.selected_asset_keys]
        config = {**prompt_config(assets, narrowed_to), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        return resolved.execute_in_process(
            partition_key=chunk, instance=self.instance, run_config=config, raise_on_error=raise_on_error
        )


def materializations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetMaterialization]:
    return {
        event.asset_key.to_user_string(): event.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }


def data_versions(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {asset: (made.tags or {})["dagster/data_version"] for asset, made in materializations(result).items()}


def statuses(manifest: Manifest) -> dict[str, str]:
    return {key: row.status for key, row in manifest.rows.items()}


def assert_files_are_whole(store_root: Path, manifest: Manifest) -> int:
    """Every file that an ok row lists is there with the bytes that the row says; returns how many."""
    files = 0
    for row in manifest.rows.values():
        for record in row.files:
            content = (store_root / (row.folder or "") / record.name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == record.sha256, f"{row.key}: {record.name}"
            files += 1
    return files
