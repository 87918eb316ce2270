"""The NPZ that the trajectory videos are drawn from: complete, compact, and refused where it is damaged."""

from __future__ import annotations

import io
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from lanepaint_assets.clips.decoding import read_all_frames
from lanepaint_assets.evaluation.vis_data import FORMAT_VERSION, VisData, VisDataError, encoded_frames, shrunk
from lanepaint_assets.rendering.cameras import PinholeLens, RigCamera, mounting_rotation
from lanepaint_assets.rendering.comparison import render_comparison
from lanepaint_assets.rendering.overlay import render_overlay
from lanepaint_assets.rendering.scene import EngineLabel
from lanepaint_assets_tests.unit.evaluation.drives import numbered_frames
from lanepaint_assets_tests.unit.evaluation.vis_items import coded_frames, paths, shown_clip, vis_data


def arrays_of(packed: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return dict(arrays)


def packed_again(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def assert_same(one: object, two: object) -> None:
    """Equal to the last bit, arrays inside records included."""
    assert type(one) is type(two)
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, two)
    elif hasattr(one, "__dataclass_fields__"):
        for field in fields(one):  # type: ignore[arg-type]
            assert_same(getattr(one, field.name), getattr(two, field.name))
    elif isinstance(one, tuple) and isinstance(two, tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert one == two


def pinhole() -> RigCamera:
    lens = PinholeLens(64, 36, 32.0, 31.0, 31.5, 17.5)
    return RigCamera(lens, mounting_rotation(0.1, 0.05), np.array([1.7, 0.0, 1.5]), "assumed")


@pytest.mark.parametrize(
    "data",
    [
        vis_data(),
        vis_data(ground_truth_m=None, original_min_ade_m=None, edited_min_ade_m=None, min_ade_reason="too short"),
        vis_data(shown_clip(camera=pinhole(), engines=())),
    ],
    ids=["whole", "without ground truth", "pinhole, nobody named"],
)
def test_all_comes_back_from_the_file_to_the_last_bit(data: VisData) -> None:
    packed = data.to_npz()
    assert packed == data.to_npz()
    assert_same(VisData.from_npz(packed), data)


def test_the_file_has_the_documented_arrays() -> None:
    arrays = arrays_of(vis_data().to_npz())
    assert arrays["camera_indices"].tolist() == [1, 0]
    assert arrays["original_frames_1"].shape == (4, 36, 64, 3)
    assert arrays["original_trajectories_m"].shape == (3, 64, 3)
    assert arrays["original_video_mp4"].dtype == np.uint8
    assert bytes(arrays["original_video_mp4"][4:8]) == b"ftyp"
    assert int(arrays["format_version"]) == FORMAT_VERSION


def test_videos_drawn_from_the_file_are_those_drawn_before_it_was_written(tmp_path: Path) -> None:
    data = vis_data()
    for name, item in (("before", data), ("after", VisData.from_npz(data.to_npz()))):
        render_overlay(item.scene(), tmp_path / f"{name}_overlay.mp4")
        render_comparison(item.scene(), tmp_path / f"{name}_comparison.mp4")
    for kind in ("overlay", "comparison"):
        before, after = (tmp_path / f"{name}_{kind}.mp4" for name in ("before", "after"))
        assert before.read_bytes() == after.read_bytes()


def test_frames_of_odd_size_keep_it_and_the_camera_fits_them() -> None:
    frames = coded_frames(np.arange(12, dtype=np.int64), 479, 269)
    video = encoded_frames(frames, 8.0)
    scene = vis_data(shown_clip(original_mp4=video, edited_mp4=video, size=(479, 269))).scene()
    assert scene.size == (479, 269)
    assert scene.canvas_size == (480, 270)
    assert len(list(scene.frames("edited"))) == 12


def test_hidden_frames_are_kept_well_enough_to_be_looked_at(tmp_path: Path) -> None:
    """Noise is the hard case: most of the error allowed here is the noise itself, 36 dB."""
    rng = np.random.default_rng(3)
    ramp = np.linspace(40, 200, 480)[None, :, None] + np.zeros((270, 1, 3))
    frames = np.clip(ramp + rng.normal(0, 4, (6, 270, 480, 3)), 0, 255).astype(np.uint8)
    path = tmp_path / "shown.mp4"
    path.write_bytes(encoded_frames(frames, 8.0))
    error = np.mean((read_all_frames(path).astype(float) - ramp) ** 2)
    assert 10 * np.log10(255**2 / error) > 34


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (b"not a zip", "not a whole"),
        (b"", "not a whole"),
        (vis_data().to_npz()[:5000], "not a whole"),
    ],
    ids=["no archive", "empty", "cut off"],
)
def test_a_file_that_is_none_is_refused_with_the_remedy(damage: bytes, message: str) -> None:
    with pytest.raises(VisDataError, match=message) as refused:
        VisData.from_npz(damage, "x_vis_data.npz")
    assert "x_vis_data.npz" in str(refused.value)
    assert "materialize `edited_trajectories`" in str(refused.value)
    assert "pickle" not in str(refused.value)


