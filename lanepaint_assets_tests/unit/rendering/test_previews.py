"""Pictures for the metadata of a materialization."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest

from lanepaint_assets.clips.pictures import PictureError, read_picture
from lanepaint_assets.rendering.previews import CaptionedPicture, as_markdown_image, before_after, contact_sheet

RED = np.zeros((90, 160, 3), dtype=np.uint8)
RED[:] = (220, 20, 20)
BLUE = np.zeros((90, 160, 3), dtype=np.uint8)
BLUE[:] = (20, 20, 220)


def test_a_contact_sheet_holds_every_picture_in_rows() -> None:
    sheet = read_picture(
        contact_sheet([CaptionedPicture(RED, f"clip {i}") for i in range(4)] + [CaptionedPicture(BLUE, "last")])
    )
    reds = (np.abs(sheet.astype(int) - (220, 20, 20)).max(axis=2) < 3).sum()
    blues = (np.abs(sheet.astype(int) - (20, 20, 220)).max(axis=2) < 3).sum()
    assert reds == 4 * 90 * 160
    assert blues == 90 * 160
    assert sheet.shape[1] < 3 * 160 + 40


def test_pictures_of_different_sizes_share_a_sheet() -> None:
    large = np.full((1080, 1920, 3), 50, dtype=np.uint8)
    tall = np.full((400, 100, 3), 90, dtype=np.uint8)
    sheet = read_picture(contact_sheet([CaptionedPicture(large, "a"), CaptionedPicture(tall, "ü" * 200)]))
    assert sheet.shape[0] < 240
    assert sheet.shape[1] < 680


def test_an_empty_contact_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="needs pictures"):
        contact_sheet([])


def test_before_stands_left_of_after() -> None:
    pair = read_picture(before_after(RED, BLUE, "double yellow"))
    middle = pair[40]
    assert middle[: pair.shape[1] // 2 - 10, 0].max() == 220
    assert middle[: pair.shape[1] // 2 - 10, 2].max() < 60
    assert middle[pair.shape[1] // 2 + 10 :, 2].max() == 220


def test_the_markdown_carries_the_picture_itself() -> None:
    png = before_after(RED, BLUE)
    found = re.fullmatch(r"!\[a \(b\)\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", as_markdown_image(png, "a [(b)]"))
    assert found is not None
    assert base64.b64decode(found[1]) == png


def test_a_picture_too_large_for_the_limit_is_reduced_to_it() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8)
    markdown = as_markdown_image(contact_sheet([CaptionedPicture(noise, "noise")]), max_bytes=20_000)
    assert len(markdown) <= 20_000
    data = base64.b64decode(markdown.split("base64,")[1].rstrip(")"))
    assert read_picture(data).shape[1] > 40


def test_what_is_no_picture_or_can_never_fit_is_refused() -> None:
    with pytest.raises(PictureError):
        as_markdown_image(b"x" * 1000, max_bytes=500)
    with pytest.raises(ValueError, match="no preview fits"):
        as_markdown_image(before_after(RED, BLUE), max_bytes=40)
