"""Where a training that is under way keeps its state: one row of the store a training, replaced in one step.

Called by the trainer, on any machine. What the state consists of is `flux_lora/state.py`'s business.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.fingerprint import fingerprint
from lanepaint_assets.store.gcs_client import file_system_asked
from lanepaint_assets.store.items import StepError
from lanepaint_assets.store.layout import asset_folder, item_folder
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.replace import atomic_file

log = logging.getLogger(__name__)

ASSET = "lora_checkpoints"

# Digits of a training's fingerprint that name its version: enough for any number of trainings of a style.
VERSION_DIGITS = 12


def version_of(training: str) -> str:
    """Name of what a training with that fingerprint makes."""
    return training[:VERSION_DIGITS]


@dataclass(frozen=True)
class CheckpointShelf:
    """The last checkpoint of one training.

    Attributes:
        style: key of the lane style, which is the partition.
        training: fingerprint of the training; a checkpoint of another one is never found.
        run_id: stamped on what this run writes.
    """

    store: ArtifactStore
    style: str
    training: str
    run_id: str

    def latest_step(self) -> int:
        """Steps that the last checkpoint has behind it; 0 where there is none."""
        row = self._row()
        return int(str(row.facts["step"])) if row is not None else 0

    @contextmanager
    def latest(self) -> Iterator[Path | None]:
        """The last checkpoint's files in a folder of this machine, which ends with the context; None without one.

        Raises:
            StoreError: a file was changed.
        """
        row = self._row()
        if row is None:
            yield None
            return
        with TemporaryDirectory(prefix="lanepaint-") as folder:
            self.store.copy_files(row, Path(folder))
            yield Path(folder)

    def publish(self, step: int, staged: Path) -> None:
        """Make a folder the last checkpoint; until that is done, and where it fails, the one before stays.

        Raises:
            StepError: the disk is full or not writable.
        """
        before = self._row()
        made_from = fingerprint(
            asset=ASSET, item_key=self._key, upstream={"training": self.training}, engine=None, params={"step": step}
        )
        if before is not None and before.fingerprint == made_from:
            return
        try:
            folder, files = self.store.publish(ASSET, self.style, self._key, made_from, staged)
            row = ItemRow(
                key=self._key,
                fingerprint=made_from,
                status="ok",
                folder=folder,
                files=files,
                facts={"step": step, "training": self.training},
                run_id=self.run_id,
            )
            # Two merges: a standing row of the same fingerprint would stay, also where its files are lost.
            self.store.merge(ASSET, self.style, self._lost(made_from))
            self.store.merge(ASSET, self.style, [row])
        except OSError as error:
            kept = f"that of step {before.facts['step']} stays valid" if before is not None else "there is none before"
            raise StepError(
                f"the checkpoint of {self.style} after step {step} could not be written ({error}); {kept}: make room "
                "and materialize again, which goes on from there"
            ) from error
        if before is not None:
            self._remove(before)

    def discard(self) -> None:
        """Give the space back after the training's result is in the store."""
        row = self._row()
        if row is not None:
            retired = row.model_copy(update={"status": "retired"})
            self.store.merge(ASSET, self.style, [retired])
            self._remove(row)

    @property
    def _key(self) -> str:
        return version_of(self.training)

    def _row(self) -> ItemRow | None:
        row = self.store.manifest(ASSET, self.style).rows.get(self._key)
        if row is None or row.status != "ok" or row.facts.get("training") != self.training:
            return None
        return None if self.store.keys_with_lost_files(ASSET, self.style, [row]) else row

    def _lost(self, made_from: str) -> list[ItemRow]:
        """The row of that fingerprint, marked as worth nothing, where its files are no longer there."""
        row = self.store.manifest(ASSET, self.style).rows.get(self._key)
        if row is None or row.fingerprint != made_from or row.status != "ok" or self._row() is not None:
            return []
        return [row.model_copy(update={"status": "outdated", "reason": "its files are no longer in the store"})]

    def _remove(self, row: ItemRow) -> None:
        """What stays because it cannot be removed is no reason to end a training; `lanepaint gc` finds it."""
        path = self.store.root / item_folder(ASSET, self.style, row.key, row.fingerprint)
        try:
            with suppress(FileNotFoundError), file_system_asked(path, "removed"):
                path.fs.rm(path.path, recursive=True)
        except (StoreError, OSError) as error:
            log.warning("an older checkpoint of %s stays in the store: %s", self.style, error)


def checkpoints_under_way(store: ArtifactStore, style: str) -> dict[str, int]:
    """Version and step of every training of a style that is not finished."""
    rows = store.manifest(ASSET, style).rows.values()
    return {row.key: int(str(row.facts["step"])) for row in rows if row.status == "ok"}


@dataclass(frozen=True)
class StopRequest:
    """A person's wish that the training of a style ends now: a small file in the store, seen from every machine."""

    store: ArtifactStore
    style: str

    def make(self) -> None:
        """Ask; trainings that are under way see a new word in the file and end after their step."""
        word = json.dumps({"style": self.style, "request": secrets.token_hex(8)}).encode()
        atomic_file(self.store.root / self._path).update(lambda _: word)

    def word(self) -> bytes | None:
        """What the file says; a training compares it with what it said at the start."""
        return atomic_file(self.store.root / self._path).read()

    @property
    def _path(self) -> str:
        return f"{asset_folder(ASSET, self.style)}/stop.json"
