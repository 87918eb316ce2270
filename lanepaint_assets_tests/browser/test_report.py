"""The evaluation report as a reader meets it: on a desktop and on a phone, without network, with videos that play."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Request

from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.rendering.report import (
    ChunkReport,
    ItemSection,
    ItemTrajectories,
    RefusedClip,
    VerdictSummary,
    render_html,
)
from lanepaint_assets.rendering.scene import EngineLabel

pytestmark = pytest.mark.slow

RATE_HZ = 8.0
PATIENCE_S = 30.0
FRAMES = 32


def wait_until(page: Page, condition: str) -> None:
    """Wait for a JavaScript condition.

    Playwright's own waiting polls with `eval` inside the page, which the report's content security policy forbids.
    """
    deadline = monotonic() + PATIENCE_S
    while not page.evaluate(condition):
        assert monotonic() < deadline, f"not true within {PATIENCE_S:.0f} s: {condition}"
        page.wait_for_timeout(20)


def path_m(left_m: float, steps: int = 64) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """A straight drive at 10 m/s that ends `left_m` to the left."""
    along = np.arange(1, steps + 1, dtype=np.float64)
    return np.stack([along, np.linspace(0.0, left_m, steps), np.zeros(steps)], axis=1)


def preview(path: Path, shade: int) -> bytes:
    """A video with a bar that moves every frame."""
    frames = np.full((FRAMES, 180, 640, 3), shade, dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[:, 16 * index : 16 * index + 16] = 255
    write_video(path, frames, RATE_HZ)
    return path.read_bytes()


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    items = [
        ItemSection(
            clip_id=f"00_a_rather_long_clip_identifier_{clip}",
            camera="camera_front_wide_120fov",
            prompt_key=prompt,
            prompt_text=prompt.replace("_", " "),
            status="ok",
            is_control=prompt == "roundtrip",
            original_min_ade_m=1.2,
            edited_min_ade_m=1.2 + shift,
            arms_ade_m=0.4,
            lateral_shift_3s_m=shift,
            verdict=VerdictSummary(
                shift > 0, "colour: yellow was asked for and is seen; pattern: solid; count: double"
            ),
            original_reasoning=("keep the lane",) * 6,
            edited_reasoning=("keep the lane",) * 5 + ("slow down for the crossing ahead",),
            trajectories=ItemTrajectories(
                np.stack([path_m(0.2 * k) for k in range(6)]),
                np.stack([path_m(shift + 0.2 * k) for k in range(6)]),
                path_m(0.0),
                path_m(0.0, 16)[::-1] * -1.0,
            ),
            preview_mp4=preview(folder / "preview.mp4", 40 + 60 * clip),
            comparison_file=f"outputs/alpamayo/chunk_0001/{clip}/comparison.mp4",
            overlay_file=f"outputs/alpamayo/chunk_0001/{clip}/overlay.mp4",
            t0_frame=12,
            camera_quality="calibrated",
            ego_quality="recorded",
        )
        for clip in range(2)
        for prompt, shift in (("double_yellow_solid", 0.6), ("single_white_dashed", -0.3), ("roundtrip", 0.0))
    ]
    failed = ItemSection("02", "camera_front_wide_120fov", "double_yellow_solid", "", "failed", reason="no road")
    report = ChunkReport(
        chunk="chunk_0001",
        clip_grid="spec_8fps",
        frame_rate_hz=RATE_HZ,
        engines=(EngineLabel("painter", "procedural", "1", False), EngineLabel("driver", "lane_follow", "1", False)),
        items=(*items, failed),
        refused_clips=(RefusedClip("03", "camera_front_wide_120fov", "the file is empty"),),
        run_name="nightly_20261123T040000",
    )
    file = folder / "report.html"
    file.write_text(render_html(report))
    return file


class Opened:
    """The report in a page that notes every request and every complaint."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.goto(file.as_uri())
        wait_until(page, "[...document.querySelectorAll('video')].every(video => video.readyState >= 2)")

    def _note(self, request: Request) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.requests.append(request.url)


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (400, 800)])
def test_the_report_fits_the_window_and_asks_for_nothing(
    browser: Browser, report_file: Path, tmp_path: Path, width: int, height: int
) -> None:
    with browser.new_page(viewport={"width": width, "height": height}) as page:
        opened = Opened(page, report_file)
        page.screenshot(path=tmp_path / f"report_{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # A box that is cut off without a way to scroll to the rest hides figures from a phone.
        hidden = page.evaluate(
            """() => [...document.querySelectorAll('main *, body > *')]
                .filter(box => box.scrollWidth > box.clientWidth + 1 && box.clientWidth > 0
                    && getComputedStyle(box).overflowX === 'hidden')
                .map(box => box.tagName + '.' + box.className)"""
        )
        assert hidden == []
        assert opened.requests == []
        assert opened.complaints == []


def test_all_videos_of_a_clip_play_together(browser: Browser, report_file: Path) -> None:
    with browser.new_page(viewport={"width": 1280, "height": 900}) as page:
        opened = Opened(page, report_file)
        section = page.locator("section.clip").first
        videos = "[...document.querySelector('section.clip').querySelectorAll('video')]"
        assert page.evaluate(f"{videos}.length") == 3
        # At rest all show the moment of the prediction, frame 12 of the preview.
        at_rest = page.evaluate(f"{videos}.map(video => video.currentTime)")
        assert at_rest == pytest.approx([12.5 / RATE_HZ] * 3, abs=0.01)

        section.locator("[data-do=play]").click()
        wait_until(page, f"{videos}.every(video => !video.paused && video.currentTime > {13.5 / RATE_HZ})")
        times = page.evaluate(f"{videos}.map(video => video.currentTime)")
        assert max(times) - min(times) <= 1.0 / RATE_HZ
        others = "[...document.querySelectorAll('section.clip')][1].querySelectorAll('video')"
        assert page.evaluate(f"[...{others}].every(video => video.paused)")

        section.locator("[data-do=play]").click()
        wait_until(page, f"{videos}.every(video => video.paused)")
        stopped = page.evaluate(f"{videos}.map(video => video.currentTime)")
        assert stopped == pytest.approx([stopped[0]] * 3, abs=0.01)
        assert opened.complaints == []


def test_every_video_can_be_played_by_the_browser(browser: Browser, report_file: Path) -> None:
    with browser.new_page() as page:
        Opened(page, report_file)
        played = page.evaluate(
            """() => Promise.all([...document.querySelectorAll('video')].map(video => video.play().then(() => true)))"""
        )
        assert played == [True] * 6
