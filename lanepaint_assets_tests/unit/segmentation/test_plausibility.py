"""Whether masks can be road: pictures without one are told with a reason, real roads are never doubted."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.clips.pictures import read_picture
from lanepaint_assets.segmentation.classical import ClassicalRoadSegmenter
from lanepaint_assets.segmentation.cleanup import clean_video_masks
from lanepaint_assets.segmentation.plausibility import Plausibility, road_plausibility
from lanepaint_assets.settings import Settings

Picture = NDArray[np.uint8]

HEIGHT, WIDTH = 270, 480
MIN_ROAD_CONFIDENCE = Settings.model_fields["min_road_confidence"].default


def judged(picture: Picture) -> Plausibility:
    """The judgement on what the classical engine makes of one picture."""
    frames = np.ascontiguousarray(picture)[None]
    return road_plausibility(frames, clean_video_masks(ClassicalRoadSegmenter().segment_video(frames)).road)


def trapezoid() -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    cv2.fillPoly(mask, [np.array([(215, 140), (265, 140), (460, 270), (20, 270)], dtype=np.int32)], 1)
    return mask > 0


def street(sky: int = 200, noise: float = 1.0) -> Picture:
    """Grey road between meadows under a sky of the given brightness."""
    picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.float32)
    picture[:130] = sky
    picture[130:] = (80, 110, 60)
    picture[trapezoid()] = (105, 105, 108)
    picture += np.random.default_rng(0).normal(0, noise, (HEIGHT, WIDTH, 1))
    return np.clip(picture, 0, 255).astype(np.uint8)


def sky() -> Picture:
    """Blue above, whiter towards the horizon, with a few clouds."""
    shade = np.linspace(0, 1, HEIGHT)[:, None, None]
    picture = np.array([90, 140, 220]) * (1 - shade) + np.array([170, 195, 230]) * shade + np.zeros((1, WIDTH, 1))
    for x, y in ((90, 60), (300, 120), (400, 220)):
        cv2.ellipse(picture, (x, y), (60, 18), 0, 0, 360, (235, 236, 240), cv2.FILLED)
    return cv2.GaussianBlur(picture, (0, 0), 6).astype(np.uint8)


def test_a_drawn_street_is_believed_without_a_reason() -> None:
    verdict = road_plausibility(street()[None], trapezoid()[None])
    assert verdict.confidence > 0.9
    assert verdict.reason == ""


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_picture_of_one_colour_is_doubted_as_such(level: int) -> None:
    verdict = judged(np.full((HEIGHT, WIDTH, 3), level, dtype=np.uint8))
    assert verdict.confidence == 0
    assert "one brightness" in verdict.reason


def test_noise_is_doubted_as_such() -> None:
    verdict = judged(np.random.default_rng(3).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    assert verdict.confidence < MIN_ROAD_CONFIDENCE
    assert "noise" in verdict.reason


def test_a_picture_of_sky_alone_is_doubted() -> None:
    verdict = judged(sky())
    assert verdict.confidence < MIN_ROAD_CONFIDENCE
    assert verdict.reason


def test_a_road_lit_under_a_black_sky_is_doubted() -> None:
    verdict = road_plausibility(street(sky=8)[None], trapezoid()[None])
    assert verdict.confidence < MIN_ROAD_CONFIDENCE
    assert "night" in verdict.reason


def test_an_empty_mask_says_that_no_road_was_found() -> None:
    verdict = road_plausibility(street()[None], np.zeros((1, HEIGHT, WIDTH), dtype=np.bool_))
    assert verdict == Plausibility(0.0, "no road was found")


def test_a_clip_is_judged_by_most_of_its_frames() -> None:
    frames = np.stack([street()] * 4 + [np.zeros_like(street())])
    masks = np.stack([trapezoid()] * 5)
    assert road_plausibility(frames, masks).confidence > 0.9
    assert road_plausibility(frames[::-1][:1], masks[:1]).confidence == 0


def test_masks_of_another_clip_are_refused() -> None:
    with pytest.raises(ValueError, match="do not belong"):
        road_plausibility(street()[None], np.zeros((2, HEIGHT, WIDTH), dtype=np.bool_))


def pictures(data: Path) -> list[Picture]:
    """A picture of every real set."""
    found = [
        read_picture(path.read_bytes())
        for folder, step in (
            ("road_gt_camvid_day1hz/images", 6),
            ("road_gt_camvid_test_dusk1hz/images", 5),
            ("lane_images_udacity/p1", 2),
            ("lane_images_udacity/advanced", 2),
        )
        for path in sorted((data / folder).glob("*.[jp][pn]g"))[::step]
    ]
    for path in sorted((data / "clips").glob("*.mp4")):
        with av.open(str(path)) as container:
            found.append(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    return found


def test_real_roads_are_believed_and_doubted_upside_down(real_data: Path) -> None:
    for picture in pictures(real_data):
        assert judged(picture).confidence >= MIN_ROAD_CONFIDENCE
        assert judged(picture[::-1]).confidence < MIN_ROAD_CONFIDENCE
