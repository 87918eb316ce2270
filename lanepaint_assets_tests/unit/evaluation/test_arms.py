"""The arms of a study through the steps that make them: nulls, positive control, camera mode, drivers that fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.clips.records import ChunkMembership
from lanepaint_assets.clips.sample_drive.truth import read_truth
from lanepaint_assets.clips.steps import make_raw_clips
from lanepaint_assets.evaluation.bridge import BLANK_LEVEL, BridgeError, CameraModeError, blanked, cameras_shown
from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.evaluation.driver import Driver, DriverError, DriverInput, DriverOutput, ask
from lanepaint_assets.evaluation.lane_follow import LaneFollowDriver
from lanepaint_assets.evaluation.metrics import ade_between, lateral_offset_m
from lanepaint_assets.evaluation.off_lane import outside_share
from lanepaint_assets.evaluation.report_steps import TEXT_FILE, make_trajectory_reports
from lanepaint_assets.evaluation.results import InferenceResult, OriginalArms
from lanepaint_assets.evaluation.trajectory_steps import ORIGINAL_ARMS_FILE, make_original_trajectories
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.items import StepError
from lanepaint_assets.store.layout import CHUNK_ROW
from lanepaint_assets.store.manifest import ItemRow
from lanepaint_assets_tests.unit.clips.mirror import TELE, WIDE, write_mirror
from lanepaint_assets_tests.unit.clips.videos import write_numbered
from lanepaint_assets_tests.unit.evaluation.drives import FRONT, LEFT, camera, circle_drive, moment_of, numbered_frames
from lanepaint_assets_tests.unit.evaluation.study import CHUNK, RecordingDriver, Study


class BrightnessDriver(ConstantVelocityDriver):
    """Steers by how bright its cameras are, so that a test sees what it was shown."""

    def __init__(self, cameras: tuple[str, ...], needs_all: bool = False) -> None:
        super().__init__(cameras)
        self._needs_all = needs_all
        self.shown: list[DriverInput] = []

    @property
    def accepts_one_camera(self) -> bool:
        return not self._needs_all

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        self.shown.append(moment)
        straight = super().predict(moment, seeds)
        steering = sum(float(frames.mean()) for frames in moment.frames.values()) / 100
        aside = np.linspace(0.0, steering, 64)[:, None] * np.array([0.0, 1.0, 0.0])
        return replace(straight, trajectories_m=straight.trajectories_m + aside, decisions=("go",) * len(seeds))


class BrokenDriver(ConstantVelocityDriver):
    """Gives what it is told instead of an answer."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self._changes = changes

    def predict(self, moment: DriverInput, seeds: tuple[int, ...]) -> DriverOutput:
        return replace(super().predict(moment, seeds), **self._changes)


def two_cameras() -> DriverInput:
    moment = moment_of(circle_drive())
    return replace(
        moment,
        frames={**moment.frames, LEFT: numbered_frames(4, offset=40)},
        cameras={**moment.cameras, LEFT: camera()},
    )


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return write_mirror(tmp_path / "mirror", {0: ["clip-a", "clip-b"]})


def original_rows(root: Path, source: Path, driver: Driver, **chosen: Any) -> tuple[Platform, list[ItemRow]]:
    settings = Settings(root=str(root), source=str(source), samples=3, workers=1, **chosen)
    platform = Platform(settings, driver=driver)
    found = platform.source()
    listing = next(iter(found.chunks()))
    platform.store.save_chunk(ChunkMembership(key=CHUNK, source=found.address, clips=listing.clips))
    make_raw_clips(platform, CHUNK, "run")
    return platform, list(make_original_trajectories(platform, CHUNK, "run").rows)


def arms_of(platform: Platform, row: ItemRow) -> OriginalArms:
    return OriginalArms.from_json(platform.store.read_bytes(row, ORIGINAL_ARMS_FILE))


