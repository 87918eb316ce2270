"""Ego motion from the road's own motion, for clips that come without a record of it.

Called by `geometry.py` once a clip. The road ahead of the wheels is looked at from above in every frame; how far its
texture moved from one frame to the next is the vehicle's motion. Scale is that of the camera's height.

Phases: contrast-normalized ground patches; correlation over forward motion and yaw for each pair of frames; the most
plausible speed profile through all pairs at once (one pair of a road with regular dashes is ambiguous, a whole clip
rarely is); fine registration of each pair around it; smoothing, trusting each pair by how well it matched.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lanepaint_assets.clips.egomotion import Egomotion
from lanepaint_assets.compiled import compiled
from lanepaint_assets.lanes.birds_eye import GroundGrid, sample_ground
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# The patch: the own lane and its lines, as near as the bonnet allows, where the road is sharp, and long enough to
# overlap itself at 40 m/s and 8 Hz.
PATCH_LENGTH_M = 18.0
PATCH_HALF_WIDTH_M = 3.0
CELL_ACROSS_M = 0.1
CELL_ALONG_M = 0.1
# Share of the picture's height that bonnets reach up to.
BONNET_SHARE = 0.07
# 45 m/s is 160 km/h; half a metre back allows for noise at standstill.
MAX_SPEED_MPS = 45.0
# Yaw rates of ordinary driving: 0.4 rad/s is a turn at a crossing.
MAX_YAW_RATE = 0.4
YAW_STEPS = 13
# Standard deviation of the change of speed between neighbouring pairs, as an acceleration.
ACCELERATION_MPS2 = 3.0
# How firmly registration is held near its start, in cells of full contrast: a few hundredths of a patch with texture.
HOLD = 4.0
# Registration forgives differences beyond this: parallax of what stands on the ground, moving vehicles and shadows.
ROBUST_CONTRAST = 0.5
# Search and registration trust ground less with distance, and the search no edge more than this many times the usual
# contrast: vehicles ahead and beside have the strongest edges and their own motion.
TRUST_DEPTH_M = 8.0
SEARCH_CLIP = 0.7
# How strongly correlation speaks against the speed prior in the profile search; chosen on a few clips, not swept.
CORRELATION_WEIGHT = 60.0


# Grey levels that codec noise does not reach in a picture of 160 columns, and the share of it that others change.
CHANGED_LEVELS = 8
STANDING_SHARE = 0.01
# Frames that tell what stays in place; more only cost time.
STILL_FRAMES = 25


def standing_still(timestamps_us: NDArray[np.int64]) -> Egomotion:
    """A vehicle that does not move, for a single picture."""
    count = len(timestamps_us)
    return Egomotion(
        np.asarray(timestamps_us, dtype=np.int64),
        np.zeros((count, 3)),
        np.tile([0.0, 0.0, 0.0, 1.0], (count, 1)),
        quality="estimated",
    )


@dataclass(frozen=True)
class PairMotion:
    """Motion between neighbouring frames, before smoothing.

    Attributes:
        forward_m, left_m, yaw_rad: (T-1,), of the later rig in the earlier rig's frame.
        match: (T-1,) correlation of the registered patches, -1..1; the trust put into the pair.
    """

    forward_m: Float
    left_m: Float
    yaw_rad: Float
    match: Float


def estimate_egomotion(frames: NDArray[np.uint8], timestamps_us: NDArray[np.int64], camera: RigCamera) -> Egomotion:
    """Estimate the vehicle's path on the ground plane.

    Args:
        frames: (T, H, W, 3) sRGB uint8, T >= 1.
        timestamps_us: (T,) int64, strictly increasing.
        camera: of the frames' size.

    Returns:
        Poses at the frames' times, quality `estimated`; a vehicle that stands still where the frames show no ground.
    """
    times = np.asarray(timestamps_us, dtype=np.int64)
    grid = _patch_grid(camera)
    if len(frames) < 2 or grid is None:
        return standing_still(times)
    patches, seen = _ground_patches(frames, camera, grid)
    seconds = np.diff(times).astype(np.float64) / 1e6
    pairs = register_pairs(patches, seen, grid, seconds, standing_pairs(frames))
    return _integrate(times, _smoothed(pairs, seconds))


def registration_quality(frames: NDArray[np.uint8], timestamps_us: NDArray[np.int64], camera: RigCamera) -> float:
    """How well one rigid motion explains the ground between neighbouring frames, -1..1.

    A camera whose pitch is wrong sees far ground move by another amount than near ground, which no rigid motion
    explains: this is how the pitch of an unknown camera is found.
    """
    grid = _patch_grid(camera)
    if len(frames) < 2 or grid is None:
        return -1.0
    patches, seen = _ground_patches(frames, camera, grid)
    seconds = np.diff(np.asarray(timestamps_us, dtype=np.int64)).astype(np.float64) / 1e6
    return float(register_pairs(patches, seen, grid, seconds, standing_pairs(frames)).match.mean())


def _patch_grid(camera: RigCamera) -> GroundGrid | None:
    bottom = np.array([[(camera.width - 1) / 2, (1.0 - BONNET_SHARE) * (camera.height - 1)]])
    point, hits = camera.ground(bottom)
    if not hits[0]:
        return None
    near = max(float(point[0, 0]), float(camera.position_m[0]) + 2.0)
    if near > 30.0:
        return None
    return GroundGrid(near, near + PATCH_LENGTH_M, -PATCH_HALF_WIDTH_M, PATCH_HALF_WIDTH_M, CELL_ACROSS_M, CELL_ALONG_M)


def _ground_patches(
    frames: NDArray[np.uint8], camera: RigCamera, grid: GroundGrid
) -> tuple[Float32, NDArray[np.bool_]]:
    """Local contrast of the ground, (T, rows, columns) float32, and where the ground is in the picture."""
    patches = []
    seen = np.zeros(grid.shape, dtype=bool)
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        bev, seen = sample_ground(grey, camera, grid)
        light = np.log(bev.astype(np.float32) + 8.0)
        # Brightness differences over less than 2 m count, in units of their local strength.
        detail = light - cv2.blur(light, (15, 21))
        strength = np.sqrt(cv2.blur(detail * detail, (31, 41))) + 0.02
        patches.append(np.where(seen, cv2.GaussianBlur(detail / strength, (0, 0), 1.0), 0.0).astype(np.float32))
    # Patches end where the picture does; blurred edges there would pull towards standstill.
    inner = cv2.erode(seen.astype(np.uint8), np.ones((21, 15), np.uint8), borderValue=1).astype(bool)
    return np.stack(patches) * inner[None], inner


@compiled()
def _correlate(
    before: Float32,
    after: Float32,
    x: Float,
    shifts: NDArray[np.int64],
    yaws: Float,
    cell_m: float,
    row_m: float,
    out: Float,
) -> None:
    """Normalized correlation of two patches for each forward shift (rows) and yaw."""
    rows, columns = before.shape
    for a in range(shifts.size):
        shift = shifts[a]
        for b in range(yaws.size):
            dot = 0.0
            norm_before = 1e-6
            norm_after = 1e-6
            # Every second cell: neighbours are blurred copies of each other.
            for r in range(0, rows, 2):
                r_after = r + shift
                if r_after < 0 or r_after >= rows:
                    continue
                # A point at (x, y) before is at about (x - d, y - yaw (x - d / 2)) after.
                side = round(yaws[b] * (x[r] - 0.5 * shift * row_m) / cell_m)
                low = max(0, -side)
                high = min(columns, columns - side)
                for c in range(low, high, 2):
                    p = before[r, c]
                    q = after[r_after, c + side]
                    dot += p * q
                    norm_before += p * p
                    norm_after += q * q
            out[a, b] = dot / np.sqrt(norm_before * norm_after)


def standing_pairs(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(T-1,) True where nearly nothing of the whole picture changed: the vehicle stands, others may move."""
    small = [
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (160, 90), interpolation=cv2.INTER_AREA).astype(np.int16)
        for f in frames
    ]
    changed = [float((np.abs(b - a) > CHANGED_LEVELS).mean()) for a, b in itertools.pairwise(small)]
    return np.asarray(changed) < STANDING_SHARE


