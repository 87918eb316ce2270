"""Which errors are a person's to mend: the command line prints these as one line, all others as a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# Not allowed, read-only, full.
_NO_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}


class CommandError(Exception):
    """A command cannot be carried out; the message names the thing, the reason and the remedy."""


# By name: an installation for some stages lacks the libraries that other rooms import.
_PERSON_ERRORS: Mapping[str, tuple[str, ...]] = {
    "lanepaint_assets.clips.pictures": ("PictureError",),
    "lanepaint_assets.clips.video_file": ("InvalidClipError",),
    "lanepaint_assets.clips.sample_drive.write": ("SampleDriveError",),
    "lanepaint_assets.clips.sources": ("ClipSourceError",),
    "lanepaint_assets.editing.catalogue": ("CatalogueError", "PromptSelectionError"),
    "lanepaint_assets.evaluation.rerun_recording": ("RerunMissingError",),
    "lanepaint_assets.evaluation.vis_data": ("VisDataError",),
    "lanepaint_assets.segmentation.outputs": ("MasksFileError",),
    "lanepaint_assets.segmentation.vp_folder": ("VideoPainterFolderError",),
    "lanepaint_assets.settings": ("SettingsError",),
    "lanepaint_assets.store.errors": ("StoreError",),
    "lanepaint_assets.store.items": ("ItemError", "StepError"),
    "lanepaint_assets.store.upstream": ("MissingUpstreamError",),
    "lanepaint_assets.training.dataset_folder": ("DatasetFolderError",),
    "lanepaint_assets.training.filters": ("MissingFactError",),
    "lanepaint_assets.training.samples": ("SamplesFileError",),
}


def root_problem(error: OSError, root: Path) -> str | None:
    """One line where an error of the file system is about `LANEPAINT_ROOT`, which was no place to write to.

    Once the root is there, only a refusal to write is a person's to mend: a file that vanished is a defect.
    """
    if not isinstance(error.filename, str) or not Path(error.filename).is_relative_to(root):
        return None
    if root.is_dir() and error.errno not in _NO_PLACE:
        return None
    return (
        f"LANEPAINT_ROOT={str(root)!r} cannot be written to ({error.filename}: {os.strerror(error.errno or 0)}); "
        "name a folder that you may write to, with room"
    )


# What Dagster's storage raises where its database does not answer, by name as above: at once, and after its own tries.
_DATABASE_ERRORS: Mapping[str, tuple[str, ...]] = {
    "sqlalchemy.exc": ("OperationalError", "InterfaceError"),
    "dagster_postgres.utils": ("DagsterPostgresException",),
}


def database_problem(error: Exception) -> str | None:
    """One line where the database of `LANEPAINT_POSTGRES_URL` did not answer, or went away; what it said is in it."""
    if "LANEPAINT_POSTGRES_URL" not in os.environ:
        return None
    link: BaseException | None = error
    while link is not None and not isinstance(link, _loaded(_DATABASE_ERRORS)):
        link = link.__cause__ or link.__context__
    if link is None:
        return None
    while link.__cause__ is not None:
        link = link.__cause__
    said = " ".join(str(link).split()) or type(link).__name__
    return (
        f"Dagster's database, LANEPAINT_POSTGRES_URL, does not answer ({said}); see that it runs and takes connections "
        "from here, and give the command again: finished items are kept"
    )


def person_errors() -> tuple[type[Exception], ...]:
    """The error types whose message says all that is needed, of those that this process can have raised."""
    return (CommandError, *_loaded(_PERSON_ERRORS))


def _loaded(by_module: Mapping[str, tuple[str, ...]]) -> tuple[type[Exception], ...]:
    loaded = ((sys.modules[module], names) for module, names in by_module.items() if module in sys.modules)
    return tuple(getattr(module, name) for module, names in loaded for name in names)
