"""Which weight of the models in this process is no number, after a network gave NaN.

Called by engines' smoke checks. Reading all weights for it takes seconds for the largest models, so nobody asks before
something went wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.store.items import DeviceMemoryError, ItemError
from lanepaint_assets.torch_models.residency import Residency


@contextmanager
def damaged_weights_named() -> Iterator[None]:
    """Let an item's failure that comes from a checkpoint's weights say which weight it is.

    Raises:
        CheckpointError: instead of an `ItemError`, where a weight is NaN or infinite.
    """
    try:
        yield
    except DeviceMemoryError:
        raise
    except ItemError as error:
        for part in Residency.loaded_parts():
            for name, weight in part.module.named_parameters():
                # Eight-bit floats know no such question.
                numbers = weight.float() if weight.element_size() == 1 else weight
                if not bool(torch.isfinite(numbers).all()):
                    raise CheckpointError(
                        f"{part.name}: its weight {name} is NaN or infinite; copy the checkpoint again"
                    ) from error
        raise
