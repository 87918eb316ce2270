"""One training from its samples to its LoRA: begun, or gone on with from the last checkpoint in the store.

Called by `lora_steps.py`, and by `worker.py` in each of several processes. Which samples, and what becomes of the
result, is decided there.
"""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from tqdm import tqdm

from lanepaint_assets.clips.pictures import write_picture
from lanepaint_assets.loop_progress import LoopProgress
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.items import ItemError, StepError
from lanepaint_assets.store.promoted_loras import WEIGHTS_FILE
from lanepaint_assets.torch_models.acceleration import EXACT
from lanepaint_assets.torch_models.components import read_component
from lanepaint_assets.torch_models.devices import inference_dtype
from lanepaint_assets.torch_models.flux.parts import FluxParts, checkpoint_parts
from lanepaint_assets.torch_models.residency import GIB, Residency
from lanepaint_assets.training.flux_lora.adapter import check_base, save_lora
from lanepaint_assets.training.flux_lora.examples import Examples, encode_examples
from lanepaint_assets.training.flux_lora.previews import painted_samples
from lanepaint_assets.training.flux_lora.state import PICTURES
from lanepaint_assets.training.flux_lora.trainer import Trainer
from lanepaint_assets.training.lora_checkpoints import CheckpointShelf, StopRequest
from lanepaint_assets.training.lora_log import LossLog
from lanepaint_assets.training.lora_recipe import LoraRecipe, Split

log = logging.getLogger(__name__)

RESULT_FILE = "result.json"

# The program of each of several processes.
_WORKER = "lanepaint_assets.training.flux_lora.worker"

# Seconds between looks at whether somebody asked to stop; on an object store each is a request.
_STOP_EVERY_S = 10.0

# Beside the weights a step needs about this at 768x512 with all blocks recomputed; an estimate from above.
_WORKING_BYTES = 6 * GIB


@dataclass(frozen=True)
class TrainingJob:
    """What a process is told; plain values, so that several processes can be told the same.

    Attributes:
        model: the base model in diffusers' layout, on this machine.
        store_root: address of the store.
        style, training, run_id: see `CheckpointShelf`.
        recipe: see there.
        checkpoint_steps, validation_steps: steps between them.
        pictures: held-out samples that are painted at each validation.
        device: where one process trains; several take a GPU each.
        budget_gib: of that device, see `Residency`.
        memory_gib: see `Trainer`.
        compiled: see `Trainer`.
        examples: folder of the encoded samples.
        scratch: folder of this run, for what processes tell each other.
        out: empty folder that gets the LoRA, the loss log, the pictures and `result.json`.
    """

    model: Path
    store_root: str
    style: str
    training: str
    run_id: str
    recipe: LoraRecipe
    checkpoint_steps: int
    validation_steps: int
    pictures: int
    device: torch.device
    budget_gib: float | None
    memory_gib: float
    compiled: bool
    examples: Path
    scratch: Path
    out: Path


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to: steps done, steps meant, and whether a person ended it before."""

    steps: int
    steps_meant: int
    stopped: bool


def train_lora(job: TrainingJob, samples: Split, store: ArtifactStore) -> TrainingResult:
    """Encode the samples and train on them; several GPUs are given a process each.

    Raises:
        CheckpointError: the base model is not FLUX.1 Fill, or not readable.
        StepError: a sample cannot be learnt from, the loss became NaN, or a checkpoint could not be written.
        ItemError: the device's memory does not suffice.
    """
    residency = Residency.of(job.device, job.budget_gib)
    parts = checkpoint_parts(job.model, residency, EXACT)
    encode_examples(parts, residency, samples, job.recipe, job.examples)
    # Encoders and autoencoder leave the device; the transformer comes alone.
    residency.release_all_but()
    if job.recipe.devices > 1:
        return _in_processes(job)
    return train_in_process(job, parts, store)


def train_in_process(job: TrainingJob, parts: FluxParts, store: ArtifactStore) -> TrainingResult:
    """Do one process's share of a training: all of it where it is alone."""
    residency = Residency.of(job.device, job.budget_gib)
    dtype = inference_dtype(job.device)

    def read() -> FluxTransformer2DModel:
        transformer: FluxTransformer2DModel = read_component(FluxTransformer2DModel, job.model / "transformer", dtype)
        check_base(transformer)
        return transformer

    # Not the part that paints: a LoRA in training has no business there.
    part = residency.part(f"flux transformer in training {job.model}", read)
    # Left over where this process trained before with other settings.
    AcceleratorState._reset_state(reset_partial_state=job.recipe.devices == 1)
    accelerator = Accelerator(cpu=job.device.type == "cpu")
    try:
        with residency.holding(part, working_bytes=_WORKING_BYTES):
            trainer = Trainer(
                part.module,
                Examples.open(job.examples),
                parts.scheduler,
                job.recipe,
                accelerator,
                memory_gib=job.memory_gib,
                compiled=job.compiled and job.device.type == "cuda",
            )
            try:
                return _Run(job, parts, residency, trainer, accelerator, store).to_the_end()
            except torch.OutOfMemoryError as error:
                reason = (str(error).splitlines() or ["out of memory"])[0]
                raise ItemError(
                    f"training on {job.recipe.width}x{job.recipe.height} in batches of {job.recipe.batch_size} does "
                    f"not fit into the memory of {job.device} ({reason}); lower LANEPAINT_LORA_MEMORY_GIB, the batch "
                    "or the size"
                ) from error
    finally:
        # After an error its traceback may hold weights for a while, which a release would complain about.
        with suppress(StepError):
            residency.release(part)
        part.forget()


