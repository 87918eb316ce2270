"""The `lanepaint` command: options in, one-line errors out. What the commands do is in `commands/`."""

from __future__ import annotations

import logging
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lanepaint_assets import __version__
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import KEEP_HOURS, load_settings

if TYPE_CHECKING:
    from lanepaint_assets.training.dataset_folder import CopyMode


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="lanepaint")
def cli() -> None:
    """Repaint lane markings in driving clips and measure what a driving model makes of it.

    Settings are environment variables LANEPAINT_*; `lanepaint doctor` shows them.
    """


@cli.command("sample-data")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", default=0, show_default=True, help="Another seed gives other roads.")
@click.option("--chunks", default=2, show_default=True, type=click.IntRange(1))
@click.option("--clips", default=2, show_default=True, type=click.IntRange(1), help="Clips in a chunk.")
@click.option("--seconds", default=14.0, show_default=True, type=click.FloatRange(1.0))
@click.option("--width", default=960, show_default=True, type=click.IntRange(64))
@click.option("--height", default=540, show_default=True, type=click.IntRange(36))
def sample_data(folder: Path, seed: int, chunks: int, clips: int, seconds: float, width: int, height: int) -> None:
    """Render drives with ground truth and write them to FOLDER in the PhysicalAI-AV layout."""
    from lanepaint_assets.commands.sample import make_sample

    make_sample(
        folder, seed=seed, chunks=chunks, clips=clips, seconds=seconds, width=width, height=height, say=click.echo
    )
    click.echo(f"from masks to reports: lanepaint run --source {shlex.quote(str(folder))}")


@cli.command("warm-up")
def warm_up() -> None:
    """Compile the CPU engines' pixel loops once, after an installation."""
    from lanepaint_assets.commands.warm_up import warm_up as compile_all

    compile_all(click.echo)


@cli.command()
def demo() -> None:
    """Sample drive to evaluation report, with the CPU engines."""
    from lanepaint_assets.commands.launch import demo as run_demo
    from lanepaint_assets.commands.launch import open_session
    from lanepaint_assets.commands.sample import demo_settings, make_sample

    settings = demo_settings()
    make_sample(Path(settings.source_address), say=click.echo)
    if not run_demo(open_session(settings), click.echo):
        sys.exit(1)


@cli.command()
@click.option("--stages", default="123", show_default=True, help="1 segmentation, 2 editing, 3 evaluation; 12 or 1,2.")
@click.option("--prompts", default="", help="Prompts by number or key, comma separated; empty means all.")
@click.option("--chunks", default="", help="Chunks, comma separated; empty means all, new ones of the source included.")
@click.option("--run-id", default=None, help="Name stamped on tags, rows and reports, followed by the time.")
@click.option("--source", default=None, help="Overrides LANEPAINT_SOURCE.")
def run(stages: str, prompts: str, chunks: str, run_id: str | None, source: str | None) -> None:
    """Run stages on chunks in this process."""
    from lanepaint_assets.commands.launch import open_session
    from lanepaint_assets.commands.launch import run as run_stages

    session = open_session(load_settings(source=source))
    if not run_stages(
        session,
        stages="".join(_stages(stages)),
        prompts=_names(prompts),
        chunks=_names(chunks),
        run_id=run_id,
        say=click.echo,
    ):
        sys.exit(1)


@cli.group()
def chunks() -> None:
    """Chunks of clips: the partitions."""


@chunks.command("add")
@click.option("--source", default=None, help="Overrides LANEPAINT_SOURCE.")
@click.option("--limit", default=None, type=click.IntRange(1), help="Most chunks to add; listing stops there.")
def chunks_add(source: str | None, limit: int | None) -> None:
    """Register the source's chunks that are not partitions yet."""
    from lanepaint_assets.commands.launch import open_session
    from lanepaint_assets.partitions import register_chunks

    session = open_session(load_settings(source=source))
    added = register_chunks(session.platform, session.instance, limit=limit)
    click.echo(f"registered {len(added)} chunk(s): {', '.join(added)}" if added else "no new chunk")


@chunks.command("list")
def chunks_list() -> None:
    """Registered chunks and what has been made of each."""
    from lanepaint_assets.commands.launch import list_chunks, open_session

    list_chunks(open_session(load_settings()), click.echo)


@cli.command()
def leaderboard() -> None:
    """What each prompt does to the driver over all chunks that have a report, and how sure that is."""
    from lanepaint_assets.commands.leaderboard import leaderboard as show

    show(Platform(load_settings()), click.echo)


