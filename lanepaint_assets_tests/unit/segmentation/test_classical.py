"""The weight-free road segmenter on drawn roads, on pictures without a road, and on real clips."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lanepaint_assets.segmentation.classical import ClassicalRoadSegmenter
from lanepaint_assets.segmentation.cleanup import clean_frame, clean_video_masks
from lanepaint_assets.segmentation.road_shape import choose_vanishing_point, vanishing_votes

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]

WIDTH, HEIGHT = 640, 360
HORIZON = 165
CAR = np.s_[170:240, 330:420]


def polygon(*corners: tuple[float, float]) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    cv2.fillPoly(mask, [np.array(corners, dtype=np.int32)], 1)
    return mask > 0


def ground_line(offset: float, half_width: float) -> Mask:
    """A strip that runs to the vanishing point (320, 165); offset and width in frame widths at the bottom row."""
    left, right = 320 + (offset - half_width) * WIDTH, 320 + (offset + half_width) * WIDTH
    return polygon((320, HORIZON), (320, HORIZON), (right, HEIGHT), (left, HEIGHT))


def street(seed: int = 0, shadow: bool = False, markings: bool = False, car: bool = False) -> tuple[Picture, Mask]:
    """A picture of a straight road between meadows, and its true road mask."""
    noise = np.random.default_rng(seed)
    picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.float32)
    picture[:HORIZON] = (150, 185, 225)
    picture[HORIZON:] = (90, 120, 60)
    picture[HORIZON:] += noise.normal(0, 14, (HEIGHT - HORIZON, WIDTH, 1))
    road = polygon((318, HORIZON + 2), (322, HORIZON + 2), (320 + 0.6 * WIDTH, HEIGHT), (320 - 0.6 * WIDTH, HEIGHT))
    picture[road] = (105, 105, 108)
    picture[road] += noise.normal(0, 4, (int(road.sum()), 1))
    if markings:
        for offset in (-0.5, 0.0, 0.5):
            picture[ground_line(offset, 0.018) & road] = (235, 235, 230)
    if shadow:
        bands = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
        bands[205:225] = bands[270:310] = True
        picture[bands] *= (0.45, 0.47, 0.52)
    if car:
        picture[CAR] = (150, 30, 35)
        picture[232:240, 330:420] = (20, 20, 22)
        picture[180:200, 345:405] = (60, 80, 95)
        road[CAR] = False
    return np.clip(picture + noise.normal(0, 2, picture.shape), 0, 255).astype(np.uint8), road


def iou(first: Mask, second: Mask) -> float:
    return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))


@pytest.fixture(scope="module")
def segmenter() -> ClassicalRoadSegmenter:
    return ClassicalRoadSegmenter()


@pytest.mark.parametrize("markings", [False, True])
@pytest.mark.parametrize("shadow", [False, True])
def test_a_road_with_shadows_and_markings_is_found_whole(
    segmenter: ClassicalRoadSegmenter, shadow: bool, markings: bool
) -> None:
    picture, road = street(shadow=shadow, markings=markings)
    cleaned = clean_frame(segmenter.segment_picture(picture))
    assert iou(cleaned.paint, road) > 0.93


def test_a_vehicle_ahead_is_left_out_of_the_paint(segmenter: ClassicalRoadSegmenter) -> None:
    picture, road = street(markings=True, car=True)
    cleaned = clean_frame(segmenter.segment_picture(picture))
    assert cleaned.paint[CAR].mean() < 0.1
    assert iou(cleaned.paint, road) > 0.9


def test_a_mirrored_picture_gives_nearly_the_mirrored_road(segmenter: ClassicalRoadSegmenter) -> None:
    picture, _ = street(markings=True, car=True)
    mask = segmenter.segment_picture(picture)
    assert iou(segmenter.segment_picture(np.ascontiguousarray(picture[:, ::-1]))[:, ::-1], mask) > 0.95


def test_a_picture_of_one_colour_has_no_road(segmenter: ClassicalRoadSegmenter) -> None:
    for level in (0, 90, 255):
        assert not segmenter.segment_picture(np.full((HEIGHT, WIDTH, 3), level, dtype=np.uint8)).any()


def test_a_video_is_steady_and_recovers_after_a_black_frame(segmenter: ClassicalRoadSegmenter) -> None:
    frames = np.stack([street(seed, shadow=seed > 2, markings=True)[0] for seed in range(6)])
    frames[3] = 0
    masks = segmenter.segment_video(frames)
    assert masks.shape == frames.shape[:3]
    assert not masks[3].any()
    _, road = street()
    for index in (0, 1, 2, 4, 5):
        assert iou(masks[index], road) > 0.9


def test_a_picture_is_a_video_of_one_frame_and_calls_do_not_influence_each_other(
    segmenter: ClassicalRoadSegmenter,
) -> None:
    picture, _ = street(markings=True)
    first = segmenter.segment_picture(picture)
    segmenter.segment_video(np.stack([street(seed, shadow=True)[0] for seed in range(2)]))
    assert np.array_equal(segmenter.segment_picture(picture), first)
    assert np.array_equal(segmenter.segment_video(picture[None])[0], first)


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (40, 2), (33, 47), (97, 401)])
def test_frames_of_odd_and_tiny_sizes_are_segmented_without_error(
    segmenter: ClassicalRoadSegmenter, size: tuple[int, int]
) -> None:
    picture = cv2.resize(street()[0], (size[1], size[0]))
    assert segmenter.segment_picture(picture).shape == size


def test_the_vanishing_point_of_a_drawn_road_is_found() -> None:
    picture, _ = street(markings=True)
    luma = np.log(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) + 12)
    small = cv2.resize(luma, (320, 180), interpolation=cv2.INTER_AREA)
    x, y = choose_vanishing_point(vanishing_votes(small))
    assert abs(320 * x - 160) < 6
    assert abs(180 * y - HORIZON / 2) < 6


def read_clip(path: Path, count: int, step: int) -> Picture:
    frames = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % step == 0:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == count:
                break
    return np.stack(frames)


def test_on_a_real_highway_the_mask_covers_the_lane_and_not_the_sky(
    real_data: Path, segmenter: ClassicalRoadSegmenter
) -> None:
    frames = read_clip(real_data / "clips" / "01_highway_solid_white_right_dashed_left.mp4", 12, 3)
    masks = clean_video_masks(segmenter.segment_video(frames))
    height, width = frames.shape[1:3]
    lane = masks.paint[:, int(0.8 * height) : int(0.95 * height), int(0.35 * width) : int(0.65 * width)]
    assert lane.mean() > 0.98
    assert not masks.road[:, : int(0.5 * height)].any()
    overlaps = [iou(before, after) for before, after in zip(masks.road[:-1], masks.road[1:], strict=True)]
    assert min(overlaps) > 0.9


def test_on_real_street_pictures_the_mask_beats_a_fixed_trapezoid_clearly(
    real_data: Path, segmenter: ClassicalRoadSegmenter
) -> None:
    folder = real_data / "road_gt_camvid_day1hz"
    overlaps = []
    for path in sorted((folder / "images").iterdir())[::4]:
        labels = cv2.imread(str(folder / "labels" / path.name), cv2.IMREAD_GRAYSCALE)
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB).astype(np.uint8)
        known, road = labels != 11, labels == 3
        overlaps.append(iou(clean_frame(segmenter.segment_picture(picture)).paint & known, road & known))
    # The trapezoid scores 0.76.
    assert np.mean(overlaps) > 0.79


def test_the_bonnet_of_a_moving_car_is_left_out(segmenter: ClassicalRoadSegmenter) -> None:
    frames = np.stack([street(seed)[0] for seed in range(8)])
    top = HEIGHT - 36
    frames[:, top:] = (40, 30, 60)
    masks = segmenter.segment_video(frames)
    assert masks[:, top - 60 : top - 8, 250:390].mean() > 0.9
    assert not masks[:, top + 6 :].any()