@dataclass
class _Run:
    """A training under way in this process."""

    job: TrainingJob
    parts: FluxParts
    residency: Residency
    trainer: Trainer
    accelerator: Accelerator
    store: ArtifactStore

    def to_the_end(self) -> TrainingResult:
        job, trainer, state = self.job, self.trainer, self.trainer.state
        shelf = CheckpointShelf(self.store, job.style, job.training, job.run_id)
        stop = StopRequest(self.store, job.style)
        with shelf.latest() as saved:
            if saved is not None:
                state.restore(saved)
                log.info("%s goes on after step %d of %d", job.style, state.step, trainer.plan.steps)
        trainer.show()
        asked = _Asked(stop)
        stopped = False
        if state.step == 0:
            self._validate()
        meant = trainer.plan.steps
        bar = tqdm(
            total=meant,
            initial=state.step,
            desc=f"LoRA {job.style}",
            disable=None if self._tells else True,
            leave=False,
        )
        progress = LoopProgress(f"LoRA {job.style}", meant, begun=state.step)
        while state.step < meant and not stopped:
            trainer.run_step()
            bar.update()
            progress.done(state.step)
            stopped = self._together(asked.now() if self._tells else False)
            last = state.step == meant or stopped
            if last or state.step % job.validation_steps == 0:
                self._validate()
            if last or state.step % job.checkpoint_steps == 0:
                trainer.read_losses()
                if self._tells:
                    self._publish(shelf)
                self.accelerator.wait_for_everyone()
        bar.close()
        result = TrainingResult(state.step, meant, stopped)
        if self._tells:
            self._write(result)
        return result

    @property
    def _tells(self) -> bool:
        """Whether this process validates, saves and shows: one of them does."""
        return bool(self.accelerator.is_main_process)

    def _together(self, mine: bool) -> bool:
        """The first process's answer, in all of them."""
        answer = [mine]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(answer)
        return answer[0]

    def _validate(self) -> None:
        if not self._tells:
            return
        trainer, job = self.trainer, self.job
        loss = trainer.validate()
        if loss is None:
            return
        trainer.state.log.validation.append(loss)
        log.info("%s after step %d: held-out loss %.4f", job.style, loss.step, loss.loss)
        pictures = painted_samples(
            trainer, self.parts.autoencoder, self.parts.scheduler, self.residency, job.pictures, job.recipe.seed
        )
        with TemporaryDirectory(prefix="lanepaint-") as folder:
            for number, picture in enumerate(pictures):
                file = Path(folder) / f"step_{loss.step:06d}_{number:02d}.png"
                write_picture(file, picture)
                trainer.state.pictures[file.name] = file.read_bytes()

    def _publish(self, shelf: CheckpointShelf) -> None:
        with TemporaryDirectory(prefix="lanepaint-") as folder:
            self.trainer.state.save(Path(folder))
            shelf.publish(self.trainer.state.step, Path(folder))

    def _write(self, result: TrainingResult) -> None:
        state, out = self.trainer.state, self.job.out
        save_lora(self.trainer.transformer, out / WEIGHTS_FILE)
        state.log.write(out)
        (out / PICTURES).mkdir()
        for name, png in state.pictures.items():
            (out / PICTURES / name).write_bytes(png)
        (out / RESULT_FILE).write_text(json.dumps(vars(result)))


class _Asked:
    """Whether somebody asked to stop since the training began or went on here."""

    def __init__(self, request: StopRequest) -> None:
        self._request = request
        self._before = request.word()
        self._looked = time.monotonic()

    def now(self) -> bool:
        if time.monotonic() - self._looked < _STOP_EVERY_S:
            return False
        self._looked = time.monotonic()
        return self._request.word() != self._before


def write_tensorboard(folder: Path, losses: LossLog) -> bool:
    """Write the loss log for TensorBoard; False where that package is not installed, which the tables do not need."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    writer = SummaryWriter(str(folder))
    for row in losses.training:
        for name, value in (("loss", row.loss), ("painted", row.painted), ("background", row.background)):
            writer.add_scalar(f"training/{name}", value, row.step)
        writer.add_scalar("training/learning_rate", row.learning_rate, row.step)
    for measured in losses.validation:
        for name, value in (
            ("loss", measured.loss),
            ("painted", measured.painted),
            ("background", measured.background),
        ):
            writer.add_scalar(f"held_out/{name}", value, measured.step)
    writer.close()
    return True


def _in_processes(job: TrainingJob) -> TrainingResult:
    """Start a process for each GPU, and wait for them; accelerate finds the others by what the launcher tells it."""
    if job.device.type == "cuda" and torch.cuda.device_count() < job.recipe.devices:
        raise StepError(
            f"LANEPAINT_LORA_GPUS asks for {job.recipe.devices} GPUs and this machine has {torch.cuda.device_count()}"
        )
    told = job.scratch / "job.pickle"
    told.write_bytes(pickle.dumps(job))
    # Torch's own launcher, which is beneath accelerate's too: that one starts a single process without GPUs.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(job.recipe.devices), "-m", _WORKER, str(told)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "Error: " in line]
        raise StepError(
            f"the training on {job.recipe.devices} devices failed: {lines[0] if lines else done.stderr[-500:]}"
        )
    return TrainingResult(**json.loads((job.out / RESULT_FILE).read_text()))


def run_worker(told: Path) -> None:
    """One of several processes; see `worker.py`."""
    job: TrainingJob = pickle.loads(told.read_bytes())
    if job.device.type == "cuda":
        from accelerate import PartialState

        job = replace(job, device=PartialState().device)
    residency = Residency.of(job.device, job.budget_gib)
    train_in_process(job, checkpoint_parts(job.model, residency, EXACT), ArtifactStore(job.store_root))
