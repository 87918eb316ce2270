"""What an item needs of earlier assets: their fingerprints, or the reason why it cannot be made.

Called by every stage when it lists its tasks. Order of computation within an asset is `items.py`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.manifest import ItemRow, Manifest

# Which stage of the command line makes an asset (spec 3: STAGES).
STAGE_OF = {
    "raw_clips": "1",
    "road_masks": "1",
    "vp_inputs": "1",
    "first_frames": "2",
    "edited_videos": "2",
    "original_trajectories": "3",
    "edited_trajectories": "3",
    "video_quality": "3",
    "trajectory_videos": "3",
    "trajectory_reports": "3",
}


class MissingUpstreamError(RuntimeError):
    """A whole partition that this one is made from does not exist yet; the message names the command that makes it."""


@dataclass(frozen=True)
class Needs:
    """Fingerprints by upstream asset, and why the item is blocked (None where it is not)."""

    fingerprints: Mapping[str, str]
    blocked: str | None


def upstream_manifest(store: ArtifactStore, asset: str, chunk: str, for_asset: str) -> Manifest:
    """The manifest of an upstream partition.

    Raises:
        MissingUpstreamError: it has no rows at all.
    """
    manifest = store.manifest(asset, chunk)
    if not manifest.rows:
        command = (
            f"lanepaint run --stages {STAGE_OF[asset]} --chunks {chunk}"
            if asset in STAGE_OF
            else f"materialize {asset} of {chunk}"
        )
        raise MissingUpstreamError(
            f"chunk {chunk!r} has no {asset}, which {for_asset} are made from; make them with: {command}"
        )
    return manifest


def needs(rows: Mapping[str, tuple[Manifest, str]]) -> Needs:
    """Collect what one item needs.

    Args:
        rows: upstream asset to (its manifest, the item key there).
    """
    fingerprints: dict[str, str] = {}
    blocked: str | None = None
    for asset, (manifest, key) in rows.items():
        row = manifest.rows.get(key)
        fingerprints[asset] = row.fingerprint if row is not None else ""
        if blocked is None:
            blocked = _why_blocked(asset, key, row)
    return Needs(fingerprints, blocked)


def _why_blocked(asset: str, key: str, row: ItemRow | None) -> str | None:
    if row is None:
        return f"{asset} has no item {key}"
    if row.status == "ok":
        return None
    if row.status == "failed":
        # A reason travels down the graph once, not wrapped anew at every asset.
        reason = row.reason or "failed"
        return reason if " failed: " in reason else f"{asset} failed: {reason}"
    return f"{asset} item {key} is {row.status}"
