"""The two halves of classifier-free guidance apart: on two devices at once, or in turn where memory is short.

Called by `engine.py`, which gives the result to the pipeline in place of the transformer. A denoising step predicts
with the empty caption and with the real one; stock code stacks the two into a batch of two.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lanepaint_assets.editing.videopainter.attention import Rotary
from lanepaint_assets.editing.videopainter.branch import CONDITION, BranchCondition, BranchedTransformer


class SplitGuidance:
    """Stands for one `BranchedTransformer` in a pipeline; results are those of the stacked batch, within rounding.

    Args:
        first: predicts with the empty caption; the pipeline works on its device.
        second: predicts with the real caption, at the same time, where it is; a copy of `first` on another device.
            None: `first` does both in turn, with the working memory of one.
    """

    def __init__(self, first: BranchedTransformer, second: BranchedTransformer | None = None) -> None:
        self.first = first
        self.second = second
        # Launching kernels takes the host some time: with a thread, the second device need not wait for it.
        self._thread = ThreadPoolExecutor(1, "lanepaint-guidance") if second is not None else None

    def __call__(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: Tensor,
        image_rotary_emb: Rotary | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        **others: Any,
    ) -> tuple[Tensor]:
        """As `BranchedTransformer`, for a batch of two.

        Raises:
            ValueError: another batch.
        """
        if len(hidden_states) != 2:
            raise ValueError(f"guidance has two halves, this batch has {len(hidden_states)}")
        stacked = (hidden_states, encoder_hidden_states, timestep)
        empty, full = (
            ((*(tensor[half : half + 1] for tensor in stacked), image_rotary_emb, attention_kwargs), others)
            for half in range(2)
        )
        if self.second is None or self._thread is None:
            halves = [_predict(self.first, "empty", *empty), _predict(self.first, "full", *full)]
        else:
            later = self._thread.submit(_predict, self.second, "full", *full)
            try:
                earlier = _predict(self.first, "empty", *empty)
            finally:
                # Also when the first fails: its weights must not leave a device that still works on them.
                wait([later])
            halves = [earlier, later.result()]
        return (torch.cat([half.to(hidden_states.device) for half in halves]),)

    @property
    def config(self) -> Any:
        """The backbone's."""
        return self.first.config

    @property
    def device(self) -> torch.device:
        """Where the pipeline works."""
        return self.first.device

    @property
    def dtype(self) -> torch.dtype:
        """What the backbone computes in."""
        return self.first.dtype

    def cache_context(self, _name: str) -> AbstractContextManager[None]:
        """Nothing: each half names its own pass."""
        return nullcontext()

    def _reset_stateful_cache(self) -> None:
        """Called by pipelines at the end of a run."""
        for model in (self.first, self.second):
            if model is not None:
                model._reset_stateful_cache()


def _predict(
    model: BranchedTransformer,
    name: str,
    given: tuple[Any, ...],
    others: dict[str, Any],
) -> Tensor:
    """One half, on its model's device. Gradients are off here too: that is a thread's own setting."""
    device = model.device
    latents, text, timestep, rotary, passed = given
    passed = dict(passed or {})
    condition: BranchCondition | None = passed.get(CONDITION)
    if condition is not None:
        passed[CONDITION] = replace(
            condition, masked_latents=condition.masked_latents.to(device), mask=condition.mask.to(device)
        )
    with torch.no_grad(), model.cache_context(name), _current(device):
        (result,) = model(
            latents.to(device),
            text.to(device),
            timestep,
            None if rotary is None else (rotary[0].to(device), rotary[1].to(device)),
            passed,
            **others,
        )
    return result


def _current(device: torch.device) -> AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