def test_an_engine_that_nobody_knows_stays_unknown() -> None:
    engines = (EngineLabel("painter", "imported", "", None), EngineLabel("driver", "lane_follow", "3", False))
    assert VisData.from_npz(vis_data(shown_clip(engines=engines)).to_npz()).scene().engines == engines


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format_version", np.int64(1), "format version is 1"),
        ("original_trajectories_m", np.zeros((64, 3)), "original_trajectories_m"),
        ("lens_model", np.str_("mirror"), "lens model"),
        ("camera_quality", np.str_("perfect"), "quality"),
        ("engine_names", np.array(["one"]), "zip"),
        ("edited_camera", None, "edited_camera"),
        ("format_version", None, "format version is none"),
    ],
)
def test_arrays_that_are_missing_or_wrong_are_named(key: str, value: object, message: str) -> None:
    arrays = arrays_of(vis_data().to_npz())
    if value is None:
        del arrays[key]
    else:
        arrays[key] = np.asarray(value)
    with pytest.raises(VisDataError, match=message):
        VisData.from_npz(packed_again(arrays))


def test_a_single_array_and_pickled_objects_are_refused() -> None:
    single, pickled = io.BytesIO(), io.BytesIO()
    np.save(single, np.zeros(3))
    np.savez(pickled, format_version=np.array([{"a": 1}], dtype=object))
    for file in (single, pickled):
        with pytest.raises(VisDataError):
            VisData.from_npz(file.getvalue())


def test_a_video_with_another_number_of_frames_or_none_is_refused() -> None:
    for video, message in ((encoded_frames(coded_frames(np.arange(5)), 8.0), "5 frames"), (b"no video", "not a video")):
        data = vis_data(shown_clip(edited_mp4=video))
        with pytest.raises(VisDataError, match=message):
            data.scene()


def test_a_hundred_frames_with_four_noisy_driver_frames_take_less_than_eight_megabytes() -> None:
    """960 x 540 with the grain of the sample drives, which is what sets the size."""
    rng = np.random.default_rng(5)
    ramp = np.linspace(60, 180, 960)[None, :, None] + np.zeros((540, 1, 3))
    frames = np.clip(ramp + rng.normal(0, 2, (10, 540, 960, 3)), 0, 255).astype(np.uint8)
    video = encoded_frames(frames, 8.0)
    driver = np.stack([shrunk(frames[k : k + 1], 576)[0] for k in range(4)])
    data = replace(
        vis_data(shown_clip(original_mp4=video, edited_mp4=video)),
        original_frames=(driver, driver),
        edited_frames=driver,
    )
    others = len(data.to_npz()) - 2 * len(video)
    assert 10 * 2 * len(video) + others < 8e6


def test_small_frames_are_not_enlarged() -> None:
    frames = numbered_frames(2)
    assert shrunk(frames, 576) is frames
    assert shrunk(numbered_frames(2, 1200, 40), 576).shape == (2, 19, 576, 3)
    assert paths().shape == (3, 64, 3)
