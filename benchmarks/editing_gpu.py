"""Editing on a GPU with full-size models of random weights: seconds by part, memory by phase, against plain diffusers.

Speed and memory do not depend on the weights; pictures do, and nothing is said of them. Parts:

- `video`: a denoising step of a 49-frame window with the branch and guidance, encoding and decoding; the plain way is
  diffusers' own transformer, as it comes, without a branch.
- `first_frame`: a step of FLUX.1 Fill at two sizes, against diffusers' as it comes.
- `judge`: one verdict of Qwen2.5-VL.
- `clip`: one clip of 100 frames and one prompt through all phases, three iterations of the refinement, with the models
  loaded. With `--second-device` again with guidance split over two.
- `small_gpu`: the same clip under the memory plan of one small GPU.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Outcome, command_line, report

if TYPE_CHECKING:
    import torch

    from lanepaint_assets.editing.engine import EditScene, PaintInstruction
    from lanepaint_assets.editing.flux_fill.engine import FluxFillPainter
    from lanepaint_assets.editing.videopainter.engine import VideoPainterEngine
    from lanepaint_assets.lanes.attributes import LaneStyle
    from lanepaint_assets.lanes.inspector import LaneInspection, RoadView, Verdict
    from lanepaint_assets.lanes.qwen.model import QwenModel

NAME = "editing_gpu"
PARTS = ("video", "first_frame", "judge", "clip", "small_gpu")

WINDOW = 49
CLIP_FRAMES = 100
CLIP_SIZE = (540, 960)
FIRST_FRAME_SIZES = ((480, 720), (1088, 1920))
ITERATIONS = 3
CAPTION = "road with double yellow solid lane markings, fresh paint on dry asphalt under an overcast sky"

# A step's time is the slope between two runs of so many steps: what surrounds the steps falls out.
FEW_STEPS, MORE_STEPS = 3, 11

# A verdict of the right form takes about so many words' tokens.
VERDICT_TOKENS = 256

TARGET_STEP_S = 1.45
TARGET_CLIP_S = 360.0
TARGET_TWO_GPUS = 1.7
TARGET_PLAN_GIB = 40.0
SMALL_GPU_GIB = 40.0
GIB = 1 << 30


class SteadyJudge:
    """Asks the model for every verdict, and fails all but the last iteration: random weights never give a PASS."""

    name, version = "steady", "1"

    def __init__(self, model: QwenModel) -> None:
        self._model = model
        self.judged = 0

    def inspect(self, view: RoadView) -> LaneInspection:
        raise NotImplementedError

    def first_caption(self, instruction: str, wanted: LaneStyle, frame: NDArray[np.uint8]) -> str:
        self._model.ask([frame], f"{instruction} {wanted.caption}", VERDICT_TOKENS // 4, 0.1)
        return CAPTION

    def judge(self, original: RoadView, edited: RoadView, wanted: LaneStyle, caption: str, instruction: str) -> Verdict:
        from lanepaint_assets.lanes.inspector import Verdict
        from lanepaint_assets.lanes.qwen.prompts import judge_prompt

        pictures = [view.frames[view.target_index] for view in (original, edited)]
        self._model.ask(pictures, judge_prompt(instruction, wanted, caption), VERDICT_TOKENS, 0.1)
        self.judged += 1
        return Verdict(self.judged % ITERATIONS == 0, 0.5, (), f"{CAPTION}, attempt {self.judged}")

    def release(self) -> None: ...


def scene(frames: int, size: tuple[int, int]) -> EditScene:
    """A clip of noise with a road in its lower half; nothing of what is measured looks at pictures."""
    from lanepaint_assets.clips.egomotion import Egomotion
    from lanepaint_assets.editing.engine import EditScene
    from lanepaint_assets.lanes.geometry import assumed_camera

    height, width = size
    pictures = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    masks = np.zeros((frames, height, width), dtype=np.bool_)
    masks[:, height // 2 :, width // 4 : -width // 4] = True
    times = np.arange(frames, dtype=np.int64) * 125_000
    still = Egomotion(times, np.zeros((frames, 3)), np.tile([0.0, 0.0, 0.0, 1.0], (frames, 1)), "estimated")
    return EditScene("clip.camera", pictures, times, masks, assumed_camera(width, height), still)


def instruction() -> PaintInstruction:
    from lanepaint_assets.editing.engine import PaintInstruction

    return PaintInstruction(None, CAPTION, "us", 0)


def seconds_of(method: Callable[[], object]) -> float:
    """Wall-clock seconds, the GPUs' work included."""
    import torch

    torch.cuda.synchronize()
    started = perf_counter()
    method()
    torch.cuda.synchronize()
    return perf_counter() - started


