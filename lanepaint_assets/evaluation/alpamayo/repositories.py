"""The three repositories that Alpamayo reads, found in one checkpoint folder and shown to it as a cache of the hub.

Beside its weights the package asks Hugging Face's hub for two repositories of Qwen3-VL by name: tokenizer and
configuration of the 8B model, and the processor of the 2B model. Without network both must lie on disk. `engine.py`
calls this before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from lanepaint_assets.checkpoints.files import CheckpointError, local_file
from lanepaint_assets.checkpoints.model_folder import local_model_folder

# Qwen's own weights are not read: Alpamayo's contain them.
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf")
# The hub names a snapshot by its commit; the links' content is whatever the checkpoint folder holds.
_COMMIT = "0" * 40


@dataclass(frozen=True)
class Repository:
    """A repository by its name on the hub, and the files that it must have, weights left out."""

    name: str
    files: tuple[str, ...]

    @property
    def folder_name(self) -> str:
        """What a plain download of it is called."""
        return self.name.rpartition("/")[2]

    @property
    def cache_name(self) -> str:
        """What the hub's own cache calls it."""
        return f"models--{self.name.replace('/', '--')}"


WEIGHTS = {
    "r1": Repository("nvidia/Alpamayo-R1-10B", ("config.json",)),
    "1.5": Repository("nvidia/Alpamayo-1.5-10B", ("config.json",)),
}
COMPANIONS = (
    Repository("Qwen/Qwen3-VL-8B-Instruct", ("config.json", "tokenizer_config.json")),
    Repository("Qwen/Qwen3-VL-2B-Instruct", ("preprocessor_config.json", "tokenizer_config.json")),
)


@dataclass(frozen=True)
class LocalCheckpoint:
    """What the model reads, on this machine's disk: its own folder, and each companion's files by name."""

    weights: Path
    companions: Mapping[Repository, Mapping[str, Path]]

    def link(self, hub: Path) -> None:
        """Make `hub` a cache of the hub that holds the companions, by links."""
        for repository, files in self.companions.items():
            root = hub / repository.cache_name
            snapshot = root / "snapshots" / _COMMIT
            snapshot.mkdir(parents=True)
            (root / "refs").mkdir()
            (root / "refs" / "main").write_text(_COMMIT)
            for name, path in files.items():
                (snapshot / name).symlink_to(path.resolve())


def local_checkpoint(folder: UPath, release: str, cache: Path | None, *, with_weights: bool = True) -> LocalCheckpoint:
    """Find the three repositories below `folder`, each as a plain folder or as the hub's own cache keeps it.

    Args:
        folder: the checkpoint folder.
        release: a key of `WEIGHTS`.
        cache: where files of an object store are copied to, once.
        with_weights: False where random ones will do, which need a local folder with the configuration alone.

    Raises:
        CheckpointError: a repository or a file of it is not there, or a file of weights is cut short.
    """
    places = _places(folder, (WEIGHTS[release], *COMPANIONS))
    place = places[WEIGHTS[release]]
    weights = local_model_folder(place, cache) if with_weights else Path(place.path)
    return LocalCheckpoint(weights, {repository: _small_files(places[repository], cache) for repository in COMPANIONS})


def _places(folder: UPath, wanted: Sequence[Repository]) -> dict[Repository, UPath]:
    found = {repository: _found(folder, repository) for repository in wanted}
    missing = [repository for repository, place in found.items() if place is None]
    if missing:
        names = " and ".join(repository.name for repository in missing)
        raise CheckpointError(
            f"{folder}: {names} {'is' if len(missing) == 1 else 'are'} missing of the three repositories that Alpamayo "
            f"reads; download each, for example: {_download(folder, missing[0])}"
        )
    places = {repository: place for repository, place in found.items() if place is not None}
    for repository, place in places.items():
        for name in repository.files:
            if not (place / name).exists():
                raise CheckpointError(
                    f"{place / name}: this file of {repository.name} is missing; download it again: "
                    f"{_download(folder, repository)}"
                )
    return places


def _found(folder: UPath, repository: Repository) -> UPath | None:
    plain = folder / repository.folder_name
    if plain.exists():
        return plain
    cached = folder / repository.cache_name
    head = cached / "refs" / "main"
    if not head.exists():
        return None
    snapshot = cached / "snapshots" / head.read_text().strip()
    return snapshot if snapshot.exists() else None


def _small_files(place: UPath, cache: Path | None) -> dict[str, Path]:
    return {
        path.name: local_file(path, cache)
        for path in sorted(place.iterdir(), key=lambda path: path.path)
        if path.is_file() and path.suffix not in _WEIGHT_SUFFIXES
    }


def _download(folder: UPath, repository: Repository) -> str:
    without_weights = " --exclude '*.safetensors'" if repository in COMPANIONS else ""
    return f"hf download {repository.name}{without_weights} --local-dir {folder / repository.folder_name}"
