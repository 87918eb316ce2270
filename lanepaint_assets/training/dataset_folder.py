"""A dataset folder: train.csv, images/ and masks/ as spec 7 has them, read and written, local or on an object store.

Called by the dataset commands. Which samples go in is theirs and `filters.py`'s; what is said about them is
`dataset_card.py`'s.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from upath import UPath

from lanepaint_assets.store.layout import check_relative_path
from lanepaint_assets.store.publishing import listed_sizes
from lanepaint_assets.store.replace import LOCAL_PROTOCOLS
from lanepaint_assets.training.samples import (
    FACTS_FILE,
    TRAIN_FILE,
    RefusedRow,
    TrainingSample,
    facts_csv,
    parse_samples,
    train_csv,
)

CopyMode = Literal["copy", "hardlink", "symlink"]

# Copies that wait for a network; a local disk is kept busy by fewer.
COPY_THREADS = 16


class DatasetFolderError(ValueError):
    """A dataset folder cannot be read or written; the message names it, the reason and the remedy."""


@dataclass(frozen=True)
class DatasetRow:
    """A sample as the folder's train.csv names it, and where its files are now."""

    sample: TrainingSample
    image: UPath
    mask: UPath


@dataclass(frozen=True)
class DatasetFolder:
    """What a folder holds: usable rows in the table's order, and the others with their reasons."""

    rows: tuple[DatasetRow, ...]
    refused: tuple[RefusedRow, ...]


def read_dataset(folder: UPath) -> DatasetFolder:
    """Read a dataset folder of this project's, or any other with the columns of spec 7.

    A row whose picture or mask is not there, is empty or lies outside the folder is refused; the others go on.

    Raises:
        DatasetFolderError: there is no train.csv.
        SamplesFileError: a table lacks a column, or facts.csv holds nonsense.
    """
    train = _text(folder / TRAIN_FILE)
    if train is None:
        raise DatasetFolderError(
            f"{folder} has no {TRAIN_FILE}; a dataset folder holds {TRAIN_FILE}, images/ and masks/, as "
            "`lanepaint dataset export` writes it"
        )
    refused: list[RefusedRow] = []
    samples = parse_samples(train, _text(folder / FACTS_FILE), str(folder), refused)
    size = _sizes(folder)
    rows = []
    for sample in samples:
        reasons = [reason for name in (sample.image, sample.mask) if (reason := _why_unusable(name, size)) is not None]
        if reasons:
            refused.append(RefusedRow(sample.image, "; ".join(reasons)))
        else:
            rows.append(DatasetRow(sample, folder / sample.image, folder / sample.mask))
    return DatasetFolder(tuple(rows), tuple(refused))


def check_new(folder: UPath) -> None:
    """Refuse to write into a folder that holds something.

    Raises:
        DatasetFolderError: it does, or is a file.
    """
    if folder.is_file():
        raise DatasetFolderError(f"{folder} is a file; name a folder that does not exist yet")
    if folder.is_dir() and next(iter(folder.iterdir()), None) is not None:
        raise DatasetFolderError(f"{folder} exists and is not empty; name another folder, or remove it")


def write_dataset(folder: UPath, rows: Sequence[DatasetRow], mode: CopyMode, texts: Mapping[str, str]) -> CopyMode:
    """Write a dataset folder; train.csv comes last, so that a folder with one is complete.

    Args:
        folder: new or empty.
        mode: how pictures get there from a local folder to a local folder; else they are copied.
        texts: further files by name, such as the card.

    Returns:
        How pictures got there.

    Raises:
        DatasetFolderError: the folder is not empty, links cannot be made there, or a file vanished meanwhile.
        OSError: the disk is full or not writable.
    """
    check_new(folder)
    files = {target: source for row in rows for target, source in _files(row).items()}
    is_local = _is_local(folder) and all(_is_local(source) for source in files.values())
    used: CopyMode = mode if is_local else "copy"
    transfer = _TRANSFERS[used] if is_local else _copy_remote
    if _is_local(folder):
        # Object stores have no folders; some make a bucket when asked for one.
        for name in {"", *(target.rpartition("/")[0] for target in files)}:
            (folder / name).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(COPY_THREADS, thread_name_prefix="lanepaint-dataset") as pool:
        done = [pool.submit(transfer, source, folder / target) for target, source in files.items()]
        try:
            for copied in done:
                copied.result()
        except FileNotFoundError as error:
            raise DatasetFolderError(f"{error.filename or error} vanished while it was copied; start anew") from error
        except OSError as error:
            if used == "copy":
                raise
            raise DatasetFolderError(
                f"{folder} cannot hold a {used} of {error.filename} ({error.strerror}); use --mode copy"
            ) from error
        finally:
            for copied in done:
                copied.cancel()
    samples = [row.sample for row in rows]
    tables = {**texts, FACTS_FILE: facts_csv(samples), TRAIN_FILE: train_csv(samples)}
    for name, text in tables.items():
        (folder / name).write_text(text, encoding="utf-8")
    return used


def _files(row: DatasetRow) -> dict[str, UPath]:
    return {row.sample.image: row.image, row.sample.mask: row.mask}


def _link_hard(source: UPath, target: UPath) -> None:
    os.link(Path(source.path).resolve(), target.path)


def _link_symbolic(source: UPath, target: UPath) -> None:
    Path(target.path).symlink_to(Path(source.path).resolve())


def _copy_local(source: UPath, target: UPath) -> None:
    shutil.copyfile(source.path, target.path)


def _copy_remote(source: UPath, target: UPath) -> None:
    if source.fs is target.fs:
        source.fs.cp_file(source.path, target.path)  # inside the store, without a way through this machine
    else:
        target.write_bytes(source.read_bytes())


_TRANSFERS: dict[CopyMode, Callable[[UPath, UPath], None]] = {
    "copy": _copy_local,
    "hardlink": _link_hard,
    "symlink": _link_symbolic,
}


def _is_local(path: UPath) -> bool:
    return path.protocol in LOCAL_PROTOCOLS


def _text(path: UPath) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise DatasetFolderError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start})") from error


def _sizes(folder: UPath) -> Callable[[str], int | None]:
    """Size of a file below the folder, None where there is none."""
    if _is_local(folder):
        # One look a file: a listing would not follow the links that a dataset may consist of.
        def local_size(name: str) -> int | None:
            path = Path(folder.path) / name
            return path.stat().st_size if path.is_file() else None

        return local_size
    listing = listed_sizes(folder)
    return lambda name: listing.get((folder / name).path)


def _why_unusable(name: str, size: Callable[[str], int | None]) -> str | None:
    try:
        check_relative_path(name)
    except ValueError:
        return f"{name} does not lie below the folder"
    found = size(name)
    if found is None:
        return f"{name} is missing"
    return f"{name} is empty" if found == 0 else None
