"""Licences as pages and their plain-text forms show them: for each kind of result what may be done with it, and why.

Called by `report.py`, `leaderboard.py` and their `*_text.py`; facts are `lanepaint_assets/licences.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from lanepaint_assets.licences import LicenceNote, strictest


@dataclass(frozen=True)
class LicenceView:
    """The strictest terms of one kind of result, and all that is said by stricter ones among its inputs."""

    about: str
    strictest: LicenceNote
    consequences: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it, as plain text."""
        return f"{self.about}: {' '.join(self.consequences)} Strictest input: {self.strictest.part}."


def licence_views(notes: tuple[LicenceNote, ...]) -> tuple[LicenceView, ...]:
    """For edited videos, and for all that a driver answered; empty without notes."""
    views = []
    for about, counted in (
        ("The edited videos", [note for note in notes if note.limits == "videos"]),
        ("Trajectories, reasoning and all figures", list(notes)),
    ):
        winner = strictest(counted)
        if winner is not None:
            kinds = sorted({note.strictness for note in counted if note.strictness > 0}, reverse=True)
            sentences = tuple(kind.consequence for kind in kinds or [winner.strictness])
            views.append(LicenceView(about, winner, sentences))
    return tuple(views)
