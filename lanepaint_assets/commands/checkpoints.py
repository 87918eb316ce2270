"""`lanepaint checkpoints download` and `verify`: filling the documented folders, and telling whether they are sound."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from upath import UPath

from lanepaint_assets.checkpoints.completeness import check_complete
from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS, CheckpointFile, Listing
from lanepaint_assets.checkpoints.files import CheckpointError, file_digest, folder_digest
from lanepaint_assets.checkpoints.hub import (
    Plan,
    Published,
    download,
    downloaded,
    planned,
    published,
    published_digest,
    published_files,
)
from lanepaint_assets.checkpoints.mirror import AT_ONCE, copy_files, files_to_copy, missing_files, upload_files
from lanepaint_assets.checkpoints.observation import COLLECTIONS, checkpoint_listing
from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.engines import Role, chosen_engine, engine_named, file_of
from lanepaint_assets.evaluation.alpamayo.repositories import COMPANIONS, WEIGHTS, local_checkpoint
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS

if TYPE_CHECKING:
    from lanepaint_assets.platform import Platform

Say = Callable[[str], None]

ALPAMAYO = "alpamayo_checkpoint"


def fill(
    platform: Platform,
    names: Sequence[str],
    *,
    mirror: str | None,
    revision: str | None,
    dry_run: bool,
    say: Say,
) -> None:
    """Bring checkpoints to their folders, from the hub or from a place of one's own.

    Args:
        platform: whose checkpoints.
        names: of their assets; none for those that the chosen engines read.
        mirror: a folder or bucket that is laid out like ROOT/checkpoints; None for Hugging Face's hub.
        revision: of the hub's repository; None for the newest.
        dry_run: tell, and bring nothing.
        say: prints a line.

    Raises:
        CommandError: nothing is chosen, or a revision for more than one checkpoint.
        CheckpointError: something cannot be had, or is not whole when it is here.
    """
    wanted = _chosen(platform.settings, names)
    if revision is not None and (mirror is not None or len(wanted) != 1 or wanted[0] == ALPAMAYO):
        raise CommandError("--revision is of one repository of the hub: name one checkpoint that is a single one")
    for asset in wanted:
        if mirror is None:
            _from_hub(platform, asset, revision, dry_run, say)
        else:
            try:
                _from_mirror(platform, asset, UPath(mirror) / CHECKPOINT_FOLDERS[asset], dry_run, say)
            except (OSError, ImportError, ValueError) as error:
                raise CheckpointError(f"{asset} cannot be copied from {mirror}: {error}") from error
        if not dry_run:
            listing = checkpoint_listing(platform, asset)
            _check(platform, asset, listing)
            say(f"{asset}: whole, {_amount(listing)}, in {listing.folder}")


def verify(platform: Platform, names: Sequence[str], *, quick: bool, files: bool, say: Say) -> bool:
    """Say of each checkpoint whether it is there, whole and unchanged since it was downloaded. Asks no network.

    Args:
        platform: whose checkpoints.
        names: of their assets; none for all.
        quick: read heads and lists of contents alone, no digests.
        files: also a line a file.
        say: prints a line.

    Returns:
        True where none is damaged, and all are there that were named or that the chosen engines read.
    """
    needed = set(names) or set(_read_by_engines(platform.settings))
    is_sound = True
    for asset in names or CHECKPOINT_FOLDERS:
        try:
            listing = checkpoint_listing(platform, asset)
            if not listing.files and not listing.unfinished:
                is_sound &= asset not in needed
                say(f"{asset:<31} absent   checkpoints/{CHECKPOINT_FOLDERS[asset]}")
                continue
            _check(platform, asset, listing)
            digest = "" if quick else f"  sha256 {_read_whole(platform, asset, listing)}"
        except (CheckpointError, OSError) as error:
            is_sound = False
            # The folder is that of the asset; here it would hide the file.
            say(f"{asset:<31} DAMAGED  {str(error).replace(f'{platform.checkpoint_folder(asset)}/', '')}")
            continue
        say(f"{asset:<31} whole    {_amount(listing)}{digest}")
        if files:
            for each in listing.files:
                told = "" if quick else f"  sha256 {file_digest(listing.folder / each.name)}"
                say(f"  {each.name}  {each.size} bytes{told}")
    return is_sound


def _chosen(settings: Settings, names: Sequence[str]) -> list[str]:
    wanted = list(names) or _read_by_engines(settings)
    if not wanted:
        raise CommandError(
            "the chosen engines read no checkpoints; name those that you want, or choose LANEPAINT_ENGINES=models"
        )
    return wanted


def _read_by_engines(settings: Settings) -> list[str]:
    roles: tuple[Role, ...] = get_args(Role)
    engines = [chosen_engine(settings, role) for role in roles]
    engines.append(engine_named("inspector", settings.verifying_inspector))
    return list(dict.fromkeys(each.asset for engine in engines for each in engine.checkpoints))


def _published(asset: str, settings: Settings) -> tuple[Published, ...]:
    if asset != ALPAMAYO:
        return published(asset, settings)
    folder = CHECKPOINT_FOLDERS[asset]
    weights = WEIGHTS[settings.alpamayo_model]
    # Alpamayo's weights contain the companions'.
    return (
        Published(weights.name, f"{folder}/{weights.folder_name}"),
        *(
            Published(
                each.name, f"{folder}/{each.folder_name}", unwanted=("*.safetensors", *Published("", "").unwanted)
            )
            for each in COMPANIONS
        ),
    )


def _from_hub(platform: Platform, asset: str, revision: str | None, dry_run: bool, say: Say) -> None:
    target = platform.store.root / "checkpoints"
    for wanted in _published(asset, platform.settings):
        if target.protocol not in LOCAL_PROTOCOLS:
            _from_hub_to_bucket(platform, asset, wanted, revision, dry_run, say)
            continue
        plan = planned(wanted, Path(target.path), revision)
        say(_told(asset, wanted, plan))
        if not dry_run:
            download(wanted, Path(target.path), plan)


def _from_hub_to_bucket(
    platform: Platform, asset: str, wanted: Published, revision: str | None, dry_run: bool, say: Say
) -> None:
    """File by file, by way of this machine's cache folder, which holds a few of them at a time."""
    commit, files = published_files(wanted, revision)
    named = {_inside(asset, wanted, each.name): each for each in files}
    files = tuple(replace(each, name=name) for name, each in named.items())
    missing = missing_files(files, platform.checkpoint_folder(asset))
    plan = Plan(commit, len(files), sum(each.size for each in files), sum(each.size for each in missing))
    say(_told(asset, wanted, plan))
    if dry_run or not missing:
        return
    # Of its own, so that what is left of another repository's is not touched.
    way = platform.settings.cache_folder / "downloads" / wanted.repository.replace("/", "--")
    way.mkdir(parents=True, exist_ok=True)
    upload_files(
        lambda file: downloaded(wanted, way, commit, named[file.name]),
        platform.known_digests(asset),
        missing,
        lambda file: say(f"  {file.name}"),
        _at_once(missing, way),
    )
    shutil.rmtree(way)


