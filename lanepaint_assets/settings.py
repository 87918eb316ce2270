"""All settings of the platform, read from `LANEPAINT_*` and checked before anything runs.

Called by `definitions.py`, the command line and tests. A setting is a value that a person chooses; constants that
explain themselves stand beside the code that uses them.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lanepaint_assets.clips.records import ClipGridName
from lanepaint_assets.editing.marking_standards import StandardName
from lanepaint_assets.training.frame_choice import parse_frame_choice

PREFIX = "LANEPAINT_"

# Read by the test suite and the shell targets, not by the platform.
FOREIGN = {"LANEPAINT_POSTGRES_URL", "LANEPAINT_TEST_DATA"}

# A version that lost its name may still be read by a step that began before; no step takes a day.
KEEP_HOURS = 24.0

# Names that the specification gives to settings (spec 5); where both are set, LANEPAINT_* wins.
SPEC_NAMES = {
    "VP_QWEN_DEVICE": "qwen_device",
    "VP_FLUX_DEVICE": "flux_device",
    "VP_COG_DEVICE": "cog_device",
    "VP_UNLOAD_QWEN_AFTER_USE": "unload_qwen_after_use",
    "QWEN_VRAM_RESERVE_GIB": "qwen_vram_reserve_gib",
}

DEVICE = r"^(auto|cpu|cuda(:\d+)?)$"

Names = Annotated[tuple[str, ...], NoDecode]


class SettingsError(ValueError):
    """One line that names the setting, its value and what is allowed."""


class Settings(BaseSettings):
    """What a person chooses. Every field `x` is set by the environment variable `LANEPAINT_X`."""

    # An empty variable is how shells and containers write "not set".
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    root: str = Field(".lanepaint", description="Folder or gs:// address of everything the platform writes.")
    source: str | None = Field(
        None, description="Where clips come from: a folder, a bucket or a chunks:// address; default ROOT/input/data."
    )
    cameras: Names = Field(("camera_front_wide_120fov",), description="Cameras to edit, comma separated.")
    per_chunk: int = Field(
        100, ge=1, description="Most clips of one partition, cameras of a clip counted once; a larger chunk is split."
    )
    chunk_stable_minutes: float = Field(
        5.0, ge=0.0, description="How long nobody must have touched a chunk's files before new_chunks takes them."
    )
    clip_grid: ClipGridName = Field("spec_8fps", description="Frame grid: spec_8fps or model_10hz.")
    frame_limit: int = Field(100, ge=4, description="Most grid frames of a clip.")

    engines: Literal["cpu", "models"] = Field("cpu", description="Default engine of every role.")
    segmenter: str | None = Field(None, description="Engine of the road segmenter.")
    first_frame_painter: str | None = Field(None, description="Engine that paints first frames.")
    video_painter: str | None = Field(None, description="Engine that paints videos.")
    inspector: str | None = Field(None, description="Engine that measures, captions and judges lane markings.")
    verifying_inspector: Literal["measured", "qwen2_5_vl"] = Field(
        "measured", description="Inspector that judges finished edits, where another one refined them."
    )
    driver: str | None = Field(None, description="Driving model.")

    device: str = Field(
        "auto",
        pattern=DEVICE,
        description="Where SAM 2 runs: cpu, cuda, cuda:1, ..., or auto: a GPU where there is one.",
    )
    sam2_model: Literal["tiny", "small", "base_plus", "large"] = Field(
        "large", description="Size of SAM 2.1; its checkpoint is ROOT/checkpoints/sam2/sam2.1_hiera_<size>.pt."
    )
    sam2_compile: bool = Field(
        False,
        description="Compile all of SAM 2 (vos_optimized): less GPU memory, not faster; minutes at the first clip.",
    )
    flux_device: str = Field("auto", pattern=DEVICE, description="Where FLUX.1 Fill runs; auto: the first GPU.")
    cog_device: str = Field("auto", pattern=DEVICE, description="Where CogVideoX runs; auto: the first GPU.")
    cog_second_device: str | None = Field(
        None, pattern=DEVICE, description="A second GPU for CogVideoX: half of the guidance runs on each."
    )
    qwen_device: str = Field(
        "auto", pattern=DEVICE, description="Where Qwen2.5-VL runs; auto: the second GPU where there are two."
    )
    qwen_vram_reserve_gib: int = Field(12, ge=0, description="GPU memory in GiB that Qwen2.5-VL leaves alone (spec 5).")
    unload_qwen_after_use: bool = Field(True, description="Drop Qwen2.5-VL from memory when a step is done with it.")
    gpu_memory_gib: float | None = Field(
        None,
        gt=0,
        description="Most memory of a GPU for the editing models; by default 40 GiB of a single one of up to 80 GB.",
    )
    flux_steps: int = Field(50, ge=1, le=200, description="Denoising steps of a first frame.")
    flux_guidance: float = Field(30.0, ge=0.0, description="Guidance of FLUX.1 Fill (spec 5).")
    flux_lora: str | None = Field(None, description="LoRA file in diffusers' format for FLUX.1 Fill; local or gs://.")
    flux_lora_scale: float = Field(1.0, ge=0.0, le=4.0, description="Strength of that LoRA.")
    video_steps: int = Field(
        50, ge=1, le=200, description="Denoising steps of a window (spec 5: 50 to 70); fewer are faster and coarser."
    )
    video_guidance: float = Field(6.0, gt=1.0, description="Guidance of CogVideoX.")
    video_dynamic_guidance: bool = Field(False, description="Let CogVideoX's guidance grow from step to step.")
    mask_to_latent: Literal["max", "nearest"] = Field(
        "max", description="How a mask reaches the latents: whole, or sampled as the branch was published."
    )
    compile_editing: bool = Field(True, description="Compile the editing models' blocks on a GPU, kept in the cache.")
    first_block_cache: float | None = Field(
        None,
        gt=0.0,
        lt=1.0,
        description="Inexact: skip blocks of a step that changes less than this share; 0.1 is a common value.",
    )
    fp8: bool = Field(False, description="Inexact: keep the editing transformers' weights in 8-bit floats.")
    judge_temperature: float = Field(0.1, ge=0.0, le=2.0, description="Sampling temperature of Qwen2.5-VL (spec 6).")

    alpamayo_model: Literal["r1", "1.5"] = Field("r1", description="Which release of Alpamayo drives.")
    alpamayo_python: str | None = Field(
        None, description="Python interpreter of Alpamayo's own environment; by default it runs in this process."
    )
    alpamayo_device: str = Field("auto", pattern=DEVICE, description="Where Alpamayo runs; auto: the first GPU.")
    alpamayo_temperature: float = Field(0.6, gt=0.0, le=2.0, description="Sampling temperature of its reasoning.")
    alpamayo_top_p: float = Field(0.98, gt=0.0, le=1.0, description="Share of likely words that it reasons with.")
    alpamayo_max_tokens: int = Field(256, ge=1, le=4096, description="Longest reasoning, in tokens.")
    alpamayo_chunk: int = Field(
        6, ge=1, le=64, description="Samples that it computes at once: fewer take less memory and other random numbers."
    )
    alpamayo_timeout_s: float = Field(
        600.0, gt=0.0, le=86400.0, description="Longest wait for an answer of Alpamayo's own process, in seconds."
    )

    cache: str | None = Field(
        None, description="Folder of this machine for compiled kernels and copies of remote checkpoints."
    )

    checkpoints_mount: str | None = Field(
        None,
        description="Folder of this machine that shows ROOT/checkpoints, a mount or a copy: engines read it there.",
    )
    checkpoint_check: Literal["load", "header", "off"] | None = Field(
        None,
        description="What a new checkpoint must pass before runs are asked for: load (the model computes a small input)"
        ", header (files complete, heads and configurations read) or off; by default load where the engine's extra and "
        "a GPU are at hand, else header.",
    )
    checkpoint_check_minutes: float = Field(
        30.0, gt=0.0, description="Longest time that loading a checkpoint for its check may take."
    )
    checkpoint_stable_minutes: float = Field(
        5.0, ge=0.0, description="How long nobody must have touched a new checkpoint before it is taken."
    )
    observation_minutes: int = Field(
        5, ge=1, le=30, description="Minutes between two looks at the files of checkpoints and prompts."
    )

    executor: Literal["in_process", "multiprocess", "k8s"] = Field("in_process", description="Where steps run.")
    k8s_image: str | None = Field(
        None,
        description="Image of a step on Kubernetes, such as REGISTRY/{family}:TAG, where {family} stands for "
        "segmentation, editing or evaluation; by default the code location's.",
    )
    k8s_large_gpu: Literal["a100_80gb", "h100_80gb"] = Field(
        "a100_80gb", description="GPU of a cluster's nodes for the models of editing, training and driving."
    )
    k8s_small_gpu: Literal["a100_80gb", "h100_80gb", "l4"] = Field(
        "a100_80gb", description="GPU of a cluster's nodes for SAM 2."
    )
    k8s_spot: bool = Field(False, description="Run GPU steps on Spot nodes, which may be taken away at any time.")
    k8s_checkpoints: Literal["bucket", "fuse", "download"] = Field(
        "bucket",
        description="How pods read checkpoints of a bucket: copied file by file as engines ask for them, mounted "
        "read-only with Cloud Storage FUSE, or downloaded and verified before the step begins.",
    )
    k8s_queue: str | None = Field(None, description="Kueue's LocalQueue that GPU steps wait in; by default none.")
    git_commit: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{7,40}$",
        description="Commit of the installed code, which tags every run; set by image builds.",
    )
    automation_partitions: int = Field(
        32, ge=1, description="Most partitions of one asset that automation has under way at the same time."
    )
    workers: int = Field(
        max(1, min(4, os.cpu_count() or 1)), ge=1, description="Items that a CPU engine computes at the same time."
    )
    stop_grace_s: float = Field(
        10.0,
        ge=0.0,
        le=3600.0,
        description="How long items under way may take to finish after SIGTERM, in seconds; less than the time until "
        "SIGKILL, which is 15 s on GKE's Spot nodes, elsewhere a pod's terminationGracePeriodSeconds.",
    )
    max_failed_share: float = Field(
        0.9, ge=0.0, le=1.0, description="A partition fails when more than this share of its items failed."
    )

    prompts: Names = Field((), description="Edit prompts by key or number, comma separated; empty means all.")
    prompt_file: str | None = Field(None, description="YAML file that adds or overrides edit prompts.")
    marking_standard: StandardName = Field("us", description="Dash, gap and width of new markings.")
    refine_iterations: int = Field(10, ge=1, le=50, description="Most attempts at a first frame (spec 6).")
    min_road_confidence: float = Field(
        0.5, ge=0.0, le=1.0, description="Clips whose masks are less surely a road fail; 0 takes them all."
    )
    min_verdict_rate: float = Field(
        0.5, ge=0.0, le=1.0, description="A chunk is warned of where a smaller share of its first frames passed."
    )
    fill_all_holes: bool = Field(False, description="Paint over enclosed objects too, as the spec's mask does.")
    mask_dilation_px: int = Field(24, ge=0, le=256, description="Growth of the edit mask (spec 5).")
    mask_feather_px: int = Field(8, ge=0, le=128, description="Softness of the edit mask's border (spec 5).")
    keep_masked_pixels: bool = Field(
        True, description="Keep source pixels outside the feathered mask, in first frames and in videos."
    )

    samples: int = Field(6, ge=1, le=64, description="Trajectories a driver samples for each arm (K).")
    edited_camera_only: bool = Field(
        False, description="Show the driver the edited camera alone, in every arm; not every driver allows it."
    )
    positive_control: bool = Field(
        False, description="Also ask the driver with the edited camera blanked: the largest effect an edit can have."
    )
    study_seed: int = Field(0, ge=0, description="Seed that all other seeds derive from.")
    training_frames: str = Field(
        "every:2.0", description="Frames of a clip that become training samples, by time, index or difference."
    )
    training_inspection: Literal["accumulated", "single"] = Field(
        "accumulated", description="Whether samples are captioned with the frames around them or from one alone."
    )
    training_duplicate_bits: int = Field(
        4, ge=0, le=32, description="Samples whose perceptual hashes differ in no more of 64 bits are near-duplicates."
    )
    filter_count: Literal["style", "any"] = Field("style", description="Whether a subset's samples have its count.")
    filter_color: Literal["style", "any"] = Field("style", description="Whether a subset's samples have its colour.")
    filter_pattern: Literal["style", "any"] = Field("style", description="Whether a subset's samples have its pattern.")
    filter_require_clear_road: bool = Field(True, description="Leave samples with an unknown attribute out of subsets.")
    filter_min_confidence: float = Field(0.0, ge=0.0, le=1.0, description="Least confidence of a subset's captions.")
    filter_min_mask_share: float = Field(
        0.01, ge=0.0, le=1.0, description="Least share of the picture that is road; an empty mask teaches nothing."
    )

    lora_rank: int = Field(16, ge=1, le=256, description="Rank of a LoRA's layers (spec 9).")
    lora_alpha: int = Field(16, ge=1, description="A LoRA's change is scaled by alpha / rank (spec 9).")
    lora_learning_rate: float = Field(1e-5, gt=0.0, lt=1.0, description="Highest learning rate of AdamW (spec 9).")
    lora_schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after the warm-up (spec 9)."
    )
    lora_warmup_steps: int = Field(50, ge=0, description="Steps in which the learning rate rises (spec 9).")
    lora_epochs: int = Field(5, ge=1, description="How often a training sees every sample (spec 9).")
    lora_batch_size: int = Field(1, ge=1, description="Samples that a GPU takes at once (spec 9).")
    lora_accumulation: int = Field(1, ge=1, description="Batches before the weights change (spec 9).")
    lora_guidance: float = Field(30.0, ge=0.0, description="Guidance that the model is told in training; or 1.")
    lora_background_weight: float = Field(
        0.1, ge=0.0, le=1.0, description="Weight of the loss outside the mask against the loss inside."
    )
    lora_loss_weighting: Literal["none", "sigma_sqrt", "cosmap"] = Field(
        "none", description="Weights of noise levels against each other."
    )
    lora_width: int = Field(768, ge=64, multiple_of=16, description="Width of training pictures.")
    lora_height: int = Field(512, ge=64, multiple_of=16, description="Height of training pictures.")
    lora_validation_share: float = Field(
        0.1, ge=0.0, le=0.5, description="Share of samples that are kept out of training to measure on."
    )
    lora_checkpoint_steps: int = Field(100, ge=1, description="Steps between checkpoints (spec 9).")
    lora_validation_steps: int = Field(250, ge=1, description="Steps between validation losses and pictures.")
    lora_pictures: int = Field(2, ge=0, le=16, description="Held-out samples that are painted at each validation.")
    lora_memory_gib: float = Field(
        40.0, gt=0, description="GPU memory that a training fills by recomputing less; never below what it needs."
    )
    lora_gpus: int = Field(1, ge=1, le=64, description="GPUs of this machine that a training uses.")
    lora_compile: bool = Field(True, description="Compile the blocks that are trained on a GPU, kept in the cache.")
    lora_promotion: Literal["automatic", "manual"] = Field(
        "automatic", description="Whether a finished training becomes its style's LoRA by itself."
    )

    @field_validator("cameras", "prompts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        return value

    @field_validator("training_frames")
    @classmethod
    def _is_a_frame_choice(cls, value: str) -> str:
        parse_frame_choice(value)
        return value

    @field_validator("cameras")
    @classmethod
    def _at_least_one(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("it needs at least one camera name")
        return value

    @property
    def source_address(self) -> str:
        """The source in force."""
        return self.source or f"{self.root.rstrip('/')}/input/data"

    @property
    def cache_folder(self) -> Path:
        """The cache in force; by default a folder of the user's."""
        default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lanepaint"
        return Path(self.cache).expanduser().resolve() if self.cache else default

    @property
    def is_local(self) -> bool:
        """Whether the root is a local folder."""
        return "://" not in self.root

    @property
    def local_root(self) -> Path:
        """The root as an absolute path.

        Raises:
            SettingsError: the root is a remote address, or a file is where a folder has to be.
        """
        if not self.is_local:
            raise SettingsError(f"{PREFIX}ROOT={self.root!r} is not a local folder, which this command needs")
        root = Path(self.root).expanduser().resolve()
        for place in (root, *root.parents):
            if place.is_file():
                raise SettingsError(f"{PREFIX}ROOT={self.root!r} is not a folder: {place} is a file; name a folder")
        return root


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; `overrides` (a command's options) win over it.

    Raises:
        SettingsError: a value is not allowed, or a variable is misspelt; one line says which, and what is allowed.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | FOREIGN
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable not in known:
            close = difflib.get_close_matches(variable, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known settings: {', '.join(sorted(known - FOREIGN))}"
            raise SettingsError(f"{variable}={os.environ[variable]!r} is not a setting; {hint}")
    by_spec = {
        name: os.environ[variable]
        for variable, name in SPEC_NAMES.items()
        if os.environ.get(variable) and not os.environ.get(PREFIX + name.upper())
    }
    try:
        return Settings(**by_spec | {name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from error


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "?"
    field = Settings.model_fields.get(name)
    about = f" ({field.description})" if field is not None and field.description else ""
    allowed = (
        "allowed are true and false" if first["type"] == "bool_parsing" else first["msg"].removeprefix("Value error, ")
    )
    return f"{PREFIX}{name.upper()}={first['input']!r} is not allowed: {allowed}{about}"
