"""Plain mp4 files: flat folders, single files, and `<camera>/chunk_NNNN/*.mp4` trees, local or in a bucket.

Opened through `sources.open_source`. Plain files bring no calibration, no ego motion and no data set clock. Decoding
and the PhysicalAI-AV layout do not belong here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.clips.file_tree import Entry, FileTree, newest
from lanepaint_assets.clips.records import PLAIN_ID, ClipRef, SourceKind, flat_clip_id
from lanepaint_assets.clips.sources import ChunkListing, ClipSource, ClipSourceError, ListedClips
from lanepaint_assets.rendering.cameras import RigCamera

_CHUNK_FOLDER = re.compile(r"^chunk[_-]?(\d+)$", re.IGNORECASE)
_CAMERA = re.compile(r"camera_[A-Za-z0-9_-]+")


class PlainFiles:
    """What all plain mp4 sources share: opening by uri, and knowing nothing else about a clip."""

    def __init__(self, address: str, tree: FileTree) -> None:
        self._address = address
        self._tree = tree

    @property
    def address(self) -> str:
        return self._address

    @property
    def kind(self) -> SourceKind:
        return "own_files"

    def open_video(self, ref: ClipRef) -> AbstractContextManager[Path]:
        return self._tree.local_copy(ref.uri)

    def frame_timestamps_us(self, ref: ClipRef) -> NDArray[np.int64] | None:  # noqa: ARG002 - the role's signature
        return None

    def camera(self, ref: ClipRef) -> RigCamera | None:  # noqa: ARG002
        return None

    def egomotion(self, ref: ClipRef) -> Egomotion | None:  # noqa: ARG002
        return None

    def current_ref(self, ref: ClipRef) -> ClipRef | None:
        entry = self._tree.stat(ref.uri)
        if entry is None:
            return None
        return ref.model_copy(update={"size": entry.size, "etag": entry.etag})


class FlatSource(PlainFiles):
    """A folder of mp4 files, or one file: one camera, one chunk of any size."""

    def __init__(self, address: str, tree: FileTree, camera: str) -> None:
        super().__init__(address, tree)
        self._camera = camera

    def chunks(self) -> Iterator[ChunkListing]:
        yield ChunkListing(chunk_key(PurePosixPath(self._tree.root).stem), self._listed)

    def sibling_cameras(self, clip_id: str) -> tuple[ClipRef, ...]:
        return tuple(ref for ref in self._listed().clips if ref.clip_id == clip_id)

    def _listed(self) -> ListedClips:
        single = self._tree.stat(self._tree.root)
        entries = [single] if single is not None else self._tree.entries(self._tree.root)
        clips = tuple(
            ClipRef(
                clip_id=flat_clip_id(PurePosixPath(file.name).stem, file.uri),
                camera=self._camera,
                uri=file.uri,
                size=file.size,
                etag=file.etag,
            )
            for file in videos(entries)
        )
        return ListedClips(clips, newest(entries))


@dataclass(frozen=True)
class ChunkSelection:
    """Which chunks of a camera tree, and how many clips of each (spec 4).

    Attributes:
        start: first of the sorted chunk folders.
        end: one past the last; None: to the end.
        per_chunk: at most this many of each camera's sorted files in a chunk; None: all.
    """

    start: int = 0
    end: int | None = None
    per_chunk: int | None = None


class CameraFoldersSource(PlainFiles):
    """Camera folders of `chunk_NNNN/*.mp4`: a chunk spans those of the cameras that have it."""

    def __init__(
        self,
        address: str,
        tree: FileTree,
        folders: Mapping[str, str],
        selection: ChunkSelection = ChunkSelection(),
    ) -> None:
        """Args beyond the shared ones: `folders`, camera name to its folder's path; `selection` of their chunks."""
        super().__init__(address, tree)
        self._folders = dict(folders)
        self._selection = selection
        self._chunk_of_clip: dict[str, str] = {}

    def chunks(self) -> Iterator[ChunkListing]:
        """Lists each camera's folder once, then each chunk's folders when its clips are asked for."""
        cameras_of: dict[str, list[str]] = {}
        for camera, path in self._folders.items():
            for folder in chunk_folders(self._tree.entries(path)):
                cameras_of.setdefault(folder.name, []).append(camera)
        chosen = sorted(cameras_of, key=chunk_order)[self._selection.start : self._selection.end]
        for name in chosen:
            yield ChunkListing(chunk_key(name), partial(self._listed, name, tuple(cameras_of[name])))

    def sibling_cameras(self, clip_id: str) -> tuple[ClipRef, ...]:
        """Looks into the camera folders beside the configured ones; lists chunks until the clip is found."""
        if clip_id not in self._chunk_of_clip:
            for listing in self.chunks():
                if any(ref.clip_id == clip_id for ref in listing.clips):
                    break
        chunk = self._chunk_of_clip.get(clip_id)
        if chunk is None:
            return ()
        folders = dict(self._folders)
        for parent in sorted({str(PurePosixPath(path).parent) for path in self._folders.values()}):
            for entry in self._tree.entries(parent):
                if entry.is_folder and is_camera_name(entry.name):
                    folders.setdefault(entry.name, f"{parent.rstrip('/')}/{entry.name}")
        found = [ref for camera, path in folders.items() for ref in self._list(camera, path, chunk)[0]]
        return tuple(sorted((ref for ref in found if ref.clip_id == clip_id), key=lambda ref: ref.camera))

    def _listed(self, chunk: str, cameras: Sequence[str]) -> ListedClips:
        refs: list[ClipRef] = []
        files: list[Entry] = []
        for camera in cameras:
            found, entries = self._list(camera, self._folders[camera], chunk)
            refs += found[: self._selection.per_chunk]
            files += entries
        return ListedClips(tuple(sorted(refs, key=lambda ref: ref.item_key)), newest(files))

    def _list(self, camera: str, path: str, chunk: str) -> tuple[list[ClipRef], list[Entry]]:
        """The clips of a camera's chunk folder by file name, and all that lies in it: one listing."""
        entries = self._tree.entries(f"{path}/{chunk}")
        refs = [chunk_clip(file, camera) for file in videos(entries)]
        self._chunk_of_clip.update({ref.clip_id: chunk for ref in refs})
        return refs, entries


