"""SHA-256 of every file of a checkpoint in a bucket, kept at ROOT, so that no pod reads 30 GB to know what it has.

Called where fingerprints need a checkpoint's digest, and by `lanepaint checkpoints download`, which reads every file
anyway. A digest is believed for one generation of an object: an object that is written anew has another, whatever its
size, time and name. Local folders are not kept here: what this machine remembers of them is `files.py`'s.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from upath import UPath

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS, CheckpointFile, list_checkpoint
from lanepaint_assets.checkpoints.files import (
    DIGEST_THREADS,
    CheckpointError,
    combined_digest,
    file_digest,
    remember_digest,
)
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.gcs_client import GCS_PROTOCOLS
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS, AtomicFile, atomic_file

# A bucket tells when an object was written to the millisecond, and a mount shows that as the file's time.
_SAME_TIME_S = 0.001


class _Known(BaseModel):
    """By a file's name: its identity in a listing, and its SHA-256."""

    files: dict[str, tuple[str, str]] = {}


@dataclass(frozen=True)
class KnownDigests:
    """What is known of the contents of one checkpoint.

    Attributes:
        store: whose ROOT.
        asset: of the checkpoint.
        memory: folder of this machine where the digests of local files are kept.
    """

    store: ArtifactStore
    asset: str
    memory: Path

    @property
    def folder(self) -> UPath:
        """Where the checkpoint belongs."""
        return self.store.root / "checkpoints" / CHECKPOINT_FOLDERS[self.asset]

    def digest(self, mounted: UPath, file: str | None) -> str:
        """The digest that fingerprints hold, of what is at `mounted`; see `files.folder_digest`, `files.file_digest`.

        Args:
            mounted: the checkpoint's folder, or a mount or copy of it.
            file: where the checkpoint is one file of the folder.

        Raises:
            CheckpointError: it is not there.
        """
        names = [each.name for each in list_checkpoint(mounted, file).files]
        if not names:
            place = mounted if file is None else mounted / file
            raise CheckpointError(f"{place}: there is no such checkpoint; copy it there")
        shown = {name: each for name, each in self._objects(file).items() if _shows(mounted / name, each)}
        known = self._read().files if shown else {}
        trusted = {name: known[name][1] for name, each in shown.items() if known.get(name, ("",))[0] == each.identity}
        with ThreadPoolExecutor(DIGEST_THREADS) as pool:
            unknown = [name for name in names if name not in trusted]
            read = dict(
                zip(unknown, pool.map(lambda name: file_digest(mounted / name, self.memory), unknown), strict=True)
            )
        self._enter({name: shown[name] for name in unknown if name in shown}, read, file)
        digests = {**trusted, **read}
        return digests[file] if file is not None else combined_digest({name: digests[name] for name in names})

    def remember(self, digests: Mapping[str, str], identities: Mapping[str, str]) -> None:
        """Keep digests of files that were just copied to the checkpoint's folder.

        Args:
            digests: SHA-256 of what was written, by name below the folder.
            identities: of the files that are there now.
        """
        if self.folder.protocol in LOCAL_PROTOCOLS:
            for name, digest in digests.items():
                remember_digest(self.folder / name, self.memory, digest)
        elif self.folder.protocol in GCS_PROTOCOLS:
            self._write({name: (identities[name], digest) for name, digest in digests.items() if name in identities})

    def recorded(self, name: str, identity: str) -> str | None:
        """SHA-256 of a file of a bucket as it was written or first read; None where that is not known."""
        known_identity, digest = self._read().files.get(name, ("", ""))
        return digest if known_identity == identity else None

    def _objects(self, file: str | None) -> dict[str, CheckpointFile]:
        if self.folder.protocol not in GCS_PROTOCOLS:
            return {}
        return {each.name: each for each in list_checkpoint(self.folder, file).files}

    def _enter(self, shown: Mapping[str, CheckpointFile], read: Mapping[str, str], file: str | None) -> None:
        """Of objects that were read, those that are still the same: what changed meanwhile is known by nothing."""
        if shown:
            now = self._objects(file)
            same = [name for name, each in shown.items() if name in now and now[name].identity == each.identity]
            self._write({name: (shown[name].identity, read[name]) for name in same})

    def _write(self, entries: Mapping[str, tuple[str, str]]) -> None:
        def change(content: bytes | None) -> bytes:
            files = {**_parsed(content).files, **entries}
            return json.dumps({"files": files}, indent=1, sort_keys=True).encode()

        # Where it may not be written, the next process reads the files again.
        with contextlib.suppress(StoreError, OSError):
            self._note().update(change)

    def _read(self) -> _Known:
        return _parsed(self._note().read())

    def _note(self) -> AtomicFile:
        return atomic_file(self.store.root / "observed" / "digests" / f"{self.asset}.json")


def _parsed(content: bytes | None) -> _Known:
    """A file that cannot be understood is as good as none."""
    try:
        return _Known() if content is None else _Known.model_validate_json(content)
    except ValidationError:
        return _Known()


def _shows(path: UPath, each: CheckpointFile) -> bool:
    """Whether a path is an object of a listing, or a mount's view of exactly that one and no copy or older state."""
    if path.protocol not in LOCAL_PROTOCOLS:
        return True
    try:
        state = Path(path.path).stat()
    except FileNotFoundError:
        return False
    return state.st_size == each.size and abs(state.st_mtime - each.touched.timestamp()) < _SAME_TIME_S
