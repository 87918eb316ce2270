"""Which engines exist for each model role, and how the chosen one is built.

The table is plain text so that loading the code location imports no engine: `code_version` needs only names and
versions. To add an engine, add a row and a class that implements the role (ARCHITECTURE.md, "How to add an engine").
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from lanepaint_assets.settings import PREFIX, Settings, SettingsError

Role = Literal["segmenter", "first_frame_painter", "video_painter", "inspector", "driver"]


def install_command(extra: str) -> str:
    """What a person types to install an extra."""
    return "make install-sam2" if extra == "sam2" else f"pip install 'lanepaint[{extra}]'"


@dataclass(frozen=True)
class EngineCheckpoint:
    """The checkpoint of a model engine, whose class has a constructor `from_checkpoint(folder, *, cache, **settings)`.

    Attributes:
        asset: the observed asset that stands for it; a key of `CHECKPOINT_FOLDERS`.
        file: its file below that folder, with names of settings in braces. Its content enters fingerprints.
        settings: names of the settings that the constructor takes.
    """

    asset: str
    file: str
    settings: tuple[str, ...]

    def file_name(self, settings: Settings) -> str:
        """The file that `settings` choose."""
        return self.file.format(**{name: getattr(settings, name) for name in self.settings})


@dataclass(frozen=True)
class EngineEntry:
    """One engine.

    Attributes:
        role: what it does.
        name: what settings and reports call it.
        version: raised by hand when its output changes; equals the class's own `version` (a test checks).
        target: `module:Class`, imported at first use.
        extra: the install extra it needs.
        family: chosen by `LANEPAINT_ENGINES`; None for engines that are only chosen by name.
        checkpoint: what it reads its weights from; None for CPU engines.
    """

    role: Role
    name: str
    version: str
    target: str
    extra: str
    family: Literal["cpu", "models"] | None
    checkpoint: EngineCheckpoint | None = None

    @property
    def label(self) -> str:
        """`name version`, as rows, metadata and reports carry it."""
        return f"{self.name} {self.version}"

    def build(self, **options: Any) -> Any:
        """Import and construct the engine; one with a checkpoint is given its folder and the settings it names.

        Raises:
            SettingsError: its extra is not installed.
            CheckpointError: the checkpoint is not there.
        """
        module_name, class_name = self.target.split(":")
        try:
            module = import_module(module_name)
        except ImportError as error:
            raise SettingsError(
                f"engine {self.name!r} for {PREFIX}{self.role.upper()} cannot be imported ({error}); "
                f"install it with: {install_command(self.extra)}"
            ) from error
        engine = getattr(module, class_name)
        return engine(**options) if self.checkpoint is None else engine.from_checkpoint(**options)


ENGINES: tuple[EngineEntry, ...] = (
    EngineEntry(
        "segmenter", "classical", "2", "lanepaint_assets.segmentation.classical:ClassicalRoadSegmenter", "cpu", "cpu"
    ),
    EngineEntry(
        "segmenter",
        "sam2",
        "1",
        "lanepaint_assets.segmentation.sam2.engine:Sam2RoadSegmenter",
        "sam2",
        "models",
        EngineCheckpoint("sam2_checkpoint", "sam2.1_hiera_{sam2_model}.pt", ("sam2_model", "sam2_compile", "device")),
    ),
    EngineEntry(
        "first_frame_painter",
        "procedural",
        "2",
        "lanepaint_assets.editing.procedural:ProceduralPainter",
        "cpu",
        "cpu",
    ),
    EngineEntry(
        "video_painter", "procedural", "2", "lanepaint_assets.editing.procedural:ProceduralPainter", "cpu", "cpu"
    ),
    EngineEntry("inspector", "measured", "2", "lanepaint_assets.lanes.measured:MeasuredLaneInspector", "cpu", "cpu"),
    EngineEntry("driver", "lane_follow", "2", "lanepaint_assets.evaluation.lane_follow:LaneFollowDriver", "cpu", "cpu"),
    EngineEntry(
        "driver",
        "constant_velocity",
        "1",
        "lanepaint_assets.evaluation.constant_velocity:ConstantVelocityDriver",
        "cpu",
        None,
    ),
)


def chosen_engine(settings: Settings, role: Role) -> EngineEntry:
    """The engine that `settings` choose for `role`.

    Raises:
        SettingsError: there is no such engine.
    """
    candidates = [entry for entry in ENGINES if entry.role == role]
    name: str | None = getattr(settings, role)
    names = ", ".join(entry.name for entry in candidates)
    if name is not None:
        for entry in candidates:
            if entry.name == name:
                return entry
        raise SettingsError(f"{PREFIX}{role.upper()}={name!r} is not an engine; allowed: {names}")
    for entry in candidates:
        if entry.family == settings.engines:
            return entry
    raise SettingsError(
        f"{PREFIX}ENGINES={settings.engines!r} has no engine for the {role} role; allowed for "
        f"{PREFIX}{role.upper()}: {names}"
    )


def is_foundation_model(label: str) -> bool:
    """Whether an item's engine label names a foundation model; labels of imported items name none that is known."""
    return any(entry.label == label and entry.family == "models" for entry in ENGINES)