@cli.command()
@click.option("--chunks", "--chunk", default="", help="Chunks, comma separated: each asset of theirs in detail.")
@click.option(
    "--stages", "--stage", default="", help="1 segmentation, 2 editing, 3 evaluation, training; 12 or 1,2,training."
)
@click.option("--failed", is_flag=True, help="Only what failed, all of it, with reasons.")
@click.option("--full", is_flag=True, help="Read every manifest and measure all of the disk, however long it takes.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1), help="Most entries of a list.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, every chunk included.")
def status(chunks: str, stages: str, failed: bool, full: bool, limit: int, as_json: bool) -> None:
    """Where every chunk stands: what is stale and why, what failed, how much disk it takes.

    Engines, versions and inputs tell what is stale. Settings are not compared; a run makes anew what they concern.

    Exit status: 0 nothing is left to do in what was ever asked for; 1 a run or an item failed; 3 something is stale,
    incomplete, cancelled, queued or running; 2 the command could not be carried out.
    """
    from lanepaint_assets.commands import status_output
    from lanepaint_assets.commands.status import Wanted, gather

    kept_for = timedelta(hours=KEEP_HOURS)
    found = gather(load_settings(), Wanted(_names(chunks), _stages(stages), kept_for, full=full, failed_only=failed))
    if as_json:
        click.echo(status_output.as_json(found))
    elif failed:
        status_output.tell_failures(found, click.echo)
    else:
        status_output.tell(found, limit=limit, in_detail=bool(chunks), say=click.echo)
    sys.exit(found.exit_status)


@cli.command()
@click.option("--port", default=9400, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 in a container.")
@click.option("--every", default=60.0, show_default=True, type=click.FloatRange(1.0), help="Seconds between two looks.")
def metrics(port: int, host: str, every: float) -> None:
    """Serve what `status` tells, runs, pools and daemons to Prometheus, until interrupted."""
    from lanepaint_assets.commands.launch import dagster_home
    from lanepaint_assets.jobs import open_instance

    try:
        from lanepaint_assets.metrics import serve
    except ImportError as error:
        raise click.ClickException("it needs prometheus-client: pip install 'lanepaint[k8s]'") from error
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = load_settings()
    serve(settings, open_instance(dagster_home(settings)), host=host, port=port, every_s=every)


@cli.command()
def doctor() -> None:
    """What this machine can run, what is missing, which sensors are off and how to turn them on."""
    from lanepaint_assets.commands.doctor import examine
    from lanepaint_assets.commands.launch import open_session

    if not examine(open_session(load_settings()), click.echo):
        sys.exit(1)


_PATH = click.argument("path", type=click.Path(path_type=Path))
_OUT = click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Result folder.")
_FPS = click.option("--fps", default=10.0, show_default=True, type=click.FloatRange(0.1), help="Of a folder of frames.")


@cli.command()
@_PATH
@_OUT
@_FPS
def segment(path: Path, out: Path, fps: float) -> None:
    """Road masks of a video, a picture or a folder of frames: one PNG a frame, 0 keep, 255 paint."""
    from lanepaint_assets.commands import trial

    trial.segment(Platform(load_settings()), path, out, fps, click.echo)


@cli.command()
@_PATH
@_OUT
@_FPS
def inspect(path: Path, out: Path, fps: float) -> None:
    """Lane lines of a video, a picture or a folder of frames: one JSON a frame."""
    from lanepaint_assets.commands import trial

    trial.inspect(Platform(load_settings()), path, out, fps, click.echo)


@cli.command()
@_PATH
@_OUT
@_FPS
@click.option("--prompt", required=True, help="Key or number of an edit prompt.")
def edit(path: Path, out: Path, fps: float, prompt: str) -> None:
    """Repaint the lane markings of a video, a picture or a folder of frames."""
    from lanepaint_assets.commands import trial

    trial.edit(Platform(load_settings()), path, out, prompt, fps, click.echo)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out",
    default=Path(),
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the videos; by default the current one.",
)
@click.option(
    "--rrd", default=None, type=click.Path(path_type=Path, dir_okay=False), help="Also write a rerun recording."
)
def render(file: Path, out: Path, rrd: Path | None) -> None:
    """Draw overlay and comparison video again from FILE, a *_vis_data.npz."""
    from lanepaint_assets.commands.render import render as draw_again

    draw_again(file, out, rrd, click.echo)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--chunks", default="", help="Chunks, comma separated; empty means all.")
@click.option("--run-id", default=None, help="Name of the folders; by default the chunk's key.")
def export(folder: Path, chunks: str, run_id: str | None) -> None:
    """Write results as plain trees: sam2/, preprocessed_data_vp/, vp/, alpamayo/."""
    from lanepaint_assets.commands.exchange import export as write
    from lanepaint_assets.commands.launch import open_session
    from lanepaint_assets.partitions import registered_chunks

    session = open_session(load_settings())
    write(session, folder, _names(chunks) or registered_chunks(session.instance), run_id, click.echo)


@cli.command("import")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--chunk", required=True, help="Chunk that the results enter; a new one is named like chunk_0001.")
@click.option("--prompt", default=None, help="Prompt of edited videos that lie in no prompt folder.")
def import_(folder: Path, chunk: str, prompt: str | None) -> None:
    """Enter existing VideoPainter folders and edited videos as items."""
    from lanepaint_assets.commands.exchange import import_results
    from lanepaint_assets.commands.launch import open_session

    import_results(open_session(load_settings()), folder, chunk, prompt, click.echo)


@cli.command()
@click.option("--dry-run", is_flag=True, help="Tell what would be removed.")
@click.option(
    "--keep-hours",
    default=KEEP_HOURS,
    show_default=True,
    type=click.FloatRange(0.0),
    help="Keep versions written more recently; longer than your longest step.",
)
def gc(dry_run: bool, keep_hours: float) -> None:
    """Remove item versions that no manifest names any more and nothing running needs."""
    from lanepaint_assets.commands.collect import collect_garbage
    from lanepaint_assets.commands.launch import open_session

    collect_garbage(
        open_session(load_settings()), kept_for=timedelta(hours=keep_hours), dry_run=dry_run, say=click.echo
    )


@cli.group()
def loras() -> None:
    """LoRAs of lane styles: what FLUX.1 Fill has learnt from filtered samples."""


@loras.command("list")
def loras_list() -> None:
    """Every version by lane style; a star marks the one in use."""
    from lanepaint_assets.commands.loras import list_loras

    list_loras(Platform(load_settings()), click.echo)


@loras.command("train")
@click.argument("style")
def loras_train(style: str) -> None:
    """Train the LoRA of STYLE on its filtered samples, or go on with a training that was killed."""
    from lanepaint_assets.commands.launch import open_session
    from lanepaint_assets.commands.loras import train_lora

    if not train_lora(open_session(load_settings()), style, click.echo):
        sys.exit(1)


@loras.command("promote")
@click.argument("style")
@click.argument("version", required=False)
def loras_promote(style: str, version: str | None) -> None:
    """Paint STYLE with VERSION from now on; by default with the one last trained."""
    from lanepaint_assets.commands.loras import promote_lora

    promote_lora(Platform(load_settings()), style, version, click.echo)


@loras.command("stop")
@click.argument("style")
def loras_stop(style: str) -> None:
    """End the training of STYLE after its step, wherever it runs, and keep what it has learnt."""
    from lanepaint_assets.commands.loras import stop_training

    stop_training(Platform(load_settings()), style, click.echo)


@cli.group()
def checkpoints() -> None:
    """Checkpoints of models: brought to their folders, and verified there."""


def _asset_names(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Assets of checkpoints; the last word of their names may be left out."""
    from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS

    assets = [name if name.endswith("_checkpoint") else f"{name}_checkpoint" for name in names]
    for name, asset in zip(names, assets, strict=True):
        if asset not in CHECKPOINT_FOLDERS:
            known = ", ".join(known.removesuffix("_checkpoint") for known in CHECKPOINT_FOLDERS)
            raise click.BadParameter(f"{name!r} is none of {known}")
    return tuple(dict.fromkeys(assets))


_CHECKPOINTS = click.argument("names", nargs=-1, callback=_asset_names)


@checkpoints.command("download")
@_CHECKPOINTS
@click.option("--from", "mirror", default=None, help="Folder or gs:// address laid out like ROOT/checkpoints.")
@click.option("--revision", default=None, help="Branch, tag or commit on the hub; by default the newest.")
@click.option("--dry-run", is_flag=True, help="Tell what would be brought.")
def checkpoints_download(names: tuple[str, ...], mirror: str | None, revision: str | None, dry_run: bool) -> None:
    """Fill the folders of checkpoints NAMES, or of those that the chosen engines read, from Hugging Face's hub."""
    from lanepaint_assets.commands.checkpoints import fill

    platform = Platform(load_settings())
    fill(platform, names, mirror=mirror, revision=revision, dry_run=dry_run, say=click.echo)


@checkpoints.command("verify")
@_CHECKPOINTS
@click.option("--quick", is_flag=True, help="Read lists of contents alone, no digests.")
@click.option("--files", is_flag=True, help="Also a line a file.")
def checkpoints_verify(names: tuple[str, ...], quick: bool, files: bool) -> None:
    """Tell whether checkpoints NAMES, or all, are whole and as they were downloaded; exit status 1 where not."""
    from lanepaint_assets.commands.checkpoints import verify

    if not verify(Platform(load_settings()), names, quick=quick, files=files, say=click.echo):
        sys.exit(1)


@cli.group()
def dataset() -> None:
    """Training samples as a dataset folder: train.csv, images/, masks/."""


_MODE = click.option(
    "--mode",
    type=click.Choice(["copy", "hardlink", "symlink"]),
    default="copy",
    show_default=True,
    help="How pictures get there; from and to object stores they are always copied.",
)
_LICENCE = click.option("--license", "licence", default=None, help="Name or address of the licence, for the card.")
_STYLE = click.option("--style", default=None, help="Lane style, for example single_white_solid.")


@dataset.command("make")
@click.option("--chunks", default="", help="Chunks, comma separated; empty means all, new ones of the source included.")
@click.option("--run-id", default=None, help="Name stamped on tags and rows, followed by the time.")
@click.option("--source", default=None, help="Overrides LANEPAINT_SOURCE.")
def dataset_make(chunks: str, run_id: str | None, source: str | None) -> None:
    """Make the training samples of chunks and their subsets by lane style, in this process."""
    from lanepaint_assets.commands.launch import make_samples, open_session

    session = open_session(load_settings(source=source))
    if not make_samples(session, chunks=_names(chunks), run_id=run_id, say=click.echo):
        sys.exit(1)


@dataset.command("export")
@click.argument("out")
@click.option("--chunks", default="", help="Chunks, comma separated; empty means all.")
@_STYLE
@_MODE
@_LICENCE
def dataset_export(out: str, chunks: str, style: str | None, mode: CopyMode, licence: str | None) -> None:
    """Assemble the samples of chunks, or one lane style's subset, in OUT: a new folder, local or gs://."""
    from lanepaint_assets.commands import dataset as datasets

    datasets.export(Platform(load_settings()), _names(chunks), style, datasets.Output(out, mode, licence), click.echo)


@dataset.command("filter")
@click.argument("source", metavar="IN")
@click.argument("out")
@_STYLE
@click.option("--count", type=click.Choice(["single", "double", "any"]), default="any", show_default=True)
@click.option("--color", type=click.Choice(["white", "yellow", "mixed", "any"]), default="any", show_default=True)
@click.option("--pattern", type=click.Choice(["solid", "dashed", "mixed", "any"]), default="any", show_default=True)
@click.option("--allow-unknown", is_flag=True, help="Keep captions with an unknown attribute.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Default: LANEPAINT_FILTER_MIN_CONFIDENCE.")
@click.option("--min-mask-share", type=click.FloatRange(0, 1), help="Default: LANEPAINT_FILTER_MIN_MASK_SHARE.")
@_MODE
@_LICENCE
def dataset_filter(
    source: str,
    out: str,
    style: str | None,
    count: str,
    color: str,
    pattern: str,
    allow_unknown: bool,
    min_confidence: float | None,
    min_mask_share: float | None,
    mode: CopyMode,
    licence: str | None,
) -> None:
    """Write the samples of dataset folder IN that the rules keep to OUT: both local or gs://."""
    from lanepaint_assets.commands import dataset as datasets

    rules = datasets.chosen_rules(
        load_settings(),
        style=style,
        count=count,
        color=color,
        pattern=pattern,
        allow_unknown=allow_unknown,
        min_confidence=min_confidence,
        min_mask_share=min_mask_share,
    )
    datasets.filter_dataset(source, rules, datasets.Output(out, mode, licence), click.echo)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _stages(text: str) -> tuple[str, ...]:
    """Stages as `12` or as `1,2`."""
    names = (stage for name in _names(text) for stage in (name if name.isdecimal() else (name,)))
    return tuple(dict.fromkeys(names))


def main() -> None:
    """Entry point: errors that a person can act on are one line, without a traceback."""
    # Failed items are told once, in the summary; only a defect of the program itself shows its traceback.
    defects = logging.StreamHandler()
    defects.setLevel(logging.ERROR)
    logging.getLogger("lanepaint_assets").addHandler(defects)
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except Exception as error:
        from lanepaint_assets.commands.errors import database_problem, person_errors, root_problem

        problem = str(error) if isinstance(error, person_errors()) else database_problem(error)
        if isinstance(error, OSError):
            settings = load_settings()
            problem = problem or (root_problem(error, settings.local_root) if settings.is_local else None)
        if problem is None:
            raise
        click.echo(f"lanepaint: {problem}", err=True)
        sys.exit(2)
