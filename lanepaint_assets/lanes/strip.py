"""The road strip: several pictures of a drive laid over each other on the ground around one moment.

Called by lane detection. A cell of the strip is mostly what the nearest look at it showed: the sharpest one, and the
one least often hidden by other vehicles; looks that most others contradict are left out. What is paint and what is not
is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.compiled import compiled
from lanepaint_assets.lanes.birds_eye import GroundGrid, ground_map, planar_poses, road_pitch
from lanepaint_assets.lanes.inspector import RoadView
from lanepaint_assets.lanes.look_agreement import Looks, doubtful_blocks
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# A line of 0.10 m must span two cells across; along the road 0.2 m resolves the shortest gap in the tables (1 m).
CELL_ACROSS_M = 0.05
CELL_ALONG_M = 0.2
# The far edge of a four-lane road and of a three-lane carriageway, from any of their lanes, with ground on both of its
# sides: the far edge lines of the development drives lie 12 m away at most.
HALF_WIDTH_M = 13.0
# Beyond this a pixel row covers more than 2 m of road at common camera heights and resolutions.
AHEAD_M = 45.0
# Ground already passed adds whole dash periods; two long ones (2 x 18 m) with what lies ahead are enough.
BEHIND_M = 18.0
# Looks at one cell fade with distance by this scale: at twice the distance the nearer look outweighs the farther.
SHARPNESS_SCALE_M = 5.0
# More pictures than this add time but no new ground.
MAX_FRAMES = 12
# Vehicles and the verge show only where no picture saw road: an edge line's outer flank is needed to measure it.
OFF_ROAD_WEIGHT = 1e-6
# A look that shows something else than the others is a vehicle as a rule; it shows only where there is no other.
DOUBTFUL_WEIGHT = 1e-3
# Bonnets reach up to this share of the picture from below; the ground there is seen in earlier or later pictures.
BONNET_SHARE = 0.07


@dataclass(frozen=True)
class RoadStrip:
    """Ground around the target frame.

    Attributes:
        grid: its cells, rig frame at the target frame.
        rgb: (rows, columns, 3) float32, sRGB 0..255, blended looks.
        seen: (rows, columns) bool, in some picture.
        on_road: (rows, columns) bool, and road there, where road masks were given.
        look_m: (rows,) distance of the nearest look at the row, metres ahead of the lens; infinite where never seen.
        frames_used: number of pictures blended.
        pitch_down_rad: of the target picture's vehicle against the road.
    """

    grid: GroundGrid
    rgb: Float32
    seen: NDArray[np.bool_]
    on_road: NDArray[np.bool_]
    look_m: Float
    frames_used: int
    pitch_down_rad: float


def strip_frames(view: RoadView, ego: Egomotion | None) -> tuple[NDArray[np.int64], Float]:
    """Which pictures to blend, and their planar poses in the target's rig frame.

    Takes the target and others spread evenly over the travelled ground that the strip covers.
    """
    target = view.target_index
    alone = np.array([target], dtype=np.int64), np.zeros((1, 3))
    if ego is None or len(view.frames) == 1:
        return alone
    times = np.asarray(view.timestamps_us, dtype=np.int64)
    first, last = ego.span_us
    if not first <= int(times[target]) <= last:
        return alone
    inside = np.flatnonzero((times >= first) & (times <= last))
    poses = planar_poses(ego, times[inside], int(times[target]))
    near = (poses[:, 0] > -BEHIND_M - 5.0) & (poses[:, 0] < AHEAD_M - 5.0)
    inside, poses = inside[near], poses[near]
    if inside.size > MAX_FRAMES:
        # Even in distance, not in time: a vehicle at a red light would fill the strip with one view.
        wanted = np.linspace(poses[:, 0].min(), poses[:, 0].max(), MAX_FRAMES - 1)
        chosen = {int(np.argmin(np.abs(poses[:, 0] - x))) for x in wanted}
        chosen.add(int(np.flatnonzero(inside == target)[0]))
        order = sorted(chosen)
        inside, poses = inside[order], poses[order]
    return inside.astype(np.int64), poses


def accumulate_strip(view: RoadView, camera: RigCamera, ego: Egomotion | None) -> RoadStrip:
    """Blend the pictures around `view.target_index` on the ground.

    Args:
        view: pictures; looks that its road masks, where given, leave out are only used where there is no other.
        camera: known or estimated, of the frames' size.
        ego: None looks at the target frame alone, with the camera's own pitch.
    """
    indices, poses = strip_frames(view, ego)
    pitches = _pitches(view, ego, indices)
    behind = float(min(0.0, poses[:, 0].min())) + 3.0
    ahead = AHEAD_M
    grid = GroundGrid(max(-BEHIND_M, min(behind, 3.0)), ahead, -HALF_WIDTH_M, HALF_WIDTH_M, CELL_ACROSS_M, CELL_ALONG_M)
    rows, columns = grid.shape
    looks = Looks(
        np.zeros((indices.size, rows, columns, 3), dtype=np.uint8),
        np.zeros((indices.size, rows, columns), dtype=np.bool_),
        np.zeros((indices.size, rows, columns), dtype=np.bool_),
        np.zeros((indices.size, rows, columns), dtype=np.float32),
    )
    lowest_row = camera.height * (1.0 - BONNET_SHARE)
    for at, (index, pose, pitch) in enumerate(zip(indices, poses, pitches, strict=True)):
        u, v, valid, depth = ground_map(camera, grid, (float(pose[0]), float(pose[1]), float(pose[2])), float(pitch))
        valid &= (v < lowest_row) & (depth < ahead)
        if view.road_masks is None:
            looks.road[at] = valid
        else:
            # A segmenter's edge is a few pixels uncertain, and edge lines lie on it.
            mask = cv2.dilate(view.road_masks[index].astype(np.uint8), np.ones((5, 9), np.uint8))
            road = cv2.remap(mask, u, v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
            looks.road[at] = valid & (road > 0)
        cv2.remap(view.frames[index], u, v, cv2.INTER_LINEAR, dst=looks.rgb[at], borderMode=cv2.BORDER_CONSTANT)
        looks.valid[at] = valid
        looks.ahead_m[at] = depth
    rgb = np.zeros((rows, columns, 3), dtype=np.float32)
    seen = np.zeros((rows, columns), dtype=np.bool_)
    on_road = np.zeros((rows, columns), dtype=np.bool_)
    look_m = np.full(rows, np.inf)
    unlike, wide = doubtful_blocks(looks)
    _blend(looks.rgb, looks.valid, looks.road, looks.ahead_m, unlike, wide, rgb, seen, on_road, look_m)
    pitch_down = float(pitches[int(np.flatnonzero(indices == view.target_index)[0])])
    return RoadStrip(grid, rgb, seen, on_road, look_m, int(indices.size), pitch_down)


@compiled(fast_math=True)
def _blend(
    looks: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    road: NDArray[np.bool_],
    ahead_m: Float32,
    unlike: NDArray[np.bool_],
    wide: NDArray[np.bool_],
    rgb: Float32,
    seen: NDArray[np.bool_],
    on_road: NDArray[np.bool_],
    look_m: Float,
) -> None:
    """Weighted means of the looks of every cell into the last four arrays, which come empty."""
    count, rows, columns = valid.shape
    _, block_rows, block_columns = unlike.shape
    for r in range(rows):
        br = r * block_rows // rows
        for c in range(columns):
            bc = c * block_columns // columns
            red, green, blue, total = 0.0, 0.0, 0.0, 0.0
            for t in range(count):
                if not valid[t, r, c]:
                    continue
                weight = np.exp(-ahead_m[t, r, c] / SHARPNESS_SCALE_M)
                if not road[t, r, c]:
                    weight *= OFF_ROAD_WEIGHT
                if wide[t, br, bc]:
                    weight *= DOUBTFUL_WEIGHT
                red += weight * looks[t, r, c, 0]
                green += weight * looks[t, r, c, 1]
                blue += weight * looks[t, r, c, 2]
                total += weight
                seen[r, c] = True
                if road[t, r, c] and not unlike[t, br, bc]:
                    on_road[r, c] = True
                look_m[r] = min(look_m[r], ahead_m[t, r, c])
            if seen[r, c]:
                rgb[r, c, 0] = red / total
                rgb[r, c, 1] = green / total
                rgb[r, c, 2] = blue / total


def _pitches(view: RoadView, ego: Egomotion | None, indices: NDArray[np.int64]) -> Float:
    """Pitch of each picture against the road; the camera's own where no ego motion covers it."""
    if ego is None:
        return np.zeros(indices.size)
    times = np.asarray(view.timestamps_us, dtype=np.int64)[indices]
    first, last = ego.span_us
    if int(times.min()) < first or int(times.max()) > last:
        return np.zeros(indices.size)
    return road_pitch(ego, times)
