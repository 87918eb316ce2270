"""What the web UI shows of first frames and edited videos."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from lanepaint_assets.editing import assets
from lanepaint_assets.rendering import previews
from lanepaint_assets.rendering.previews import CaptionedPicture, before_after

CLIPS = ("0a5f1c3d-1111-2222-3333-444455556666.camera", "9bd7e2aa-1111-2222-3333-444455556666.camera")
BLACK, WHITE = np.zeros((54, 96, 3), np.uint8), np.full((54, 96, 3), 255, np.uint8)


@pytest.fixture
def sheet(monkeypatch: pytest.MonkeyPatch) -> list[CaptionedPicture]:
    """The pictures of the sheet that is made."""
    shown: list[CaptionedPicture] = []

    def contact_sheet(pictures: Sequence[CaptionedPicture]) -> bytes:
        shown.extend(pictures)
        return b"png"

    monkeypatch.setattr(previews, "contact_sheet", contact_sheet)
    return shown


def test_each_clip_stands_once_as_it_was_before_its_edits_named_by_prompt(sheet: list[CaptionedPicture]) -> None:
    keys = [f"{clip}/{prompt}" for clip in CLIPS for prompt in ("double_yellow_solid", "single_white_dashed")]
    outcome = SimpleNamespace(rows=[SimpleNamespace(key=key, status="ok") for key in keys])
    store = SimpleNamespace(read_bytes=lambda *_: before_after(BLACK, WHITE))
    assets._before_and_after(SimpleNamespace(store=store), outcome)  # type: ignore[arg-type]
    assert [(item.caption, bool(item.picture.mean() > 128)) for item in sheet] == [
        ("original · 0a5f1c3d", False),
        ("double_yellow_solid · 0a5f1c3d", True),
        ("single_white_dashed · 0a5f1c3d", True),
        ("original · 9bd7e2aa", False),
        ("double_yellow_solid · 9bd7e2aa", True),
        ("single_white_dashed · 9bd7e2aa", True),
    ]


def test_without_anything_made_there_is_no_preview(sheet: list[CaptionedPicture]) -> None:
    outcome = SimpleNamespace(rows=[SimpleNamespace(key="a/b", status="failed")])
    assert assets._before_and_after(SimpleNamespace(), outcome) is None  # type: ignore[arg-type]
    assert sheet == []
