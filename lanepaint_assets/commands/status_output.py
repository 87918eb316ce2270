"""What `lanepaint status` says: text that fits the terminal, or JSON for scripts. Called by the command line alone."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import islice

from lanepaint_assets.commands.collect import in_words
from lanepaint_assets.commands.status import LEADERBOARD, STAGE_NAMES, Disk, Standing, Status
from lanepaint_assets.commands.status_items import Failure
from lanepaint_assets.partition_states import PartitionState
from lanepaint_assets.store.layout import CHUNK_ROW

Say = Callable[[str], None]

# Columns of the table; those that hold nothing are left out, but for these.
_STATES = ("fresh", "stale", "running", "queued", "failed", "cancelled", "made", "unread", "missing")
_ALWAYS = ("fresh", "missing")
_NARROWEST, _WIDEST = 60, 120
_NAME_WIDTH = 23
_NOT_COMPARED = "not compared, only engines, versions and inputs; a run makes anew what changed ones concern"
# Assets that a chunk's line names of each state.
_NAMED = 2


def tell(status: Status, *, limit: int, in_detail: bool, say: Say) -> None:
    """Say everything, counts first.

    Args:
        status: what was found.
        limit: most chunks and failures that are listed.
        in_detail: list every asset of every chunk.
        say: prints a line.
    """
    text = _Text(status, limit)
    for line in text.detail() if in_detail else text.summary():
        say(line)


def tell_failures(status: Status, say: Say) -> None:
    """Say what failed and nothing else, all of it."""
    for line in _Text(status, len(status.failures)).failures():
        say(line)
    if not status.failures:
        say("nothing failed")


def as_json(status: Status) -> str:
    """Everything, every chunk included. Scripts read it: fields may be added, but keep their names and meaning."""
    return json.dumps(
        {
            "moment": status.moment.isoformat(),
            "root": status.root,
            "dagster_home": status.instance if status.has_instance else None,
            "exit_status": status.exit_status,
            "registered_chunks": status.registered,
            "manifests_read": status.manifests_read,
            "manifests": status.manifests,
            "counts": {asset: dict(_counts(status, asset)) for assets in status.assets.values() for asset in assets},
            "stale": [
                {"asset": asset, "cause": cause, "chunks": chunks} for (asset, cause), chunks in _causes(status).items()
            ],
            "failures": [asdict(failure) for failure in status.failures],
            "prompt_leaderboard": None if status.leaderboard is None else _state_json(status.leaderboard),
            "disk": None if status.disk is None else asdict(status.disk),
            "chunks": {
                key: {asset: _standing_json(standing) for asset, standing in assets.items()}
                for key, assets in status.chunks.items()
            },
        },
        indent=1,
    )


def _standing_json(standing: Standing) -> dict[str, object]:
    """What is known; what is not, or says nothing, is left out: ten thousand chunks are long enough."""
    told: dict[str, object] = {"state": standing.state}
    if standing.known is not None:
        told |= {
            name: value for name, value in _state_json(standing.known).items() if value is not None and value != []
        }
    if standing.items is not None:
        told["items"] = asdict(standing.items)
    return told


def _state_json(known: PartitionState) -> dict[str, object]:
    # `asdict` takes 1.7 s for the 120,000 partitions of ten thousand chunks, copying each.
    return {
        "state": known.state,
        "causes": list(known.causes),
        "run_id": known.run_id,
        "came_to": known.came_to,
        "made": None if known.made is None else known.made.isoformat(),
        "complete": known.complete,
    }


def _counts(status: Status, asset: str) -> Counter[str]:
    return Counter(assets[asset].state for assets in status.chunks.values())


def _causes(status: Status) -> dict[tuple[str, str], list[str]]:
    """Chunks by asset and cause, in the order of the graph."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for assets in status.assets.values():
        for asset in assets:
            for key, standings in status.chunks.items():
                known = standings[asset].known
                for cause in known.causes if known is not None else ():
                    found[asset, cause].append(key)
    return dict(found)


