"""`lanepaint doctor`: what this machine can run, what is missing, which sensors are off and how to turn them on."""

from __future__ import annotations

import importlib.util
import os
import platform as machine
import shutil
import sys
from collections.abc import Callable, Mapping

from lanepaint_assets.checkpoints.digest import ABSENT, CHECKPOINT_FOLDERS, CheckpointState, checkpoint_state
from lanepaint_assets.clips.sources import ClipSourceError
from lanepaint_assets.commands.launch import Session
from lanepaint_assets.engines import ENGINES, EngineEntry, chosen_engine, install_command
from lanepaint_assets.jobs import sensor_states
from lanepaint_assets.partitions import registered_chunks
from lanepaint_assets.settings import PREFIX, Settings

# One module of each extra tells whether the extra is installed.
EXTRA_MODULES = {
    "cpu": ("av", "cv2", "numba", "physical_ai_av", "scipy"),
    "ui": ("dagster_webserver",),
    "sam2": ("sam2", "torch"),
    "videopainter": ("diffusers", "torch", "transformers"),
    "qwen": ("torch", "transformers"),
    "train": ("diffusers", "peft", "torch"),
    "gcs": ("dagster_gcp", "gcsfs"),
    "k8s": ("dagster_k8s",),
    "postgres": ("dagster_postgres",),
}


def examine(session: Session, say: Callable[[str], None]) -> bool:
    """Say everything; True if the chosen engines can run."""
    settings = session.settings
    say(f"Python {sys.version.split()[0]} on {machine.system()} {machine.machine()}, {os.cpu_count()} cores")
    say(f"Store: {settings.root}{_free_space(settings)}")
    say(f"Source: {settings.source_address} ({_source(session)})")
    say(f"Chunks registered: {len(registered_chunks(session.instance))}")
    say("")
    say("Extras")
    for extra, modules in EXTRA_MODULES.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        say(
            f"  {extra:<13} installed"
            if not missing
            else f"  {extra:<13} missing {', '.join(missing)}: {install_command(extra)}"
        )
    say("")
    say("Engines (* chosen)")
    able = True
    folders = session.platform.store.root / "checkpoints"
    checkpoints = {name: checkpoint_state(folders / folder) for name, folder in CHECKPOINT_FOLDERS.items()}
    for entry in ENGINES:
        chosen = chosen_engine(settings, entry.role) == entry
        lacking = _lacking(entry, checkpoints)
        able &= lacking is None or not chosen
        say(f"  {'*' if chosen else ' '} {entry.role:<20} {entry.label:<20} {lacking or 'ready'}")
    say("")
    say("Checkpoints")
    for name, folder in CHECKPOINT_FOLDERS.items():
        state = checkpoints[name]
        say(
            f"  {name:<31} absent (checkpoints/{folder}); CPU engines need none"
            if state.digest == ABSENT
            else f"  {name:<31} {state.files} files, {state.size / 1e9:.1f} GB"
        )
    say("")
    say("Sensors")
    for name, running in sensor_states(session.instance).items():
        say(f"  {name:<13} " + ("on" if running else f"off; turn it on in the UI (Automation), or: {_turn_on(name)}"))
    say("")
    say("Settings")
    for field, description in Settings.model_fields.items():
        value = getattr(settings, field)
        shown = str(", ".join(value) if isinstance(value, tuple) else value)
        if shown in ("", "None"):
            shown = "-"
        say(f"  {PREFIX + field.upper():<36} {shown:<24} {description.description}")
    return able


def _lacking(entry: EngineEntry, checkpoints: Mapping[str, CheckpointState]) -> str | None:
    """What an engine needs before it can be used; None where it is ready."""
    if any(importlib.util.find_spec(name) is None for name in EXTRA_MODULES[entry.extra]):
        return f"needs {install_command(entry.extra)}"
    absent = [needed.asset for needed in entry.checkpoints if checkpoints[needed.asset].digest == ABSENT]
    return f"needs its {' and '.join(absent)}" if absent else None


def _turn_on(sensor: str) -> str:
    return f"dagster sensor start {sensor} -w workspace.yaml"


def _free_space(settings: Settings) -> str:
    if not settings.is_local:
        return ""
    folder = settings.local_root
    while not folder.exists():
        folder = folder.parent
    return f" ({shutil.disk_usage(folder).free / 1e9:.0f} GB free)"


def _source(session: Session) -> str:
    try:
        first = next(iter(session.platform.source().chunks()), None)
    except ClipSourceError as error:
        return str(error)
    return "no clips" if first is None else f"first chunk {first.key} with {len(first.clips)} clips"
