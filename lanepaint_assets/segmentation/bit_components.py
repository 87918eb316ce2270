"""Connected regions of bit masks: keep one, fill what one encloses, tell large ones, count them.

A region is found by its runs, unbroken stretches of pixels in a row: runs of neighbouring rows that touch are joined in
a forest whose roots stand for the regions. The root is the region's first run in reading order.

Called by the clean-up and the statistics. Shapes around pixels are `bit_morphology.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.compiled import compiled
from lanepaint_assets.segmentation.bit_masks import Bits, Rows

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ZERO, _ONE = np.uint64(0), np.uint64(1)


class Regions(NamedTuple):
    """The runs of some rows of a bit mask, in reading order, and what they belong to.

    Attributes:
        starts: (N,) first column of each run.
        ends: (N,) one past its last column.
        firsts: (rows + 1,) index of each row's first run; the last entry is N.
        roots: (N,) index of the first run of the region that each run belongs to.
    """

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    firsts: NDArray[np.int32]
    roots: NDArray[np.int32]


def keep_region(source: Bits, target: Bits, width: int, rows: Rows, x: int, y: int) -> Rows:
    """Write the region at pixel (x, y), or where none is there the largest, into `target` and nothing else.

    Args:
        source: (H, words); pixels touch their eight neighbours.
        target: (H, words), another mask.
        width: W of the frame.
        rows: the rows outside which `source` is empty.
        x, y: a pixel of the frame. Of equally large regions, the first in reading order is kept.

    Returns:
        The rows that the region covers.
    """
    return Rows(*_keep_region(source, target, width, rows.first, rows.last, x, y))


def fill_holes(bits: Bits, width: int, rows: Rows) -> None:
    """Set, in place, all background that no path through the four neighbours joins to the outside of the frame.

    Args:
        bits: (H, words).
        width: W of the frame.
        rows: the rows outside which `bits` is empty.
    """
    _fill_holes(bits, width, rows.first, rows.last)


def wide_regions(bits: Bits, width: int, rows: Rows, least_px: int) -> tuple[Regions, NDArray[np.bool_], Rows]:
    """The regions of a mask by four neighbours, and which of them may hold a shape of a given size.

    Args:
        bits: (H, words).
        width: W of the frame.
        rows: the rows outside which `bits` is empty.
        least_px: such a region spans at least so many rows, and has a run at least as long.

    Returns:
        The regions, (N,) bool for their runs, and the rows that such regions cover.
    """
    regions = Regions(*_regions(bits, width, rows.first, rows.last, False, _ZERO))
    wide, first, last = _wide(*regions, least_px)
    return regions, wide, Rows(rows.first + first, rows.first + last)


def clear_regions_with(marks: Bits, regions: Regions, among: NDArray[np.bool_], rows: Rows, target: Bits) -> None:
    """Unset in `target` every region that holds a pixel of `marks`.

    Args:
        marks: (H, words).
        regions: the regions of the rows `rows`.
        among: (N,) bool, the runs in question; those of a region all or none.
        rows: the rows that `regions` describes.
        target: (H, words), changed in place.
    """
    _clear_regions_with(marks, *regions, among, rows.first, target)


def count_regions(bits: Bits, width: int) -> int:
    """How many regions a mask (H, words) has, by four neighbours."""
    return _count_regions(bits, width)


@compiled()
def _ones(word: np.uint64) -> int:
    """Bits set in a word, summed in pairs, fours and bytes; the compiler knows the idiom as one instruction."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int(np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56)))


@compiled()
def _trailing_zeros(word: np.uint64) -> int:
    """The lowest bit set in a word, which is not zero."""
    return _ones((word & (~word + _ONE)) - _ONE)