def peak_gib(method: Callable[[], object]) -> float:
    """Most memory that this process took of one GPU meanwhile, what torch kept for later and CUDA's own included."""
    _forget_peaks()
    method()
    return _peak_gib()


def _forget_peaks() -> None:
    import torch

    # What drawing random weights on the GPU took, and phases before, is not the next phase's.
    torch.cuda.empty_cache()
    for device in range(torch.cuda.device_count()):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)


def _peak_gib() -> float:
    import torch

    peaks = []
    for device in range(torch.cuda.device_count()):
        torch.cuda.synchronize(device)
        free, total = torch.cuda.mem_get_info(device)
        # CUDA's own memory does not pass through torch's allocator. Other processes' would count too: there are none.
        beside_torch = total - free - torch.cuda.memory_reserved(device)
        peaks.append(torch.cuda.max_memory_reserved(device) + beside_torch)
    return max(peaks) / GIB


def slope(run: Callable[[int], object]) -> tuple[float, float]:
    """Seconds a step, and seconds of what surrounds the steps; one run before warms up."""
    run(FEW_STEPS)
    few, more = (seconds_of(partial(run, steps)) for steps in (FEW_STEPS, MORE_STEPS))
    step = (more - few) / (MORE_STEPS - FEW_STEPS)
    return step, few - FEW_STEPS * step


def video_engine(steps: int, compiled: bool, memory_gib: float | None, second: str | None) -> VideoPainterEngine:
    from lanepaint_assets.editing.videopainter.engine import random_cogvideox
    from lanepaint_assets.editing.videopainter.pipeline import WindowSettings
    from lanepaint_assets.torch_models.acceleration import Acceleration
    from lanepaint_assets_tests.tiny_models.tokenizers import t5_tokenizer

    return random_cogvideox(
        t5_tokenizer(),
        device="cuda:0",
        second_device=second,
        memory_gib=memory_gib,
        settings=WindowSettings(steps=steps),
        acceleration=Acceleration(compiled),
    )


def flux_engine(steps: int, compiled: bool, memory_gib: float | None) -> FluxFillPainter:
    from lanepaint_assets.editing.flux_fill.engine import random_flux
    from lanepaint_assets.torch_models.acceleration import Acceleration
    from lanepaint_assets_tests.tiny_models.tokenizers import clip_tokenizer, t5_tokenizer

    return random_flux(
        clip_tokenizer(),
        t5_tokenizer(),
        device="cuda:0",
        memory_gib=memory_gib,
        steps=steps,
        acceleration=Acceleration(compiled),
    )


def qwen_model(memory_gib: float | None) -> QwenModel:
    import torch

    from lanepaint_assets.lanes.qwen.random_weights import random_qwen
    from lanepaint_assets_tests.tiny_models.qwen import qwen_processor

    return random_qwen(qwen_processor(), torch.device("cuda:0"), memory_gib=memory_gib)


def measure_video(outcome: Outcome, second: str | None) -> None:
    """A step with branch and guidance, and a window's other phases."""
    clip = scene(WINDOW, CLIP_SIZE)
    plain = _plain_video_step()
    for compiled, devices in ((False, None), (True, None), *(((True, second),) if second else ())):

        def run(steps: int, compiled: bool = compiled, devices: str | None = devices) -> None:
            video_engine(steps, compiled, None, devices).paint_video(clip, clip.frames[0], instruction())

        _forget_models()
        memory = peak_gib(partial(run, FEW_STEPS))
        step, around = slope(run)
        phases = window_phases(video_engine(FEW_STEPS, compiled, None, devices), clip)
        how = f"{'compiled' if compiled else 'as it comes'}{', on two GPUs' if devices else ''}"
        target = TARGET_STEP_S if compiled and not devices else None
        outcome.add(f"video step, {how}", step, "s", "lower", target=target, baseline=plain)
        outcome.add(f"a window's text, encoding and decoding, {how}", around, "s", "lower")
        outcome.add(f"a window of 50 steps, {how}", 50 * step + around, "s", "lower", baseline=50 * plain)
        outcome.add(f"peak memory of a window, {how}", memory, "GiB", "lower")
        for phase, (seconds, peak) in phases.items():
            outcome.add(f"a window's {phase}, {how}", seconds, "s", "lower")
            outcome.add(f"peak memory of a window's {phase}, {how}", peak, "GiB", "lower")
    _forget_models()