@pytest.mark.parametrize("driver", [LaneFollowDriver(), ConstantVelocityDriver()], ids=lambda driver: driver.name)
def test_the_null_arm_on_the_same_seeds_is_exactly_zero_on_every_clip(
    tmp_path: Path, mirror: Path, driver: Driver
) -> None:
    platform, rows = original_rows(tmp_path / "root", mirror, driver)
    assert len(rows) == 2
    for row in rows:
        arms = arms_of(platform, row)
        assert arms.null_same_seeds_ade_m == 0.0
        assert row.facts["null_same_seeds_ade_m"] == 0.0
        # Other seeds give the noise floor, along the road and across it.
        assert arms.null_other_seeds_ade_m > 0.0
        assert arms.null_other_seeds_lateral_3s_m > 0.0
        assert arms.positive_control is None


def test_on_a_road_with_lanes_nulls_are_zero_too_and_the_lane_is_known_along_the_plan(
    tmp_path: Path, tiny_drive: Path
) -> None:
    platform, rows = original_rows(tmp_path / "root", tiny_drive, LaneFollowDriver(), positive_control=True)
    assert len(rows) == 2
    for row in rows:
        arms = arms_of(platform, row)
        assert arms.null_same_seeds_ade_m == 0.0
        assert arms.null_other_seeds_ade_m > 0.0
        assert arms.positive_control is not None
        assert arms.positive_control.note is not None
        assert "no lane seen" in arms.positive_control.note
        truth = arms.ground_truth_m
        assert truth is not None
        assert arms.lane is not None
        assert arms.lane.source == "measured 3"
        # The sample drives keep to their lane.
        assert outside_share(truth, arms.lane) == 0.0
        drawn = read_truth(tiny_drive, row.key.rpartition(".")[0])
        lines = {line.role: line.points_m for line in drawn.lines}
        here, rotation = drawn.ego.poses(np.array([round(float(str(row.facts["t0_s"])) * 1e6)]))
        for piece in arms.lane.pieces:
            x = np.arange(5.0, 25.0, 2.0)
            cos, sin = np.cos(piece.yaw_rad), np.sin(piece.yaw_rad)
            for role, y in zip(("ego_left", "ego_right"), piece.bounds(x), strict=True):
                at_t0 = np.stack([piece.x_m + cos * x - sin * y, piece.y_m + sin * x + cos * y, 0 * x], axis=1)
                in_world = rotation[0].apply(at_t0) + here[0]
                # Pictures of 192 px: a pixel is 8 cm wide at 10 m.
                assert np.abs(lateral_offset_m(in_world[:, :2], lines[role][:, :2])).max() < 0.25


def test_a_blanked_camera_shows_mid_grey_and_the_others_what_they_saw() -> None:
    moment = two_cameras()
    blank = blanked(moment, FRONT)
    assert (blank.frames[FRONT] == BLANK_LEVEL).all()
    assert blank.frames[LEFT] is moment.frames[LEFT]
    assert not (moment.frames[FRONT] == BLANK_LEVEL).all()
    with pytest.raises(BridgeError, match="does not see camera_rear_tele_30fov"):
        blanked(moment, "camera_rear_tele_30fov")


def test_the_positive_control_is_asked_once_a_clip_with_the_edited_camera_blanked(tmp_path: Path, mirror: Path) -> None:
    driver = BrightnessDriver((WIDE, TELE))
    platform, rows = original_rows(tmp_path / "root", mirror, driver, positive_control=True)
    # Original, the same again, other seeds, blanked; for two clips.
    assert len(driver.shown) == 8
    assert [bool((moment.frames[WIDE] == BLANK_LEVEL).all()) for moment in driver.shown] == [False] * 3 + [True] + [
        False
    ] * 3 + [True]
    assert not any((moment.frames[TELE] == BLANK_LEVEL).all() for moment in driver.shown)
    for row in rows:
        arms = arms_of(platform, row)
        assert arms.positive_control is not None
        moved_m = ade_between(arms.original.trajectories_m, arms.positive_control.trajectories_m)
        assert moved_m > 0.1
        assert row.facts["positive_control_ade_m"] == round(moved_m, 4)
        assert arms.original.decisions == ("go",) * 3
    # It decides about the result, so switching it off makes the arms anew.
    _, without = original_rows(tmp_path / "root", mirror, BrightnessDriver((WIDE, TELE)))
    assert {row.fingerprint for row in without}.isdisjoint({row.fingerprint for row in rows})


