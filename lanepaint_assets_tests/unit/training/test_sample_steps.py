"""Training samples of a chunk: frames, masks, captions and tables."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lanepaint_assets.clips.records import ChunkMembership
from lanepaint_assets.clips.sources import open_source
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.lanes.geometry import assumed_camera
from lanepaint_assets.lanes.inspector import LaneInspection, LaneLine, LineRole, RoadView
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.items import StepError
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.upstream import MissingUpstreamError
from lanepaint_assets.training.sample_steps import ModelLoading, is_off_the_lines, make_training_samples
from lanepaint_assets.training.sample_summary import sample_counts, sample_sheet
from lanepaint_assets.training.samples import clip_samples, row_samples, stored_samples
from lanepaint_assets_tests.fixtures import WHITE_DASHED, AgreeingInspector, Journal, TrapezoidSegmenter

CHUNK = "chunk_0001"


class WatchingInspector(AgreeingInspector):
    """Keeps the views that it was given."""

    def __init__(self) -> None:
        self.views: list[RoadView] = []

    def inspect(self, view: RoadView) -> LaneInspection:
        self.views.append(view)
        return super().inspect(view)


@pytest.fixture
def store(tiny_drive: Path, request: pytest.FixtureRequest) -> ArtifactStore:
    """The tiny drive's clips, probed."""
    store = ArtifactStore(f"memory://samples_{request.node.name}")
    settings = Settings(root="unused", source=str(tiny_drive))
    clips = next(open_source(str(tiny_drive), settings.cameras).chunks()).clips
    store.save_chunk(ChunkMembership(key=CHUNK, source=str(tiny_drive), clips=clips))
    make_raw_clips(Platform(settings, store=store, progress=_quiet), CHUNK, "test")
    return store


def _quiet(*_: Any) -> None: ...


def platform_on(store: ArtifactStore, **settings: Any) -> Platform:
    # Renderings as small as these look alike to the hash.
    chosen = Settings(root="unused", **{"training_duplicate_bits": 0, **settings})
    engines = {"segmenter": TrapezoidSegmenter(Journal()), "inspector": WatchingInspector()}
    return Platform(chosen, store=store, progress=_quiet, **engines)


def watched(platform: Platform) -> list[RoadView]:
    assert isinstance(platform.inspector, WatchingInspector)
    return platform.inspector.views


def test_a_sample_is_a_frame_its_mask_its_caption_and_where_they_come_from(store: ArtifactStore) -> None:
    outcome = make_training_samples(platform_on(store), CHUNK, "run")
    row = outcome.rows[0]
    samples = row_samples(store, row)
    assert [sample.facts.frame for sample in samples if sample.facts] == [0, 16, 32, 48, 64]
    for sample in samples:
        image = np.asarray(Image.open(io.BytesIO(store.read_bytes(row, sample.image))))
        mask = np.asarray(Image.open(io.BytesIO(store.read_bytes(row, sample.mask))))
        assert image.shape == (108, 192, 3)
        assert mask.shape == (108, 192)
        assert set(np.unique(mask)) == {0, 255}
        assert sample.prompt == sample.prompt_2 == "road with single white dashed lane markings"
        facts = sample.facts
        assert facts is not None
        assert facts.source == row.fingerprint
        assert facts.mask_share == pytest.approx((mask > 0).mean(), abs=1e-5)
        assert (facts.chunk, facts.item, facts.engines) == (CHUNK, row.key, "classical 2 + measured 3")


def test_the_chunks_table_names_every_clips_files_below_the_asset(store: ArtifactStore) -> None:
    outcome = make_training_samples(platform_on(store), CHUNK, "run")
    table = outcome.manifest.rows[CHUNK_ROW]
    found = stored_samples(store, CHUNK, table)
    assert len(found) == sum(len(row_samples(store, row)) for row in outcome.rows) == 10
    assert [stored.sample for stored in found] == [s for row in outcome.rows for s in clip_samples(store, CHUNK, row)]
    assert all(Image.open(io.BytesIO(stored.read_image(store))).size == (192, 108) for stored in found)
    assert sample_counts(outcome)["samples"] == 10
    assert Image.open(io.BytesIO(sample_sheet(platform_on(store), CHUNK, outcome) or b"")).size[0] == 600


