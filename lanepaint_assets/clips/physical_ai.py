"""Clips of the PhysicalAI-Autonomous-Vehicles data set, read from a local mirror by the `physical_ai_av` package.

Opened through `sources.open_source`. Works without network and never writes into the mirror. The package is imported
only when a mirror is really opened: it takes seconds.

Traps of the package that are dealt with here:

* it accepts a local copy only as a snapshot in a Hugging Face cache, of an explicit 40-digit revision: a flat mirror
  gets a temporary cache whose snapshot is a link to it;
* it asks the network for optional files unless Hugging Face's offline mode was set before the first import anywhere in
  the process: `_offline_interface` answers for it instead, without touching the environment of other engines;
* its accessors for videos unpack into the cache or into memory: videos are copied out of the chunk's zip here;
* its projection functions are wrong on the axis and behind the camera: only the numbers of the calibration are used.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.clips.file_tree import FileTree
from lanepaint_assets.clips.mirror_files import Companions, MirrorFiles, clip_etag
from lanepaint_assets.clips.records import PLAIN_ID, ClipRef, SourceKind, flat_clip_id
from lanepaint_assets.clips.sources import ChunkListing, ClipSourceError, ListedClips
from lanepaint_assets.rendering.cameras import FThetaLens, RigCamera

if TYPE_CHECKING:
    from physical_ai_av import PhysicalAIAVDatasetInterface

CACHE_FOLDER = "datasets--nvidia--PhysicalAI-Autonomous-Vehicles"

# What the package reads when it opens a data set.
_REQUIRED_FILES = (
    "features.csv",
    "clip_index.parquet",
    "metadata/data_collection.parquet",
)
_PRESENCE_FILES = ("metadata/feature_presence.parquet", "metadata/sensor_presence.parquet")

_REVISION = re.compile(r"[0-9a-f]{40}")

# What a clip is read with beside its video, once a chunk for all of its clips.
_CALIBRATION = ("camera_intrinsics", "sensor_extrinsics")

# Between the chunk's zip and the member in a clip's uri, as in Java archives.
_MEMBER_MARK = "!/"


def find_mirror(tree: FileTree) -> Path | None:
    """The folder of the data set's files at `tree`; None where there is another layout.

    Raises:
        ClipSourceError: the layout is this one, but lies in a bucket, or the cache holds no snapshot.
    """
    if not tree.is_local:
        names = {entry.name for entry in tree.entries(tree.root)}
        if {"features.csv", "clip_index.parquet"} <= names:
            raise ClipSourceError(
                f"source {tree.uri(tree.root)!r} is a PhysicalAI-AV data set in a bucket; it can be read from a local "
                "folder only. Mount the bucket or copy the chunks that you need, with metadata/, features.csv and "
                "clip_index.parquet"
            )
        return None
    root = Path(tree.root)
    if (root / "features.csv").is_file() and (root / "clip_index.parquet").is_file():
        return root
    cache = root if root.name == CACHE_FOLDER else root / CACHE_FOLDER
    return _snapshot(cache) if cache.is_dir() else None


class PhysicalAISource:
    """A mirror of the data set: one chunk a data set chunk, limited to the configured cameras and to valid clips.

    Chunks whose camera zip is not in the mirror are left out, so a partial download works. A clip's etag is its size
    and the checksum in the zip, and those of what it is read with: times, ego motion, calibration. One that arrives
    later or is replaced makes it another clip. Calibration is one file a chunk, which changes all of its clips.
    """

    def __init__(self, address: str, mirror: Path, cameras: Sequence[str]) -> None:
        self._address = address
        self._mirror = mirror
        self._cameras = tuple(dict.fromkeys(cameras))
        self._cache: tempfile.TemporaryDirectory[str] | None = None
        # Where the data set's own tables were when they were read, and which files they were.
        self._index: tuple[Path, tuple[tuple[int, int, int], ...]] | None = None
        self._files = MirrorFiles()

    @property
    def address(self) -> str:
        return self._address

    @property
    def kind(self) -> SourceKind:
        # Imported here: writing drives takes more than reading them.
        from lanepaint_assets.clips.sample_drive.write import MARKER

        return "sample_drive" if (self._mirror / MARKER).is_file() else "physical_ai_av"

    def chunks(self) -> Iterator[ChunkListing]:
        self._look_for_another_index()
        index = self._data_set.clip_index
        valid = index[index["clip_is_valid"].astype(bool)] if "clip_is_valid" in index.columns else index
        unknown = [camera for camera in self._cameras if camera not in self._all_cameras]
        if len(unknown) == len(self._cameras):
            raise ClipSourceError(
                f"source {self._address!r} has none of the configured cameras {', '.join(unknown)}; it has "
                f"{', '.join(self._all_cameras)}"
            )
        for chunk in sorted(int(number) for number in valid["chunk"].unique()):
            if any(self._has_archive(chunk, camera) for camera in self._cameras):
                clip_ids = sorted(str(clip) for clip in valid.index[valid["chunk"] == chunk])
                yield ChunkListing(f"chunk_{chunk:04d}", partial(self._listed, chunk, clip_ids))

    @contextmanager
    def open_video(self, ref: ClipRef) -> Iterator[Path]:
        archive_path, _, member = ref.uri.partition(_MEMBER_MARK)
        with tempfile.TemporaryDirectory(prefix="lanepaint-clip-") as folder:
            copy = Path(folder) / "clip.mp4"
            try:
                with (
                    zipfile.ZipFile(self._mirror / archive_path) as archive,
                    archive.open(member) as packed,
                    copy.open("wb") as unpacked,
                ):
                    shutil.copyfileobj(packed, unpacked, length=1 << 20)
            except KeyError as error:
                raise FileNotFoundError(ref.uri) from error
            except FileNotFoundError:
                raise
            except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
                raise ClipSourceError(f"{ref.uri} cannot be unpacked: {error}") from error
            yield copy

    def frame_timestamps_us(self, ref: ClipRef) -> NDArray[np.int64] | None:
        table = self._member_table(ref, ref.camera, "frame_timestamps")
        return None if table is None else table["timestamp"].to_numpy(dtype=np.int64, copy=True)

    def camera(self, ref: ClipRef) -> RigCamera | None:
        intrinsics = self._feature(ref, "camera_intrinsics")
        extrinsics = self._feature(ref, "sensor_extrinsics")
        if intrinsics is None or extrinsics is None:
            return None
        model = intrinsics.camera_models.get(ref.camera)
        pose = extrinsics.sensor_poses.get(ref.camera)
        if model is None or pose is None:
            return None
        return RigCamera(
            lens=FThetaLens(
                width=int(model.width),
                height=int(model.height),
                cx=float(model.principal_point[0]),
                cy=float(model.principal_point[1]),
                fw_poly=tuple(float(coefficient) for coefficient in model.th2r.coef),
            ),
            rotation=np.asarray(pose.rotation.as_matrix(), dtype=np.float64),
            position_m=np.asarray(pose.translation, dtype=np.float64),
            quality="calibrated",
        )

    def egomotion(self, ref: ClipRef) -> Egomotion | None:
        recorded = self._feature(ref, "egomotion")
        if recorded is None:
            return None
        return Egomotion(
            timestamps_us=np.asarray(recorded.timestamps, dtype=np.int64),
            positions_m=np.asarray(recorded.values.pose.translation, dtype=np.float64),
            quaternions_xyzw=np.asarray(recorded.values.pose.rotation.as_quat(), dtype=np.float64),
            quality="recorded",
        )

    def current_ref(self, ref: ClipRef) -> ClipRef | None:
        original = self._original_id(ref.clip_id)
        if original is None or ref.camera not in self._all_cameras:
            return None
        archive = ref.uri.partition(_MEMBER_MARK)[0]
        members = self._files.members(self._mirror / archive)
        companions = self._companions(int(self._data_set.get_clip_chunk(original)))
        return self._ref(original, ref.camera, archive, members, companions)

    def sibling_cameras(self, clip_id: str) -> tuple[ClipRef, ...]:
        original = self._original_id(clip_id)
        if original is None:
            return ()
        chunk = int(self._data_set.get_clip_chunk(original))
        return tuple(ref for camera in self._all_cameras for ref in self._refs(chunk, camera, [original]))

    @cached_property
    def _data_set(self) -> PhysicalAIAVDatasetInterface:
        missing = [name for name in _REQUIRED_FILES if not (self._mirror / name).is_file()]
        if not any((self._mirror / name).is_file() for name in _PRESENCE_FILES):
            missing.append(_PRESENCE_FILES[0])
        if missing:
            raise ClipSourceError(
                f"the PhysicalAI-AV mirror {self._address!r} lacks {', '.join(missing)}; copy these files "
                "from the data set"
            )
        cache, revision = self._as_cache()
        try:
            opened = _offline_interface(cache, revision)
        except (OSError, ValueError, KeyError) as error:
            raise ClipSourceError(f"the PhysicalAI-AV mirror {self._address!r} cannot be read: {error}") from error
        self._refuse_paths_outside(opened)
        return opened

    def _refuse_paths_outside(self, data_set: PhysicalAIAVDatasetInterface) -> None:
        """The table of features comes with the data; where it leads out of the mirror it is not followed."""
        for feature, path in data_set.features.features_df["chunk_path"].items():
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
                raise ClipSourceError(
                    f"features.csv of the PhysicalAI-AV mirror {self._address!r} places {feature} at {path!r}, outside "
                    "the mirror; copy the file from the data set again"
                )

    def _look_for_another_index(self) -> None:
        """Forget what the data set's own tables said where they were replaced: a code server lives for weeks."""
        # A Hugging Face cache may have been given a newer snapshot.
        mirror = find_mirror(FileTree.at(self._address)) or self._mirror
        states = [(mirror / name).stat() for name in (*_REQUIRED_FILES, *_PRESENCE_FILES) if (mirror / name).is_file()]
        index = (mirror, tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in states))
        if index != self._index:
            self._mirror, self._index = index[0], index
            for held in ("_data_set", "_all_cameras", "_original_ids"):
                self.__dict__.pop(held, None)

    @cached_property
    def _all_cameras(self) -> tuple[str, ...]:
        table = self._data_set.features.features_df
        return tuple(sorted(table.index[table["directory"] == "camera"]))

    def _as_cache(self) -> tuple[Path, str]:
        """A Hugging Face cache folder whose snapshot is the mirror, and that snapshot's revision."""
        snapshots = self._mirror.parent
        if (
            snapshots.name == "snapshots"
            and snapshots.parent.name == CACHE_FOLDER
            and _REVISION.fullmatch(self._mirror.name)
        ):
            return snapshots.parent.parent, self._mirror.name
        # Lives as long as this source; holds nothing but a link.
        self._cache = tempfile.TemporaryDirectory(prefix="lanepaint-physical-ai-")
        folder = Path(self._cache.name) / CACHE_FOLDER / "snapshots"
        folder.mkdir(parents=True)
        # Any 40 hexadecimal digits make a revision that is never looked up.
        revision = hashlib.sha1(str(self._mirror.resolve()).encode(), usedforsecurity=False).hexdigest()
        (folder / revision).symlink_to(self._mirror.resolve(), target_is_directory=True)
        return Path(self._cache.name), revision

    def _has_archive(self, chunk: int, camera: str) -> bool:
        if camera not in self._all_cameras:
            return False
        archive: str = self._data_set.features.get_chunk_feature_filename(chunk, camera)
        return (self._mirror / archive).is_file()

    def _listed(self, chunk: int, clip_ids: Sequence[str]) -> ListedClips:
        refs = [ref for camera in self._cameras for ref in self._refs(chunk, camera, clip_ids)]
        return ListedClips(tuple(sorted(refs, key=lambda ref: ref.item_key)), self._touched(chunk))

    def _touched(self, chunk: int) -> datetime | None:
        """When the newest file of the chunk's cameras, ego motion and calibration got where it is."""
        features = self._data_set.features
        named = [name for name in (*self._cameras, "egomotion", *_CALIBRATION) if name in features.ALL]
        paths = [self._mirror / features.get_chunk_feature_filename(chunk, name) for name in named]
        times = [path.stat().st_ctime for path in paths if path.is_file()]
        return datetime.fromtimestamp(max(times), UTC) if times else None

    def _refs(self, chunk: int, camera: str, clip_ids: Sequence[str]) -> Iterator[ClipRef]:
        """The videos of one camera in one chunk; none where the camera or its zip is not in the mirror."""
        if camera not in self._all_cameras:
            return
        archive = self._data_set.features.get_chunk_feature_filename(chunk, camera)
        members = self._files.members(self._mirror / archive)
        companions = self._companions(chunk)
        for clip_id in clip_ids:
            found = self._ref(clip_id, camera, archive, members, companions)
            if found is not None:
                yield found

    def _companions(self, chunk: int) -> Companions:
        features = self._data_set.features
        files = {
            feature: self._mirror / features.get_chunk_feature_filename(chunk, feature)
            for feature in ("egomotion", *_CALIBRATION)
            if feature in features.ALL
        }
        return self._files.companions(files.pop("egomotion", None), files)

    def _ref(
        self, clip_id: str, camera: str, archive: str, members: dict[str, zipfile.ZipInfo], companions: Companions
    ) -> ClipRef | None:
        """One video, by the data set's own clip id; None where the zip of these members does not hold it."""
        member = self._member_name(clip_id, camera, "video")
        found = members.get(member)
        if found is None:
            return None
        timestamps = members.get(self._member_name(clip_id, camera, "frame_timestamps"))
        egomotion = self._member_name(clip_id, "egomotion", "egomotion") if companions.egomotion else ""
        return ClipRef(
            clip_id=_plain_id(clip_id),
            camera=camera,
            uri=f"{archive}{_MEMBER_MARK}{member}",
            size=found.file_size,
            etag=clip_etag(found, timestamps, companions, egomotion),
        )

    def _member_name(self, clip_id: str, feature: str, member: str) -> str:
        """What a clip's file is called in a feature's zip; a name that no zip has where there is no such file."""
        name: str = self._data_set.features.get_clip_files_in_zip(clip_id, feature).get(member, "")
        return name

    def _member_table(self, ref: ClipRef, feature: str, member: str) -> pd.DataFrame | None:
        original = self._original_id(ref.clip_id)
        if original is None:
            return None
        name = self._member_name(original, feature, member)
        archive = self._mirror / self._data_set.features.get_chunk_feature_filename(
            int(self._data_set.get_clip_chunk(original)), feature
        )
        if not archive.is_file():
            return None
        try:
            with zipfile.ZipFile(archive) as opened:
                return pd.read_parquet(io.BytesIO(opened.read(name)))
        except KeyError:
            return None
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ClipSourceError(f"{ref.item_key}: {name} cannot be read ({error})") from error

    def _feature(self, ref: ClipRef, feature: str) -> Any:
        """A feature of a clip as the package decodes it; None where the mirror does not have it."""
        original = self._original_id(ref.clip_id)
        if original is None or feature not in self._data_set.features.ALL:
            return None
        try:
            return self._data_set.get_clip_feature(original, feature)
        except (FileNotFoundError, KeyError):
            return None
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ClipSourceError(f"{ref.item_key}: its {feature} cannot be read ({error})") from error

    def _original_id(self, clip_id: str) -> str | None:
        return self._original_ids.get(clip_id)

    @cached_property
    def _original_ids(self) -> dict[str, str]:
        return {_plain_id(str(clip)): str(clip) for clip in self._data_set.clip_index.index}


