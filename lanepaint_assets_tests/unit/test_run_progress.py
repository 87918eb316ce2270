"""What a run tells while it is under way, however it was launched."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import dagster as dg
import pytest

from lanepaint_assets import loop_progress, run_progress
from lanepaint_assets.loop_progress import LoopProgress
from lanepaint_assets.platform import Platform
from lanepaint_assets.run_progress import ItemProgress, installed_commit, platform_resource
from lanepaint_assets.settings import Settings
from lanepaint_assets.store import stopping

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Told:
    """Collects lines; its clock is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.metadata: list[dict[str, dg.MetadataValue]] = []
        self.progress = ItemProgress(self._report, "chunk_0001", clock=lambda: self.now)

    def _report(self, line: str, metadata: dict[str, dg.MetadataValue]) -> None:
        self.lines.append(line)
        self.metadata.append(metadata)


def test_a_step_tells_items_done_of_how_many_and_the_time_left_every_half_minute() -> None:
    told = Told()
    told.progress("road_masks", 0, 100, "")
    for done in range(1, 101):
        told.now += 10.0
        told.progress("road_masks", done, 100, "clip")
    assert told.lines[0] == "road_masks chunk_0001: 0 of 100 items"
    assert told.lines[1] == "road_masks chunk_0001: 3 of 100 items, 16 min left"
    assert told.lines[-2] == "road_masks chunk_0001: 99 of 100 items, 10 s left"
    assert told.lines[-1] == "road_masks chunk_0001: 100 of 100 items, finished"
    assert len(told.lines) == 1 + 33 + 1
    assert told.metadata[1]["items_done"].value == 3
    assert told.metadata[1]["items_to_compute"].value == 100
    assert told.metadata[1]["seconds_left"].value == 970


def test_a_step_that_reuses_everything_tells_nothing() -> None:
    told = Told()
    told.progress("road_masks", 0, 0, "")
    assert told.lines == []


def test_two_assets_of_a_run_are_told_apart() -> None:
    told = Told()
    told.progress("road_masks", 0, 2, "")
    told.now = 100.0
    told.progress("vp_inputs", 0, 2, "")
    told.now = 140.0
    told.progress("vp_inputs", 1, 2, "")
    assert told.lines[-1] == "vp_inputs chunk_0001: 1 of 2 items, 40 s left"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def _run(instance: dg.DagsterInstance, platform: Platform) -> dg.ExecuteInProcessResult:
    chunks = dg.DynamicPartitionsDefinition(name="clip_chunk")

    @dg.asset(partitions_def=chunks)
    def masks(platform: dg.ResourceParam[Platform]) -> None:
        tell = platform.progress_for("masks")
        assert tell is not None
        tell(0, 2, "")
        tell(2, 2, "b")

    instance.add_dynamic_partitions("clip_chunk", ["chunk_0001"])
    return dg.materialize(
        [masks], partition_key="chunk_0001", instance=instance, resources={"platform": platform_resource(platform)}
    )


def test_every_run_is_tagged_with_its_chunk_and_commit(instance: dg.DagsterInstance) -> None:
    outcome = _run(instance, Platform(Settings(root="memory://run", git_commit=COMMIT)))
    tags = instance.get_run_by_id(outcome.run_id).tags
    assert tags["lanepaint/chunk"] == "chunk_0001"
    assert tags["lanepaint/commit"] == COMMIT


def test_progress_is_in_the_event_log_with_its_metadata_and_nobody_is_told_after_the_run(
    instance: dg.DagsterInstance,
) -> None:
    platform = Platform(Settings(root="memory://run"))
    outcome = _run(instance, platform)
    told = [
        entry.dagster_event
        for entry in instance.all_logs(outcome.run_id)
        if entry.dagster_event is not None and "of 2 items" in (entry.dagster_event.message or "")
    ]
    assert [event.message for event in told] == [
        "masks chunk_0001: 0 of 2 items",
        "masks chunk_0001: 2 of 2 items, finished",
    ]
    assert told[1].engine_event_data.metadata["items_done"].value == 2
    assert platform.progress_for("masks") is None


def test_a_long_loop_inside_an_item_is_in_the_event_log(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_progress, "TELL_EVERY_S", 0.0)

    @dg.asset
    def videos(platform: dg.ResourceParam[Platform]) -> None:
        LoopProgress("window 1 of 3 of clip.front", 50).done(20)

    platform = platform_resource(Platform(Settings(root="memory://run")))
    outcome = dg.materialize([videos], instance=instance, resources={"platform": platform})
    (event,) = [
        entry.dagster_event
        for entry in instance.all_logs(outcome.run_id)
        if entry.dagster_event is not None and "window 1 of 3" in (entry.dagster_event.message or "")
    ]
    assert event.message == "window 1 of 3 of clip.front: step 20 of 50, 0 s left"
    assert event.engine_event_data.metadata["steps_done"].value == 20


def test_a_database_that_is_away_costs_a_line_about_the_run_and_not_the_run(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("server closed the connection unexpectedly")

    monkeypatch.setattr(dg.DagsterInstance, "report_engine_event", away)
    monkeypatch.setattr(dg.DagsterInstance, "add_run_tags", away)
    assert _run(instance, Platform(Settings(root="memory://run", git_commit=COMMIT))).success
    assert "the tags of the run could not be told to Dagster's storage" in caplog.text
    assert "progress could not be told to Dagster's storage" in caplog.text


def test_in_a_run_items_may_finish_after_a_signal_to_end_for_as_long_as_the_settings_say(
    instance: dg.DagsterInstance,
) -> None:
    seen = []

    @dg.asset
    def masks(platform: dg.ResourceParam[Platform]) -> None:
        seen.append(stopping._grace_s)

    platform = Platform(Settings(root="memory://run", stop_grace_s=7.5))
    dg.materialize([masks], instance=instance, resources={"platform": platform_resource(platform)})
    assert [*seen, stopping._grace_s] == [7.5, 0.0]


def test_without_a_known_commit_there_is_no_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        def __init__(self, noted: str | None) -> None:
            self._noted = noted

        def read_text(self, name: str) -> str | None:
            return self._noted

    settings = Settings(root="memory://run")
    for noted, expected in (
        (None, None),
        ('{"url": "file:///x", "dir_info": {}}', None),
        ("not json", None),
        (f'{{"url": "https://x", "vcs_info": {{"vcs": "git", "commit_id": "{COMMIT}"}}}}', COMMIT),
    ):
        monkeypatch.setattr(run_progress, "distribution", lambda name, noted=noted: Installed(noted))
        assert installed_commit(settings) == expected

    def missing(name: str) -> Installed:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(run_progress, "distribution", missing)
    assert installed_commit(settings) is None
