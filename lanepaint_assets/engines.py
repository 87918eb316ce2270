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
    """

    role: Role
    name: str
    version: str
    target: str
    extra: str
    family: Literal["cpu", "models"] | None

    @property
    def label(self) -> str:
        """`name version`, as rows, metadata and reports carry it."""
        return f"{self.name} {self.version}"

    def build(self, **options: Any) -> Any:
        """Import and construct the engine.

        Raises:
            SettingsError: its extra is not installed.
        """
        module_name, class_name = self.target.split(":")
        try:
            module = import_module(module_name)
        except ImportError as error:
            raise SettingsError(
                f"engine {self.name!r} for {PREFIX}{self.role.upper()} cannot be imported ({error}); "
                f"install it with: pip install 'lanepaint[{self.extra}]'"
            ) from error
        return getattr(module, class_name)(**options)


ENGINES: tuple[EngineEntry, ...] = (
    EngineEntry(
        "segmenter", "classical", "2", "lanepaint_assets.segmentation.classical:ClassicalRoadSegmenter", "cpu", "cpu"
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
