"""Bars reach the terminal of the command, also while something else holds the standard streams."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

from lanepaint_assets.commands.progress import Bars
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings


def test_a_bar_is_drawn_on_the_terminal_although_the_streams_were_redirected_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        bars = Bars()
        patch.setattr(sys, "stderr", None)
        bars("edited_videos", 0, 2, "")
        bars("edited_videos", 1, 2, "clip.camera/roundtrip")
        bars("edited_videos", 2, 2, "clip.camera/double_yellow_solid")
        drawn = os.read(reader, 65536).decode()
    os.close(reader)
    assert "edited_videos" in drawn
    assert "2/2" in drawn
    assert "double_yellow_solid" in drawn


def test_nothing_is_drawn_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "log").open("w") as log, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", log)
        Bars()("edited_videos", 1, 2, "clip.camera/roundtrip")
    assert (tmp_path / "log").read_text() == ""
    assert capfd.readouterr().err == ""


def test_a_platform_names_the_asset_to_its_listener() -> None:
    heard: list[tuple[str, int, int, str]] = []
    platform = Platform(Settings(), progress=lambda *told: heard.append(told))
    tell = platform.progress_for("road_masks")
    assert tell is not None
    tell(1, 4, "clip.camera")
    assert heard == [("road_masks", 1, 4, "clip.camera")]
    assert Platform(Settings()).progress_for("road_masks") is None