class _Text:
    """Lines for people."""

    def __init__(self, status: Status, limit: int) -> None:
        self._status, self._limit = status, limit
        self._failed = {(failure.chunk, failure.asset) for failure in status.failures}
        # What failed below for the same reason is not among them.
        self._failed_items = Counter(
            failure.chunk for failure in status.failures if failure.item not in (None, CHUNK_ROW)
        )
        columns = shutil.get_terminal_size((_WIDEST, 24)).columns
        self._width = max(_NARROWEST, min(_WIDEST, columns))

    def summary(self) -> Iterator[str]:
        yield from self._head()
        if not self._status.chunks:
            return
        yield from self._table()
        yield from self._stale()
        yield from _under("Failed", self.failures())
        yield from _under("Chunks", self._chunks())
        yield from _under("All chunks together", self._leaderboard())
        yield from self._foot()

    def detail(self) -> Iterator[str]:
        yield from self._head()
        for key, standings in self._status.chunks.items():
            yield ""
            yield key
            for asset, standing in standings.items():
                yield from self._one(key, asset, standing)
        yield from self._foot()

    def failures(self) -> Iterator[str]:
        told = self._status.failures
        for failure in told[: self._limit]:
            run = f" (run {failure.run_id[:8]})" if failure.run_id else ""
            yield from self._wrapped(f"  {_place(failure)}: ", failure.reason + run)
        yield from self._more(len(told), "lanepaint status --failed")

    def _head(self) -> Iterator[str]:
        status = self._status
        yield f"Store: {status.root}"
        unknown = "what is stale, queued, running or was cancelled is not known"
        if status.has_instance:
            yield f"Dagster: {status.instance}"
        else:
            alone = f"{status.instance}, so this is what the store alone tells; {unknown}"
            yield from self._wrapped("Dagster: ", alone)
        shown = "" if len(status.chunks) == status.registered else f", {len(status.chunks):,} of them here"
        yield f"Chunks: {status.registered:,} registered{shown}"
        if not status.registered:
            yield "register the source's chunks with: lanepaint chunks add"

    def _table(self) -> Iterator[str]:
        counts = {asset: _counts(self._status, asset) for assets in self._status.assets.values() for asset in assets}
        columns = [
            state
            for state in _STATES
            if any(counted[state] for counted in counts.values()) or (state in _ALWAYS and self._status.has_instance)
        ]
        widths = {
            state: max(len(state), *(len(f"{counted[state]:,}") for counted in counts.values())) for state in columns
        }
        gap = 2 if _NAME_WIDTH + sum(widths.values()) + 2 * len(widths) <= self._width else 1
        yield ""
        yield " " * _NAME_WIDTH + "".join(" " * gap + state.rjust(widths[state]) for state in columns)
        for stage, assets in self._status.assets.items():
            yield STAGE_NAMES[stage]
            for asset in assets:
                cells = (
                    (f"{counts[asset][state]:,}" if counts[asset][state] else ".").rjust(widths[state])
                    for state in columns
                )
                yield f"  {asset:<{_NAME_WIDTH - 2}}" + "".join(" " * gap + cell for cell in cells)

    def _stale(self) -> Iterator[str]:
        by_cause: defaultdict[str, list[str]] = defaultdict(list)
        for (asset, cause), chunks in _causes(self._status).items():
            by_cause[cause].append(f"{asset} ({_counted(len(chunks), 'chunk')})")
        lines: list[str] = []
        for cause, places in islice(by_cause.items(), self._limit):
            lines += self._wrapped(f"  {cause}: ", ", ".join(places))
        lines += self._more(len(by_cause), "lanepaint status --json")
        yield from _under("Stale, and why", lines)

    def _chunks(self) -> Iterator[str]:
        """The worst first; fresh ones only where all fit."""
        told = sorted(
            ((_urgency(standings), key) for key, standings in self._status.chunks.items()),
            key=lambda each: ([-part for part in each[0]], each[1]),
        )
        if len(told) > self._limit:
            told = [each for each in told if any(each[0])]
        for _, key in told[: self._limit]:
            yield from self._wrapped(f"  {key}: ", self._in_short(key))
        if not told:
            yield "  nothing failed, is out of date or under way in any of them"
        yield from self._more(len(told), "lanepaint status --json; one in detail: lanepaint status --chunk KEY")

    def _in_short(self, key: str) -> str:
        standings = self._status.chunks[key]
        by_state: dict[str, list[str]] = {}
        for asset, standing in standings.items():
            by_state.setdefault(standing.state, []).append(asset)
        said = []
        if failed_at := [asset for asset in by_state.get("failed", ()) if (key, asset) in self._failed]:
            below = len(by_state["failed"]) - len(failed_at)
            said.append(f"failed {_first_of(failed_at)}" + (f", which {below} below wait for" if below else ""))
            del by_state["failed"]
        said += [
            f"{state} {_first_of(by_state[state])}"
            for state in ("failed", "cancelled", "stale", "running", "queued")
            if state in by_state
        ]
        if failed := self._failed_items[key]:
            said.append(f"{_counted(failed, 'item')} failed")
        if outdated := sum(standing.items.outdated for standing in standings.values() if standing.items is not None):
            said.append(f"{_counted(outdated, 'item')} outdated")
        narrowed = [
            asset for asset, each in standings.items() if each.known is not None and each.known.complete is False
        ]
        if narrowed:
            said.append(f"made for some prompts only: {_first_of(narrowed)}")
        clips = standings.get("raw_clips")
        if clips is not None and clips.items is not None and clips.items.retired and not clips.items.called_for:
            said.append("gone from the source")
        fresh = by_state.get("fresh", []) + by_state.get("made", [])
        if not said and fresh:
            missing = f", {len(by_state['missing'])} missing" if "missing" in by_state else ""
            said.append(f"{standings[fresh[0]].state}, {len(fresh)} of {len(standings)} assets{missing}")
        made = [
            each.known.made for each in standings.values() if each.known is not None and each.known.made is not None
        ]
        if made:
            said.append(f"last made {self._ago(max(made))}")
        return "; ".join(said) or "nothing made yet"

    def _one(self, key: str, asset: str, standing: Standing) -> Iterator[str]:
        known, items = standing.known, standing.items
        counted = ""
        if items is not None and items.called_for:
            counted = f"{items.ok} of {_counted(items.called_for, 'item')}"
            counted += f", {items.outdated} outdated" if items.outdated else ""
        if items is not None and items.retired:
            counted += f"{', ' if counted else ''}{items.retired} retired"
        made = f"  made {self._ago(known.made)}" if known is not None and known.made is not None else ""
        yield f"  {asset:<{_NAME_WIDTH - 2}} {standing.state:<10} {counted:<24}{made}".rstrip()
        if known is not None:
            for cause in known.causes:
                yield from self._wrapped("      ", cause)
            if known.complete is False:
                yield "      made for some prompts only"
        of_asset = [each for each in self._status.failures if (each.chunk, each.asset) == (key, asset)]
        if standing.state == "failed" and not of_asset:
            yield "      its run did not come to it"
        elif known is not None and known.run_id is not None:
            yield f"      {known.came_to}: run {known.run_id}"
        for failure in of_asset:
            yield from self._wrapped(f"      {failure.item}: " if failure.item else "      ", failure.reason)

    def _leaderboard(self) -> Iterator[str]:
        state = self._status.leaderboard
        if state is not None:
            made = f"; made {self._ago(state.made)}" if state.made is not None else ""
            # Why it failed stands above; what came since is no reason for that.
            causes = (": " if state.state == "stale" else "; ") + ", ".join(state.causes) if state.causes else ""
            yield f"  {LEADERBOARD} {state.state}{causes}{made}"

    def _foot(self) -> Iterator[str]:
        status = self._status
        yield ""
        if status.disk is not None:
            yield from self._wrapped("Disk: ", _disk_words(status.disk))
        if status.has_instance:
            yield from self._wrapped("Settings: ", _NOT_COMPARED)
        if status.manifests_read < status.manifests:
            yield from self._wrapped(
                "Items: ",
                f"looked at in {status.manifests_read:,} of {status.manifests:,} partitions, the worst first; in all "
                "with --full",
            )

    def _ago(self, moment: datetime) -> str:
        seconds = (self._status.moment - moment).total_seconds()
        for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
            if seconds >= 2 * size:
                return f"{seconds / size:.0f} {unit} ago"
        return "just now" if seconds < 60 else "1 min ago"

    def _more(self, count: int, command: str) -> Iterator[str]:
        if count > self._limit:
            yield from self._wrapped("  and ", f"{count - self._limit:,} more: {command}")

    def _wrapped(self, start: str, text: str) -> list[str]:
        indent = " " * (len(start) - len(start.lstrip()) + 4)
        return textwrap.wrap(
            " ".join(text.split()),
            self._width,
            initial_indent=start,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _under(title: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    """Lines below a title; nothing where there are none."""
    told = iter(lines)
    for first in islice(told, 1):
        yield ""
        yield title
        yield first
    yield from told


def _urgency(standings: dict[str, Standing]) -> tuple[int, int, int]:
    """What orders chunks: failed steps, failed items, what is left to do."""
    return (
        sum(standing.state == "failed" for standing in standings.values()),
        sum(standing.items.failed for standing in standings.values() if standing.items is not None),
        sum(standing.is_unfinished for standing in standings.values()),
    )


def _place(failure: Failure) -> str:
    return " ".join(part for part in (failure.chunk, failure.asset, failure.item) if part)


def _first_of(assets: list[str]) -> str:
    """As many names as fit beside others; a chunk goes through a dozen assets."""
    left = len(assets) - _NAMED
    return ", ".join(assets[:_NAMED]) + (f" and {left} more" if left > 0 else "")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _disk_words(disk: Disk) -> str:
    least = "" if disk.is_measured else "at least "
    said = f"{least}{in_words(disk.size)} in {_counted(disk.versions, 'version')} of items; "
    if disk.collectable_versions:
        said += f"{least}{in_words(disk.collectable_size)} in {_counted(disk.collectable_versions, 'version')} "
        said += "can be removed, which nothing names any more: lanepaint gc"
    else:
        said += "nothing to collect" if disk.is_measured else "none of them to collect"
    return said + ("" if disk.is_measured else "; all of it is measured with --full")
