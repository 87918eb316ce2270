"""What an item needs of earlier assets, and the reason that travels down the graph where it cannot be had."""

from __future__ import annotations

import pytest

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.manifest import ItemRow, Manifest, Status
from lanepaint_assets.store.upstream import MissingUpstreamError, needs, upstream_manifest

FIRST, SECOND = "a" * 64, "b" * 64


def _row(key: str, status: Status = "ok", reason: str | None = None, fingerprint: str = FIRST) -> ItemRow:
    return ItemRow(key=key, fingerprint=fingerprint, status=status, reason=reason, run_id="run")


def _manifest(asset: str, *rows: ItemRow) -> Manifest:
    return Manifest(asset=asset, chunk="chunk_0001", rows={row.key: row for row in rows})


def test_an_item_needs_the_fingerprints_of_all_its_upstream_items() -> None:
    found = needs(
        {
            "vp_inputs": (_manifest("vp_inputs", _row("clip.front")), "clip.front"),
            "first_frames": (_manifest("first_frames", _row("clip.front/p", fingerprint=SECOND)), "clip.front/p"),
        }
    )
    assert found.fingerprints == {"vp_inputs": FIRST, "first_frames": SECOND}
    assert found.blocked is None


def test_a_failed_upstream_item_blocks_with_its_reason() -> None:
    found = needs({"raw_clips": (_manifest("raw_clips", _row("c.front", "failed", "the file is empty")), "c.front")})
    assert found.blocked == "raw_clips failed: the file is empty"


def test_a_reason_travels_down_the_graph_once() -> None:
    reason = "raw_clips failed: the file is empty"
    found = needs({"road_masks": (_manifest("road_masks", _row("c.front", "failed", reason)), "c.front")})
    assert found.blocked == reason


@pytest.mark.parametrize("status", ["outdated", "retired"])
def test_an_item_that_no_longer_stands_blocks(status: Status) -> None:
    found = needs({"vp_inputs": (_manifest("vp_inputs", _row("c.front", status)), "c.front")})
    assert found.blocked == f"vp_inputs item c.front is {status}"


def test_an_item_that_is_not_there_blocks_and_has_an_empty_fingerprint() -> None:
    found = needs({"vp_inputs": (_manifest("vp_inputs"), "c.front")})
    assert found.blocked == "vp_inputs has no item c.front"
    assert found.fingerprints == {"vp_inputs": ""}


def test_the_first_reason_is_told_and_all_fingerprints_are_collected() -> None:
    found = needs(
        {
            "vp_inputs": (_manifest("vp_inputs", _row("c", "failed", "no road")), "c"),
            "first_frames": (_manifest("first_frames", _row("c/p", "failed", "no lane", SECOND)), "c/p"),
        }
    )
    assert found.blocked == "vp_inputs failed: no road"
    assert set(found.fingerprints) == {"vp_inputs", "first_frames"}


def test_a_partition_without_rows_names_chunk_asset_and_command() -> None:
    store = ArtifactStore("memory://upstream_missing")
    with pytest.raises(MissingUpstreamError) as missing:
        upstream_manifest(store, "vp_inputs", "chunk_0001", "first_frames")
    assert str(missing.value) == (
        "chunk 'chunk_0001' has no vp_inputs, which first_frames are made from; "
        "make them with: lanepaint run --stages 1 --chunks chunk_0001"
    )
    with pytest.raises(MissingUpstreamError, match="materialize training_samples of chunk_0001"):
        upstream_manifest(store, "training_samples", "chunk_0001", "filtered_samples")


def test_a_partition_with_rows_is_returned_whatever_their_status() -> None:
    store = ArtifactStore("memory://upstream_there")
    store.merge("raw_clips", "chunk_0001", [_row("c.front", "failed", "the file is empty")])
    assert set(upstream_manifest(store, "raw_clips", "chunk_0001", "road_masks").rows) == {"c.front"}
