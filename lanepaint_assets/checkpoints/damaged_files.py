"""Which weight of a folder's safetensors files is no number, read without any model library.

Called by the smoke check of an engine whose network runs in another Python environment, after it gave NaN: what is
loaded in this process is searched by `torch_models/damaged_weights.py`. Whether files are whole is `completeness.py`'s.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

# A number is NaN or infinite where all bits of its exponent are set; by safetensors' names. Integers have no exponent,
# and formats of eight bits differ among themselves.
_EXPONENTS: dict[str, np.unsignedinteger] = {
    "F64": np.uint64(0x7FF0_0000_0000_0000),
    "F32": np.uint32(0x7F80_0000),
    "F16": np.uint16(0x7C00),
    "BF16": np.uint16(0x7F80),
}

# Numbers looked at together: 128 MB of the largest kind, read from disk in one go.
_BLOCK = 1 << 24


def damaged_weight(folder: Path) -> str | None:
    """`FILE: NAME` of the first weight below a folder that is NaN or infinite; None where all are numbers.

    Args:
        folder: whole; see `model_folder.local_model_folder`.
    """
    for file in sorted(folder.rglob("*.safetensors")):
        with file.open("rb") as opened:
            head_bytes = int.from_bytes(opened.read(8), "little")
            head = json.loads(opened.read(head_bytes))
        head.pop("__metadata__", None)
        for name, tensor in head.items():
            exponent = _EXPONENTS.get(tensor["dtype"])
            start, end = tensor["data_offsets"]
            if exponent is not None and _holds_no_number(file, exponent, 8 + head_bytes + start, end - start):
                return f"{file.name}: {name}"
    return None


def _holds_no_number(file: Path, exponent: np.unsignedinteger, start: int, size: int) -> bool:
    count = size // exponent.itemsize
    for first in range(0, count, _BLOCK):
        bits = np.fromfile(
            file, exponent.dtype.newbyteorder("<"), min(_BLOCK, count - first), offset=start + first * exponent.itemsize
        )
        if ((bits & exponent) == exponent).any():
            return True
    return False