def test_a_table_that_is_older_than_a_clips_samples_gives_none(store: ArtifactStore) -> None:
    table = make_training_samples(platform_on(store), CHUNK, "run").manifest.rows[CHUNK_ROW]
    assert stored_samples(store, CHUNK, table)
    make_training_samples(platform_on(store, training_frames="list:0"), CHUNK, "later")
    assert stored_samples(store, CHUNK, table) == []


def test_accumulated_inspection_sees_the_whole_clip_in_motion_and_single_only_the_frame_and_its_mask(
    store: ArtifactStore,
) -> None:
    accumulated, single = platform_on(store), platform_on(store, training_inspection="single")
    make_training_samples(accumulated, CHUNK, "run")
    make_training_samples(single, CHUNK, "run")
    assert {(len(view.frames), view.ego is None) for view in watched(accumulated)} == {(72, False)}
    assert {len(view.frames) for view in watched(single)} == {1}
    for view in watched(single):
        assert view.camera is not None
        assert view.ego is None
        assert view.road_masks is not None
        assert view.road_masks.shape == view.frames.shape[:3]


@pytest.mark.parametrize("inspection", ["single", "accumulated"])
def test_both_ways_look_at_the_frames_that_are_listed(store: ArtifactStore, inspection: str) -> None:
    platform = platform_on(store, training_frames="list:3,40,5", training_inspection=inspection)
    row = make_training_samples(platform, CHUNK, "run").rows[0]
    assert [sample.facts.frame for sample in row_samples(store, row) if sample.facts] == [3, 5, 40]


def test_a_scene_spread_gives_so_many_frames(store: ArtifactStore) -> None:
    platform = platform_on(store, training_frames="scene:4", training_inspection="single")
    assert sample_counts(make_training_samples(platform, CHUNK, "run"))["samples"] == 8


def test_a_clip_without_any_listed_frame_fails_with_the_setting(store: ArtifactStore) -> None:
    outcome = make_training_samples(platform_on(store, training_frames="list:500"), CHUNK, "run")
    assert len(outcome.failed) == 2
    assert "none of the grid frames of LANEPAINT_TRAINING_FRAMES=list:500" in (outcome.rows[0].reason or "")


def test_near_duplicates_are_dropped_within_a_clip_and_across_the_chunk_and_counted(store: ArtifactStore) -> None:
    everything = make_training_samples(platform_on(store), CHUNK, "run")
    hashes = [int(s.facts.perceptual_hash, 16) for r in everything.rows for s in row_samples(store, r) if s.facts]
    across = min((a ^ b).bit_count() for a in hashes[:5] for b in hashes[5:])
    outcome = make_training_samples(platform_on(store, training_duplicate_bits=across), CHUNK, "again")
    counts = sample_counts(outcome)
    assert counts["near_duplicates_across_clips"] > 0
    dropped = counts["near_duplicates_within_clips"] + counts["near_duplicates_across_clips"]
    assert counts["samples"] + dropped == 10


def test_samples_stand_until_what_decides_them_changes(store: ArtifactStore) -> None:
    first = make_training_samples(platform_on(store), CHUNK, "run")
    again = platform_on(store)
    assert make_training_samples(again, CHUNK, "run").computed == ()
    assert watched(again) == []
    changed = make_training_samples(platform_on(store, training_inspection="single"), CHUNK, "run")
    assert len(changed.computed) == 2
    assert changed.data_version != first.data_version


def boundary(*course_px: tuple[float, float], role: LineRole = "ego_left") -> LaneInspection:
    nothing = np.zeros(4)
    line = LaneLine(role, nothing, (5.0, 30.0), np.array(course_px), WHITE_DASHED, 0.9, 0.9, *(4 * [np.nan]))
    return LaneInspection((line,), WHITE_DASHED, 0.9, assumed_camera(200, 100))