def _inside(asset: str, wanted: Published, name: str) -> str:
    """Name below the checkpoint's folder of what a repository calls `name`; its top folder may lie above or below."""
    return f"{wanted.folder}/{name}".removeprefix(f"{CHECKPOINT_FOLDERS[asset]}/")


def _told(asset: str, wanted: Published, plan: Plan) -> str:
    return (
        f"{asset}: {wanted.repository} at {plan.commit[:12]}, {plan.files} files, {plan.size / 1e9:.1f} GB; "
        f"{plan.missing / 1e9:.1f} GB to be downloaded"
    )


def _at_once(missing: list[CheckpointFile], folder: Path) -> int:
    """How many of the files may lie in `folder` at a time, whichever they are.

    Raises:
        CheckpointError: not even the largest.
    """
    free, sizes = shutil.disk_usage(folder).free, sorted((each.size for each in missing), reverse=True)
    fitting = [count for count in range(1, AT_ONCE + 1) if sum(sizes[:count]) <= free]
    if not fitting:
        raise CheckpointError(
            f"the largest file has {sizes[0] / 1e9:.1f} GB, and {folder}, where it is on its way to the bucket, has "
            f"{free / 1e9:.1f} GB free; LANEPAINT_CACHE names another folder"
        )
    return fitting[-1]


def _from_mirror(platform: Platform, asset: str, source: UPath, dry_run: bool, say: Say) -> None:
    target = platform.checkpoint_folder(asset)
    missing = files_to_copy(source, target, file_of(asset, platform.settings))
    size = sum(each.size for each in missing)
    say(f"{asset}: {len(missing)} files, {size / 1e9:.1f} GB to be copied from {source}")
    if not dry_run:
        copy_files(source, platform.known_digests(asset), missing, lambda file: say(f"  {file.name}"))


def _check(platform: Platform, asset: str, listing: Listing) -> None:
    check_complete(listing, file_of(asset, platform.settings), is_collection=asset in COLLECTIONS)
    if asset == ALPAMAYO:
        settings = platform.settings
        local_checkpoint(listing.folder, settings.alpamayo_model, settings.cache_folder, with_weights=False)


def _read_whole(platform: Platform, asset: str, listing: Listing) -> str:
    """The digest that fingerprints hold, read anew.

    Raises:
        CheckpointError: a file is not what was downloaded, or its own checksums say that it changed.
    """
    file = file_of(asset, platform.settings)
    for each in listing.files:
        path = listing.folder / each.name
        if path.protocol in LOCAL_PROTOCOLS:
            expected = published_digest(Path(listing.folder.path), each.name)
            remedy = "download it again, or remove the folder .cache/huggingface beside it if you changed it yourself"
        else:
            expected = platform.known_digests(asset).recorded(each.name, each.identity)
            remedy = "remove it and download it again"
        if expected is not None and file_digest(path) != expected:
            raise CheckpointError(
                f"{path}: it is not what was downloaded: SHA-256 {file_digest(path)[:16]}... where it was "
                f"{expected[:16]}...; {remedy}"
            )
        if each.name == file:
            _check_archive(path)
    return folder_digest(listing.folder) if file is None else file_digest(listing.folder / file)


def _check_archive(path: UPath) -> None:
    """An archive of torch keeps a checksum of each weight."""
    with path.open("rb") as opened, zipfile.ZipFile(opened) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path}: {damaged} in it is damaged; download it again")


def _amount(listing: Listing) -> str:
    count = len(listing.files)
    return f"{count} file{'' if count == 1 else 's'}, {listing.size / 1e9:.1f} GB"
