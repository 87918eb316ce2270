"""`lanepaint loras`: training LoRAs, which ones there are, and which one each lane style is painted with."""

from __future__ import annotations

from collections.abc import Callable

from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.commands.launch import Session, stop_if_interrupted
from lanepaint_assets.definitions import build
from lanepaint_assets.jobs import LORA_TRAINING, run_job
from lanepaint_assets.partitions import LANE_STYLES
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.store.promoted_loras import ASSET, promote, promoted_lora
from lanepaint_assets.training.lora_checkpoints import StopRequest, checkpoints_under_way

Say = Callable[[str], None]


def list_loras(platform: Platform, say: Say) -> None:
    """Every version of every style: its samples, steps and losses; a star marks the one in use."""
    store = platform.store
    for style in LANE_STYLES:
        in_use = promoted_lora(store, style.key)
        say(f"{style.key}: " + ("base model" if in_use is None else f"{in_use.version} (by {in_use.promoted_by})"))
        for row in store.manifest(ASSET, style.key).rows.values():
            mark = "*" if in_use is not None and in_use.version == row.key else " "
            say(f" {mark} {row.key}  {_described(row)}")
        for version, step in checkpoints_under_way(store, style.key).items():
            say(f"   {version}  unfinished: its last checkpoint is of step {step}")


def train_lora(session: Session, style_key: str, say: Say) -> bool:
    """Train the LoRA of a style in this process, or go on with a training that was killed.

    Returns:
        Whether it was trained; why not is told.

    Raises:
        CommandError: there is no such style.
    """
    _check_style(style_key)
    definitions = build(session.settings, platform=session.platform)
    outcome = run_job(definitions, session.instance, LORA_TRAINING, style_key, tags={"lanepaint/started_by": "cli"})
    stop_if_interrupted(outcome, say)
    for failure in outcome.failures:
        say(failure.message)
    if outcome.success:
        rows = session.platform.store.manifest(ASSET, style_key).rows
        row = next(row for row in rows.values() if row.status == "ok")
        say(f"{style_key}: {row.key}, {_described(row)}")
        _say_in_use(session.platform, style_key, row, say)
    return outcome.success


def promote_lora(platform: Platform, style_key: str, version: str | None, say: Say) -> None:
    """Paint a style with one of its versions from now on; by default the one last trained.

    Raises:
        CommandError: there is no such style, or no such version.
    """
    _check_style(style_key)
    rows = {key: row for key, row in platform.store.manifest(ASSET, style_key).rows.items() if row.has_result}
    known = ", ".join(rows) or "none"
    if version is None:
        version = next((key for key, row in rows.items() if row.status == "ok"), None)
        if version is None:
            raise CommandError(
                f"{style_key} has no LoRA that stands; name a version (there are: {known}), or train one"
            )
    if version not in rows:
        raise CommandError(f"{style_key} has no version {version!r}; it has: {known}")
    promote(platform.store, style_key, rows[version], "person")
    say(f"{style_key} is painted with {version} from now on; observe prompt_catalogue to have its items made anew")


def stop_training(platform: Platform, style_key: str, say: Say) -> None:
    """Ask a style's training, on whichever machine, to end after its step.

    Raises:
        CommandError: there is no such style.
    """
    _check_style(style_key)
    StopRequest(platform.store, style_key).make()
    say(
        f"a training of {style_key} that is under way ends within half a minute and keeps what it learnt; to use it: "
        f"lanepaint loras promote {style_key}"
    )


def _say_in_use(platform: Platform, style_key: str, row: ItemRow, say: Say) -> None:
    in_use = promoted_lora(platform.store, style_key)
    if in_use is not None and in_use.version == row.key:
        say(f"{style_key} is painted with it")
    else:
        painted = "the base model" if in_use is None else in_use.version
        say(f"{style_key} is painted with {painted}; to change that: lanepaint loras promote {style_key} {row.key}")


def _described(row: ItemRow) -> str:
    if not row.has_result:
        return f"failed: {row.reason}"
    facts = row.facts
    text = f"{facts['samples']} samples, {facts['steps']} steps" + (" (ended early)" if facts["stopped"] else "")
    before, after = facts["loss_before"], facts["loss_after"]
    if isinstance(before, int | float) and isinstance(after, int | float):
        text += f", held-out loss {before:.4f} -> {after:.4f}"
    return text + ("" if row.status == "ok" else ", of earlier samples or settings")


def _check_style(style_key: str) -> None:
    known = [style.key for style in LANE_STYLES]
    if style_key not in known:
        raise CommandError(f"{style_key!r} is no lane style; there are: {', '.join(known)}")
