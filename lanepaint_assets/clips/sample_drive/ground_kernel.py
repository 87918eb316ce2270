"""The first pixel loop of the sample drive: road, verge and sky by ray casting, filtered by each pixel's footprint.

Called by `render.py`, once a frame and camera; `panel_kernels.py` draws what stands on it. Nothing here knows files
or styles: it is given arrays. One entry point, because compiling is part of the first demo's waiting time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

# Label picture: what a pixel shows. Vehicles follow as FIRST_VEHICLE + index.
BACKGROUND, ROAD, FIRST_VEHICLE = 0, 1, 10
# Ground farther than this is drawn from the panorama: at 1.45 m camera height it is less than a pixel row.
GROUND_REACH_M = 550.0
# 2^-level, looked up because the loops ask for it several times a pixel.
SHRINK = 0.5 ** np.arange(24)


@compiled(fast_math=True)
def wrapped(texture: F32, table: I64, u: float, v: float, level: int) -> float:
    """Bilinear sample of a tileable pyramid; u, v count texels of level 0, rows of `table` are (offset, size)."""
    if level < 0:
        level = 0
    if level >= table.shape[0]:
        level = table.shape[0] - 1
    base = table[level, 0]
    size = table[level, 1]
    shrink = SHRINK[level]
    u = u * shrink - 0.5
    v = v * shrink - 0.5
    fu = np.floor(u)
    fv = np.floor(v)
    iu = int(fu)
    iv = int(fv)
    au = u - fu
    av = v - fv
    mask = size - 1
    r0 = base + (iv & mask) * size
    r1 = base + ((iv + 1) & mask) * size
    c0 = iu & mask
    c1 = (iu + 1) & mask
    top = texture[r0 + c0] * (1.0 - au) + texture[r0 + c1] * au
    bottom = texture[r1 + c0] * (1.0 - au) + texture[r1 + c1] * au
    return float(top * (1.0 - av) + bottom * av)


@compiled(fast_math=True)
def clamped(maps: U8, table: I64, u: float, v: float, level: int) -> float:
    """Bilinear sample (0..1) of a road map; u along the road and v across it in cells of level 0.

    Rows of `table` are (offset, rows, columns, log2 shrink along, log2 shrink across).
    """
    if level < 0:
        level = 0
    if level >= table.shape[0]:
        level = table.shape[0] - 1
    base = table[level, 0]
    rows = table[level, 1]
    columns = table[level, 2]
    u = u * SHRINK[table[level, 3]] - 0.5
    v = v * SHRINK[table[level, 4]] - 0.5
    u = min(max(u, 0.0), columns - 1.001)
    v = min(max(v, 0.0), rows - 1.001)
    iu = int(u)
    iv = int(v)
    au = u - iu
    av = v - iv
    first = base + iv * columns + iu
    second = first + columns
    top = maps[first] * (1.0 - au) + maps[first + 1] * au
    bottom = maps[second] * (1.0 - au) + maps[second + 1] * au
    return float((top * (1.0 - av) + bottom * av) * (1.0 / 255.0))


@compiled(fast_math=True)
def painted_length(s: float, dash: float, period: float) -> float:
    """Painted metres of a dashed line between 0 and s."""
    whole = np.floor(s / period)
    rest = s - whole * period
    return float(whole * dash + min(rest, dash))


@compiled(fast_math=True)
def scattered(n: int) -> float:
    """A fixed pseudo-random number in 0..1 for an integer."""
    x = (n * 2654435761 + 12345) & 0xFFFFFFFF
    x ^= x >> 15
    x = (x * 2246822519) & 0xFFFFFFFF
    x ^= x >> 13
    return x / 4294967295.0


@compiled(fast_math=True)
def cast_background(
    out: F32,
    label: U8,
    rays: F32,
    rotation: F64,
    position: F64,
    s_guess: float,
    centre: F64,
    s_first: float,
    section: F64,
    strokes: F64,
    colors: F64,
    light: F64,
    grain: F32,
    cloudy: F32,
    noise_table: I64,
    detail: U8,
    detail_table: I64,
    detail_frame: F64,
    shade: U8,
    shade_table: I64,
    shade_frame: F64,
    panorama: F32,
    panorama_frame: F64,
) -> None:
    """Fill (H, W, 3) linear radiance and the (H, W) label with road, verge and sky.

    Args:
        rays: (H, W, 3) camera-frame unit directions.
        rotation, position: camera to world.
        s_guess: arc length of the camera, where the search for road coordinates starts.
        centre: (N, 5) x, y, tangent x, tangent y, curvature at every metre from `s_first`.
        section: paved right and left edge, gravel width, raggedness of the edges.
        strokes: (K, 10) d, half width, dash, period, phase, r, g, b, wear, seed; period 0 is solid.
        colors: (4, 3) albedo of asphalt, gravel, grass, dry grass.
        light: sun rgb on a level plane, ambient rgb, haze rgb, haze length, sun direction, sheen.
        grain, cloudy: tileable noise pyramids, 1 cm and free scale.
        detail, shade: road maps (patches; sunlight) with their frames (s0, d0, cells a metre along, across).
        panorama: (h, w, 3) sky and horizon; its frame is (lowest elevation, rows a radian, columns a radian).
    """
    height, width = label.shape
    last = centre.shape[0] - 2
    below_x = np.zeros(width)
    below_y = np.zeros(width)
    below_ok = np.zeros(width, dtype=np.bool_)
    right_edge, left_edge, gravel_width, ragged = section[0], section[1], section[2], section[3]
    row_s = s_guess
    size = 0.0
    long_side = 0.0
    keep = 1.0
    field = 0.5
    pan_rows, pan_columns = panorama.shape[0], panorama.shape[1]
    for row in range(height - 1, -1, -1):
        s = row_s
        before_x = 0.0
        before_y = 0.0
        before_ok = False
        started = False
        sky_start = 0
        sky_end = 0
        sky_u = 0.0
        sky_v = 0.0
        slope_u = 0.0
        slope_v = 0.0
        for column in range(width):
            cx = rays[row, column, 0]
            cy = rays[row, column, 1]
            cz = rays[row, column, 2]
            dx = rotation[0, 0] * cx + rotation[0, 1] * cy + rotation[0, 2] * cz
            dy = rotation[1, 0] * cx + rotation[1, 1] * cy + rotation[1, 2] * cz
            dz = rotation[2, 0] * cx + rotation[2, 1] * cy + rotation[2, 2] * cz
            reach = 1e9
            if dz < -1e-4:
                reach = -position[2] / dz
            if reach > GROUND_REACH_M:
                below_ok[column] = False
                before_ok = False
                # Directions change so evenly that every eighth pixel is computed and the others lie between.
                if column >= sky_end:
                    sky_start = column
                    sky_end = column + 8
                    sky_u = (np.arctan2(dy, dx) + np.pi) * panorama_frame[2] - 0.5
                    sky_v = (np.arcsin(min(max(dz, -1.0), 1.0)) - panorama_frame[0]) * panorama_frame[1]
                    ahead = min(column + 8, width - 1)
                    if ahead > column:
                        cx = rays[row, ahead, 0]
                        cy = rays[row, ahead, 1]
                        cz = rays[row, ahead, 2]
                        dx = rotation[0, 0] * cx + rotation[0, 1] * cy + rotation[0, 2] * cz
                        dy = rotation[1, 0] * cx + rotation[1, 1] * cy + rotation[1, 2] * cz
                        dz = rotation[2, 0] * cx + rotation[2, 1] * cy + rotation[2, 2] * cz
                        slope_u = (np.arctan2(dy, dx) + np.pi) * panorama_frame[2] - 0.5 - sky_u
                        # Across the seam of the panorama.
                        if slope_u > 0.5 * pan_columns:
                            slope_u -= pan_columns
                        elif slope_u < -0.5 * pan_columns:
                            slope_u += pan_columns
                        slope_u /= ahead - column
                        slope_v = (np.arcsin(min(max(dz, -1.0), 1.0)) - panorama_frame[0]) * panorama_frame[1] - sky_v
                        slope_v /= ahead - column
                u = sky_u + (column - sky_start) * slope_u
                v = min(max(sky_v + (column - sky_start) * slope_v, 0.0), pan_rows - 1.001)
                fu = np.floor(u)
                a = u - fu
                iu = int(fu) % pan_columns
                ju = (iu + 1) % pan_columns
                iv = int(v)
                b = v - iv
                for c in range(3):
                    low = panorama[iv, iu, c] * (1.0 - a) + panorama[iv, ju, c] * a
                    high = panorama[iv + 1, iu, c] * (1.0 - a) + panorama[iv + 1, ju, c] * a
                    out[row, column, c] = low * (1.0 - b) + high * b
                label[row, column] = BACKGROUND
                continue
            x = position[0] + reach * dx
            y = position[1] + reach * dy
            tx = 0.0
            ty = 0.0
            d = 0.0
            for _ in range(8):
                at = min(max(s - s_first, 0.0), last + 0.999)
                i = int(at)
                f = at - i
                px = centre[i, 0] + f * (centre[i + 1, 0] - centre[i, 0])
                py = centre[i, 1] + f * (centre[i + 1, 1] - centre[i, 1])
                tx = centre[i, 2] + f * (centre[i + 1, 2] - centre[i, 2])
                ty = centre[i, 3] + f * (centre[i + 1, 3] - centre[i, 3])
                ex = x - px
                ey = y - py
                d = -ex * ty + ey * tx
                step = (ex * tx + ey * ty) / max(1.0 - centre[i, 4] * d, 0.4)
                step = min(max(step, -60.0), 60.0)
                s = min(max(s_first + at + step, s_first), s_first + last + 0.999)
                # The search is quadratic: after a step of 0.4 m the rest is below a millimetre.
                if -0.4 < step < 0.4:
                    break
            # Size of the pixel on the ground, along and across the road: the widths of all filters.
            gx = reach * 0.0022
            gy = 0.0
            if before_ok:
                gx = x - before_x
                gy = y - before_y
            hx = reach * reach * 0.0015
            hy = 0.0
            if below_ok[column]:
                hx = x - below_x[column]
                hy = y - below_y[column]
            before_x = x
            before_y = y
            before_ok = True
            below_x[column] = x
            below_y[column] = y
            below_ok[column] = True
            along = abs(gx * tx + gy * ty) + abs(hx * tx + hy * ty)
            across = abs(gy * tx - gx * ty) + 0.8 * abs(hy * tx - hx * ty)
            along = max(along, 0.004)
            across = max(across, 0.004)
            # Octaves of a metre, haze and the meadow's colour change slowly: every fourth pixel is enough.
            if column & 3 == 0 or not started:
                long_side = np.log2(along)
                size = 0.5 * (long_side + np.log2(across))
                keep = np.exp(-reach / light[9])
                field = wrapped(cloudy, noise_table, x * 1.3, y * 1.3, int(size + 0.4))
            if not started:
                started = True
                row_s = s
            sun = clamped(
                shade,
                shade_table,
                (s - shade_frame[0]) * shade_frame[2],
                (d - shade_frame[1]) * shade_frame[3],
                int(long_side + 3.4),
            )
            fine = wrapped(grain, noise_table, x * 100.0, y * 100.0, int(size + 6.64 + 0.3))
            broad = wrapped(cloudy, noise_table, x * 12.0, y * 12.0, int(size + 3.6 + 0.3))
            edge = (broad - 0.5) * ragged
            beyond = max(d - left_edge, right_edge - d) + edge
            # 1 on the paved surface, 0 beside it, blended over a pixel.
            paved = min(max(0.5 - beyond / max(across, 0.03), 0.0), 1.0)
            red = 0.0
            green = 0.0
            blue = 0.0
            if paved > 0.0:
                worn = clamped(
                    detail,
                    detail_table,
                    (s - detail_frame[0]) * detail_frame[2],
                    (d - detail_frame[1]) * detail_frame[3],
                    int(long_side + 4.1),
                )
                tone = (0.72 + 0.56 * fine) * (0.9 + 0.2 * broad) * (2.0 * worn)
                red = colors[0, 0] * tone
                green = colors[0, 1] * tone
                blue = colors[0, 2] * tone
                for k in range(strokes.shape[0]):
                    offset = d - strokes[k, 0]
                    half = strokes[k, 1]
                    if abs(offset) > half + 0.5 * across:
                        continue
                    low = max(offset - 0.5 * across, -half)
                    high = min(offset + 0.5 * across, half)
                    cover = max(high - low, 0.0) / across
                    period = strokes[k, 3]
                    wear = strokes[k, 8]
                    place = s - strokes[k, 4]
                    piece = int(np.floor(place / 9.0))
                    if period > 0.0:
                        from_s = painted_length(place - 0.5 * along, strokes[k, 2], period)
                        to_s = painted_length(place + 0.5 * along, strokes[k, 2], period)
                        cover *= min((to_s - from_s) / along, 1.0)
                        piece = int(np.floor(place / period))
                    if cover <= 0.0:
                        continue
                    # Each dash (or 9 m of a solid line) is worn differently; the texture decides where.
                    lost = min(wear * (0.5 + scattered(piece + int(strokes[k, 9]))), 0.97)
                    crumbs = wrapped(
                        cloudy, noise_table, s * 40.0 + 77.0 * k, d * 90.0, int(size + 6.0)
                    ) * 0.7 + 0.3 * wrapped(grain, noise_table, s * 60.0, d * 60.0, int(size + 5.9))
                    gone = min(max((lost - crumbs) * 5.0 + 0.5, 0.0), 1.0)
                    melt = min(max((size + 4.0) * 0.25, 0.0), 1.0)
                    gone += melt * (lost - gone)
                    cover *= (1.0 - gone) * (1.0 - 0.25 * lost)
                    glow = 0.86 + 0.28 * fine
                    red += cover * (strokes[k, 5] * glow - red)
                    green += cover * (strokes[k, 6] * glow - green)
                    blue += cover * (strokes[k, 7] * glow - blue)
            if paved < 1.0:
                out_of_gravel = beyond - gravel_width + (fine - 0.5) * 0.5 + (broad - 0.5) * 1.6
                grassy = min(max(out_of_gravel / max(across, 0.25) + 0.5, 0.0), 1.0)
                stones = 0.45 + 1.1 * fine
                blade = wrapped(grain, noise_table, x * 21.0 + 0.3 * s, y * 21.0, int(size + 4.4))
                dry = min(max((field + 0.5 * broad - 0.55) * 2.2, 0.0), 1.0)
                tuft = 0.35 + 0.8 * blade + 0.5 * (broad - 0.5)
                earth = 1.0 - paved
                for c in range(3):
                    grass = (colors[2, c] + dry * (colors[3, c] - colors[2, c])) * tuft
                    value = colors[1, c] * stones
                    value += grassy * (grass - value)
                    if c == 0:
                        red = red * paved + value * earth
                    elif c == 1:
                        green = green * paved + value * earth
                    else:
                        blue = blue * paved + value * earth
            # Mirror-like sheen of asphalt seen against a low sun.
            facing = dx * light[10] + dy * light[11] - dz * light[12]
            sheen = 0.0
            if facing > 0.3:
                graze = (facing - 0.3) / 0.7
                sheen = light[13] * graze * graze * graze * sun * (0.6 + 0.8 * fine)
            open_sky = 0.55 + 0.45 * sun
            out[row, column, 0] = (red * (light[0] * sun + light[3] * open_sky) + sheen * light[0]) * keep + light[
                6
            ] * (1.0 - keep)
            out[row, column, 1] = (green * (light[1] * sun + light[4] * open_sky) + sheen * light[1]) * keep + light[
                7
            ] * (1.0 - keep)
            out[row, column, 2] = (blue * (light[2] * sun + light[5] * open_sky) + sheen * light[2]) * keep + light[
                8
            ] * (1.0 - keep)
            label[row, column] = ROAD if paved >= 0.5 else BACKGROUND
