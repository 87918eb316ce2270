"""`lanepaint render FILE.npz`: the trajectory videos of one item, drawn again from its `*_vis_data.npz`.

No Dagster, no store, no clip: the file is all that is needed, and it may have been sent by someone else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.evaluation.video_steps import VIS_DATA_SUFFIX
from lanepaint_assets.evaluation.vis_data import VisData
from lanepaint_assets.rendering.comparison import render_comparison
from lanepaint_assets.rendering.overlay import render_overlay

Say = Callable[[str], None]


def render(file: Path, out: Path, rrd: Path | None, say: Say) -> None:
    """Write `*_overlay.mp4` and `*_comparison.mp4` to a folder, and a rerun recording where one is asked for.

    Args:
        file: a `*_vis_data.npz`.
        out: the folder, made where it is not there; files of the same names are replaced.
        rrd: the recording to write, or None for none.
        say: told of each file written.

    Raises:
        CommandError: `file` cannot be read.
        VisDataError: it is no such file, or it is damaged.
        RerunMissingError: a recording is asked for, but rerun is not installed.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror or error}") from error
    vis_data = VisData.from_npz(data, str(file))
    if rrd is not None:
        from lanepaint_assets.evaluation.rerun_recording import write_recording

        # First, because it fails at once where rerun is missing.
        write_recording(vis_data, rrd)
        say(f"wrote {rrd}")
    scene = vis_data.scene()
    out.mkdir(parents=True, exist_ok=True)
    stem = file.name.removesuffix(VIS_DATA_SUFFIX).removesuffix(".npz")
    overlay, comparison = out / f"{stem}_overlay.mp4", out / f"{stem}_comparison.mp4"
    render_overlay(scene, overlay)
    say(f"wrote {overlay}")
    render_comparison(scene, comparison)
    say(f"wrote {comparison}")
