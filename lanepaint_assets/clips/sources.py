"""The `ClipSource` role, and the one door that picks the right source for an address.

Called by the commands and assets that register chunks and open clips. Layouts live in `folder_source.py`,
`chunks_uri.py` and `physical_ai.py`; nothing about decoding belongs here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.records import ClipRef, SourceKind

if TYPE_CHECKING:
    from lanepaint_assets.clips.egomotion import Egomotion
    from lanepaint_assets.rendering.cameras import RigCamera


class ClipSourceError(ValueError):
    """An address, a listing or a data set's own file is wrong. The message names it, the reason and the remedy."""


@dataclass(frozen=True)
class ListedClips:
    """What one look at a chunk finds.

    Attributes:
        clips: all of them, sorted by item key.
        touched: when the newest of the chunk's files was put there or written, other files than clips included: an
            upload writes those too. None where the source tells no times.
    """

    clips: tuple[ClipRef, ...]
    touched: datetime | None = None


@dataclass(frozen=True)
class ChunkListing:
    """A chunk of a source: its key, and how it is listed."""

    key: str
    look: Callable[[], ListedClips]

    @cached_property
    def listed(self) -> ListedClips:
        """Its clips; listed when first asked for, so that one bad chunk hides no other.

        Raises:
            ClipSourceError: a name or an archive in this chunk is wrong.
        """
        return self.look()

    @property
    def clips(self) -> tuple[ClipRef, ...]:
        """All clips, as `listed` has them; it says what may be raised."""
        return self.listed.clips


class ClipSource(Protocol):
    """Where clips come from. Listing is separate from opening: a clip can be opened without any listing."""

    @property
    def address(self) -> str:
        """What `open_source` was given."""
        ...

    @property
    def kind(self) -> SourceKind:
        """Whose clips these are."""
        ...

    def chunks(self) -> Iterator[ChunkListing]:
        """Chunks in sorted order; the clips of each are listed only when they are asked for."""
        ...

    def open_video(self, ref: ClipRef) -> AbstractContextManager[Path]:
        """A local file with the clip's bytes: the file itself where it is local, else a copy that is removed again.

        Raises:
            FileNotFoundError: the clip has vanished.
            ClipSourceError: it is there but cannot be read.
        """
        ...

    def frame_timestamps_us(self, ref: ClipRef) -> NDArray[np.int64] | None:
        """(N,) time of each source frame on the data set's clock; None: presentation time less the first one."""
        ...

    def camera(self, ref: ClipRef) -> RigCamera | None:
        """The calibrated camera, in pixels of the calibration (resize it to the picture in use); None where unknown."""
        ...

    def egomotion(self, ref: ClipRef) -> Egomotion | None:
        """The recorded path, on the clock of the frame timestamps; None where none was recorded."""
        ...

    def current_ref(self, ref: ClipRef) -> ClipRef | None:
        """The clip as it is now, with its present size and etag; None where it has vanished."""
        ...

    def sibling_cameras(self, clip_id: str) -> tuple[ClipRef, ...]:
        """All cameras' videos of a clip, configured or not, sorted by camera; empty where the clip is unknown."""
        ...


def open_source(
    address: str,
    cameras: Sequence[str],
    storage_options: Mapping[str, object] | None = None,
) -> ClipSource:
    """Find out what lies at `address` and open it.

    Recognized, in this order: a `chunks://` address; a folder in PhysicalAI-AV layout, or a Hugging Face cache that
    holds one; one mp4 file; a folder or bucket of `<camera>/chunk_NNNN/*.mp4`, or one such camera folder; a folder of
    mp4 files.

    Args:
        address: a local path or an fsspec URL.
        cameras: configured cameras, most important first. Flat folders and single files count as the first one.
        storage_options: passed to fsspec.

    Raises:
        ClipSourceError: no cameras, a wrong `chunks://` query, or nothing at the address that is understood.
    """
    # Imported here because the layouts implement the role above.
    from lanepaint_assets.clips import chunks_uri, folder_source, physical_ai
    from lanepaint_assets.clips.file_tree import FileTree

    if not cameras:
        raise ClipSourceError("no camera is configured; name at least one, for example camera_front_wide_120fov")
    if chunks_uri.is_chunks_uri(address):
        parsed = chunks_uri.parse_chunks_uri(address)
        tree = FileTree.at(parsed.folder, storage_options)
        return folder_source.open_camera_folder(address, tree, cameras, parsed.selection)
    tree = FileTree.at(address, storage_options)
    physical = physical_ai.find_mirror(tree)
    if physical is not None:
        return physical_ai.PhysicalAISource(address, physical, cameras)
    return folder_source.open_folder(address, tree, cameras)