def register_pairs(
    patches: Float32, seen: NDArray[np.bool_], grid: GroundGrid, seconds: Float, standing: NDArray[np.bool_]
) -> PairMotion:
    """Motion of each pair of neighbouring patches; see the module's phases."""
    count = len(patches) - 1
    reach = min(float(seconds.max()) * MAX_SPEED_MPS, 0.65 * PATCH_LENGTH_M)
    shifts = np.arange(-3, round(reach / grid.row_m) + 1)
    scores = np.zeros((count, shifts.size))
    yaw_of = np.zeros((count, shifts.size))
    # What stays in place while the vehicle moves (a bonnet, a vehicle ahead, falloff of light, but also a solid line)
    # speaks for standing still in every pair. It is left out of the search, and only of that.
    moving = np.append(~standing, True)
    still = np.median(patches[moving][:: max(1, int(moving.sum()) // STILL_FRAMES)], axis=0)
    near = np.exp(-(grid.x_m - grid.x_min_m) / TRUST_DEPTH_M).astype(np.float32)
    changing = np.clip(patches - still, -SEARCH_CLIP, SEARCH_CLIP) * near[:, None]
    for k in range(count):
        if standing[k]:
            scores[k] = -np.abs(shifts) * grid.row_m
            continue
        yaws = np.linspace(-1.0, 1.0, YAW_STEPS) * MAX_YAW_RATE * seconds[k]
        table = np.zeros((shifts.size, YAW_STEPS))
        _correlate(changing[k], changing[k + 1], grid.x_m, shifts, yaws, grid.metres_per_pixel, grid.row_m, table)
        # Straight on wins ties: without texture every yaw fits alike.
        table -= 0.02 * np.abs(np.linspace(-1.0, 1.0, YAW_STEPS))
        best = table.argmax(axis=1)
        scores[k] = table[np.arange(shifts.size), best]
        yaw_of[k] = yaws[best]
    profile = _speed_profile(scores, shifts.astype(np.float64) * grid.row_m, seconds)
    forward = shifts[profile].astype(np.float64) * grid.row_m
    yaw = yaw_of[np.arange(count), profile]
    pairs = PairMotion(forward, 0.5 * forward * yaw, yaw, np.ones(count))
    # The second round starts where the first one's neighbours agree, which corrects the odd pair that ran astray.
    for _ in range(2):
        pairs = _refined(patches, seen, grid, _smoothed(pairs, seconds))
    return pairs


def _refined(patches: Float32, seen: NDArray[np.bool_], grid: GroundGrid, start: PairMotion) -> PairMotion:
    """Register every pair finely from a start."""
    found = [
        _register(before, after, seen, grid, np.array([forward, left, yaw]))
        for before, after, forward, left, yaw in zip(
            patches[:-1], patches[1:], start.forward_m, start.left_m, start.yaw_rad, strict=True
        )
    ]
    motion = np.array([m for m, _ in found])
    return PairMotion(motion[:, 0], motion[:, 1], motion[:, 2], np.array([match for _, match in found]))


def _speed_profile(scores: Float, forward_m: Float, seconds: Float) -> NDArray[np.int64]:
    """Most plausible forward motion of every pair: best total correlation less the cost of changing speed (Viterbi)."""
    count, bins = scores.shape
    gain = CORRELATION_WEIGHT * scores
    total = gain[0].copy()
    came_from = np.zeros((count, bins), dtype=np.int64)
    for k in range(1, count):
        before, now = forward_m / seconds[k - 1], forward_m / seconds[k]
        sigma = ACCELERATION_MPS2 * 0.5 * (seconds[k - 1] + seconds[k]) + 0.5 * (now[1] - now[0])
        cost = total[None, :] - 0.5 * ((now[:, None] - before[None, :]) / sigma) ** 2
        came_from[k] = cost.argmax(axis=1)
        total = gain[k] + cost.max(axis=1)
    path = np.zeros(count, dtype=np.int64)
    path[-1] = int(total.argmax())
    for k in range(count - 1, 0, -1):
        path[k - 1] = came_from[k, path[k]]
    return path


def _register(
    before: Float32, after: Float32, seen: NDArray[np.bool_], grid: GroundGrid, start: Float
) -> tuple[Float, float]:
    """Refine (forward, left, yaw) by robust Gauss-Newton on every second cell; also the correlation reached."""
    x, y = np.meshgrid(grid.x_m[::2], grid.y_m[::2], indexing="ij")
    inside = seen[::2, ::2]
    x, y, reference = x[inside], y[inside], before[::2, ::2][inside].astype(np.float64)
    near = np.exp(-(x - grid.x_min_m) / TRUST_DEPTH_M)
    # Gradients along rig x and y; rows and columns run against them.
    slope_x = cv2.Sobel(after, cv2.CV_32F, 0, 1, ksize=3) / np.float32(-8.0 * grid.row_m)
    slope_y = cv2.Sobel(after, cv2.CV_32F, 1, 0, ksize=3) / np.float32(-8.0 * grid.metres_per_pixel)
    stack = np.dstack([after, slope_x, slope_y])
    motion = start.copy()
    # Holds what the road does not show (forward motion on bare asphalt) near the profile: 0.15 m, 0.1 m, 0.01 rad.
    hold = HOLD / np.array([0.15, 0.10, 0.01]) ** 2
    match = 0.0
    for _ in range(8):
        c, s = np.cos(motion[2]), np.sin(motion[2])
        dx, dy = x - motion[0], y - motion[1]
        px, py = c * dx + s * dy, -s * dx + c * dy
        columns, rows = grid.columns_of(py).astype(np.float32), grid.rows_of(px).astype(np.float32)
        values = cv2.remap(stack, columns.reshape(1, -1), rows.reshape(1, -1), cv2.INTER_LINEAR)[0].astype(np.float64)
        overlap = (rows >= 0) & (rows <= grid.shape[0] - 1) & (columns >= 0) & (columns <= grid.shape[1] - 1)
        overlap &= values[:, 0] != 0.0
        if overlap.sum() < 200:
            return start, 0.0
        value, gx, gy = values[overlap].T
        error = value - reference[overlap]
        # d(px)/d(motion) and d(py)/d(motion).
        jacobian = np.column_stack([-c * gx + s * gy, -s * gx - c * gy, gx * py[overlap] - gy * px[overlap]])
        weight = near[overlap] / (1.0 + (error / ROBUST_CONTRAST) ** 2)
        normal = jacobian.T @ (jacobian * weight[:, None]) + np.diag(hold)
        step = np.linalg.solve(normal, -(jacobian.T @ (weight * error)) - hold * (motion - start))
        motion = motion + np.clip(step, [-0.3, -0.2, -0.02], [0.3, 0.2, 0.02])
        match = float(
            (value * reference[overlap]).sum() / np.sqrt((value**2).sum() * (reference[overlap] ** 2).sum() + 1e-9)
        )
        if np.abs(step / np.array([0.005, 0.005, 0.0005])).max() < 1.0:
            break
    return motion, match


def _smoothed(pairs: PairMotion, seconds: Float) -> PairMotion:
    """Speed and yaw rate as smooth as vehicles are, each pair trusted by its match and its agreement with others."""
    trust = np.clip(pairs.match, 0.02, 1.0) ** 2
    speed = _smooth_series(pairs.forward_m / seconds, trust, noise=0.5, bend=0.25)
    yaw_rate = _smooth_series(pairs.yaw_rad / seconds, trust, noise=0.02, bend=0.02)
    forward, yaw = speed * seconds, yaw_rate * seconds
    # A rear axle does not slip sideways: what is left of sideways motion is the camera's unknown yaw, one for the clip.
    moving = forward > 0.2
    crab = 0.0
    if moving.any():
        crab = float(np.median((pairs.left_m[moving] - 0.5 * forward[moving] * yaw[moving]) / forward[moving]))
    return PairMotion(forward, forward * (0.5 * yaw + crab), yaw, pairs.match)


def _smooth_series(values: Float, trust: Float, noise: float, bend: float) -> Float:
    """Whittaker smoothing with Cauchy weights: `noise` and `bend` (second difference) are standard deviations."""
    count = values.size
    if count < 3:
        return np.full(count, float(np.average(values, weights=trust)))
    second = np.diff(np.eye(count), 2, axis=0)
    roughness = second.T @ second / bend**2
    smooth: Float = values.copy()
    centre = np.median(values)
    weight = trust / (1.0 + ((values - centre) / (6 * noise)) ** 2)
    for _ in range(8):
        smooth = np.asarray(
            np.linalg.solve(np.diag(weight) / noise**2 + roughness, weight * values / noise**2), dtype=np.float64
        )
        weight = trust / (1.0 + ((values - smooth) / noise) ** 2)
    return smooth


def _integrate(times_us: NDArray[np.int64], pairs: PairMotion) -> Egomotion:
    heading = np.concatenate([[0.0], np.cumsum(pairs.yaw_rad)])
    c, s = np.cos(heading[:-1]), np.sin(heading[:-1])
    x = np.concatenate([[0.0], np.cumsum(c * pairs.forward_m - s * pairs.left_m)])
    y = np.concatenate([[0.0], np.cumsum(s * pairs.forward_m + c * pairs.left_m)])
    turns = np.column_stack([np.zeros_like(heading), np.zeros_like(heading), heading])
    return Egomotion(
        times_us,
        np.column_stack([x, y, np.zeros_like(x)]),
        Rotation.from_rotvec(turns).as_quat(),
        quality="estimated",
    )
