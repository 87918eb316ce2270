from __future__ import annotations

import os
import socket
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from lanepaint_assets.clips.decoding import read_frames, read_frames_at
from lanepaint_assets.clips.probing import InvalidClipError, probe_clip
from lanepaint_assets.clips.records import ChunkMembership
from lanepaint_assets.clips.sources import ClipSourceError, open_source
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.evaluation.trajectory_steps import make_original_trajectories
from lanepaint_assets.partitions import look_at_source, register_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.rendering.cameras import mounting_rotation
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.clips.mirror import (
    CLOCK_START_US,
    FW_POLY,
    TELE,
    WIDE,
    WIDE_POSITION_M,
    frame_times_us,
    write_mirror,
)
from lanepaint_assets_tests.unit.clips.videos import numbers_of

A, B, C, D = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abcd")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a local mirror must not ask the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_mirror(tmp_path_factory.mktemp("data") / "mirror", {0: [B, A], 12: [C, D]}, invalid=[D])
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return root


def test_chunks_hold_the_valid_clips_of_the_configured_cameras(mirror: Path) -> None:
    first, second = open_source(str(mirror), [WIDE]).chunks()
    assert (first.key, second.key) == ("chunk_0000", "chunk_0012")
    assert [ref.item_key for ref in first.clips] == [f"{A}.{WIDE}", f"{B}.{WIDE}"]
    assert [ref.item_key for ref in second.clips] == [f"{C}.{WIDE}"]


def test_a_chunk_spans_several_cameras(mirror: Path) -> None:
    chunk = next(iter(open_source(str(mirror), [WIDE, TELE]).chunks()))
    assert [ref.item_key for ref in chunk.clips] == [f"{A}.{TELE}", f"{A}.{WIDE}", f"{B}.{TELE}", f"{B}.{WIDE}"]


def test_frames_lie_on_the_clock_of_the_data_set(mirror: Path) -> None:
    source = open_source(str(mirror), [WIDE])
    ref = next(iter(source.chunks())).clips[0]
    facts = probe_clip(source, ref, "spec_8fps", 100)
    assert facts.grid_timestamps_us[:2] == (CLOCK_START_US, CLOCK_START_US + 125_000)
    assert (facts.has_egomotion, facts.has_calibration) == (True, True)
    with source.open_video(ref) as path:
        assert numbers_of(read_frames(path, facts).frames) == [0, 3, 7, 11, 15, 18, 22, 26, 30, 33, 37, 41]
    assert not path.exists()


def test_another_camera_shows_its_latest_frame_at_the_same_time(mirror: Path) -> None:
    source = open_source(str(mirror), [WIDE])
    tele, wide = source.sibling_cameras(A)
    assert (tele.camera, wide.camera) == (TELE, WIDE)
    # 1 s is the time of frame 30 of the wide camera; the tele camera takes its frame 30 half a millisecond later.
    at = np.array([CLOCK_START_US + 1_000_000])
    for ref, number in ((wide, 30), (tele, 29)):
        with source.open_video(ref) as path:
            assert numbers_of(read_frames_at(path, source.frame_timestamps_us(ref), at)) == [number]


def test_timestamps_are_the_sidecars(mirror: Path) -> None:
    source = open_source(str(mirror), [WIDE])
    for ref in source.sibling_cameras(B):
        times = source.frame_timestamps_us(ref)
        assert times is not None
        assert np.array_equal(times, frame_times_us(ref.camera))
        assert times.dtype == np.int64


def test_calibration_becomes_a_mounted_f_theta_camera(mirror: Path) -> None:
    source = open_source(str(mirror), [WIDE])
    camera = source.camera(next(iter(source.chunks())).clips[0])
    assert camera is not None
    assert camera.quality == "calibrated"
    assert (camera.width, camera.height, camera.lens.cx, camera.lens.cy) == (64, 48, 31.9, 25.1)
    assert camera.lens.fw_poly == pytest.approx(FW_POLY)  # type: ignore[union-attr]
    assert np.allclose(camera.rotation, mounting_rotation(0.0, 0.05))
    assert np.allclose(camera.position_m, WIDE_POSITION_M)
    pixels, seen = camera.project(np.array([[8.0, 0.02, 0.0], [8.0, 2.0, 0.0]]))
    assert seen.all()
    assert pixels[0, 0] == pytest.approx(31.9)  # straight ahead of the lens
    assert pixels[1, 0] < pixels[0, 0]  # y is to the left
    assert pixels[0, 1] > 25.1  # the ground is below the axis