def _offline_interface(cache: Path, revision: str) -> PhysicalAIAVDatasetInterface:
    from physical_ai_av import PhysicalAIAVDatasetInterface

    class OfflineInterface(PhysicalAIAVDatasetInterface):
        """The package's reader, which is told that there is no network, whatever the process was started with."""

        @property
        def is_offline_mode(self) -> bool:
            return True

        @is_offline_mode.setter
        def is_offline_mode(self, value: bool) -> None:
            """What the environment says does not matter for a local mirror."""

    return OfflineInterface(revision=revision, cache_dir=cache, token=False)


def _snapshot(cache: Path) -> Path:
    """The snapshot of a Hugging Face cache that `refs/main` names, else the newest one."""
    snapshots = cache / "snapshots"
    main = cache / "refs" / "main"
    if main.is_file():
        revision = main.read_text().strip()
        if _REVISION.fullmatch(revision) and (snapshots / revision).is_dir():
            return snapshots / revision
    found = [folder for folder in snapshots.glob("*") if _REVISION.fullmatch(folder.name) and folder.is_dir()]
    if not found:
        raise ClipSourceError(
            f"the Hugging Face cache {str(cache)!r} holds no snapshot of the data set; download it again"
        )
    return max(found, key=lambda folder: (folder.stat().st_mtime_ns, folder.name))


def _plain_id(clip_id: str) -> str:
    return clip_id if PLAIN_ID.fullmatch(clip_id) else flat_clip_id(clip_id, clip_id)
