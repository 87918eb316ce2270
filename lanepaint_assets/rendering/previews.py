"""Small pictures for the metadata of a materialization: contact sheets, before and after, as PNG and as Markdown.

Called by every stage's asset code. Videos and full-size pictures are not made here: what is shown in the web UI is kept
in its event log for ever, so everything has a size limit.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lanepaint_assets.clips.pictures import read_picture
from lanepaint_assets.rendering import drawing

# Three columns fit the metadata table of the web UI without scrolling sideways.
SHEET_COLUMNS = 3
CELL_WIDTH_PX, CELL_HEIGHT_PX = 320, 180
BEFORE_AFTER_WIDTH_PX = 480
BACKGROUND: drawing.Color = (24, 28, 34)
CAPTION_PX = 13
GAP_PX = 6
# Metadata rows are loaded with every event list: a few of these a run stay unnoticed, megabytes do not.
MAX_MARKDOWN_BYTES = 300_000
# Text of 13 pixels keeps its edges.
JPEG_QUALITY = 85


@dataclass(frozen=True, eq=False)
class CaptionedPicture:
    """(H, W, 3) sRGB uint8 and one line about it."""

    picture: NDArray[np.uint8]
    caption: str


def contact_sheet(pictures: Sequence[CaptionedPicture], columns: int = SHEET_COLUMNS) -> bytes:
    """PNG of pictures in rows, reduced to at most 320 x 180 each, with their captions beneath.

    Raises:
        ValueError: there are no pictures, or `columns` is below 1.
    """
    if not pictures or columns < 1:
        raise ValueError(f"a contact sheet needs pictures and columns, not {len(pictures)} and {columns}")
    return _sheet(pictures, min(columns, len(pictures)), CELL_WIDTH_PX, CELL_HEIGHT_PX)


def before_after(original: NDArray[np.uint8], edited: NDArray[np.uint8], caption: str = "") -> bytes:
    """PNG of the original beside the edit, each at most 480 px wide; `caption` names the edit."""
    pair = (CaptionedPicture(original, "original"), CaptionedPicture(edited, caption or "edited"))
    return _sheet(pair, 2, BEFORE_AFTER_WIDTH_PX, BEFORE_AFTER_WIDTH_PX)


def before_after_cells(sheet: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The two pictures of a `before_after` sheet that was read back, without their captions."""
    width = (sheet.shape[1] - 3 * GAP_PX) // 2
    rows = slice(GAP_PX, sheet.shape[0] - 2 * GAP_PX - _caption_height())
    return sheet[rows, GAP_PX : GAP_PX + width], sheet[rows, 2 * GAP_PX + width : 2 * GAP_PX + 2 * width]


def as_markdown_image(png: bytes, alt: str = "preview", max_bytes: int = MAX_MARKDOWN_BYTES) -> str:
    """Markdown that carries the picture itself as a data URI of at most `max_bytes` characters.

    A picture that is too large becomes a JPEG, and is reduced where that is still too large.

    Raises:
        ValueError: `png` is no picture, or `max_bytes` cannot even hold a picture of a few pixels.
    """
    words = "".join("" if c in "[]\\" else c for c in drawing.printable(alt))
    markdown = _markdown(words, "png", png)
    if len(markdown) <= max_bytes:
        return markdown
    # Photographs of a contact sheet take a fifth as JPEG; reduced instead, nobody could read the captions.
    picture = read_picture(png, "preview")
    while True:
        markdown = _markdown(words, "jpeg", _jpeg(picture))
        if len(markdown) <= max_bytes:
            return markdown
        height, width = picture.shape[:2]
        if min(height, width) < 8:
            raise ValueError(f"no preview fits into {max_bytes} bytes; allow a few hundred at least")
        size = (max(1, int(width * 0.8)), max(1, int(height * 0.8)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _markdown(words: str, kind: str, data: bytes) -> str:
    return f"![{words}](data:image/{kind};base64,{base64.b64encode(data).decode('ascii')})"


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    fine, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not fine:
        raise ValueError(f"a preview of {picture.shape} cannot be written as JPEG")
    return data.tobytes()


def _sheet(pictures: Sequence[CaptionedPicture], columns: int, cell_width: int, cell_height: int) -> bytes:
    reduced = [drawing.fit_inside(item.picture, cell_width, cell_height) for item in pictures]
    width = max(picture.shape[1] for picture in reduced)
    caption_height = _caption_height()
    rows = [reduced[start : start + columns] for start in range(0, len(reduced), columns)]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    sheet: NDArray[np.uint8] = np.empty(
        (GAP_PX + sum(heights) + len(rows) * (caption_height + GAP_PX), GAP_PX + columns * (width + GAP_PX), 3),
        dtype=np.uint8,
    )
    sheet[:] = BACKGROUND
    top = GAP_PX
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for column, picture in enumerate(row):
            left = GAP_PX + column * (width + GAP_PX)
            sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            caption = drawing.fit_text(pictures[number * columns + column].caption, width, CAPTION_PX)
            drawing.draw_text(sheet, caption, left, top + height + 2, CAPTION_PX, drawing.SOFT_WHITE)
        top += height + caption_height + GAP_PX
    return drawing.encode_png(sheet)


def _caption_height() -> int:
    return drawing.line_height(CAPTION_PX) + 4
