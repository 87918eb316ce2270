"""`lanepaint sample-data`, and the settings of the demo."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.settings import Settings, load_settings

# Two of the five: the most different pair in count, colour and pattern.
DEMO_PROMPTS = ("single_white_dashed", "double_yellow_solid")


def demo_settings() -> Settings:
    """The settings of the environment, with the sample drive as source and two prompts unless others are set."""
    settings = load_settings()
    return load_settings(
        source=settings.source or str(settings.local_root / "sample_drive"),
        prompts=settings.prompts or DEMO_PROMPTS,
    )


def make_sample(
    folder: Path,
    *,
    seed: int = 0,
    chunks: int = 2,
    clips: int = 2,
    seconds: float = 14.0,
    width: int = 960,
    height: int = 540,
    say: Callable[[str], None],
) -> None:
    """Render the sample drive into `folder`, with a bar and the time left; a complete one is kept.

    Raises:
        SampleDriveError: there is no such drive, or the folder holds other things.
        CommandError: nothing can be written there.
    """
    from lanepaint_assets.clips.sample_drive import write_sample_drive

    started = perf_counter()
    with tqdm(unit="frame", file=sys.stderr, disable=None, leave=False) as bar:

        def advance(done: int, total: int, label: str) -> None:
            bar.total = total
            bar.set_description_str(f"sample drive {label}", refresh=False)
            bar.update(done - bar.n)

        try:
            write_sample_drive(
                folder,
                seed=seed,
                chunks=chunks,
                clips_per_chunk=clips,
                seconds=seconds,
                width=width,
                height=height,
                progress=advance,
            )
        except OSError as error:
            raise CommandError(
                f"no sample drive can be written to {folder} ({error.strerror or error}); name a folder that you may "
                "write to, with room"
            ) from error
    say(f"sample drive: {chunks} chunks x {clips} clips in {folder} ({perf_counter() - started:.0f} s)")
