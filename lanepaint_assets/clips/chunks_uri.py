"""The address `chunks://bucket/prefix/camera_folder?start=0&end=10&per_chunk=5` (spec 4), taken apart.

Called by `sources.open_source`; the listing itself is `folder_source.py`'s business. `chunks://bucket/...` lies in
Google Cloud Storage, `chunks:///absolute/path` on this machine, `chunks+PROTOCOL://...` in any other store that fsspec
knows (`chunks+s3://`, `chunks+memory://`).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from lanepaint_assets.clips.folder_source import ChunkSelection
from lanepaint_assets.clips.sources import ClipSourceError

_SCHEME = "chunks"
_PARAMETERS = ("start", "end", "per_chunk")


@dataclass(frozen=True)
class ChunksAddress:
    """The camera folder, as a path or fsspec URL, and which of its chunks are meant."""

    folder: str
    selection: ChunkSelection


def is_chunks_uri(address: str) -> bool:
    """Whether an address is of this kind, right or wrong."""
    scheme = address.split("://", 1)[0].lower()
    return "://" in address and (scheme == _SCHEME or scheme.startswith(f"{_SCHEME}+"))


def parse_chunks_uri(address: str) -> ChunksAddress:
    """Parse a `chunks://` address.

    Raises:
        ClipSourceError: no folder, an unknown, repeated or malformed parameter, or an empty slice.
    """
    parts = urlsplit(address)
    store = parts.scheme.partition("+")[2]
    if not parts.path.strip("/"):
        raise _wrong(address, "it names no camera folder")
    place = f"{parts.netloc}{unquote(parts.path)}".rstrip("/")
    if {".", ".."} & set(place.split("/")):
        raise _wrong(address, "it has a part '.' or '..', which means something else in a bucket than on a disk")
    if parts.netloc and not store:
        store = "gs"
    folder = f"{store}://{place}" if store else place
    numbers: dict[str, int] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _PARAMETERS:
            raise _wrong(address, f"unknown parameter {name!r}")
        if name in numbers:
            raise _wrong(address, f"{name} is given twice")
        least = 1 if name == "per_chunk" else 0
        if not (value.isascii() and value.isdigit()) or int(value) < least:
            raise _wrong(address, f"{name}={value!r} is not a whole number of at least {least}")
        numbers[name] = int(value)
    start, end = numbers.get("start", 0), numbers.get("end")
    if end is not None and end <= start:
        raise _wrong(address, f"end={end} is not above start={start} (end is exclusive), so nothing is selected")
    return ChunksAddress(folder, ChunkSelection(start, end, numbers.get("per_chunk")))


def _wrong(address: str, why: str) -> ClipSourceError:
    return ClipSourceError(
        f"source {address!r}: {why}. Write chunks://bucket/prefix/camera_folder?start=0&end=10&per_chunk=5; "
        "all three parameters are optional"
    )