def test_egomotion_is_recorded_on_the_same_clock(mirror: Path) -> None:
    source = open_source(str(mirror), [WIDE])
    ego = source.egomotion(next(iter(source.chunks())).clips[0])
    assert ego is not None
    assert ego.quality == "recorded"
    assert ego.span_us == (CLOCK_START_US - 500_000, CLOCK_START_US + 1_990_000)
    positions, _ = ego.relative(np.array([CLOCK_START_US + 600_000]), CLOCK_START_US + 100_000)
    assert np.allclose(positions, [[5.0, 0, 0]], atol=1e-6)


def test_a_hugging_face_cache_is_read_in_place(mirror: Path, tmp_path: Path) -> None:
    hub = tmp_path / "datasets--nvidia--PhysicalAI-Autonomous-Vehicles"
    revision = "0123456789" * 4
    (hub / "snapshots").mkdir(parents=True)
    (hub / "snapshots" / revision).symlink_to(mirror, target_is_directory=True)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(revision)
    before = sorted(tmp_path.rglob("*"))
    expected = [chunk.clips for chunk in open_source(str(mirror), [WIDE]).chunks()]
    for address in (tmp_path, hub):
        source = open_source(str(address), [WIDE])
        assert [chunk.clips for chunk in source.chunks()] == expected
        assert source.egomotion(expected[0][0]) is not None
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cache_without_a_snapshot_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "datasets--nvidia--PhysicalAI-Autonomous-Vehicles" / "snapshots").mkdir(parents=True)
    with pytest.raises(ClipSourceError, match="holds no snapshot"):
        open_source(str(tmp_path), [WIDE])


def test_reading_leaves_the_environment_as_it_was(mirror: Path) -> None:
    before = dict(os.environ)
    list(open_source(str(mirror), [WIDE]).chunks())
    assert dict(os.environ) == before


def test_a_partial_mirror_offers_what_it_has(tmp_path: Path) -> None:
    root = write_mirror(tmp_path / "mirror", {0: [A], 1: [B]})
    (root / f"camera/{WIDE}/{WIDE}.chunk_0000.zip").unlink()
    (root / "labels/egomotion/egomotion.chunk_0001.zip").unlink()
    (root / "calibration/sensor_extrinsics/sensor_extrinsics.chunk_0001.parquet").unlink()
    source = open_source(str(root), [WIDE])
    (chunk,) = source.chunks()
    assert chunk.key == "chunk_0001"
    assert source.egomotion(chunk.clips[0]) is None
    assert source.camera(chunk.clips[0]) is None
    facts = probe_clip(source, chunk.clips[0], "spec_8fps", 100)
    assert (facts.has_egomotion, facts.has_calibration) == (False, False)


def test_a_changed_or_vanished_clip_is_noticed(tmp_path: Path) -> None:
    root = write_mirror(tmp_path / "mirror", {0: [A, B]})
    source = open_source(str(root), [WIDE])
    first, second = next(iter(source.chunks())).clips
    assert source.current_ref(first) == first
    other = write_mirror(tmp_path / "other", {0: [A]})
    name = f"camera/{WIDE}/{WIDE}.chunk_0000.zip"
    (root / name).write_bytes((other / name).read_bytes())
    assert source.current_ref(first) == first  # the same bytes in another archive
    assert source.current_ref(second) is None
    with pytest.raises(InvalidClipError, match="no such file"):
        probe_clip(source, second, "spec_8fps", 100)


COMPANIONS = {
    "egomotion": "labels/egomotion/egomotion.chunk_0000.zip",
    "camera_intrinsics": "calibration/camera_intrinsics/camera_intrinsics.chunk_0000.parquet",
    "sensor_extrinsics": "calibration/sensor_extrinsics/sensor_extrinsics.chunk_0000.parquet",
}


