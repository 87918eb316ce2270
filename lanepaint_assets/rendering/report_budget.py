"""Which videos and pictures a report carries inside itself: as many as fit, spread over clips and prompts.

Called by the evaluation stage before it reads any of them. A chunk of 100 clips and 6 prompts has 270 MB of previews,
which no browser opens gladly; what is left out is named by its file.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

# Browsers get slow above this, and mail servers refuse it. 16 previews of 12 s are 7 MB.
MAX_EMBEDDED_VIDEO_BYTES = 32_000_000
# A thumbnail of a first frame is about 6 KB, so that all together stay below 5 MB.
MAX_THUMBNAILS = 800

Key = TypeVar("Key", bound=Hashable)


def in_turns(edits: Sequence[Sequence[Key]], controls: Sequence[Sequence[Key]]) -> list[Key]:
    """All items in the order in which they are given room.

    One edit of every clip comes before a second one of any, each clip beginning with another prompt, so that a page
    without room for all shows every clip and every prompt; controls come last.

    Args:
        edits, controls: items of each clip, in the catalogue's order.
    """
    ordered = []
    for clips in (edits, controls):
        for turn in range(max((len(items) for items in clips), default=0)):
            ordered += [items[(turn + number) % len(items)] for number, items in enumerate(clips) if turn < len(items)]
    return ordered


def within(sizes: Mapping[Key, int], order: Sequence[Key], budget: int) -> set[Key]:
    """The items, in their order, whose sizes in bytes fit into the budget together."""
    chosen, left = set(), budget
    for key in order:
        if key in sizes and sizes[key] <= left:
            chosen.add(key)
            left -= sizes[key]
    return chosen
