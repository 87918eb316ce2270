"""The pixel loops of the sample drive that follow the background: textured panels, and the camera's sensor.

Called by `render.py` only. Nothing here knows files, styles or vehicles: it is given arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

# A panel that only darkens what is under it keeps the label under it.
KEEPS_LABEL = -1


@compiled(fast_math=True)
def draw_panels(
    out: F32,
    label: U8,
    rays: F32,
    rotation: F64,
    position: F64,
    lens: F64,
    panels: F64,
    order: I64,
    atlas: F32,
    atlas_table: I64,
    light: F64,
) -> None:
    """Draw flat textured parallelograms over the background, in the given order, and their labels.

    Args:
        lens: cx, cy, aspect, radians a pixel, then the f-theta coefficients.
        panels: (P, 16) origin xyz, edge u xyz, edge v xyz, shade rgb, texture, label, metres of one texture repeat
            along u (0: once), 1 where only the side towards u x v is painted. A panel with label KEEPS_LABEL
            multiplies what is under it by 1 - alpha * shade.
        order: panels to draw, far ones first.
        atlas: (texels, 4) premultiplied linear RGBA; `atlas_table` (T, L, 3) offset, width, height of each level.
        light: as in `cast_background`; only the haze is used.
    """
    height, width = label.shape
    terms = lens.shape[0] - 4
    for index in range(order.shape[0]):
        p = order[index]
        ox, oy, oz = panels[p, 0] - position[0], panels[p, 1] - position[1], panels[p, 2] - position[2]
        ux, uy, uz = panels[p, 3], panels[p, 4], panels[p, 5]
        vx, vy, vz = panels[p, 6], panels[p, 7], panels[p, 8]
        nx = uy * vz - uz * vy
        ny = uz * vx - ux * vz
        nz = ux * vy - uy * vx
        if panels[p, 15] > 0.0 and nx * ox + ny * oy + nz * oz >= 0.0:
            continue
        # Corners and points along the edges (a fisheye bends them) give the rectangle of pixels to visit.
        x_low, x_high, y_low, y_high = 1e9, -1e9, 1e9, -1e9
        seen = False
        steps_u, steps_v = 6, 2
        if ox * ox + oy * oy > 25.0 * (ux * ux + uy * uy + uz * uz + vx * vx + vy * vy + vz * vz):
            steps_u, steps_v = 1, 1  # far enough for the corners alone: the bend is below the margin of a pixel
        for i in range(steps_u + 1):
            for j in range(steps_v + 1):
                a = i / steps_u
                b = j / steps_v
                wx = ox + a * panels[p, 3] + b * panels[p, 6]
                wy = oy + a * panels[p, 4] + b * panels[p, 7]
                wz = oz + a * panels[p, 5] + b * panels[p, 8]
                cx = rotation[0, 0] * wx + rotation[1, 0] * wy + rotation[2, 0] * wz
                cy = rotation[0, 1] * wx + rotation[1, 1] * wy + rotation[2, 1] * wz
                cz = rotation[0, 2] * wx + rotation[1, 2] * wy + rotation[2, 2] * wz
                rho = np.sqrt(cx * cx + cy * cy)
                theta = np.arctan2(rho, cz)
                # Beside and behind the lens: as far out as the polynomial reaches, beyond every picture's edge.
                if theta > 1.45:
                    theta = 1.45
                else:
                    seen = True
                radius = 0.0
                for k in range(terms - 1, -1, -1):
                    radius = radius * theta + lens[4 + k]
                scale = radius / max(rho, 1e-9)
                px = lens[0] + scale * cx
                py = lens[1] + lens[2] * scale * cy
                x_low = min(x_low, px)
                x_high = max(x_high, px)
                y_low = min(y_low, py)
                y_high = max(y_high, py)
        if not seen:
            continue
        c0 = max(int(np.floor(x_low)) - 1, 0)
        c1 = min(int(np.ceil(x_high)) + 1, width - 1)
        r0 = max(int(np.floor(y_low)) - 1, 0)
        r1 = min(int(np.ceil(y_high)) + 1, height - 1)
        if c0 > c1 or r0 > r1:
            continue
        uu = ux * ux + uy * uy + uz * uz
        vv = vx * vx + vy * vy + vz * vz
        uv = ux * vx + uy * vy + uz * vz
        det = uu * vv - uv * uv
        norm = np.sqrt(nx * nx + ny * ny + nz * nz)
        nx /= norm
        ny /= norm
        nz /= norm
        lift = nx * ox + ny * oy + nz * oz
        # u = reach * (A ray) - A0 and so for v: everything is turned into the camera frame once a panel.
        ax, ay, az = (ux * vv - vx * uv) / det, (uy * vv - vy * uv) / det, (uz * vv - vz * uv) / det
        bx, by, bz = (vx * uu - ux * uv) / det, (vy * uu - uy * uv) / det, (vz * uu - uz * uv) / det
        a_start = ax * ox + ay * oy + az * oz
        b_start = bx * ox + by * oy + bz * oz
        n0 = rotation[0, 0] * nx + rotation[1, 0] * ny + rotation[2, 0] * nz
        n1 = rotation[0, 1] * nx + rotation[1, 1] * ny + rotation[2, 1] * nz
        n2 = rotation[0, 2] * nx + rotation[1, 2] * ny + rotation[2, 2] * nz
        a0 = rotation[0, 0] * ax + rotation[1, 0] * ay + rotation[2, 0] * az
        a1 = rotation[0, 1] * ax + rotation[1, 1] * ay + rotation[2, 1] * az
        a2 = rotation[0, 2] * ax + rotation[1, 2] * ay + rotation[2, 2] * az
        b0 = rotation[0, 0] * bx + rotation[1, 0] * by + rotation[2, 0] * bz
        b1 = rotation[0, 1] * bx + rotation[1, 1] * by + rotation[2, 1] * bz
        b2 = rotation[0, 2] * bx + rotation[1, 2] * by + rotation[2, 2] * bz
        texture = int(panels[p, 12])
        code = int(panels[p, 13])
        repeats = 1.0
        if panels[p, 14] > 0.0:
            repeats = np.sqrt(uu) / panels[p, 14]
        texels_u = atlas_table[texture, 0, 1] * repeats
        texels_v = atlas_table[texture, 0, 2] * 1.0
        texels_a_metre = max(texels_u / np.sqrt(uu), texels_v / np.sqrt(vv))
        levels = atlas_table.shape[1]
        level = 0
        keep = 1.0
        for row in range(r0, r1 + 1):
            fresh = True
            for column in range(c0, c1 + 1):
                r_x = rays[row, column, 0]
                r_y = rays[row, column, 1]
                r_z = rays[row, column, 2]
                slope = n0 * r_x + n1 * r_y + n2 * r_z
                if abs(slope) < 1e-6:
                    continue
                reach = lift / slope
                if reach < 0.3:
                    continue
                u = reach * (a0 * r_x + a1 * r_y + a2 * r_z) - a_start
                v = reach * (b0 * r_x + b1 * r_y + b2 * r_z) - b_start
                if u < -0.02 or u > 1.02 or v < -0.02 or v > 1.02:
                    continue
                if fresh or column & 3 == 0:
                    fresh = False
                    spread = reach * lens[3] / max(np.sqrt(abs(slope)), 0.15)
                    level = int(np.log2(max(spread * texels_a_metre, 1.0)) + 0.35)
                    level = min(level, levels - 1)
                    keep = np.exp(-reach / light[9])
                base = atlas_table[texture, level, 0]
                columns = atlas_table[texture, level, 1]
                rows = atlas_table[texture, level, 2]
                fu = u * repeats
                if repeats != 1.0:
                    fu -= np.floor(fu)
                fu = fu * columns - 0.5
                fv = (1.0 - v) * rows - 0.5
                # The outermost texels are transparent by construction, so clamping leaves soft silhouettes.
                fu = min(max(fu, 0.0), columns - 1.0)
                fv = min(max(fv, 0.0), rows - 1.0)
                iu = int(fu)
                iv = int(fv)
                ju = min(iu + 1, columns - 1)
                jv = min(iv + 1, rows - 1)
                au = fu - iu
                av = fv - iv
                w00 = (1.0 - au) * (1.0 - av)
                w01 = au * (1.0 - av)
                w10 = (1.0 - au) * av
                w11 = au * av
                t00 = base + iv * columns + iu
                t01 = base + iv * columns + ju
                t10 = base + jv * columns + iu
                t11 = base + jv * columns + ju
                alpha = w00 * atlas[t00, 3] + w01 * atlas[t01, 3] + w10 * atlas[t10, 3] + w11 * atlas[t11, 3]
                if alpha < 0.004:
                    continue
                if code == KEEPS_LABEL:
                    for c in range(3):
                        out[row, column, c] *= 1.0 - alpha * panels[p, 9 + c]
                    continue
                for c in range(3):
                    value = (
                        w00 * atlas[t00, c] + w01 * atlas[t01, c] + w10 * atlas[t10, c] + w11 * atlas[t11, c]
                    ) * panels[p, 9 + c]
                    value = value * keep + alpha * light[6 + c] * (1.0 - keep)
                    out[row, column, c] = out[row, column, c] * (1.0 - alpha) + value
                if alpha >= 0.5:
                    label[row, column] = code


@compiled(fast_math=True)
def develop(
    picture: U8,
    radiance: F32,
    falloff: F32,
    curve: U8,
    static: F32,
    shift_row: int,
    shift_column: int,
    noise: float,
) -> None:
    """Turn (H, W, 3) linear radiance, already blurred by the lens, into an sRGB picture as a sensor would.

    Args:
        falloff: (H, W) exposure times vignetting.
        curve: (4096,) tone curve from 0..4 of exposed radiance to sRGB.
        static: (S, S) normal noise, S a power of two; the shifts move it from frame to frame.
        noise: standard deviation at full exposure; a quarter of it remains in the dark.
    """
    height, width = falloff.shape
    mask = static.shape[0] - 1
    for row in range(height):
        for column in range(width):
            bump = noise * static[(row + shift_row) & mask, (column + shift_column) & mask]
            gain = falloff[row, column] * (1.0 + bump) * 1024.0
            floor = 0.06 * bump * 1024.0
            for c in range(3):
                index = int(radiance[row, column, c] * gain + floor)
                picture[row, column, c] = curve[min(max(index, 0), 4095)]
