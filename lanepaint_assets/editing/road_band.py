"""The pixels of a frame that lie near a lane line, and where on the road each of them is.

Called by the procedural painter's analysis, once a frame. It turns rays into road coordinates; what is drawn there is
decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled
from lanepaint_assets.editing.road_course import STEP_M, RigPose, RoadCourse
from lanepaint_assets.rendering.cameras import RigCamera

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# From here on the road is looked at; nearer points are under the bonnet of any car.
NEAREST_M = 1.0

# Beyond this a line is a pixel wide or less and its course is extrapolated.
FARTHEST_M = 90.0

# Entries a metre of the table from rig x to a course position.
_PER_M = 4


@dataclass(frozen=True, eq=False)
class BandPixels:
    """Pixels near lines; N of them, row by row.

    Attributes:
        index: (N,) int32, y * W + x.
        line: (N,) int16, which track.
        s, m: (N,) float32, metres along the course, and to the left of the track's centre.
        step: (N, 4) float32, change of s and m to the next pixel to the right (ds, dm) and below (ds, dm).
        alpha: (N,) float32, share of the paint mask, soft towards its border and 0 outside of it.
    """

    index: NDArray[np.int32]
    line: NDArray[np.int16]
    s: Float32
    m: Float32
    step: Float32
    alpha: Float32

    def __len__(self) -> int:
        return int(self.index.size)


def pixel_rays(camera: RigCamera) -> Float32:
    """(H, W, 3) directions in the rig frame of every pixel."""
    x, y = np.meshgrid(np.arange(camera.width, dtype=np.float64), np.arange(camera.height, dtype=np.float64))
    rays = camera.lens.rays(np.stack([x.ravel(), y.ravel()], axis=1)) @ camera.rotation.T
    return rays.reshape(camera.height, camera.width, 3).astype(np.float32)


def pitch_rotation(pitch_down_rad: float) -> Float:
    """Rig-frame rotation that turns the view towards the ground."""
    c, s = np.cos(pitch_down_rad), np.sin(pitch_down_rad)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def pitched(camera: RigCamera, pitch_down_rad: float) -> RigCamera:
    """The camera on a body that dips its nose: turned and moved about the rig's origin.

    The move matters: a camera 1.7 m ahead of the axle comes 3 mm down for 2 mrad, which is 5 cm of road at 20 m.
    """
    turn = pitch_rotation(pitch_down_rad)
    return replace(camera, rotation=turn @ camera.rotation, position_m=turn @ camera.position_m)


def soft_paint_mask(mask: NDArray[np.bool_]) -> Float32:
    """(H, W) alpha of a paint mask: 0 outside of it, 1 from two pixels inside on."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    return cv2.blur(inner.astype(np.float32), (3, 3)).astype(np.float32)


@dataclass(frozen=True)
class CourseView:
    """The stretch of the course that a frame shows, in its rig frame.

    Attributes:
        first_s: s of the first point.
        points, tangents: (M, 2) rig metres, every `STEP_M`.
        table: (K,) position among the points by rig x, from x = 0 on, `_PER_M` a metre.
    """

    first_s: float
    points: Float
    tangents: Float
    table: Float


def course_view(course: RoadCourse, pose: RigPose) -> CourseView:
    """The stretch from behind the rig to `FARTHEST_M`, as far as it leads away from the rig."""
    here = course.along(pose)
    first = max(int((here - 6.0) / STEP_M), 0)
    last = min(int((here + FARTHEST_M + 5.0) / STEP_M) + 1, len(course.points))
    points = pose.to_rig(course.points[first:last])
    tangents = pose.directions_to_rig(course.tangents[first:last])
    tangents = tangents / np.hypot(tangents[:, 0], tangents[:, 1])[:, None]
    back = np.flatnonzero(np.diff(points[:, 0]) <= 0)
    if back.size:
        # Hairpins: the road turns away from the view, and x no longer tells how far along it one is.
        points, tangents = points[: back[0] + 1], tangents[: back[0] + 1]
    x = np.arange(0, int(max(points[-1, 0], 1.0) * _PER_M) + 1) / _PER_M
    return CourseView(first * STEP_M, points, tangents, np.interp(x, points[:, 0], np.arange(len(points))))


@compiled()
def _road_of_ray(
    rx: float,
    ry: float,
    rz: float,
    eye: NDArray[np.float64],
    points: NDArray[np.float64],
    tangents: NDArray[np.float64],
    table: NDArray[np.float64],
) -> tuple[float, float]:
    """Position among the course points and d of a ray's ground point; position -1 where there is none."""
    if rz > -1e-4:
        return -1.0, 0.0
    reach = -eye[2] / rz
    x = eye[0] + reach * rx
    y = eye[1] + reach * ry
    entry = x * _PER_M
    if entry < 0.0 or entry >= table.shape[0] - 1:
        return -1.0, 0.0
    j = int(entry)
    at = table[j] + (table[j + 1] - table[j]) * (entry - j)
    last = points.shape[0] - 1.001
    d = 0.0
    for _ in range(2):
        at = min(max(at, 0.0), last)
        i = int(at)
        f = at - i
        tx = tangents[i, 0] * (1 - f) + tangents[i + 1, 0] * f
        ty = tangents[i, 1] * (1 - f) + tangents[i + 1, 1] * f
        ox = x - (points[i, 0] * (1 - f) + points[i + 1, 0] * f)
        oy = y - (points[i, 1] * (1 - f) + points[i + 1, 1] * f)
        d = oy * tx - ox * ty
        at += (ox * tx + oy * ty) / STEP_M
    return at, d


