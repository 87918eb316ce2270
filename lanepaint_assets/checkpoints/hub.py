"""Downloading a published checkpoint from Hugging Face's hub into its folder.

Called by `lanepaint checkpoints download`; nothing else ever downloads. Which repositories hold which checkpoint is
said here, but for Alpamayo's (`evaluation/alpamayo/repositories.py`). Copies of one's own are `mirror.py`'s.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

from lanepaint_assets.checkpoints.digest import CheckpointFile
from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.engines import install_command, missing_modules
from lanepaint_assets.settings import Settings

# Weights in other formats than safetensors, which no engine reads, and what model cards show.
_NEVER_READ = (
    *("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5", "*.onnx", "*.gguf"),
    *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.mp4", "*.pdf"),
)

# Of git's digests there are 40.
_SHA256_DIGITS = 64

# Where huggingface_hub notes what it put into a folder: commit, then the content's tag, a line each.
_NOTES = Path(".cache") / "huggingface" / "download"


@dataclass(frozen=True)
class Published:
    """A repository of the hub, or a part of it, and where it belongs.

    Attributes:
        repository: its name.
        folder: below ROOT/checkpoints, where the repository's top folder comes to lie.
        wanted: patterns of file names, `*` also for folders; empty for all.
        unwanted: patterns of those that are left out.
    """

    repository: str
    folder: str
    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = _NEVER_READ


@dataclass(frozen=True)
class Plan:
    """What a download would bring.

    Attributes:
        commit: of the repository.
        files: how many files it consists of.
        size: bytes of all of them.
        missing: bytes that are not there yet.
    """

    commit: str
    files: int
    size: int
    missing: int


def published(asset: str, settings: Settings) -> tuple[Published, ...]:
    """Where the files of a checkpoint are published, as the settings choose them; of Alpamayo nothing."""
    size = settings.sam2_model
    found = {
        "sam2_checkpoint": Published(
            f"facebook/sam2.1-hiera-{size.replace('_', '-')}", "sam2", (f"sam2.1_hiera_{size}.pt",), ()
        ),
        # Beside diffusers' layout it holds the same weights in two files of 24 GB.
        "flux_fill_checkpoint": Published(
            "black-forest-labs/FLUX.1-Fill-dev",
            "videopainter/ckpt/flux_inp",
            unwanted=(*_NEVER_READ, "flux1-fill-dev.safetensors", "ae.safetensors"),
        ),
        "cogvideox_checkpoint": Published("THUDM/CogVideoX-5b-I2V", "videopainter/ckpt/CogVideoX-5b-I2V"),
        "videopainter_branch_checkpoint": Published(
            "TencentARC/VideoPainter", "videopainter/ckpt", ("VideoPainter/checkpoints/branch/*",)
        ),
        "qwen_vl_checkpoint": Published("Qwen/Qwen2.5-VL-7B-Instruct", "videopainter/ckpt/vlm"),
    }.get(asset)
    return () if found is None else (found,)


def planned(wanted: Published, checkpoints: Path, revision: str | None = None) -> Plan:
    """What `download` would bring; asks the hub and writes nothing but its notes.

    Args:
        wanted: the repository.
        checkpoints: the local folder ROOT/checkpoints.
        revision: a branch, tag or commit; None for the newest.

    Raises:
        CheckpointError: the library is missing, the hub cannot be reached, or refuses.
    """
    with _explained(wanted):
        from huggingface_hub import snapshot_download

        found = snapshot_download(
            wanted.repository,
            revision=revision,
            local_dir=checkpoints / wanted.folder,
            allow_patterns=list(wanted.wanted) or None,
            ignore_patterns=list(wanted.unwanted),
            dry_run=True,
        )
    if not isinstance(found, list) or not found:
        raise CheckpointError(f"{wanted.repository} holds nothing of what is wanted; choose another revision")
    sizes = [(each.file_size or 0, each.will_download) for each in found]
    return Plan(
        commit=found[0].commit_hash,
        files=len(found),
        size=sum(size for size, _ in sizes),
        missing=sum(size for size, is_missing in sizes if is_missing),
    )


def download(wanted: Published, checkpoints: Path, plan: Plan) -> None:
    """Bring what is missing; a download that was broken off goes on where it stopped.

    Args:
        wanted: the repository.
        checkpoints: the local folder ROOT/checkpoints.
        plan: of `planned`.

    Raises:
        CheckpointError: the disk is too small, the hub cannot be reached, or refuses.
    """
    folder = checkpoints / wanted.folder
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if plan.missing > free:
        raise CheckpointError(
            f"{wanted.repository} needs {plan.missing / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free"
        )
    with _explained(wanted):
        from huggingface_hub import snapshot_download

        snapshot_download(
            wanted.repository,
            revision=plan.commit,
            local_dir=folder,
            allow_patterns=list(wanted.wanted) or None,
            ignore_patterns=list(wanted.unwanted),
        )


def published_files(wanted: Published, revision: str | None = None) -> tuple[str, tuple[CheckpointFile, ...]]:
    """Commit and files of a repository; a file's identity is its SHA-256 there, of a small one git's digest.

    Args:
        wanted: the repository.
        revision: a branch, tag or commit; None for the newest.

    Raises:
        CheckpointError: the library is missing, the hub cannot be reached, or refuses.
    """
    with _explained(wanted):
        from huggingface_hub import HfApi

        told = HfApi().model_info(wanted.repository, revision=revision, files_metadata=True)
        touched = told.last_modified or datetime.now(UTC)
        found = tuple(
            CheckpointFile(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else str(each.blob_id), touched)
            for each in told.siblings or ()
            if _is_one_of(each.rfilename, wanted.wanted or ("*",)) and not _is_one_of(each.rfilename, wanted.unwanted)
        )
    if not found or told.sha is None:
        raise CheckpointError(f"{wanted.repository} holds nothing of what is wanted; choose another revision")
    return told.sha, found


def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    """As `snapshot_download` reads patterns."""
    return any(fnmatch(name, pattern) for pattern in patterns)


@contextmanager
def downloaded(wanted: Published, folder: Path, commit: str, file: CheckpointFile) -> Iterator[Path]:
    """One file of a repository on this machine, for as long as the context is open; after an error what arrived stays.

    Args:
        wanted: the repository.
        folder: of this machine, for this repository alone.
        commit: of the repository.
        file: of `published_files`.

    Raises:
        CheckpointError: the hub cannot be reached or refuses, or the file is not what the hub says it is.
    """
    with _explained(wanted):
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(wanted.repository, file.name, revision=commit, local_dir=folder))
    # The library looks at the size alone.
    if len(file.identity) == _SHA256_DIGITS:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != file.identity:
            path.unlink()
            raise CheckpointError(f"{wanted.repository}: {file.name} was damaged on its way; the same command goes on")
    yield path
    path.unlink()


def published_digest(folder: Path, name: str) -> str | None:
    """SHA-256 that the hub gave for a file when it was downloaded; None where it gave none.

    Args:
        folder: where a repository was put, or one above or below it that holds the file.
        name: of the file below `folder`.
    """
    file = folder / name
    for place in file.parents:
        note = place / _NOTES / f"{file.relative_to(place).as_posix()}.metadata"
        if note.is_file():
            lines = note.read_text(errors="replace").splitlines()
            # Of small files it is git's digest.
            return lines[1] if len(lines) > 1 and len(lines[1]) == _SHA256_DIGITS else None
    return None


@contextmanager
def _explained(wanted: Published) -> Iterator[None]:
    """The library's errors in words that help."""
    if missing_modules("hub"):
        raise CheckpointError(f"downloading needs huggingface_hub; install it with: {install_command('hub')}")
    try:
        yield
    except Exception as error:
        from huggingface_hub.errors import DryRunError, LocalEntryNotFoundError

        # These only say that something else went wrong before.
        reason = error.__cause__ if isinstance(error, DryRunError | LocalEntryNotFoundError) else None
        raise CheckpointError(_in_words(wanted, reason or error)) from error


def _in_words(wanted: Published, error: BaseException) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"https://huggingface.co/{wanted.repository}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, GatedRepoError):
        return f"{wanted.repository} is given to those who accept its licence: do so at {page}, then {log_in}"
    if isinstance(error, RevisionNotFoundError):
        return f"{wanted.repository} has no such revision; {page} lists them"
    if isinstance(error, RepositoryNotFoundError):
        return f"{wanted.repository} is not there, or not for you: look at {page}, then {log_in}"
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"{wanted.repository} could not be downloaded ({reason}); what has arrived stays, and the same command goes on "
        "from there. Without network, copy it from a place that has it: --from FOLDER"
    )
