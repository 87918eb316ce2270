"""The partition sets, and how a chunk becomes a partition.

`clip_chunk` holds everything that is per clip; `lane_style` holds LoRAs. Nothing is materialized here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count

import dagster as dg

from lanepaint_assets.clips.records import CHUNK_KEY, ChunkMembership
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.platform import Platform

# The ending of a chunk's later parts.
PART = re.compile(r"_part_\d{2,}$")

CLIP_CHUNK = dg.DynamicPartitionsDefinition(name="clip_chunk")

# The styles that prompts ask for and a LoRA can be trained on; mixed and unknown are no styles to paint.
LANE_STYLES = tuple(
    LaneStyle(count, color, pattern)
    for count in (Count.SINGLE, Count.DOUBLE)
    for color in (Color.WHITE, Color.YELLOW)
    for pattern in (Pattern.SOLID, Pattern.DASHED)
)
LANE_STYLE = dg.StaticPartitionsDefinition([style.key for style in LANE_STYLES])


def register_chunks(
    platform: Platform, instance: dg.DagsterInstance, *, source: str | None = None, limit: int | None = None
) -> list[str]:
    """Register the clips of a source that are in no partition yet.

    The clips of a chunk are fixed: files that arrive later, another camera set or another source with the same chunk
    names form parts (`chunk_0007_part_02`). The membership file is written before the partition key is added, so a key
    never exists without its clips; where a run ended between the two, the clips stay as they were fixed.

    Args:
        source: address; by default the one in the settings.
        limit: most chunks to add; listing stops there.

    Returns:
        The keys added, in the source's order.

    Raises:
        ClipSourceError: the source cannot be listed, or names a chunk that cannot be a partition key.
    """
    clip_source = platform.source(source)
    known = set(instance.get_dynamic_partitions("clip_chunk"))
    fixed = set(platform.store.chunk_keys())
    added: list[str] = []
    for listing in clip_source.chunks():
        if limit is not None and len(added) >= limit:
            break
        if CHUNK_KEY.match(listing.key) is None:
            from lanepaint_assets.clips.sources import ClipSourceError

            raise ClipSourceError(
                f"chunk {listing.key!r} of {clip_source.address} cannot be a partition key; "
                f"rename it to match {CHUNK_KEY.pattern}"
            )
        base = PART.sub("", listing.key)
        parts = sorted(key for key in fixed if PART.sub("", key) == base)
        for key in parts:
            if key not in known:
                instance.add_dynamic_partitions("clip_chunk", [key])
                known.add(key)
                added.append(key)
        there = {(ref.item_key, ref.uri) for key in parts for ref in platform.store.chunk(key).clips}
        clips = tuple(ref for ref in listing.clips if (ref.item_key, ref.uri) not in there)
        if not clips:
            continue
        key = listing.key if listing.key not in fixed else _next_part(base, fixed)
        register_membership(platform, instance, ChunkMembership(key=key, source=clip_source.address, clips=clips))
        fixed.add(key)
        known.add(key)
        added.append(key)
    return added


def _next_part(base: str, taken: set[str]) -> str:
    return next(key for number in count(2) if (key := f"{base}_part_{number:02d}") not in taken)


def register_membership(platform: Platform, instance: dg.DagsterInstance, membership: ChunkMembership) -> None:
    """Write one chunk's membership, then add its partition key."""
    platform.store.save_chunk(membership)
    instance.add_dynamic_partitions("clip_chunk", [membership.key])


def registered_chunks(instance: dg.DagsterInstance) -> list[str]:
    """All chunk keys, sorted."""
    return sorted(instance.get_dynamic_partitions("clip_chunk"))


def unregistered(instance: dg.DagsterInstance, keys: Iterable[str]) -> list[str]:
    """Those of `keys` that are no partitions."""
    known = set(instance.get_dynamic_partitions("clip_chunk"))
    return [key for key in keys if key not in known]