@compiled()
def _collect(
    rays: NDArray[np.float32],
    turn: NDArray[np.float64],
    eye: NDArray[np.float64],
    mask: NDArray[np.float32],
    points: NDArray[np.float64],
    tangents: NDArray[np.float64],
    table: NDArray[np.float64],
    offsets: NDArray[np.float64],
    half_width_m: float,
    pixel_angle: float,
    index: NDArray[np.int32],
    line: NDArray[np.int16],
    s: NDArray[np.float32],
    m: NDArray[np.float32],
    step: NDArray[np.float32],
    alpha: NDArray[np.float32],
) -> int:
    count = 0
    height, width = mask.shape
    for v in range(height):
        skip_to = 0
        for u in range(width):
            if u < skip_to or mask[v, u] <= 0.0 or count >= index.size:
                continue
            r = rays[v, u]
            at, d = _road_of_ray(
                turn[0, 0] * r[0] + turn[0, 1] * r[1] + turn[0, 2] * r[2],
                turn[1, 0] * r[0] + turn[1, 1] * r[1] + turn[1, 2] * r[2],
                turn[2, 0] * r[0] + turn[2, 1] * r[1] + turn[2, 2] * r[2],
                eye,
                points,
                tangents,
                table,
            )
            if at < 0.0 or at >= points.shape[0] - 1:
                continue
            i = int(at)
            nearest = -1
            best = 1e9
            for k in range(offsets.shape[0]):
                away = d - (offsets[k, i] + (offsets[k, i + 1] - offsets[k, i]) * (at - i))
                if abs(away) < abs(best):
                    best = away
                    nearest = k
            # Neighbouring pixels give the footprint; at the border the one on the other side does.
            du = 1 if u + 1 < width else -1
            dv = 1 if v + 1 < height else -1
            if abs(best) > half_width_m + 0.1:
                # Metres to the next line over metres a pixel spans are pixels that need no look; half of them, since
                # lines run slanting through the picture.
                x = eye[0] - eye[2] / r[2] * r[0]
                y = eye[1] - eye[2] / r[2] * r[1]
                metres_a_pixel = pixel_angle * np.hypot(np.hypot(x - eye[0], y - eye[1]), eye[2])
                free = (abs(best) - half_width_m) / metres_a_pixel
                if free > 3.0:
                    skip_to = u + 1 + int(0.5 * free)
                    continue
            footprint = 0.0
            for side in range(2):
                q = rays[v, u + du] if side == 0 else rays[v + dv, u]
                sign = du if side == 0 else dv
                at2, d2 = _road_of_ray(
                    turn[0, 0] * q[0] + turn[0, 1] * q[1] + turn[0, 2] * q[2],
                    turn[1, 0] * q[0] + turn[1, 1] * q[1] + turn[1, 2] * q[2],
                    turn[2, 0] * q[0] + turn[2, 1] * q[1] + turn[2, 2] * q[2],
                    eye,
                    points,
                    tangents,
                    table,
                )
                if at2 < 0.0:
                    at2, d2 = at, d
                i2 = min(int(at2), points.shape[0] - 2)
                centre = offsets[nearest, i2] + (offsets[nearest, i2 + 1] - offsets[nearest, i2]) * (at2 - i2)
                step[count, 2 * side] = sign * (at2 - at) * STEP_M
                step[count, 2 * side + 1] = sign * (d2 - centre - best)
                footprint += abs(step[count, 2 * side + 1])
            if abs(best) > half_width_m + min(1.5 * footprint, 0.8):
                continue
            index[count] = v * width + u
            line[count] = nearest
            s[count] = at * STEP_M
            m[count] = best
            alpha[count] = mask[v, u]
            count += 1
    return count


def _widest_pixel(rays: Float32) -> float:
    """Largest angle, radians, between horizontal neighbours: no pixel sees more road than this."""
    steps = np.linalg.norm(np.diff(rays[::16, ::2], axis=1), axis=2) / 2
    return float(steps.max())


def band_pixels(
    rays: Float32,
    camera: RigCamera,
    pitch_down_rad: float,
    mask: Float32,
    view: CourseView,
    offsets_m: Float,
    half_width_m: float,
) -> BandPixels:
    """Pixels within `half_width_m` (and one and a half pixels) of a line.

    Args:
        rays: of `camera`, see `pixel_rays`.
        camera: gives the eye's place.
        pitch_down_rad: the frame's own pitch on top of the camera's.
        mask: (H, W) soft paint mask.
        view: the course as the frame sees it.
        offsets_m: (L, M) d of every line at the view's points.
        half_width_m: half width of the band.
    """
    room = int(np.count_nonzero(mask))
    index = np.empty(room, np.int32)
    line = np.empty(room, np.int16)
    s, m, alpha = (np.empty(room, np.float32) for _ in range(3))
    step = np.empty((room, 4), np.float32)
    eye = pitch_rotation(pitch_down_rad) @ camera.position_m
    n = _collect(
        rays,
        pitch_rotation(pitch_down_rad),
        eye,
        mask,
        np.ascontiguousarray(view.points),
        np.ascontiguousarray(view.tangents),
        view.table,
        np.ascontiguousarray(offsets_m),
        half_width_m,
        float(_widest_pixel(rays)),
        index,
        line,
        s,
        m,
        step,
        alpha,
    )
    s_world = s[:n] + np.float32(view.first_s)
    return BandPixels(index[:n].copy(), line[:n].copy(), s_world, m[:n].copy(), step[:n].copy(), alpha[:n].copy())
