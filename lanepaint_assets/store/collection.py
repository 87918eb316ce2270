"""Finding and removing item versions that no manifest names any more, since other inputs or engines replaced them.

Called by `lanepaint gc` and `lanepaint status`. Rows are never changed here: what a manifest names stays, outdated and
retired rows included.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from lanepaint_assets.clips.records import CHUNK_KEY
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.gcs_client import file_system_asked
from lanepaint_assets.store.layout import AREAS, ATTEMPT_DIGITS, area, asset_folder, manifest_path
from lanepaint_assets.store.publishing import listed_files, written_at
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS, LocalFile

# An item's folder is named by its fingerprint; a local writer's unfinished one hides beside it. On object stores every
# writer's own one lies below it: of two that made the same item, only one is named.
_VERSION: Final = re.compile(r"[0-9a-f]{64}")
_ATTEMPT: Final = re.compile(rf"[0-9a-f]{{{ATTEMPT_DIGITS}}}")
_UNFINISHED: Final = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]+(\.damaged)?\.partial")

# Partitions that are looked at at a time. A bucket takes two to four requests for each, one after the other: 3000 of
# them last five minutes otherwise.
_LISTINGS: Final = 16


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
    """Every version of every item below the root, partition by partition; one listing each, made little ahead.

    Args:
        store: where to look.
        assets: of these assets only.
        chunks: of these partitions only; None for all that have anything in the store.
    """
    for asset in assets:
        folders = _folders(store, asset) if chunks is None else chunks
        keys = iter(sorted(filter(CHUNK_KEY.fullmatch, folders)))  # what else people put there is not the store's
        pool = ThreadPoolExecutor(_LISTINGS, thread_name_prefix="lanepaint-listing")
        try:
            under_way = deque(pool.submit(_versions_of, store, asset, key) for key in islice(keys, _LISTINGS))
            while under_way:
                yield from under_way.popleft().result()
                under_way.extend(pool.submit(_versions_of, store, asset, key) for key in islice(keys, 1))
        finally:
            pool.shutdown(cancel_futures=True)  # who asked may have seen enough


def collectable(versions: Iterable[StoredVersion], before: datetime) -> list[StoredVersion]:
    """The versions that no manifest names and that were complete before a moment.

    A run that is under way has published items that it has not entered yet, and reads versions that were named when
    it began: choose a moment before every run that is still at work, on other machines too.
    """
    return [version for version in versions if not version.is_named and version.changed < before]


def collect(store: ArtifactStore, version: StoredVersion) -> bool:
    """Remove a version, unless the manifest names it again.

    On a local disk, a run that goes back to what the version was made from at this very moment may find the folder
    complete and then lose it; its row's files are then missing, which the next run notices and mends.

    Returns:
        Whether it was removed.
    """
    if _is_local(store):
        return _collect_locally(store, version)
    if version.folder in _named(store, version.asset, version.chunk):
        return False
    # What it consists of is looked up again, so that a version whose folder holds others never takes them along.
    doomed = _files_by_version(store, version.asset, version.chunk, below=version.folder)[version.folder]
    if doomed:
        with suppress(FileNotFoundError), file_system_asked(store.root / version.folder, "removed"):
            store.root.fs.rm([path for path, _ in doomed])
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


def _is_local(store: ArtifactStore) -> bool:
    return store.root.protocol in LOCAL_PROTOCOLS


def _folders(store: ArtifactStore, asset: str) -> list[str]:
    """Folders in the area of an asset, in one listing; a partition of any of the area's assets has one."""
    base = store.root / "outputs" / area(asset)
    try:
        with file_system_asked(base, "listed"):
            entries = base.fs.ls(base.path, detail=True)
    except FileNotFoundError:
        return []
    return [entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory"]


def _versions_of(store: ArtifactStore, asset: str, chunk: str) -> list[StoredVersion]:
    found = _files_by_version(store, asset, chunk, below=asset_folder(asset, chunk))
    if not found:
        return []
    named = _named(store, asset, chunk)
    renamed = [] if named.issuperset(found) else _written_manifest(store, asset, chunk)
    return [
        StoredVersion(
            asset=asset,
            chunk=chunk,
            folder=folder,
            size=sum(int(info["size"]) for _, info in files),
            files=len(files),
            changed=max([written_at(info) for _, info in files] + ([] if folder in named else renamed)),
            is_named=folder in named,
        )
        for folder, files in sorted(found.items())
    ]


def _files_by_version(
    store: ArtifactStore, asset: str, chunk: str, *, below: str
) -> defaultdict[str, list[tuple[str, dict[str, Any]]]]:
    """Path and facts of the files of every version below a folder of a partition, by the version's folder."""
    found: defaultdict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    root, items = asset_folder(asset, chunk), (store.root / asset_folder(asset, chunk)).path
    for path, info in listed_files(store.root / below).items():
        version = _version_folder(store, path.removeprefix(items).strip("/").split("/"))
        if version is not None:
            found[f"{root}/{version}"].append((path, info))
    return found


def _version_folder(store: ArtifactStore, parts: Sequence[str]) -> str | None:
    """The part of a file's path that ends with its version's folder; None for a file that belongs to no version."""
    for depth, part in enumerate(parts[:-1], start=1):
        if _UNFINISHED.fullmatch(part):
            return "/".join(parts[:depth])
        if _VERSION.fullmatch(part):
            has_attempt = not _is_local(store) and depth < len(parts) - 1 and _ATTEMPT.fullmatch(parts[depth])
            return "/".join(parts[: depth + 1 if has_attempt else depth])
    return None


def _named(store: ArtifactStore, asset: str, chunk: str) -> set[str]:
    """Version folders that the manifest's rows name."""
    root = asset_folder(asset, chunk)
    named = set()
    for row in store.manifest(asset, chunk).rows.values():
        inside = (row.folder or "").removeprefix(f"{root}/")
        version = _version_folder(store, [*inside.split("/"), "file"])
        if version is not None:
            named.add(f"{root}/{version}")
    return named


def _written_manifest(store: ArtifactStore, asset: str, chunk: str) -> list[datetime]:
    """When the manifest was written; nothing for one that is not there: it names nothing, and never did."""
    path = store.root / manifest_path(asset, chunk)
    try:
        with file_system_asked(path, "read"):
            return [written_at(path.fs.info(path.path))]
    except FileNotFoundError:
        return []