@compiled()
def _regions(
    bits: Bits, width: int, first: int, last: int, diagonal: bool, inverted: np.uint64
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The fields of `Regions`; `inverted` of all ones looks at the background instead.

    Args:
        diagonal: pixels touch their eight neighbours, not four.
    """
    words = bits.shape[1]
    # As many runs as fit; memory that no run is written to costs nothing.
    most = (last - first) * ((width + 1) // 2)
    starts = np.empty(most, dtype=np.int32)
    ends = np.empty(most, dtype=np.int32)
    firsts = np.empty(last - first + 1, dtype=np.int32)
    started = ended = 0
    for y in range(first, last):
        firsts[y - first] = started
        row = bits[y]
        before = _ZERO
        for word in range(words):
            here = row[word] ^ inverted
            # Bits that differ from the one to their left: starts of runs, and pixels right behind runs, in turn.
            changes = here ^ ((here << _ONE) | before)
            before = here >> np.uint64(63)
            while changes != _ZERO:
                x = word * 64 + _trailing_zeros(changes)
                changes &= changes - _ONE
                if ended < started:
                    ends[ended] = x
                    ended += 1
                # Beyond the frame the inverted last word is set.
                elif x < width:
                    starts[started] = x
                    started += 1
        if ended < started:
            ends[ended] = width
            ended += 1
    firsts[last - first] = started
    roots = np.arange(started, dtype=np.int32)
    reach = 1 if diagonal else 0
    for row in range(1, last - first):
        above, below = firsts[row - 1], firsts[row]
        while above < firsts[row] and below < firsts[row + 1]:
            if starts[above] < ends[below] + reach and starts[below] < ends[above] + reach:
                one, two = _root(roots, above), _root(roots, below)
                roots[max(one, two)] = min(one, two)
            if ends[above] < ends[below]:
                above += 1
            else:
                below += 1
    for run in range(started):
        # Parents come before children, so theirs is a root already.
        roots[run] = roots[roots[run]]
    return starts[:started], ends[:started], firsts, roots


@compiled()
def _root(parents: NDArray[np.int32], run: int) -> int:
    """The root above a run; the path to it is halved on the way."""
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@compiled()
def _keep_region(source: Bits, target: Bits, width: int, first: int, last: int, x: int, y: int) -> tuple[int, int]:
    starts, ends, firsts, roots = _regions(source, width, first, last, True, _ZERO)
    target[:] = _ZERO
    if roots.size == 0:
        return 0, 0
    kept = -1
    if first <= y < last:
        for run in range(firsts[y - first], firsts[y - first + 1]):
            if starts[run] <= x < ends[run]:
                kept = int(roots[run])
    if kept < 0:
        areas = np.zeros(roots.size, dtype=np.int64)
        for run in range(roots.size):
            areas[roots[run]] += ends[run] - starts[run]
        kept = int(np.argmax(areas))
    top, bottom = last, first
    for row in range(last - first):
        for run in range(firsts[row], firsts[row + 1]):
            if roots[run] == kept:
                _set_run(target, first + row, starts[run], ends[run])
                top, bottom = min(top, first + row), first + row + 1
    return top, bottom


@compiled()
def _fill_holes(bits: Bits, width: int, first: int, last: int) -> None:
    starts, ends, firsts, roots = _regions(bits, width, first, last, False, _ALL)
    outside = np.zeros(roots.size, dtype=np.bool_)
    for row in range(last - first):
        # Above the first row and below the last lies the frame's edge, or a row of background.
        is_edge = row in (0, last - first - 1)
        for run in range(firsts[row], firsts[row + 1]):
            if is_edge or starts[run] == 0 or ends[run] == width:
                outside[roots[run]] = True
    for row in range(last - first):
        for run in range(firsts[row], firsts[row + 1]):
            if not outside[roots[run]]:
                _set_run(bits, first + row, starts[run], ends[run])


@compiled()
def _wide(
    starts: NDArray[np.int32],
    ends: NDArray[np.int32],
    firsts: NDArray[np.int32],
    roots: NDArray[np.int32],
    least_px: int,
) -> tuple[NDArray[np.bool_], int, int]:
    """(N,), which runs belong to a region of at least so many rows that has a run of at least so many pixels.

    And the rows that such regions cover, counted from the first: the uppermost and one past the lowest.
    """
    longest = np.zeros(roots.size, dtype=np.int32)
    bottom = np.zeros(roots.size, dtype=np.int32)
    wide = np.zeros(roots.size, dtype=np.bool_)
    top, end = firsts.size - 1, 0
    for row in range(firsts.size - 1):
        for run in range(firsts[row], firsts[row + 1]):
            longest[roots[run]] = max(longest[roots[run]], ends[run] - starts[run])
            bottom[roots[run]] = row
    for row in range(firsts.size - 1):
        for run in range(firsts[row], firsts[row + 1]):
            # The root lies in the region's uppermost row and comes first.
            if roots[run] == run:
                wide[run] = longest[run] >= least_px and bottom[run] - row + 1 >= least_px
            else:
                wide[run] = wide[roots[run]]
            if wide[run]:
                top, end = min(top, row), row + 1
    return wide, min(top, end), end


@compiled()
def _clear_regions_with(
    marks: Bits,
    starts: NDArray[np.int32],
    ends: NDArray[np.int32],
    firsts: NDArray[np.int32],
    roots: NDArray[np.int32],
    among: NDArray[np.bool_],
    first: int,
    target: Bits,
) -> None:
    marked = np.zeros(roots.size, dtype=np.bool_)
    for row in range(firsts.size - 1):
        for run in range(firsts[row], firsts[row + 1]):
            if among[run] and not marked[roots[run]]:
                for word in range(starts[run] // 64, (ends[run] - 1) // 64 + 1):
                    if marks[first + row, word] & _part(word, starts[run], ends[run]):
                        marked[roots[run]] = True
    for row in range(firsts.size - 1):
        for run in range(firsts[row], firsts[row + 1]):
            if marked[roots[run]]:
                for word in range(starts[run] // 64, (ends[run] - 1) // 64 + 1):
                    target[first + row, word] &= ~_part(word, starts[run], ends[run])


@compiled()
def _count_regions(bits: Bits, width: int) -> int:
    _, _, _, roots = _regions(bits, width, 0, bits.shape[0], False, _ZERO)
    count = 0
    for run in range(roots.size):
        count += roots[run] == run
    return count


@compiled()
def _set_run(bits: Bits, y: int, start: int, end: int) -> None:
    for word in range(start // 64, (end - 1) // 64 + 1):
        bits[y, word] |= _part(word, start, end)


@compiled()
def _part(word: int, start: int, end: int) -> np.uint64:
    """The bits of a word that a run from `start` to `end - 1` covers; the two must overlap."""
    low = max(start - word * 64, 0)
    high = min(end - word * 64, 64)
    return (_ALL << np.uint64(low)) & (_ALL >> np.uint64(64 - high))