def test_the_edited_camera_alone_is_shown_in_every_arm(tmp_path: Path, mirror: Path) -> None:
    driver = BrightnessDriver((WIDE, TELE))
    platform, rows = original_rows(
        tmp_path / "root", mirror, driver, cameras=(WIDE,), edited_camera_only=True, positive_control=True
    )
    assert {tuple(moment.frames) for moment in driver.shown} == {(WIDE,)}
    assert {tuple(moment.cameras) for moment in driver.shown} == {(WIDE,)}
    assert all(arms_of(platform, row).edited_camera_only for row in rows)
    _, all_cameras = original_rows(tmp_path / "root", mirror, BrightnessDriver((WIDE, TELE)), cameras=(WIDE,))
    assert {row.fingerprint for row in all_cameras}.isdisjoint({row.fingerprint for row in rows})


def test_a_driver_that_needs_all_cameras_refuses_to_see_one(tmp_path: Path, mirror: Path) -> None:
    driver = BrightnessDriver((WIDE, TELE), needs_all=True)
    assert cameras_shown(driver, WIDE, edited_camera_only=False) == (WIDE, TELE)
    with pytest.raises(CameraModeError, match=r"constant_velocity 1 needs all of its cameras.*EDITED_CAMERA_ONLY"):
        cameras_shown(driver, WIDE, edited_camera_only=True)
    # It is a mistake of the settings, not of a clip: the step ends with it.
    with pytest.raises(StepError, match="unset LANEPAINT_EDITED_CAMERA_ONLY"):
        original_rows(tmp_path / "root", mirror, driver, edited_camera_only=True)
    assert driver.shown == []


def test_a_camera_that_the_driver_does_not_see_stays_refused_in_either_mode(tmp_path: Path, mirror: Path) -> None:
    driver = BrightnessDriver((TELE,))
    for alone in (False, True):
        with pytest.raises(BridgeError, match=f"does not see {WIDE}.*it sees {TELE}"):
            cameras_shown(driver, WIDE, edited_camera_only=alone)
    _, rows = original_rows(tmp_path / "root", mirror, driver, cameras=(WIDE,))
    assert {row.status for row in rows} == {"failed"}
    assert all("does not see" in (row.reason or "") for row in rows)


NOT_FINITE = np.zeros((3, 64, 3))
NOT_FINITE[1, 4, 0] = np.nan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trajectories_m": NOT_FINITE}, r"not finite: 1 of 192, the first in sample 1 at 0.5 s.*another one"),
        ({"trajectories_m": np.full((3, 64, 3), np.inf)}, "not finite: 192 of 192"),
        ({"trajectories_m": np.zeros((3, 63, 3))}, r"shape \(3, 63, 3\) where \(3, 64, 3\)"),
        ({"trajectories_m": np.zeros((1, 64, 3))}, r"shape \(1, 64, 3\)"),
        ({"reasoning": ("one",)}, "1 reasoning texts for 3 samples"),
        ({"decisions": ("go", "stop")}, "2 decisions for 3 samples"),
    ],
)
def test_an_answer_that_is_none_fails_its_clip_naming_driver_and_remedy(
    tmp_path: Path, mirror: Path, changes: dict[str, Any], message: str
) -> None:
    driver = BrokenDriver(**changes)
    with pytest.raises(DriverError, match=message):
        ask(driver, moment_of(circle_drive()), (1, 2, 3))
    _, rows = original_rows(tmp_path / "root", mirror, driver)
    assert {row.status for row in rows} == {"failed"}
    assert all((row.reason or "").startswith("driver constant_velocity 1 gave") for row in rows)


