"""`all_masks.npz` as VideoPainter reads it: key `arr_0`, (T, H, W) uint8.

What `numpy.savez_compressed` would write and `numpy.load` reads, made faster: masks are runs of equal bytes, for which
zlib has a strategy of its own (half the time, three quarters of the size), and parts of the array are compressed in
parallel. Called by the two writers of this file, `outputs.py` and `vp_folder.py`; other archives belong to NumPy.
"""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.segmentation.bit_masks import default_workers

MEMBER = b"arr_0.npy"
# Frames that one thread compresses at a time; every part costs five bytes.
PART_FRAMES = 8

# The fields of a zip file, as PKWARE's APPNOTE lists them. Sizes stand in the 64-bit extra field (1), as NumPy has it.
_VERSION, _DEFLATED, _FIRST_OF_1980, _ELSEWHERE = 45, 8, 0x00210000, 0xFFFFFFFF
_ENTRY = struct.Struct("<HHHIIIIHH")
_SIZES = struct.Struct("<HHQQ")


def write_npz_masks(path: Path, paint: NDArray[np.bool_], mask_id: int = 1) -> None:
    """Write masks (T, H, W) as numbers: `mask_id` (1 to 255) where they are True, 0 elsewhere.

    Raises:
        ValueError: more than 4 GiB are left after compression; NumPy's own writer takes that.
    """
    numbers = np.ascontiguousarray(paint).view(np.uint8)
    if mask_id != 1:
        numbers = numbers * np.uint8(mask_id)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(numbers))
    with ThreadPoolExecutor(max_workers=default_workers()) as pool:
        starts = range(0, len(numbers), PART_FRAMES)
        compressed = pool.map(lambda start: _deflated(numbers[start : start + PART_FRAMES]), starts)
        checksum = zlib.crc32(numbers.reshape(-1).data, zlib.crc32(head.getvalue()))
        # An empty last part ends the stream.
        data = [_deflated(np.frombuffer(head.getvalue(), np.uint8)), *compressed, b"\x03\x00"]
    size, packed_size = head.tell() + numbers.nbytes, sum(map(len, data))
    if packed_size >= _ELSEWHERE:
        raise ValueError(f"{path}: masks of shape {paint.shape} take {packed_size} bytes; use numpy.savez_compressed")
    sizes = _SIZES.pack(1, 16, size, packed_size)
    entry = _ENTRY.pack(
        _VERSION, 0, _DEFLATED, _FIRST_OF_1980, checksum, _ELSEWHERE, _ELSEWHERE, len(MEMBER), len(sizes)
    )
    listed = b"PK\1\2" + struct.pack("<H", _VERSION) + entry + bytes(14) + MEMBER + sizes
    local = b"PK\3\4" + entry + MEMBER + sizes
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(listed), len(local) + packed_size, 0)
    with path.open("wb") as file:
        file.writelines([local, *data, listed, end])


def _deflated(numbers: NDArray[np.uint8]) -> bytes:
    """A part of a deflate stream, complete in itself and open to a next one."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return compressor.compress(numbers.reshape(-1).data) + compressor.flush(zlib.Z_SYNC_FLUSH)
