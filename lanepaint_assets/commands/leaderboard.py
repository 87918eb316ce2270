"""`lanepaint leaderboard`: the statistics of every prompt over all chunks that have a report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from lanepaint_assets.commands.errors import CommandError
from lanepaint_assets.evaluation.leaderboard_steps import (
    ALL_CHUNKS,
    LEADERBOARD_PAGE,
    LEADERBOARD_TEXT,
    make_prompt_leaderboard,
)
from lanepaint_assets.platform import Platform
from lanepaint_assets.store.layout import CHUNK_ROW

Say = Callable[[str], None]


def leaderboard(platform: Platform, say: Say) -> None:
    """Make the leaderboard where reports changed, print it, and say where its page lies; without reports say so.

    Raises:
        CommandError: it could not be made.
    """
    if not any(platform.store.manifest("trajectory_reports", chunk).rows for chunk in platform.store.chunk_keys()):
        say("no chunk has a report yet; make them with: lanepaint run")
        return
    make_prompt_leaderboard(platform, f"{datetime.now(UTC):%Y%m%d_%H%M%S}")
    row = platform.store.manifest("prompt_leaderboard", ALL_CHUNKS).rows[CHUNK_ROW]
    if row.status != "ok":
        raise CommandError(f"the leaderboard could not be made: {row.reason}")
    say(platform.store.read_bytes(row, LEADERBOARD_TEXT).decode())
    say(f"page: {platform.store.file_path(row, LEADERBOARD_PAGE)}")