def test_a_clip_without_ego_motion_has_plans_but_nothing_that_needs_a_recorded_path(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_numbered(folder / "plain.mp4", count=90, rate=30, size=(96, 64))
    platform, (row,) = original_rows(tmp_path / "root", folder, ConstantVelocityDriver())
    arms = arms_of(platform, row)
    assert row.facts["ego_quality"] == "estimated"
    assert (arms.ground_truth_m, row.facts["min_ade_m"], arms.lane) == (None, None, None)
    assert "not calibrated" in (arms.lane_reason or "")
    assert "estimated from the pictures" in str(row.facts["note"])


def test_an_edited_arm_that_is_not_finite_fails_its_items_and_leaves_the_original(tmp_path: Path, mirror: Path) -> None:
    study = Study(tmp_path / "root", mirror, cameras=(WIDE,), samples=3)
    platform = study.platform(ConstantVelocityDriver())
    study.make_edits(platform)
    assert set(study.original(platform).values()) == {"ok"}
    said = study.edited(study.platform(BrokenDriver(trajectories_m=NOT_FINITE)))
    assert len(said) == 6
    assert all("not finite: 1 of 192, the first in sample 1 at 0.5 s" in reason for reason in said.values())
    assert {row.status for row in platform.store.manifest("original_trajectories", CHUNK).rows.values()} == {"ok"}
    assert set(study.edited(platform).values()) == {"ok"}  # once the driver answers


@pytest.mark.parametrize("frames", [0, 7])
def test_an_edited_video_with_another_number_of_frames_fails_its_item_with_the_remedy(
    tmp_path: Path, mirror: Path, frames: int
) -> None:
    study = Study(tmp_path / "root", mirror, cameras=(WIDE,))
    platform = study.platform(ConstantVelocityDriver())
    study.make_edits(platform)
    study.original(platform)
    key, row = next(iter(platform.store.manifest("edited_videos", CHUNK).rows.items()))
    video = tmp_path / "root" / str(row.folder) / next(file.name for file in row.files if file.name.endswith(".mp4"))
    if frames:
        write_video(video, np.zeros((frames, 48, 64, 3), np.uint8), 8.0)
    else:
        video.write_bytes(b"")
    said = study.edited(platform)
    assert "does not fit its sidecar" in said.pop(key)
    assert set(said.values()) == {"ok"}


def test_the_file_of_an_edit_without_recorded_ego_motion_says_which_figures_are_absent_and_why(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_numbered(folder / "plain.mp4", count=90, rate=30, size=(96, 64))
    study = Study(tmp_path / "root", folder)
    platform = study.platform(RecordingDriver(("camera_front_wide_120fov",)))
    study.make_edits(platform)
    study.original(platform)
    assert set(study.edited(platform).values()) == {"ok"}
    for row in platform.store.manifest("edited_trajectories", CHUNK).rows.values():
        name = next(file.name for file in row.files if file.name.endswith("_inference.json"))
        result = InferenceResult.from_json(platform.store.read_bytes(row, name))
        assert (result.original_min_ade, result.min_ade_meters, result.ground_truth_m) == (None, None, None)
        assert (result.original_accuracy.min_fde_m, result.edited_accuracy.medoid_ade_m) == (None, None)
        assert "estimated from the pictures" in (result.ground_truth_reason or "")
        assert result.off_lane is None
        assert "not calibrated" in (result.off_lane_reason or "")
        # What needs no recorded path is there.
        assert result.divergence.ade_m >= 0.0
        assert result.ego_quality == "estimated"
    make_trajectory_reports(platform, CHUNK, "run")
    report = platform.store.manifest("trajectory_reports", CHUNK).rows[CHUNK_ROW]
    text = " ".join(platform.store.read_bytes(report, TEXT_FILE).decode().split())
    assert "no ground truth: ego motion was estimated from the pictures" in text
    assert "no off-lane share" in text


def test_arms_are_only_compared_where_they_were_made_alike(tmp_path: Path, mirror: Path) -> None:
    study = Study(tmp_path / "root", mirror, cameras=(WIDE,), samples=2)
    platform = study.platform(RecordingDriver((WIDE, TELE)))
    study.make_edits(platform)
    study.original(platform)
    for changes in ({"driver": "constant_velocity"}, {"samples": 3}, {"study_seed": 8}, {"edited_camera_only": True}):
        driver = RecordingDriver((WIDE, TELE))
        said = study.edited(study.platform(driver, **changes))
        assert len(said) == 6
        assert all("materialize original_trajectories of the chunk first" in reason for reason in said.values())
        assert driver.moments == []
    alone = study.platform(RecordingDriver((WIDE, TELE)), edited_camera_only=True)
    study.original(alone)
    assert set(study.edited(alone).values()) == {"ok"}
