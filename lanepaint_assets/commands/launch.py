"""`lanepaint run`, `lanepaint chunks` and `lanepaint demo`: registering chunks and running jobs on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lanepaint_assets.chunk_reader import selected_prompts
from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.commands.progress import Bars
from lanepaint_assets.definitions import build
from lanepaint_assets.evaluation.report_steps import REPORT_FILE
from lanepaint_assets.jobs import (
    JOB_ASSETS,
    JOB_OF_STAGES,
    STAGE_ASSETS,
    TRAINING_DATA,
    JobOutcome,
    open_instance,
    run_job,
)
from lanepaint_assets.partitions import register_chunks, registered_chunks, unregistered
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.upstream import STAGE_OF, MissingUpstreamError, upstream_manifest

if TYPE_CHECKING:
    import dagster

# What a stage reads of the stage before it, for the dependency check of spec 3.
STAGE_INPUT = {"2": "vp_inputs", "3": "edited_videos"}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Session:
    """One command's view of the platform."""

    settings: Settings
    platform: Platform
    instance: dagster.DagsterInstance


def open_session(settings: Settings) -> Session:
    """Open the store and the Dagster instance that the UI uses too."""
    return Session(settings, Platform(settings, progress=Bars()), open_instance(dagster_home(settings)))


def dagster_home(settings: Settings) -> Path:
    """Where the instance is kept unless `DAGSTER_HOME` says otherwise."""
    return settings.local_root / "dagster" if settings.is_local else Path.home() / ".lanepaint" / "dagster"


def job_name(stages: str) -> str:
    """The job of a set of stages, in any order.

    Raises:
        CommandError: there is no such workflow variant.
    """
    wanted = "".join(sorted(set(stages)))
    if wanted not in JOB_OF_STAGES:
        allowed = ", ".join(f"{stages} ({name})" for stages, name in JOB_OF_STAGES.items())
        raise CommandError(f"--stages {stages!r} is not a workflow variant; allowed: {allowed}")
    return JOB_OF_STAGES[wanted]


def check_inputs(session: Session, stages: str, chunks: Sequence[str]) -> None:
    """Refuse a stage whose input does not exist and is not made by this run (spec 3, dependency check).

    Raises:
        CommandError: names the chunk, what is missing and the command that makes it.
    """
    for stage, asset in STAGE_INPUT.items():
        if stage in stages and STAGE_OF[asset] not in stages:
            for chunk in chunks:
                try:
                    upstream_manifest(session.platform.store, asset, chunk, f"the results of stage {stage}")
                except MissingUpstreamError as error:
                    raise CommandError(str(error)) from error


def chosen_chunks(session: Session, chunks: Sequence[str], say: Say) -> list[str]:
    """The chunks to run: those named, or all registered ones after looking for new ones in the source.

    Raises:
        CommandError: a chunk is not registered, or there is none at all.
    """
    if chunks:
        missing = unregistered(session.instance, chunks)
        if missing:
            known = ", ".join(registered_chunks(session.instance)[:20]) or "none"
            raise CommandError(
                f"chunk {', '.join(missing)} is not registered (registered: {known}); "
                "register the source's chunks with: lanepaint chunks add"
            )
        return list(chunks)
    added = register_chunks(session.platform, session.instance)
    if added:
        say(f"registered {len(added)} chunk(s) of {session.settings.source_address}: {', '.join(added)}")
    known_keys = registered_chunks(session.instance)
    if not known_keys:
        raise CommandError(
            f"no chunk in {session.settings.source_address}; set LANEPAINT_SOURCE to a folder of clips, or make some "
            "with: lanepaint sample-data DIR"
        )
    return known_keys


def run(
    session: Session, *, stages: str, prompts: Sequence[str], chunks: Sequence[str], run_id: str | None, say: Say
) -> bool:
    """Run a workflow variant on chunks, one after the other.

    Returns:
        Whether every run succeeded; single failed items do not count, they are named.

    Raises:
        CommandError: options that cannot be carried out.
        KeyboardInterrupt: a run was interrupted; what was finished is kept, and no other chunk is begun.
    """
    job = job_name(stages)
    selected_prompts(session.platform, prompts)
    keys = chosen_chunks(session, chunks, say)
    check_inputs(session, stages, keys)
    return _run_chunks(session, job, keys, prompts, run_id, say)


