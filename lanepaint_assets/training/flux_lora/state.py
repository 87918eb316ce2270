"""The state of a training between two steps: weights in full precision, AdamW's moments, and the loss log, as files.

Called by the trainer. A training that is restored goes on to the last bit as if it had never stopped: everything else
that a step depends on follows from its number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lanepaint_assets.store.items import StepError
from lanepaint_assets.training.lora_log import LossLog

PICTURES = "pictures"

_TENSORS, _PROGRESS = "state.safetensors", "progress.json"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class TrainingState:
    """What a training has come to.

    Attributes:
        weights: of the LoRA, float32; the network may hold rounded copies.
        optimizer: AdamW on them.
        step: finished steps.
        log: of their losses.
        pictures: painted on the way, PNGs by file name.
    """

    weights: list[nn.Parameter]
    optimizer: torch.optim.AdamW
    step: int = 0
    log: LossLog = field(default_factory=LossLog)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it to an empty folder."""
        tensors = {}
        for index, weight in enumerate(self.weights):
            tensors[f"{index}.weight"] = weight.detach().cpu()
            for moment in _MOMENTS:
                tensors[f"{index}.{moment}"] = self.optimizer.state[weight][moment].cpu()
        save_file(tensors, folder / _TENSORS)
        (folder / _PROGRESS).write_text(json.dumps({"step": self.step}))
        self.log.write(folder)
        (folder / PICTURES).mkdir()
        for name, png in self.pictures.items():
            (folder / PICTURES / name).write_bytes(png)

    def restore(self, folder: Path) -> None:
        """Take over what was saved to a folder.

        Raises:
            StepError: it is the state of another network's LoRA.
        """
        tensors = load_file(folder / _TENSORS)
        saved = [tuple(tensors[f"{index}.weight"].shape) for index in range(len(tensors) // (1 + len(_MOMENTS)))]
        if saved != [tuple(weight.shape) for weight in self.weights]:
            raise StepError(
                "the last checkpoint of this training is of another base model or rank than the one to go on with; "
                "put the base model back that it was begun with"
            )
        self.step = int(json.loads((folder / _PROGRESS).read_text())["step"])
        for index, weight in enumerate(self.weights):
            weight.data.copy_(tensors[f"{index}.weight"])
            self.optimizer.state[weight] = self._moments(tensors, index, weight)
        self.log = LossLog.read(folder)
        self.pictures = {path.name: path.read_bytes() for path in sorted((folder / PICTURES).glob("*.png"))}

    def _moments(self, tensors: dict[str, Tensor], index: int, weight: Tensor) -> dict[str, Tensor]:
        # AdamW counts its steps itself, in a tensor beside the moments; fused on a GPU, it wants it there.
        fused = bool(self.optimizer.defaults.get("fused"))
        steps = torch.tensor(float(self.step), device=weight.device if fused else "cpu")
        return {"step": steps, **{name: tensors[f"{index}.{name}"].to(weight.device) for name in _MOMENTS}}
