"""The partition sets, and how a chunk becomes a partition.

`clip_chunk` holds everything that is per clip; `lane_style` holds LoRAs. Nothing is materialized here.
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from lanepaint_assets.clips.records import CHUNK_KEY, ChunkMembership
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern
from lanepaint_assets.platform import Platform

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
    """Register chunks of a source that are not partitions yet.

    The membership file is written before the partition key is added, so a key never exists without its clips.

    Args:
        source: address; by default the one in the settings.
        limit: most chunks to add; listing stops there.

    Returns:
        The keys added, in the source's order.
    """
    clip_source = platform.source(source)
    known = set(instance.get_dynamic_partitions("clip_chunk"))
    added: list[str] = []
    for listing in clip_source.chunks():
        if limit is not None and len(added) >= limit:
            break
        if listing.key in known:
            continue
        if CHUNK_KEY.match(listing.key) is None:
            raise ValueError(
                f"chunk {listing.key!r} of {clip_source.address} cannot be a partition key; "
                f"rename it to match {CHUNK_KEY.pattern}"
            )
        register_membership(
            platform,
            instance,
            ChunkMembership(key=listing.key, source=clip_source.address, clips=listing.clips),
        )
        added.append(listing.key)
    return added


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
