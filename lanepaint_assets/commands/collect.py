"""`lanepaint gc`: removing versions of items that nothing names any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lanepaint_assets.commands.launch import Session
from lanepaint_assets.jobs import oldest_unfinished_run
from lanepaint_assets.store.collection import StoredVersion, collect, collectable, stored_versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dagster

Say = Callable[[str], None]


def collect_garbage(session: Session, *, kept_for: timedelta, dry_run: bool, say: Say) -> None:
    """Remove item versions that no manifest names and that no run can still need.

    Args:
        session: whose store, and whose Dagster instance knows the runs that are under way.
        kept_for: versions written more recently than this stay.
        dry_run: tell, and remove nothing.
        say: prints a line.
    """
    asked = datetime.now(UTC) - kept_for
    before = before_any_run(session.instance, asked)
    if before < asked:
        say(f"a run is under way since {before:%Y-%m-%d %H:%M} UTC: what was written later stays")
    found = collectable(stored_versions(session.platform.store), before)
    removed = found if dry_run else [version for version in found if collect(session.platform.store, version)]
    if not removed:
        say("nothing to collect")
        return
    by_asset: defaultdict[str, list[StoredVersion]] = defaultdict(list)
    for version in removed:
        by_asset[version.asset].append(version)
    for asset in sorted(by_asset):
        say(f"  {asset}: {_amount(by_asset[asset])}")
    say(f"{'would free' if dry_run else 'freed'} {_amount(removed)}")


def before_any_run(instance: dagster.DagsterInstance, moment: datetime) -> datetime:
    """The moment itself, or when the oldest run that is still at work was created: what it may need was named then."""
    running = oldest_unfinished_run(instance)
    return moment if running is None else min(moment, running)


def in_words(size: int) -> str:
    """Bytes for people: `3.2 MB`."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _amount(versions: Sequence[StoredVersion]) -> str:
    size = in_words(sum(version.size for version in versions))
    return f"{size} in {len(versions)} version{'s' if len(versions) > 1 else ''}"
