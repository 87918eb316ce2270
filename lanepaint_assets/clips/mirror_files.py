"""Checksums of a data set mirror's files: what a clip's etag is made of, its companions included.

Called by `physical_ai.py`, which knows where the data set keeps what. Contents of clips are not read here.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lanepaint_assets.clips.sources import ClipSourceError

# In an etag, for a companion that is there and damaged: probing says what is wrong, and a mended one is a change.
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Companions:
    """What the clips of one chunk are read with beside their videos.

    Attributes:
        egomotion: members of the zip; empty where there is none, None where it cannot be read.
        calibration: checksum of each file that is there, by feature; a file for all clips of the chunk.
    """

    egomotion: Mapping[str, zipfile.ZipInfo] | None
    calibration: Mapping[str, str]


class MirrorFiles:
    """Members of zips, and checksums of files that are remembered until a file changes."""

    def __init__(self) -> None:
        # Path to size, modification time and checksum.
        self._known: dict[Path, tuple[int, int, str]] = {}

    def members(self, archive: Path) -> dict[str, zipfile.ZipInfo]:
        """What a zip holds, by name; nothing where there is no such file.

        Raises:
            ClipSourceError: it is damaged.
        """
        if not archive.is_file():
            return {}
        try:
            with zipfile.ZipFile(archive) as opened:
                return {info.filename: info for info in opened.infolist()}
        except (OSError, zipfile.BadZipFile) as error:
            raise ClipSourceError(f"{archive} is not a readable zip ({error}); download this chunk again") from error

    def companions(self, egomotion: Path | None, calibration: Mapping[str, Path]) -> Companions:
        """The companions of a chunk; damaged ones are told apart from sound ones, not refused.

        Args:
            egomotion: the zip, None where the data set has no such feature.
            calibration: the file of each feature.
        """
        members: Mapping[str, zipfile.ZipInfo] | None = {}
        if egomotion is not None:
            try:
                members = self.members(egomotion)
            except ClipSourceError:
                members = None
        found = {feature: self._checksum(path) for feature, path in calibration.items()}
        return Companions(members, {feature: checksum for feature, checksum in found.items() if checksum is not None})

    def _checksum(self, path: Path) -> str | None:
        """Size and CRC of a file, read again only where size or modification time changed; None where it is absent."""
        try:
            found = path.stat()
            stamp = (found.st_size, found.st_mtime_ns)
            known = self._known.get(path)
            if known is not None and known[:2] == stamp:
                return known[2]
            checksum = f"{found.st_size}-{zlib.crc32(path.read_bytes()):08x}"
        except FileNotFoundError:
            return None
        except OSError:
            return UNREADABLE
        self._known[path] = (*stamp, checksum)
        return checksum


def clip_etag(
    video: zipfile.ZipInfo, timestamps: zipfile.ZipInfo | None, companions: Companions, egomotion_name: str
) -> str:
    """A video's checksum and those of all that it is read with; the same files give the same etag wherever they lie.

    Args:
        video, timestamps: members of the camera's zip; None where frame times are absent.
        companions: of the chunk.
        egomotion_name: of the clip's own member of the zip of ego motion.
    """
    parts = {"": _zip_checksum(video)}
    if timestamps is not None:
        parts["frame_timestamps="] = _zip_checksum(timestamps)
    if companions.egomotion is None:
        parts["egomotion="] = UNREADABLE
    elif egomotion_name in companions.egomotion:
        parts["egomotion="] = _zip_checksum(companions.egomotion[egomotion_name])
    parts |= {f"{feature}=": checksum for feature, checksum in companions.calibration.items()}
    return ";".join(f"{name}{checksum}" for name, checksum in parts.items())


def _zip_checksum(info: zipfile.ZipInfo) -> str:
    return f"{info.file_size}-{info.CRC:08x}"
