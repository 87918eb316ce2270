"""Finding and removing item versions that no manifest names any more, since other inputs or engines replaced them.

Called by `lanepaint gc` and `lanepaint status`. Rows are never changed here: what a manifest names stays, outdated and
retired rows included.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.layout import AREAS, FILES_MARKER, area, manifest_path
from lanepaint_assets.store.publishing import written_at
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS, LocalFile

# An item's folder is named by its fingerprint; a local writer's unfinished one hides beside it.
_VERSION: Final = re.compile(r"[0-9a-f]{64}")
_UNFINISHED: Final = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]+(\.damaged)?\.partial")


@dataclass(frozen=True)
class StoredVersion:
    """One version of an item in the store.

    Attributes:
        asset, chunk: the partition.
        folder: relative to the root.
        size: of all its files, bytes.
        files: how many there are.
        changed: when the last of them was written; of a version without a name, not before its manifest was: until then
            it may have had one.
        is_named: whether the partition's manifest names it.
    """

    asset: str
    chunk: str
    folder: str
    size: int
    files: int
    changed: datetime
    is_named: bool


def stored_versions(
    store: ArtifactStore, assets: Iterable[str] = AREAS, chunks: Collection[str] | None = None
) -> Iterator[StoredVersion]:
    """Every version of every item below the root, partition by partition; one listing each.

    Args:
        store: where to look.
        assets: of these assets only.
        chunks: of these partitions only; None for all that have anything in the store.
    """
    for asset in assets:
        for chunk in _partitions(store, asset):
            if chunks is None or chunk in chunks:
                yield from _versions_of(store, asset, chunk)


def collectable(versions: Iterable[StoredVersion], before: datetime) -> list[StoredVersion]:
    """The versions that no manifest names and that were complete before a moment.

    A run that is under way has published items that it has not entered yet, and reads versions that were named when
    it began: choose a moment before every run that is still at work, on other machines too.
    """
    return [version for version in versions if not version.is_named and version.changed < before]


def collect(store: ArtifactStore, version: StoredVersion) -> bool:
    """Remove a version, unless the manifest names it again.

    Where a run goes back to what the version was made from at this very moment, it may find the folder complete and
    then lose it; its row's files are then missing, which the next run notices and mends.

    Returns:
        Whether it was removed.
    """
    if store.root.protocol in LOCAL_PROTOCOLS:
        return _collect_locally(store, version)
    if version.folder in _named(store, version.asset, version.chunk):
        return False
    filesystem, folder = store.root.fs, (store.root / version.folder).path
    # First the list that completes the item: what is left of it is then no item any more.
    for path in (f"{folder}/{FILES_MARKER}", folder):
        with suppress(FileNotFoundError):
            filesystem.rm(path, recursive=True)
    return True


def _collect_locally(store: ArtifactStore, version: StoredVersion) -> bool:
    root = Path(store.root.path)
    folder = root / version.folder
    doomed = folder if folder.name.startswith(".") else folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    with LocalFile(root / manifest_path(version.asset, version.chunk)).locked():
        if version.folder in _named(store, version.asset, version.chunk):
            return False
        with suppress(FileNotFoundError):
            folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
    # The item's own folder goes with its last version.
    with suppress(OSError):
        folder.parent.rmdir()
    return True


def _partitions(store: ArtifactStore, asset: str) -> list[str]:
    """Keys of an asset's partitions that have anything in the store."""
    base = store.root / "outputs" / area(asset)
    if not base.is_dir():
        return []
    return sorted(folder.name for folder in base.iterdir() if (folder / asset).is_dir())


def _versions_of(store: ArtifactStore, asset: str, chunk: str) -> Iterator[StoredVersion]:
    base = store.root / "outputs" / area(asset) / chunk / asset
    named = _named(store, asset, chunk)
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    base.fs.invalidate_cache(base.path)
    for path, info in base.fs.find(base.path, detail=True).items():
        version = _version_folder(path.removeprefix(base.path).strip("/"))
        if version is not None:
            found[version].append(info)
    root = f"outputs/{area(asset)}/{chunk}/{asset}"
    manifest = store.root / manifest_path(asset, chunk)
    # One that is not there yet names nothing, and never did.
    renamed = [written_at(manifest.fs.info(manifest.path))] if manifest.exists() else []
    for version, files in sorted(found.items()):
        folder = f"{root}/{version}"
        is_named = folder in named
        yield StoredVersion(
            asset=asset,
            chunk=chunk,
            folder=folder,
            size=sum(int(info["size"]) for info in files),
            files=len(files),
            changed=max([written_at(info) for info in files] + ([] if is_named else renamed)),
            is_named=is_named,
        )


def _version_folder(path: str) -> str | None:
    """The part of a file's path that ends with its version's folder; None for a file that belongs to no version."""
    parts = path.split("/")
    for depth, part in enumerate(parts[:-1], start=1):
        if _VERSION.fullmatch(part) or _UNFINISHED.fullmatch(part):
            return "/".join(parts[:depth])
    return None


def _named(store: ArtifactStore, asset: str, chunk: str) -> set[str]:
    """Version folders that the manifest's rows name; on object stores their files lie one folder deeper."""
    named = set()
    for row in store.manifest(asset, chunk).rows.values():
        version = None if row.folder is None else _version_folder(f"{row.folder}/file")
        if version is not None:
            named.add(version)
    return named