def window_phases(engine: VideoPainterEngine, clip: EditScene) -> dict[str, tuple[float, float]]:
    """Seconds and most GiB of each phase of one window, with a caption that was not read before.

    Weights that are on the device stay there and count, as in a run.
    """
    measured: dict[str, tuple[float, float]] = {}

    def observed(phase: str, method: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object) -> object:
            results: list[object] = []
            _forget_peaks()
            seconds = seconds_of(lambda: results.append(method(*arguments)))
            measured[phase] = (seconds, _peak_gib())
            return results[0]

        return run

    watched: Any = engine
    words = watched._parts.words
    words.encode = observed("text", words.encode)
    watched._encoded = observed("encoding", watched._encoded)
    watched._denoised = observed(f"{FEW_STEPS} steps", watched._denoised)
    watched._decoded = observed("decoding", watched._decoded)
    engine.paint_video(clip, clip.frames[0], replace(instruction(), caption=f"{CAPTION}, in the morning"))
    return measured


def _plain_video_step() -> float:
    """Diffusers' transformer as it comes, batch of two, no branch."""
    import torch

    from lanepaint_assets.editing.videopainter.architecture import COGVIDEOX_5B
    from lanepaint_assets.torch_models.components import random_component

    device = torch.device("cuda:0")
    stock: Any = random_component(COGVIDEOX_5B.build_transformer, device, torch.bfloat16)
    stock.to(device).eval()
    config = stock.config
    latent = (1 + (WINDOW - 1) // 4, config.in_channels, config.sample_height, config.sample_width)
    noisy = torch.randn(2, *latent, device=device, dtype=torch.bfloat16)
    text = torch.randn(2, config.max_text_seq_length, config.text_embed_dim, device=device, dtype=torch.bfloat16)
    time = torch.full((2,), 500, device=device)
    rotary = _rotary(stock, device)

    def steps(count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                stock(noisy, text, time, image_rotary_emb=rotary, return_dict=False)

    step, _ = slope(steps)
    return step


def _rotary(stock: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    config = stock.config
    height, width = config.sample_height // config.patch_size, config.sample_width // config.patch_size
    tables = get_3d_rotary_pos_embed(
        config.attention_head_dim, ((0, 0), (height, width)), (height, width), 1 + (WINDOW - 1) // 4, device=device
    )
    return tables[0], tables[1]


def measure_first_frame(outcome: Outcome) -> None:
    """A step of FLUX.1 Fill at two sizes."""
    plain: dict[tuple[int, int], float] = {}
    for compiled in (False, True):
        for height, width in FIRST_FRAME_SIZES:
            clip = scene(1, (height, width))

            def run(steps: int, clip: EditScene = clip, compiled: bool = compiled) -> None:
                flux_engine(steps, compiled, None).paint_first_frame(clip, instruction())

            memory = peak_gib(partial(run, FEW_STEPS))
            step, around = slope(run)
            plain.setdefault((height, width), step)
            how = f"{width}x{height}, {'compiled' if compiled else 'as it comes'}"
            baseline = plain[height, width] if compiled else None
            outcome.add(f"first frame step, {how}", step, "s", "lower", baseline=baseline)
            outcome.add(f"first frame, 50 steps, {how}", 50 * step + around, "s", "lower")
            outcome.add(f"peak memory of a first frame, {how}", memory, "GiB", "lower")
        _forget_models()


def measure_judge(outcome: Outcome) -> None:
    """One verdict over two pictures."""
    model = qwen_model(None)
    pictures = list(scene(2, CLIP_SIZE).frames)

    def verdict(tokens: int) -> None:
        model.ask(pictures, CAPTION * 30, tokens, 0.1)

    memory = peak_gib(lambda: verdict(VERDICT_TOKENS))
    whole, first = (seconds_of(partial(verdict, tokens)) for tokens in (VERDICT_TOKENS, 1))
    outcome.add("judge: question to first word", first, "s", "lower")
    outcome.add(f"judge: a verdict of {VERDICT_TOKENS} tokens", whole, "s", "lower")
    outcome.add("peak memory of the judge", memory, "GiB", "lower")
    _forget_models()


def measure_clip(outcome: Outcome, second: str | None, steps: int) -> None:
    """One clip and prompt through all phases, everything resident: on one GPU and on two."""
    alone = _clip_seconds(outcome, "models resident", steps, None, None)
    if second is None:
        outcome.skip("a clip on two GPUs", "no --second-device was given")
        return
    both = _clip_seconds(outcome, "two GPUs", steps, None, second)
    outcome.add("a clip on two GPUs against one", alone / both, "x", "higher", target=TARGET_TWO_GPUS, baseline=1.0)


def measure_small_gpu(outcome: Outcome, steps: int) -> None:
    """The same clip where models take turns."""
    _clip_seconds(outcome, f"plan of {SMALL_GPU_GIB:.0f} GiB", steps, SMALL_GPU_GIB, None)


def _clip_seconds(outcome: Outcome, how: str, steps: int, memory_gib: float | None, second: str | None) -> float:
    import torch

    from lanepaint_assets.editing.refinement import FirstFrameRequest, Refinement, refine_first_frames
    from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
    from lanepaint_assets.torch_models.residency import Residency

    _forget_models()
    clip = scene(CLIP_FRAMES, CLIP_SIZE)
    wanted = LaneStyle(Count.DOUBLE, Color.YELLOW, Pattern.SOLID)
    painter, judge = flux_engine(steps, True, memory_gib), SteadyJudge(qwen_model(memory_gib))
    video = video_engine(steps, True, memory_gib, second)
    # Random weights are drawn on the GPU: now, while nothing else is there.
    Residency.of(torch.device("cuda:0"), memory_gib).load_all()
    peaks: dict[str, float] = {}
    first: list[Refinement] = []

    def refine(count: int) -> None:
        caption = judge.first_caption("double yellow lines", wanted, clip.frames[0])
        request = FirstFrameRequest(clip, replace(instruction(), caption=caption), wanted, "double yellow lines")
        for _, result in refine_first_frames([request], painter, judge, count):
            if isinstance(result, Exception):
                raise result
            first.append(result)

    def paint() -> None:
        video.paint_video(clip, first[-1].picture, replace(instruction(), caption=first[-1].caption))

    # Reads the models and compiles; not counted.
    refine(1)
    video_engine(1, True, memory_gib, second).paint_video(
        scene(WINDOW, CLIP_SIZE), clip.frames[0], replace(instruction(), caption=CAPTION)
    )
    judge.judged = 0
    seconds = 0.0
    for phase, method in (("refinement", partial(refine, ITERATIONS)), ("video", paint)):
        _forget_peaks()
        took = seconds_of(method)
        peaks[phase] = _peak_gib()
        seconds += took
        outcome.add(f"clip, {how}: {phase}", took, "s", "lower")
        outcome.add(f"clip, {how}: peak memory of {phase}", peaks[phase], "GiB", "lower")
    counted = steps == 50
    outcome.add(
        f"clip of {CLIP_FRAMES} frames, {ITERATIONS} iterations, {steps} steps, {how}",
        seconds,
        "s",
        "lower",
        target=TARGET_CLIP_S if counted and second is None and memory_gib is None else None,
    )
    if memory_gib is not None:
        target = TARGET_PLAN_GIB
        outcome.add("peak memory of the one-GPU plan", max(peaks.values()), "GiB", "lower", target=target)
    _forget_models()
    return seconds


def _forget_models() -> None:
    """Every part leaves device and host, so that the next measurement begins as a new process does."""
    import torch

    from lanepaint_assets.torch_models.residency import Residency

    Residency.forget_all()
    gc.collect()
    torch.cuda.empty_cache()


def main(options: argparse.Namespace) -> None:
    """Run and report."""
    import torch

    outcome = Outcome()
    if not torch.cuda.is_available():
        outcome.skip("all figures", "torch sees no GPU here")
    else:
        chosen: Sequence[str] = options.parts.split(",")
        second = options.second_device
        measures: dict[str, Callable[[], None]] = {
            "video": lambda: measure_video(outcome, second),
            "first_frame": lambda: measure_first_frame(outcome),
            "judge": lambda: measure_judge(outcome),
            "clip": lambda: measure_clip(outcome, second, options.steps),
            "small_gpu": lambda: measure_small_gpu(outcome, options.steps),
        }
        for part, measure in measures.items():
            if part in chosen:
                measure()
            else:
                outcome.skip(part, "not among --parts")
    report(NAME, outcome, options.json)


if __name__ == "__main__":
    parser = command_line(NAME, "Seconds and memory of the editing models on a GPU, by part.")
    parser.add_argument("--parts", default=",".join(PARTS), help="of %(default)s")
    parser.add_argument("--steps", type=int, default=50, help="denoising steps of a clip (default %(default)s)")
    parser.add_argument("--second-device", help="a second GPU, such as cuda:1, for guidance")
    main(parser.parse_args())