def make_samples(session: Session, *, chunks: Sequence[str], run_id: str | None, say: Say) -> bool:
    """Make the training samples of chunks and their subsets by lane style; otherwise as `run`."""
    keys = chosen_chunks(session, chunks, say)
    return _run_chunks(session, TRAINING_DATA, keys, (), run_id, say)


def _run_chunks(
    session: Session,
    job: str,
    keys: Sequence[str],
    prompts: Sequence[str],
    run_id: str | None,
    say: Say,
) -> bool:
    name = f"{run_id}_{datetime.now(UTC):%Y%m%dT%H%M%S}" if run_id else None
    definitions = build(session.settings, platform=session.platform)
    all_well = True
    for number, chunk in enumerate(keys, start=1):
        say(f"{job} of {chunk} ({number} of {len(keys)})" + (f", run name {name}" if name else ""))
        outcome = run_job(
            definitions,
            session.instance,
            job,
            chunk,
            prompts=prompts,
            run_name=name,
            tags={"lanepaint/started_by": "cli"},
        )
        _tell_outcome(session, JOB_ASSETS[job], chunk, outcome, name or outcome.run_id, say)
        stop_if_interrupted(outcome, say)
        all_well &= outcome.success
    return all_well


def stop_if_interrupted(outcome: JobOutcome, say: Say) -> None:
    """End the command too where a person or the system ended its run.

    Raises:
        KeyboardInterrupt: the run was interrupted.
    """
    if outcome.interrupted:
        say("interrupted; the same command goes on from here")
        raise KeyboardInterrupt


def _tell_outcome(
    session: Session, assets: Sequence[str], chunk: str, outcome: JobOutcome, row_run_id: str, say: Say
) -> None:
    """Items by asset, the reasons of failed ones, and where the report is; nothing of what the run did not come to."""
    for failure in outcome.failures:
        say(f"  {failure.step} failed: {failure.message}")
    told: set[str] = set()
    for asset in assets:
        rows = [
            row
            for key, row in session.platform.store.manifest(asset, chunk).rows.items()
            if key != CHUNK_ROW and row.status != "retired"
        ]
        # A step that failed has entered rows too, unless it failed before any item.
        if not rows or not (asset in outcome.made or any(row.run_id == row_run_id for row in rows)):
            continue
        counts = Counter(row.status for row in rows)
        others = "".join(f", {counts[status]} {status}" for status in ("failed", "outdated") if counts[status])
        say(f"  {asset}: {counts['ok']} of {len(rows)} items{others}")
        for row in rows:
            # A reason that travelled down the graph is told where it arose.
            cause = (row.reason or "").rpartition(" failed: ")[2]
            if row.status == "failed" and cause not in told:
                told.add(cause)
                say(f"    {row.key}: {row.reason}")
    report = report_path(session, chunk)
    if "trajectory_reports" in outcome.made and report is not None:
        say(f"  report: {report}")


def report_path(session: Session, chunk: str) -> str | None:
    """Where a chunk's HTML report is, if there is one."""
    row = session.platform.store.manifest("trajectory_reports", chunk).rows.get(CHUNK_ROW)
    if row is None or row.status != "ok":
        return None
    path = session.platform.store.file_path(row, REPORT_FILE)
    return path.path if session.settings.is_local else str(path)


def list_chunks(session: Session, say: Say) -> None:
    """Every registered chunk with its clips and what has been made of it."""
    keys = registered_chunks(session.instance)
    if not keys:
        say("no chunk is registered; register the source's chunks with: lanepaint chunks add")
        return
    for key in keys:
        clips = session.platform.store.chunk(key).clips
        made = []
        for assets in STAGE_ASSETS.values():
            for asset in assets:
                rows = [r for k, r in session.platform.store.manifest(asset, key).rows.items() if k != CHUNK_ROW]
                if rows:
                    made.append(f"{asset} {sum(r.status == 'ok' for r in rows)}/{len(rows)}")
        say(f"{key}: {len(clips)} clips; {', '.join(made) or 'nothing made yet'}")


def demo(session: Session, say: Say) -> bool:
    """Run the master pipeline on every chunk of the sample drive and say where to look."""
    well = run(session, stages="123", prompts=(), chunks=(), run_id="demo", say=say)
    reports = [report_path(session, chunk) for chunk in registered_chunks(session.instance)]
    say("")
    for report in reports:
        if report is not None:
            say(f"Report: {report}")
    say("Open a report in any browser; it needs no network.")
    say("The same data in the Dagster UI: make dev, then http://127.0.0.1:3000")
    return well
