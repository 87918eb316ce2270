"""What a materialization of `training_samples` shows: how many samples there are, what was dropped, and some of them.

Called by the asset. Making samples is `sample_steps.py`'s work.
"""

from __future__ import annotations

import numpy as np

from lanepaint_assets.platform import Platform
from lanepaint_assets.store.items import PartitionOutcome
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets.training.samples import stored_samples

# Pictures of one preview: enough to judge a chunk at a glance, small enough for the event log.
PREVIEW_PICTURES = 6
# Road in the preview: light enough that the lines under it are seen.
MASK_TINT = (60, 150, 250)
MASK_OPACITY = 0.35


def sample_counts(outcome: PartitionOutcome) -> dict[str, int]:
    """Samples in the chunk's table, how many state an unknown attribute, and how many were dropped for which reason."""
    table = outcome.manifest.rows.get(CHUNK_ROW)
    counts = {"samples": 0, "near_duplicates_across_clips": 0}
    if table is not None and table.status == "ok":
        counts["samples"] = _count(table, "samples")
        counts["near_duplicates_across_clips"] = _count(table, "near_duplicates")
    made = [row for row in outcome.rows if row.status == "ok"]
    counts["near_duplicates_within_clips"] = sum(_count(row, "near_duplicates") for row in made)
    counts["masks_off_the_lines"] = sum(_count(row, "masks_off_the_lines") for row in made)
    counts["unclear"] = sum(_count(row, "unclear") for row in made)
    return counts


def _count(row: ItemRow, name: str) -> int:
    value = row.facts.get(name)
    return value if isinstance(value, int) else 0


def sample_sheet(platform: Platform, chunk: str, outcome: PartitionOutcome) -> bytes | None:
    """PNG of samples spread over the chunk's clips, the mask tinted, each above its caption; None without samples."""
    from lanepaint_assets.clips.pictures import read_picture
    from lanepaint_assets.rendering.previews import CaptionedPicture, contact_sheet

    table = outcome.manifest.rows.get(CHUNK_ROW)
    samples = stored_samples(platform.store, chunk, table)
    if not samples:
        return None
    shown = [samples[at] for at in np.unique(np.linspace(0, len(samples) - 1, PREVIEW_PICTURES).round().astype(int))]
    pictures = []
    for sample in shown:
        picture = read_picture(sample.read_image(platform.store), sample.image_name).astype(np.float32)
        road = read_picture(sample.read_mask(platform.store), sample.mask_name)[..., :1] > 0
        tinted = np.where(road, picture + MASK_OPACITY * (np.array(MASK_TINT, np.float32) - picture), picture)
        pictures.append(CaptionedPicture(tinted.astype(np.uint8), sample.prompt))
    return contact_sheet(pictures)
