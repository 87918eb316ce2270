"""One more try when a device runs out of memory, in a form that needs less of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from lanepaint_assets.store.items import DeviceMemoryError
from lanepaint_assets.torch_models.residency import Residency

log = logging.getLogger(__name__)

T = TypeVar("T")


def with_retry(attempt: Callable[[bool], T], residency: Residency, what: str) -> T:
    """Compute an item, and once more where the device's memory did not suffice.

    Args:
        attempt: computes; True asks it to work in tiles and to hold only what each phase needs.
        residency: of the device; everything else leaves it before the second try.
        what: names the item and its size in messages.

    Raises:
        DeviceMemoryError: the second try ran out of memory too; the chunk goes on.
    """
    try:
        return attempt(False)
    except torch.OutOfMemoryError as error:
        reason = _first_line(error)
    # Here, after the exception and all tensors that its traceback held are gone.
    log.warning("%s ran out of memory on %s; trying again in tiles (%s)", what, residency.device, reason)
    residency.release_all_but()
    try:
        return attempt(True)
    except torch.OutOfMemoryError as error:
        reason = _first_line(error)
    residency.release_all_but()
    raise DeviceMemoryError(
        f"{what} does not fit into the memory of {residency.device}, not even in tiles ({reason}); use a larger GPU, "
        "or give other processes' memory back"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["out of memory"])[0]