@pytest.mark.parametrize("companion", COMPANIONS)
def test_what_a_clip_is_read_with_makes_it_another_clip_when_it_arrives_changes_or_goes(
    tmp_path: Path, companion: str
) -> None:
    root = write_mirror(tmp_path / "mirror", {0: [A]})
    file = root / COMPANIONS[companion]
    content = file.read_bytes()
    source = open_source(str(root), [WIDE])
    complete = next(iter(source.chunks())).clips[0]

    def now() -> str:
        (listed,) = next(iter(source.chunks())).clips
        current = source.current_ref(complete)
        assert current == listed
        assert current is not None
        return current.etag

    file.unlink()
    without = now()
    file.write_bytes(content[: len(content) // 2])
    half = now()
    file.write_bytes(content)
    assert len({complete.etag, without, half}) == 3
    assert now() == complete.etag  # the same bytes at another time


def test_companions_of_another_clip_do_not_count(tmp_path: Path) -> None:
    etags = {}
    for name, clips in (("both", [A, B]), ("one", [A])):
        root = write_mirror(tmp_path / name, {0: [A, B]})
        other = write_mirror(tmp_path / f"{name}_other", {0: clips})
        (root / COMPANIONS["egomotion"]).write_bytes((other / COMPANIONS["egomotion"]).read_bytes())
        etags[name] = {ref.clip_id: ref.etag for ref in next(iter(open_source(str(root), [WIDE]).chunks())).clips}
    assert etags["both"][A] == etags["one"][A]
    assert etags["both"][B] != etags["one"][B]


def test_a_clip_is_made_anew_when_its_ego_motion_arrives(tmp_path: Path) -> None:
    root = write_mirror(tmp_path / "mirror", {0: [A]})
    late = root / COMPANIONS["egomotion"]
    content = late.read_bytes()
    late.unlink()
    platform = Platform(Settings(root=str(tmp_path / "root"), source=str(root), cameras=(WIDE,)))
    key = f"{A}.{WIDE}"

    def made() -> tuple[bool, object]:
        outcome = make_raw_clips(platform, "chunk_0000", "run")
        return key in outcome.computed, outcome.manifest.rows[key].facts["has_egomotion"]

    def changed() -> tuple[str, ...]:
        """What the sensor's look finds."""
        look = look_at_source(platform, instance)
        assert not look.problems
        assert not look.added
        return tuple(key for change in look.changes for key in change.changed)

    with dg.DagsterInstance.ephemeral() as instance:
        assert register_chunks(platform, instance) == ["chunk_0000"]
        assert made() == (True, False)
        assert changed() == ()
        late.write_bytes(content)
        assert changed() == (key,)
        assert made() == (True, True)
        assert changed() == ()
        assert made() == (False, True)


def test_what_arrived_late_is_in_the_fingerprints_of_all_that_follows(tmp_path: Path) -> None:
    root = write_mirror(tmp_path / "mirror", {0: [A]})
    late = root / COMPANIONS["egomotion"]
    content = late.read_bytes()
    late.unlink()
    platform = Platform(
        Settings(root=str(tmp_path / "root"), source=str(root), cameras=(WIDE,), samples=1),
        driver=ConstantVelocityDriver((WIDE,)),
    )
    platform.store.save_chunk(
        ChunkMembership(key="chunk_0000", source=str(root), clips=next(iter(platform.source().chunks())).clips)
    )

    def ego_of_the_plan() -> object:
        make_raw_clips(platform, "chunk_0000", "run")
        (row,) = make_original_trajectories(platform, "chunk_0000", "run").rows
        return row.facts["ego_quality"]

    assert ego_of_the_plan() == "estimated"
    late.write_bytes(content)
    assert ego_of_the_plan() == "recorded"


def test_a_broken_companion_fails_its_clips_and_not_the_listing(tmp_path: Path) -> None:
    root = write_mirror(tmp_path / "mirror", {0: [A]})
    (root / COMPANIONS["egomotion"]).write_bytes(b"half a download")
    source = open_source(str(root), [WIDE])
    (ref,) = next(iter(source.chunks())).clips
    with pytest.raises(InvalidClipError, match="its egomotion cannot be read"):
        probe_clip(source, ref, "spec_8fps", 100)


def test_a_broken_zip_is_named(tmp_path: Path) -> None:
    root = write_mirror(tmp_path / "mirror", {0: [A]})
    (root / f"camera/{WIDE}/{WIDE}.chunk_0000.zip").write_bytes(b"not a zip")
    (chunk,) = open_source(str(root), [WIDE]).chunks()
    with pytest.raises(ClipSourceError, match=r"chunk_0000\.zip is not a readable zip"):
        _ = chunk.clips


def test_missing_metadata_are_named(tmp_path: Path) -> None:
    root = write_mirror(tmp_path / "mirror", {0: [A]})
    (root / "metadata/feature_presence.parquet").unlink()
    with pytest.raises(ClipSourceError, match=r"lacks metadata/feature_presence\.parquet"):
        list(open_source(str(root), [WIDE]).chunks())


def test_a_camera_that_the_data_set_lacks_is_named(mirror: Path) -> None:
    with pytest.raises(ClipSourceError, match=f"none of the configured cameras camera_roof; it has {TELE}, {WIDE}"):
        list(open_source(str(mirror), ["camera_roof"]).chunks())


def test_a_clip_of_another_data_set_has_no_siblings(mirror: Path) -> None:
    assert open_source(str(mirror), [WIDE]).sibling_cameras("unknown") == ()
