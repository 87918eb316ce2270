"""Which errors are a person's to mend: the command line prints these as one line, all others as a traceback."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot be carried out; the message names the thing, the reason and the remedy."""


def person_errors() -> tuple[type[Exception], ...]:
    """The error types whose message says all that is needed."""
    from lanepaint_assets.clips.pictures import PictureError
    from lanepaint_assets.clips.probing import InvalidClipError
    from lanepaint_assets.clips.sources import ClipSourceError
    from lanepaint_assets.editing.catalogue import CatalogueError, PromptSelectionError
    from lanepaint_assets.evaluation.rerun_recording import RerunMissingError
    from lanepaint_assets.evaluation.vis_data import VisDataError
    from lanepaint_assets.segmentation.outputs import MasksFileError
    from lanepaint_assets.segmentation.vp_folder import VideoPainterFolderError
    from lanepaint_assets.settings import SettingsError
    from lanepaint_assets.store.errors import StoreError
    from lanepaint_assets.store.items import ItemError, StepError
    from lanepaint_assets.store.upstream import MissingUpstreamError
    from lanepaint_assets.training.dataset_folder import DatasetFolderError
    from lanepaint_assets.training.filters import MissingFactError
    from lanepaint_assets.training.samples import SamplesFileError

    return (
        CatalogueError,
        ClipSourceError,
        CommandError,
        DatasetFolderError,
        InvalidClipError,
        ItemError,
        MasksFileError,
        MissingFactError,
        MissingUpstreamError,
        PictureError,
        PromptSelectionError,
        RerunMissingError,
        SamplesFileError,
        SettingsError,
        StepError,
        StoreError,
        VideoPainterFolderError,
        VisDataError,
    )
