"""`lanepaint warm-up`: compile the CPU engines' pixel loops once, as part of an installation.

numba compiles a function at its first call and keeps the result beside the package. Half a minute of that in the middle
of somebody's first run looks like a hanging program; here it says what it does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.commands.launch import Session, run
from lanepaint_assets.commands.sample import make_sample
from lanepaint_assets.jobs import throwaway_instance
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import load_settings

# The smallest drive that reaches every loop: long enough for a moment with ground truth (8 s and a frame).
WIDTH, HEIGHT, SECONDS = 192, 108, 9.0


def warm_up(say: Callable[[str], None]) -> None:
    """Run the whole graph on one tiny clip in a temporary folder.

    Raises:
        CommandError: the graph does not run on this machine; what it said is repeated.
    """
    started = perf_counter()
    heard: list[str] = []
    with TemporaryDirectory(prefix="lanepaint-warm-up-") as folder, throwaway_instance() as instance:
        drive = Path(folder) / "drive"
        make_sample(drive, chunks=1, clips=1, seconds=SECONDS, width=WIDTH, height=HEIGHT, say=heard.append)
        settings = load_settings(root=folder, source=str(drive), prompts=("single_white_dashed",))
        well = run(
            Session(settings, Platform(settings), instance),
            stages="123",
            prompts=(),
            chunks=(),
            run_id=None,
            say=heard.append,
        )
    if not well:
        raise CommandError("the graph does not run on this machine:\n" + "\n".join(heard))
    say(f"pixel loops compiled ({perf_counter() - started:.0f} s)")
