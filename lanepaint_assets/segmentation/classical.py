"""The `classical` road segmenter: colour and texture seen against a road-shaped prior, no weights.

Called through the `RoadSegmenter` role. Clean-up and files are not its business; nothing here may know a data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lanepaint_assets.compiled import compiled
from lanepaint_assets.segmentation.point_grid import SPEC_GRID, PointGrid

WORK_WIDTH_PX = 320
NOISE_FLOOR = 12.0
LUMA_BINS, CHROMA_BINS, TEXTURE_BINS = 26, 24, 10
LUMA_RANGE = (np.log(NOISE_FLOOR), np.log(255.0 + NOISE_FLOOR))
CHROMA_LIMIT = 0.6
TEXTURE_RANGE = (-5.0, 0.0)
U_LIMIT, U_BINS = 2.5, 401
MARK_BINS = 13
CBLUR=5
CSOFT=0.03
EL=0.3
EZ=8.0
GAIN_CAP = 0.5
COL_MOVE = 0.5
COL_JUMP = 6.0
REGION = 0.06
EDGE = 1.0
PRIOR=0.5
MOVE=1.0
TEMP=0.05
ITER=3
CORE=0.2
HALF=0.1
RW=11
RT=3.0
RL=0.5
RS=1.0
TW=5
BW=15
BS=1.0
TEXW=0.4
COLW=0.8
VPM=0.48
VPS=0.15
VPP=1.5
KEEP0=0.85
KEEP1=0.2
SIMS=0.1
KEEP=0.6
BONNET=0.8
OUTER=1.0
P0=1.2
P1=1.6


@dataclass(frozen=True)
class Look:
    luma: NDArray[np.float32]
    colour_bin: NDArray[np.int64]
    texture_bin: NDArray[np.int64]
    grey: NDArray[np.float32]
    lab: NDArray[np.float32]


def look(frame, size):
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(small, (3, 3), 0)
    grey = small @ np.array([0.299, 0.587, 0.114], np.float32)
    logs = np.log(small + NOISE_FLOOR)
    luma = np.log(grey + NOISE_FLOOR)
    logs = np.log(cv2.blur(small, (CBLUR, CBLUR)) + NOISE_FLOOR)
    c1 = logs[..., 0] - logs[..., 1]
    c2 = logs[..., 2] - logs[..., 1]
    a1 = np.arcsinh(c1 / CSOFT); a2 = np.arcsinh(c2 / CSOFT); lim = float(np.arcsinh(CHROMA_LIMIT / CSOFT))
    mean = cv2.boxFilter(luma, -1, (TW, TW))
    var = np.maximum(cv2.boxFilter(luma * luma, -1, (TW, TW)) - mean * mean, 0)
    tex = 0.5 * np.log(var + 1e-4)
    def q(v, lo, hi, n):
        return np.clip(((v - lo) / (hi - lo) * n), 0, n - 1).astype(np.int64)
    b = (q(luma, *LUMA_RANGE, LUMA_BINS) * CHROMA_BINS + q(a1, -lim, lim, CHROMA_BINS)) * CHROMA_BINS + q(a2, -lim, lim, CHROMA_BINS)
    t = q(luma, *LUMA_RANGE, LUMA_BINS) * TEXTURE_BINS + q(tex, *TEXTURE_RANGE, TEXTURE_BINS)
    return Look(luma, b, t, grey, np.dstack([luma, c1, c2]))


@compiled()
def vote(xs, ys, gx, gy, weight, vxs, vys, tolerance):
    out = np.zeros((2, vys.size, vxs.size), np.float32)
    for k in range(xs.size):
        for i in range(vys.size):
            dy = ys[k] - vys[i]
            if dy < 8.0:
                continue
            for j in range(vxs.size):
                dx = xs[k] - vxs[j]
                n = (dx * dx + dy * dy) ** 0.5
                s = abs(gx[k] * dx + gy[k] * dy) / n
                if s < tolerance:
                    out[1 if dx > 0 else 0, i, j] += weight[k] * (1.0 - s / tolerance)
    return out


def vanishing_votes(luma, width, height):
    g = cv2.GaussianBlur(luma, (0, 0), 1.0)
    gx = cv2.Sobel(g, cv2.CV_32F, 1, 0) / 8
    gy = cv2.Sobel(g, cv2.CV_32F, 0, 1) / 8
    m = np.hypot(gx, gy)
    y0 = int(0.55 * height)
    ok = np.zeros_like(m, bool)
    ok[y0:-2, 2:-2] = m[y0:-2, 2:-2] > 0.02
    # only slanted lines: neither upright (posts, houses) nor level (kerbs across, shadows)
    ok &= (np.abs(gx) < 0.98 * m) & (np.abs(gy) < 0.98 * m)
    ys, xs = np.nonzero(ok)
    mm = m[ys, xs]
    if xs.size > 4000:
        keep = np.argpartition(-mm, 4000)[:4000]
        ys, xs, mm = ys[keep], xs[keep], mm[keep]
    vxs = np.linspace(0.2, 0.8, 31) * width
    vys = np.linspace(0.25, 0.70, 31) * height
    w = np.minimum(mm, 0.08)
    v = vote(xs.astype(np.float64), ys.astype(np.float64), (gx[ys, xs] / mm).astype(np.float64), (gy[ys, xs] / mm).astype(np.float64), w.astype(np.float64), vxs, vys, 0.06)
    return (np.sqrt(v[0]) + np.sqrt(v[1])) ** 2, vxs, vys


def pick_vp(v, vxs, vys, width, height):
    px = np.exp(-0.5 * ((vxs / width - 0.5) / 0.15) ** 2)
    py = np.exp(-0.5 * ((vys / height - VPM) / VPS) ** 2)
    s = np.maximum(cv2.GaussianBlur(v, (0, 0), 0.8) - np.median(v), 0) ** VPP * py[:, None] * px[None]
    if s.max() <= 0:
        return 0.5 * width, VPM * height
    i, j = np.unravel_index(np.argmax(s), s.shape)
    p = s[max(0, i - 2):i + 3, max(0, j - 2):j + 3] ** 4
    yy, xx = np.meshgrid(vys[max(0, i - 2):i + 3], vxs[max(0, j - 2):j + 3], indexing="ij")
    return float((p * xx).sum() / p.sum()), float((p * yy).sum() / p.sum())


@compiled()
def viterbi(gain, move_cost, reach, lo, hi):
    rows, n = gain.shape
    score = np.full(n, -1e9)
    back = np.zeros((rows, n), np.int32)
    for u in range(lo, hi):
        score[u] = gain[0, u]
    for r in range(1, rows):
        new = np.full(n, -1e9)
        for u in range(lo, hi):
            best = -1e18
            arg = u
            for d in range(-reach, reach + 1):
                w = u + d
                if w < lo or w >= hi:
                    continue
                s = score[w] - move_cost[r] * abs(d)
                if s > best:
                    best = s
                    arg = w
            new[u] = best + gain[r, u]
            back[r, u] = arg
        score = new
    path = np.zeros(rows, np.int32)
    b = lo
    for u in range(lo, hi):
        if score[u] > score[b]:
            b = u
    path[rows - 1] = b
    for r in range(rows - 1, 0, -1):
        path[r - 1] = back[r, path[r]]
    return path


@compiled()
def base_path(gain, move_cost, jump_cost):
    """Per column the number of road rows from the bottom; cost min(move*|d|, jump) between neighbours."""
    cols, n = gain.shape
    score = gain[0].copy()
    back = np.zeros((cols, n), np.int32)
    for x in range(1, cols):
        new = score.copy()
        arg = np.arange(n)
        for i in range(1, n):
            if new[i - 1] - move_cost > new[i]:
                new[i] = new[i - 1] - move_cost
                arg[i] = arg[i - 1]
        for i in range(n - 2, -1, -1):
            if new[i + 1] - move_cost > new[i]:
                new[i] = new[i + 1] - move_cost
                arg[i] = arg[i + 1]
        b = np.argmax(score)
        for i in range(n):
            if score[b] - jump_cost > new[i]:
                new[i] = score[b] - jump_cost
                arg[i] = b
            back[x, i] = arg[i]
            score[i] = new[i] + gain[x, i]
    path = np.zeros(cols, np.int32)
    path[cols - 1] = np.argmax(score)
    for x in range(cols - 1, 0, -1):
        path[x - 1] = back[x, path[x]]
    return path


@dataclass
class Model:
    road: NDArray[np.float64]
    other: NDArray[np.float64]
    road_t: NDArray[np.float64]
    other_t: NDArray[np.float64]


def hist(bins, weight, shape):
    h = np.bincount(bins.ravel(), weight.ravel(), int(np.prod(shape))).reshape(shape)
    return ndimage.gaussian_filter(h, 0.8, mode="nearest", truncate=2.5)


CS = (LUMA_BINS, CHROMA_BINS, CHROMA_BINS)
TS = (LUMA_BINS, TEXTURE_BINS)


def learn(lk, inside, outside):
    return Model(hist(lk.colour_bin, inside, CS), hist(lk.colour_bin, outside, CS), hist(lk.texture_bin, inside, TS), hist(lk.texture_bin, outside, TS))


def blend(a, b, k):
    if a is None:
        return b
    return Model(*(k * x + (1 - k) * y for x, y in zip((a.road, a.other, a.road_t, a.other_t), (b.road, b.other, b.road_t, b.other_t))))


def log_odds(lk, m):
    def lr(a, b, eps):
        a = a / max(a.sum(), 1e-9)
        b = b / max(b.sum(), 1e-9)
        return np.log((a + eps) / (b + eps)).ravel()
    c = lr(m.road, m.other, 2e-4)[lk.colour_bin]
    t = lr(m.road_t, m.other_t, 2e-3)[lk.texture_bin]
    return np.clip(COLW * c + TEXW * t, -3, 3).astype(np.float32)


class ClassicalRoadSegmenter:
    name = "classical"
    version = "1"

    def __init__(self, grid: PointGrid = SPEC_GRID, debug=None):
        self.grid = grid
        self.debug = debug

    def segment_picture(self, frame):
        return self.segment_video(frame[None])[0]

    def segment_video(self, frames):
        T, H, W = frames.shape[:3]
        out = np.zeros((T, H, W), bool)
        w = min(WORK_WIDTH_PX, W)
        h = max(8, round(H * w / W))
        votes = None
        model = None
        prev = None
        for k in range(T):
            lk = look(frames[k], (w, h))
            v, vxs, vys = vanishing_votes(lk.luma, w, h)
            v = v / max(v.max(), 1e-6)
            votes = v if votes is None else 0.7 * votes + 0.3 * v
            vp = pick_vp(votes, vxs, vys, w, h)
            if model is not None:
                sim = float(np.exp(-np.mean(np.abs(lk.luma - last)) / SIMS))
            else:
                sim = 0.0
            last = lk.luma
            soft, model, prev, dbg = self.solve(lk, vp, model, prev, w, h, sim)
            up = cv2.resize(soft, (W, H), interpolation=cv2.INTER_LINEAR)
            out[k] = up > 0.5
            if self.debug is not None:
                self.debug.append(dbg)
        return out

    def solve(self, lk, vp, model, prev, w, h, sim):
        vx, vy = vp
        top = int(np.ceil(vy + 0.02 * h))
        ys = np.arange(h - 1, top - 1, -1)
        d = (ys - vy) / (h - vy)
        us = np.linspace(-U_LIMIT, U_LIMIT, U_BINS)
        mapx = (vx + us[None] * d[:, None] * w).astype(np.float32)
        mapy = np.broadcast_to(ys[:, None], mapx.shape).astype(np.float32)
        # prior over the picture
        yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
        below = yy > vy + 0.02 * h
        du = (xx - vx) / np.maximum((yy - vy) / (h - vy) * w, 1e-3)
        prior_row = P0 - P1 * np.abs(us)
        prior_row = np.clip(prior_row, -2.0, 1.0)
        inside = (below & (np.abs(du) < CORE) & (yy < 0.93 * h)).astype(np.float64) * 1.0
        bumps = cv2.blur(np.hypot(cv2.Sobel(lk.luma, cv2.CV_32F, 1, 0), cv2.Sobel(lk.luma, cv2.CV_32F, 0, 1)) / 8, (BW, BW))
        gx = cv2.Sobel(lk.luma, cv2.CV_32F, 1, 0) / 8
        gy = cv2.Sobel(lk.luma, cv2.CV_32F, 0, 1) / 8
        n = np.hypot(xx - vx, yy - vy) + 1e-3
        rad = cv2.blur(np.abs(gx * (xx - vx) + gy * (yy - vy)) / n, (RW, RW))
        wide = below & (np.abs(du) < 2 * CORE) & (yy < 0.93 * h)
        inside *= np.exp(-BS * bumps / max(float(np.percentile(bumps[wide], 30)), 0.01))
        rad0 = max(float(np.percentile(rad[wide], 40)), 0.008)
        clutter = np.clip(rad / rad0 - RT, 0, 2.0)
        inside *= np.exp(-RS * clutter)
        outside = (~below | (np.abs(du) > OUTER)).astype(np.float64)
        # outside above the horizon counts less
        outside[~below] *= 0.3
        keep0 = KEEP0
        if model is not None:
            surprise = float((log_odds(lk, model) * inside).sum() / max(inside.sum(), 1e-6))
            keep0 = KEEP0 if surprise > 0.5 else KEEP1
        m = blend(model, learn(lk, inside, outside), keep0)
        uc = (0.5 * w - vx) / w
        ci = int(round((uc + U_LIMIT) / (2 * U_LIMIT) * (U_BINS - 1)))
        half = int(HALF / (2 * U_LIMIT) * (U_BINS - 1))
        du_px = d * w * (us[1] - us[0])   # pixels a bin
        EL = globals()['EL']; EZ = globals()['EZ']
        labr = cv2.remap(lk.lab, mapx, mapy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inframe = (mapx >= 0) & (mapx <= w - 1)
        win = 12
        cs = np.cumsum(np.pad(cv2.blur(labr, (1, 5)), ((0, 0), (1, 0), (0, 0))), axis=1)
        mean = (cs[:, win:] - cs[:, :-win]) / win
        edge = np.zeros(mapx.shape, np.float32)
        diff = np.abs(mean[:, win:] - mean[:, :-win])
        mid = slice(max(0, ci - win - 35), ci - win + 35)
        noise = np.array([np.percentile(diff[: diff.shape[0] * 2 // 3, mid, c], 60) for c in range(3)]) + np.array([0.03, 0.006, 0.006])
        diff = (diff / noise).astype(np.float32) @ np.array([EL, 1.0, 1.0], np.float32)
        edge[:, win:win + diff.shape[1]] = diff[:, :edge.shape[1] - win]
        edge = np.minimum(edge / EZ, 1.0) * inframe
        for it in range(ITER):
            S = log_odds(lk, m)
            Ss = cv2.blur(S, (3, 3))
            R = cv2.remap(Ss, mapx, mapy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
            R = R + PRIOR * prior_row[None].astype(np.float32)
            C = REGION * np.cumsum(R, axis=1) * du_px[:, None]
            E = EDGE * edge
            tmp = 0
            if prev is not None:
                tmp = 1
            move = np.maximum(du_px, 0.3) * MOVE
            gr = (C + E).astype(np.float64)
            gl = (-C + E).astype(np.float64)
            if tmp:
                pl, pr, pys = prev
                l0 = np.interp(ys[::-1], pys[::-1], pl[::-1])[::-1]
                r0 = np.interp(ys[::-1], pys[::-1], pr[::-1])[::-1]
                idx = np.arange(U_BINS)
                gr -= sim * TEMP * np.minimum(np.abs(idx[None] - r0[:, None]), 30) * du_px[:, None]
                gl -= sim * TEMP * np.minimum(np.abs(idx[None] - l0[:, None]), 30) * du_px[:, None]
            r = viterbi(gr, move, 6, min(ci + half, U_BINS - 2), U_BINS)
            l = viterbi(gl, move, 6, 0, max(ci - half, 2))
            xl = vx + (us[l]) * d * w
            xr = vx + (us[r]) * d * w
            wedge = np.zeros((h, w), bool)
            cols = np.arange(w)[None]
            wedge[ys] = (cols >= xl[:, None]) & (cols <= xr[:, None])
            Sr = cv2.remap(cv2.blur(S, (3, 3)), mapx, mapy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
            Sc = cv2.morphologyEx(Sr, cv2.MORPH_CLOSE, np.ones((1, MARK_BINS), np.uint8))
            bx = (du / (2 * U_LIMIT) + 0.5) * (U_BINS - 1)
            by = (h - 1) - yy
            Sb = cv2.remap(Sc, bx.astype(np.float32), by.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            Sb = Sb - RL * clutter
            Sb = np.where(wedge, np.clip(Sb, -2.0, GAIN_CAP), 0.0)
            yb = int(BONNET * h)
            G = np.cumsum(np.where(ys[:, None] > yb, 0, Sb[ys]), axis=0).T.astype(np.float64)   # columns x rows from the bottom
            G = np.ascontiguousarray(np.concatenate([np.zeros((w, 1)), G], axis=1))
            base = base_path(G, COL_MOVE, COL_JUMP)
            objb = wedge & ((h - 1 - yy) >= base[None, :])
            y0 = int(BONNET * h)
            G2 = np.cumsum(np.where(objb, 0, Sb)[y0:], axis=0).T.astype(np.float64)
            G2 = np.ascontiguousarray(np.concatenate([np.zeros((w, 1)), G2], axis=1))
            low = base_path(G2, COL_MOVE, COL_JUMP)
            objb |= wedge & (yy >= y0 + low[None, :])
            road = wedge & ~objb
            m = blend(model, learn(lk, (wedge & ~objb).astype(np.float64), (~wedge & below | objb) * 1.0 + (~below) * 0.3), KEEP)
        soft = road.astype(np.float32)
        dbg = dict(S=S, vp=vp, wedge=wedge, obj=objb, edge=edge, clutter=clutter)
        return soft, m, (l.astype(float), r.astype(float), ys.astype(float)), dbg
