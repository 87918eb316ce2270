"""`lanepaint doctor`: what this machine can run, what is missing, which sensors are off and how to turn them on."""

from __future__ import annotations

import os
import platform as machine
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from textwrap import wrap

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.checkpoints.observation import Look, look_at_all
from lanepaint_assets.checkpoints.sensors import OBSERVE_INPUTS
from lanepaint_assets.chunk_reader import selected_prompts
from lanepaint_assets.clips.sources import ClipSourceError
from lanepaint_assets.commands.launch import Session
from lanepaint_assets.editing.catalogue import CatalogueError, PromptSelectionError
from lanepaint_assets.engines import (
    ENGINES,
    EXTRA_MODULES,
    EngineEntry,
    chosen_engine,
    engine_reading,
    install_command,
    lacking_packages,
    missing_modules,
)
from lanepaint_assets.jobs import sensor_states
from lanepaint_assets.partitions import registered_chunks
from lanepaint_assets.settings import PREFIX, Settings
from lanepaint_assets.store.observed import ABSENT, last_observed

# Behind six columns of indent: a line of 100 can still be read at a glance.
DESCRIPTION_CHARACTERS = 94


def examine(session: Session, say: Callable[[str], None]) -> bool:
    """Say everything; True if the chosen engines can run."""
    settings = session.settings
    say(f"Python {sys.version.split()[0]} on {machine.system()} {machine.machine()}, {os.cpu_count()} cores")
    say(f"Store: {settings.root}{_free_space(settings)}")
    say(f"Source: {settings.source_address} ({_source(session)})")
    say(f"Chunks registered: {len(registered_chunks(session.instance))}")
    prompts, able = _prompts(session)
    say(f"Prompts: {prompts}")
    say("")
    say("Extras")
    for extra in EXTRA_MODULES:
        missing = missing_modules(extra)
        say(
            f"  {extra:<14} installed"
            if not missing
            else f"  {extra:<14} missing {', '.join(missing)}: {install_command(extra)}"
        )
    say("")
    say("Engines (* chosen)")
    checkpoints = look_at_all(session.platform, datetime.now(UTC))
    for entry in ENGINES:
        chosen = chosen_engine(settings, entry.role) == entry
        lacking = _lacking(entry, settings, checkpoints)
        able &= lacking is None or not chosen
        say(f"  {'*' if chosen else ' '} {entry.role:<20} {entry.label:<20} {lacking or 'ready'}")
    say("")
    say("Checkpoints")
    for name in CHECKPOINT_FOLDERS:
        say(f"  {name:<31} {_told(session, checkpoints[name])}")
    say(f"  observed while the Dagster daemon runs; now: dagster job launch -j {OBSERVE_INPUTS} -w workspace.yaml")
    say("")
    say("Sensors")
    for name, running in sensor_states(session.instance).items():
        say(f"  {name:<23} " + ("on" if running else f"off; turn it on in the UI (Automation), or: {_turn_on(name)}"))
    say("")
    say("Settings (* changed)")
    for line in _settings(settings):
        say(line)
    return able


def _settings(settings: Settings) -> Iterator[str]:
    """Every setting with its value, those that differ from their defaults first, and below it what it is."""
    fields = Settings.model_fields
    changed = [name for name, field in fields.items() if getattr(settings, name) != field.default]
    for name in (*changed, *(name for name in fields if name not in changed)):
        value = getattr(settings, name)
        shown = str(", ".join(value) if isinstance(value, tuple) else value)
        if shown in ("", "None"):
            shown = "-"
        yield f"  {'*' if name in changed else ' '} {PREFIX + name.upper():<36} {shown}"
        yield from (f"      {line}" for line in wrap(fields[name].description or "", DESCRIPTION_CHARACTERS))


def _prompts(session: Session) -> tuple[str, bool]:
    """The prompts that the settings call for, or why they cannot be used; and whether they can."""
    try:
        prompts = selected_prompts(session.platform, ())
    except (CatalogueError, PromptSelectionError) as error:
        return str(error), False
    return ", ".join(prompt.key for prompt in prompts), True


def _told(session: Session, look: Look) -> str:
    """State of a checkpoint, what is wrong with it, and what runs are asked for meanwhile."""
    listing = look.listing
    if look.condition == "absent":
        reader, name = engine_reading(look.asset), look.asset.removesuffix("_checkpoint")
        if chosen_engine(session.settings, reader.role) != reader:
            return f"absent (checkpoints/{CHECKPOINT_FOLDERS[look.asset]}); no chosen engine reads it"
        return (
            f"absent (checkpoints/{CHECKPOINT_FOLDERS[look.asset]}); the chosen {reader.role} needs it: "
            f"lanepaint checkpoints download {name}"
        )
    count = len(listing.files)
    size = f"{count} file{'' if count == 1 else 's'}, {listing.size / 1e9:.1f} GB"
    if look.condition == "fine":
        return f"{size}, fine"
    if look.problem is None:
        gone = listing.version == ABSENT
        return "gone; the next observation says so" if gone else f"{size}, complete; {_NEXT_CHECK}"
    last = last_observed(session.platform.store, look.asset)
    in_force = "none was taken before" if last is None or last.version == ABSENT else "the one before stays in force"
    # The folder is in the line of every absent one; here it would hide the file.
    return f"{size}, {look.condition}: {look.problem.replace(f'{listing.folder}/', '')}; {in_force}"


_NEXT_CHECK = "its check comes with the next observation"

# What a step would meet with files as they are now, observed or not: one that only waits is whole, and is used.
_USELESS = {
    "incomplete": "all of its",
    "unreadable": "leave to read its",
    "refused": "another one than the refused",
}


def _lacking(entry: EngineEntry, settings: Settings, checkpoints: Mapping[str, Look]) -> str | None:
    """What an engine needs before it can be used; None where it is ready."""
    lacking = lacking_packages(entry, settings)
    if lacking is not None:
        return lacking
    looks = [checkpoints[needed.asset] for needed in entry.checkpoints]
    for condition, words in _USELESS.items():
        found = [look.asset for look in looks if look.condition == condition]
        if found:
            return f"needs {words} {' and '.join(found)}"
    absent = [look.asset for look in looks if look.listing.version == ABSENT]
    if not absent:
        return None
    names = " ".join(asset.removesuffix("_checkpoint") for asset in absent)
    return f"needs its {' and '.join(absent)}: lanepaint checkpoints download {names}"


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