def open_folder(address: str, tree: FileTree, cameras: Sequence[str]) -> ClipSource:
    """Choose between the plain layouts by listing the address.

    Raises:
        ClipSourceError: none of them is there.
    """
    single = tree.stat(tree.root)
    if single is not None:
        if not is_video_name(single.name):
            raise ClipSourceError(f"source {address!r} is a file, but not an mp4; name an mp4 file or a folder of them")
        return FlatSource(address, tree, cameras[0])
    folders = {camera: f"{tree.root}/{camera}" for camera in cameras}
    if any(chunk_folders(tree.entries(path)) for path in folders.values()):
        return CameraFoldersSource(address, tree, folders)
    entries = tree.entries(tree.root)
    if chunk_folders(entries):
        return open_camera_folder(address, tree, cameras, ChunkSelection())
    if videos(entries):
        return FlatSource(address, tree, cameras[0])
    raise ClipSourceError(_nothing_found(address, cameras, entries))


def open_camera_folder(
    address: str, tree: FileTree, cameras: Sequence[str], selection: ChunkSelection
) -> CameraFoldersSource:
    """One camera's folder of chunk folders. The folder's name is the camera where it is one, else the first configured.

    Raises:
        ClipSourceError: there is no chunk folder in it.
    """
    name = PurePosixPath(tree.root).name
    camera = name if name in cameras or is_camera_name(name) else cameras[0]
    entries = tree.entries(tree.root)
    if not chunk_folders(entries):
        raise ClipSourceError(_nothing_found(address, cameras, entries))
    return CameraFoldersSource(address, tree, {camera: tree.root}, selection)


def _nothing_found(address: str, cameras: Sequence[str], entries: list[Entry]) -> str:
    names = [entry.name + ("/" if entry.is_folder else "") for entry in entries]
    holds = f"it holds {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}" if names else "it is empty or absent"
    return (
        f"no clips found at source {address!r} ({holds}). Looked for: PhysicalAI-AV (features.csv and "
        f"clip_index.parquet, or a Hugging Face cache of it); <camera>/chunk_NNNN/*.mp4 for the cameras "
        f"{', '.join(cameras)}; chunk_NNNN/*.mp4; *.mp4. Correct the address or the configured cameras, or use "
        "chunks://bucket/prefix/camera_folder"
    )


def is_camera_name(name: str) -> bool:
    """Whether a folder's name says that it is a camera's (`camera_front_wide_120fov`)."""
    return _CAMERA.fullmatch(name) is not None


def is_chunk_folder(name: str) -> bool:
    """Whether a folder's name says that it holds a chunk (`chunk_0001`)."""
    return _CHUNK_FOLDER.match(name) is not None


def is_video_name(name: str) -> bool:
    """Whether a file counts as a clip: an mp4 that is not hidden (copy tools leave `._name.mp4` behind)."""
    return name.lower().endswith(".mp4") and not name.startswith(".")


def videos(entries: list[Entry]) -> list[Entry]:
    """The mp4 files of a listing, by name.

    Raises:
        ClipSourceError: a name is not UTF-8 text; no manifest or report could hold it.
    """
    found = [entry for entry in entries if not entry.is_folder and is_video_name(entry.name)]
    for entry in found:
        if any("\ud800" <= character <= "\udfff" for character in entry.uri):
            raise ClipSourceError(f"the file name {entry.uri!a} is not UTF-8; rename the file")
    return found


def chunk_folders(entries: list[Entry]) -> list[Entry]:
    """The `chunk_NNNN` folders of a listing, by number (chunk_9999 comes before chunk_10000)."""
    found = [entry for entry in entries if entry.is_folder and is_chunk_folder(entry.name)]
    return sorted(found, key=lambda entry: chunk_order(entry.name))


def chunk_order(name: str) -> tuple[int, str]:
    """Sorting key of a chunk folder's name."""
    number = _CHUNK_FOLDER.match(name)
    return (int(number.group(1)) if number else 0, name)


def chunk_key(name: str) -> str:
    """A partition key out of any folder name: lower case, `a-z0-9_-`, starting with a letter or digit."""
    key = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")
    return key or "clips"


def chunk_clip(file: Entry, camera: str) -> ClipRef:
    """The clip of a file in a camera's chunk folder: its id is the stem less a trailing `.<camera>`.

    A stem with other characters than letters, digits, `_` and `-`, or too many, is sanitized and told apart by a
    hash of the stem, which is the same on every camera.
    """
    stem = PurePosixPath(file.name).stem.removesuffix(f".{camera}")
    clip_id = stem if PLAIN_ID.fullmatch(stem) else flat_clip_id(stem, stem)
    return ClipRef(clip_id=clip_id, camera=camera, uri=file.uri, size=file.size, etag=file.etag)