def test_a_mask_that_the_lanes_boundaries_do_not_lie_on_shows_no_road() -> None:
    bonnet = np.zeros((100, 200), dtype=np.bool_)
    bonnet[90:] = True
    course = [(100.0 - y / 2, float(y)) for y in range(50, 95)]
    assert is_off_the_lines(bonnet, boundary(*course))
    assert not is_off_the_lines(~bonnet, boundary(*course))
    assert not is_off_the_lines(bonnet, boundary(*course, role="other"))
    assert not is_off_the_lines(bonnet, boundary((-5.0, 20.0), (300.0, 50.0)))
    assert not is_off_the_lines(bonnet, replace(boundary(*course), lines=()))


def test_an_edge_line_on_the_masks_own_edge_is_on_it() -> None:
    left_of_it = np.zeros((100, 200), dtype=np.bool_)
    left_of_it[:, 60:] = True
    assert not is_off_the_lines(left_of_it, boundary(*((59.0, float(y)) for y in range(50, 95))))
    assert is_off_the_lines(left_of_it, boundary(*((56.0, float(y)) for y in range(50, 95))))


def test_a_sample_whose_mask_is_off_the_lines_is_dropped_and_counted(store: ArtifactStore) -> None:
    class LinesInTheSky(AgreeingInspector):
        def inspect(self, view: RoadView) -> LaneInspection:
            return boundary((50.0, 10.0), (60.0, 5.0))

    settings = Settings(root="unused", training_duplicate_bits=0)
    platform = Platform(
        settings, store=store, progress=_quiet, segmenter=TrapezoidSegmenter(Journal()), inspector=LinesInTheSky()
    )
    counts = sample_counts(make_training_samples(platform, CHUNK, "run"))
    assert counts["masks_off_the_lines"] == 10
    assert counts["samples"] == 0


def test_samples_need_probed_clips() -> None:
    store = ArtifactStore("memory://samples_missing")
    store.save_chunk(ChunkMembership(key=CHUNK, source="nowhere", clips=()))
    with pytest.raises(MissingUpstreamError, match=f"lanepaint run --stages 1 --chunks {CHUNK}"):
        make_training_samples(platform_on(store), CHUNK, "run")


FRAME: NDArray[np.uint8] = np.zeros((8, 8, 3), dtype=np.uint8)


class Meeting:
    """Two engines that answer only while the other one is being asked too."""

    name, version = "meeting", "1"

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2, timeout=10)
        self.asked: list[str] = []

    def segment_picture(self, frame: NDArray[np.uint8]) -> NDArray[np.bool_]:
        self.asked.append("segmenter")
        self._barrier.wait()
        return np.zeros(frame.shape[:2], dtype=np.bool_)

    def inspect(self, view: RoadView) -> None:
        self.asked.append("inspector")
        self._barrier.wait()


def models(meeting: object, **engines: str) -> ModelLoading:
    settings = Settings(root="unused", **(engines or {"engines": "models"}))  # type: ignore[arg-type]
    return ModelLoading(Platform(settings, segmenter=meeting, inspector=meeting))


def test_both_models_load_at_the_same_time_and_once_for_all_workers() -> None:
    meeting = Meeting()
    loading = models(meeting)
    workers = [threading.Thread(target=loading.load, args=(FRAME,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(meeting.asked) == ["inspector", "segmenter"]


def test_engines_without_weights_are_not_asked_beforehand() -> None:
    meeting = Meeting()
    models(meeting, engines="cpu").load(FRAME)
    assert meeting.asked == []


def test_a_model_that_cannot_load_ends_the_step_at_every_worker() -> None:
    class Missing:
        def segment_picture(self, frame: NDArray[np.uint8]) -> Iterator[None]:
            raise StepError("there is no such checkpoint")

        def inspect(self, view: RoadView) -> None: ...

    loading = models(Missing())
    for _ in range(2):
        with pytest.raises(StepError, match="no such checkpoint"):
            loading.load(FRAME)
