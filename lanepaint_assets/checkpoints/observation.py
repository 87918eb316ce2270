"""What an observation says of each checkpoint: which version is in force, and why a newer one is not.

Called by the assets, their triggers and `lanepaint doctor`. A new version is published when all of its files are there,
nobody has touched them for a while and its model computes; until then the one before stays in force, so that nothing
downstream asks for a half-copied or broken model. No Dagster here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from upath import UPath

from lanepaint_assets.checkpoints.completeness import check_complete
from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS, Listing, list_checkpoint
from lanepaint_assets.checkpoints.files import CheckpointError
from lanepaint_assets.checkpoints.smoke_check import (
    RETRY_AFTER,
    Outcome,
    check_mode,
    last_passed,
    remembered,
    smoke_check,
)
from lanepaint_assets.engines import EngineEntry, engine_reading, file_of
from lanepaint_assets.platform import Platform
from lanepaint_assets.remote_errors import as_os_errors
from lanepaint_assets.store.observed import ABSENT, Found, Observed, last_observed, record_observed

Condition = Literal["absent", "fine", "new", "unstable", "incomplete", "unreadable", "refused"]
"""`fine`: in force; `new`: whole and at rest, but not checked yet; the others are not taken."""

SmokeCheck = Callable[[Platform, EngineEntry, Mapping[str, str], datetime], Outcome]


_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Look:
    """A checkpoint's files at one moment, and what is to be thought of them before anything is loaded.

    Attributes:
        problem: why they are not taken; None where they may be, or are.
        due: when another look is worth its time though nothing changes.
    """

    asset: str
    listing: Listing
    condition: Condition
    problem: str | None = None
    due: datetime | None = None


@dataclass(frozen=True)
class Observation:
    """What is told of one checkpoint.

    Attributes:
        check: in words, what the version in force, or the one that was refused, went through.
        state: what is in force.
    """

    asset: str
    path: UPath
    files: int
    size: int
    condition: Condition
    check: str
    state: Observed


def checkpoint_listing(platform: Platform, asset: str) -> Listing:
    """The files that a checkpoint consists of now.

    Raises:
        OSError: they may not be read, or their bucket does not answer.
    """
    with as_os_errors():
        return list_checkpoint(platform.checkpoint_folder(asset), file_of(asset, platform.settings))


def look_at(platform: Platform, asset: str, now: datetime) -> Look:
    """List a checkpoint and, where it is not the version in force, see whether it is whole and at rest."""
    last = last_observed(platform.store, asset)
    try:
        listing = checkpoint_listing(platform, asset)
    except OSError as error:
        nothing = Listing(platform.checkpoint_folder(asset), (), (), None)
        return Look(asset, nothing, "unreadable", f"its files cannot be read: {error}", now)
    published = ABSENT if last is None else last.version
    if listing.version == published and not listing.unfinished:
        return Look(asset, listing, "absent" if published == ABSENT else "fine")
    rest = timedelta(minutes=platform.settings.checkpoint_stable_minutes)
    if listing.version == ABSENT and not listing.unfinished:
        # Who replaces a checkpoint removes it first.
        seen_gone = last if last is not None and last.mark == listing.mark else None
        believed = (seen_gone.due if seen_gone else None) or now + rest
        if now >= believed:
            return Look(asset, listing, "new")
        problem = f"its files are gone; it counts as absent if they are not back at {_clock(believed)}"
        return Look(asset, listing, "unstable", problem, believed)
    try:
        with as_os_errors():
            check_complete(listing, file_of(asset, platform.settings), is_collection=asset in COLLECTIONS)
    except CheckpointError as error:
        return Look(asset, listing, "incomplete", str(error))
    except OSError as error:
        return Look(asset, listing, "unreadable", f"its files cannot be read: {error}", now)
    if listing.touched is not None and now < listing.touched + rest:
        touched = _clock(listing.touched)
        return Look(
            asset,
            listing,
            "unstable",
            f"its files were last touched at {touched}; it is taken {rest.total_seconds() / 60:g} minutes after that",
            listing.touched + rest,
        )
    return Look(asset, listing, "new")


def look_at_all(platform: Platform, now: datetime) -> dict[str, Look]:
    """Every checkpoint by its asset; a new one that its model's last check refused is `refused`, with the reason.

    Nothing is loaded, and what is said is of the files as they are now, not of what the last observation found.
    """
    looks = _of_each(lambda asset: look_at(platform, asset, now))
    return {asset: _judged(platform, looks, asset) for asset in looks}


def _judged(platform: Platform, looks: Mapping[str, Look], asset: str) -> Look:
    look, entry = looks[asset], engine_reading(asset)
    if not _is_to_be_loaded(platform, look, entry):
        return look
    partner = _partner_in_the_way(looks, entry, asset)
    if partner is not None:
        return replace(look, condition="unstable", problem=partner.problem, due=partner.due)
    outcome = remembered(platform, entry, _versions(looks, entry))
    if outcome is None or outcome.reason is None:
        return look
    return replace(look, condition="refused", problem=_refusal(outcome, entry, asset))


def due_checkpoints(platform: Platform, now: datetime) -> list[str]:
    """The checkpoints that an observation would find otherwise than the last one did; costs one listing each."""
    due = _of_each(lambda asset: _is_due(platform, asset, now))
    return [asset for asset, is_due in due.items() if is_due]


def _is_due(platform: Platform, asset: str, now: datetime) -> bool:
    last = last_observed(platform.store, asset)
    if last is None or (last.due is not None and last.due <= now):
        return True
    try:
        return checkpoint_listing(platform, asset).mark != last.mark
    except OSError:  # for the observation to tell
        return True


def _of_each(question: Callable[[str], _Answer]) -> dict[str, _Answer]:
    """What is asked of every checkpoint, asked at the same time: a bucket that does not answer is waited for once."""
    with ThreadPoolExecutor(len(CHECKPOINT_FOLDERS), thread_name_prefix="lanepaint-checkpoints") as pool:
        return dict(zip(CHECKPOINT_FOLDERS, pool.map(question, CHECKPOINT_FOLDERS), strict=True))


def observe_checkpoints(
    platform: Platform, assets: Sequence[str], now: datetime, check: SmokeCheck = smoke_check
) -> Iterator[Observation]:
    """Observe checkpoints and remember what was found; those that need no loading come first.

    Args:
        platform: whose checkpoints.
        assets: which of them.
        now: the moment.
        check: loads and runs a model.
    """
    looks = _of_each(lambda asset: look_at(platform, asset, now))
    for asset in sorted(assets, key=lambda each: looks[each].condition == "new"):
        yield _observe(platform, looks, asset, now, check)


def _observe(
    platform: Platform, looks: Mapping[str, Look], asset: str, now: datetime, check: SmokeCheck
) -> Observation:
    look, told = looks[asset], "none"
    condition, problem, due = look.condition, look.problem, look.due
    if look.condition == "fine":
        told = _told(platform, looks, asset)
    elif look.condition == "new" and look.listing.version == ABSENT:
        condition = "absent"
    elif look.condition == "new":
        condition, problem, due, told = _checked(platform, looks, asset, now, check)
    version = look.listing.version if problem is None else None
    state = record_observed(platform.store, asset, Found(look.listing.mark, version, problem, due), now)
    listing = look.listing
    return Observation(asset, listing.folder, len(listing.files), listing.size, condition, told, state)


def _checked(
    platform: Platform, looks: Mapping[str, Look], asset: str, now: datetime, check: SmokeCheck
) -> tuple[Condition, str | None, datetime | None, str]:
    """Condition, problem, when to look again, and what was done."""
    entry = engine_reading(asset)
    if not _is_to_be_loaded(platform, looks[asset], entry):
        return "fine", None, None, _WORDS[check_mode(platform.settings, entry)]
    partner = _partner_in_the_way(looks, entry, asset)
    if partner is not None:
        return "unstable", partner.problem, partner.due, "none"
    absent = [each.asset for each in entry.checkpoints if looks[each.asset].condition == "absent"]
    if absent:
        return "fine", None, None, f"{_WORDS['header']}; {absent[0]} is absent, and {entry.label} needs both"
    outcome = check(platform, entry, _versions(looks, entry), now)
    if outcome.reason is None:
        return "fine", None, None, _ran(outcome)
    due = None if outcome.is_final else now + RETRY_AFTER
    return "refused", _refusal(outcome, entry, asset), due, f"failed after {outcome.seconds:g} s"


def _is_to_be_loaded(platform: Platform, look: Look, entry: EngineEntry) -> bool:
    """Whether files are new, and this machine checks new ones by loading them."""
    is_new = look.condition == "new" and look.listing.version != ABSENT
    return is_new and check_mode(platform.settings, entry) == "load"


def _partner_in_the_way(looks: Mapping[str, Look], entry: EngineEntry, asset: str) -> Look | None:
    """Another checkpoint that the engine loads too and that is not whole or at rest; its problem says so."""
    for each in entry.checkpoints:
        partner = looks[each.asset]
        if each.asset != asset and partner.condition not in ("absent", "fine", "new"):
            reason = f"{entry.label} also needs {each.asset}, which is {partner.condition}: {partner.problem}"
            return replace(partner, problem=reason)
    return None


def _refusal(outcome: Outcome, entry: EngineEntry, asset: str) -> str:
    partners = " and ".join(each.asset for each in entry.checkpoints if each.asset != asset)
    return f"{outcome.reason} (checked together with {partners})" if partners else str(outcome.reason)


def _told(platform: Platform, looks: Mapping[str, Look], asset: str) -> str:
    """What the version in force went through, as far as it is remembered."""
    entry = engine_reading(asset)
    outcome = last_passed(platform, entry, _versions(looks, entry))
    return _WORDS["header"] if outcome is None else _ran(outcome)


def _ran(outcome: Outcome) -> str:
    return f"the model was loaded and computed a small input, in {outcome.seconds:g} s"


# What is told of the checks that load nothing.
_WORDS = {"header": "all files are there in full; the model was not loaded", "off": "none but that all files are there"}

# Folders of several models, some of them without weights.
COLLECTIONS = frozenset({"alpamayo_checkpoint"})


def _versions(looks: Mapping[str, Look], entry: EngineEntry) -> dict[str, str]:
    return {each.asset: looks[each.asset].listing.version for each in entry.checkpoints}


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
