"""The evaluation report as a reader meets it: on a desktop and on a phone, without network, with videos that play."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, Request

from lanepaint_assets.clips.encoding import write_video
from lanepaint_assets.rendering.report import MAX_OPEN_ITEMS, render_html
from lanepaint_assets.rendering.report_content import ChunkReport
from lanepaint_assets_tests.unit.rendering.reports import CLIP, EDIT, FAILED, REPAINT, REPORT

pytestmark = pytest.mark.slow

RATE_HZ = 8.0
PATIENCE_S = 30.0
FRAMES, T0_FRAME = 32, 12
# A pane's frame number is the place of its white bar.
PANE_WIDTH, HEIGHT, BAR_PX = 320, 180, 10
DESKTOP, PHONE = (1280, 900), (390, 844)

# Number of the frame that each pane of the first player shows, -1 for a pane without a bar.
SHOWN_FRAMES = f"""() => [...document.querySelectorAll('.player')[0].querySelectorAll('canvas')].map(pane => {{
    if (pane.width !== {PANE_WIDTH}) return -1;
    const row = pane.getContext('2d').getImageData(0, {HEIGHT // 2}, pane.width, 1).data;
    let sum = 0, count = 0;
    for (let x = 0; x < pane.width; x++) if (row[4 * x] > 200) {{ sum += x; count++; }}
    return count ? Math.floor(sum / count / {BAR_PX}) : -1;
}})"""


def wait_until(page: Page, condition: str) -> None:
    """Wait for a JavaScript condition.

    Playwright's own waiting polls with `eval` inside the page, which the report's content security policy forbids.
    """
    deadline = monotonic() + PATIENCE_S
    while not page.evaluate(condition):
        assert monotonic() < deadline, f"not true within {PATIENCE_S:.0f} s: {condition}"
        page.wait_for_timeout(20)


def comparison(path: Path, shade: int) -> bytes:
    """A preview as the evaluation writes it: both arms side by side, a bar in each that moves with every frame."""
    frames = np.full((FRAMES, HEIGHT, 2 * PANE_WIDTH, 3), shade, dtype=np.uint8)
    for index, frame in enumerate(frames):
        for left in (0, PANE_WIDTH):
            frame[:, left + BAR_PX * index : left + BAR_PX * (index + 1)] = 255
    write_video(path, frames, RATE_HZ)
    return path.read_bytes()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ChunkReport:
    folder = tmp_path_factory.mktemp("previews")
    edit = replace(
        EDIT,
        preview_mp4=comparison(folder / "edit.mp4", 40),
        comparison_file="outputs/alpamayo/chunk_0001/trajectory_videos/" + "a" * 120 + "_comparison.mp4",
        example=None,
        refinement=None,
    )
    repaint = replace(REPAINT, preview_mp4=comparison(folder / "repaint.mp4", 90))
    clip = replace(
        CLIP,
        clip_id="00_a_rather_long_clip_identifier_00",
        items=(edit, repaint, FAILED),
        t0_frame=T0_FRAME,
        frame_rate_hz=RATE_HZ,
    )
    return replace(REPORT, clips=(clip, replace(clip, clip_id="01_another", items=(edit,))))


@pytest.fixture(scope="module")
def report_file(report: ChunkReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render_html(report), encoding="utf-8")
    return file


class Opened:
    """The report in a page that notes every request and every complaint."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page, self.address = page, file.as_uri()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.goto(self.address)

    def _note(self, request: Request) -> None:
        if request.url != self.address and not request.url.startswith("data:"):
            self.requests.append(request.url)

    def first_player(self) -> Locator:
        """The first player, in view and at rest."""
        player = self.page.locator(".player").first
        player.scroll_into_view_if_needed()
        wait_until(self.page, f"({SHOWN_FRAMES})().every(frame => frame >= 0)")
        return player

    def shown(self) -> list[int]:
        """Frame number of both panes of the first player."""
        frames: list[int] = self.page.evaluate(SHOWN_FRAMES)
        return frames


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [DESKTOP, PHONE])
def test_the_report_fits_the_window_and_asks_for_nothing(
    browser: Browser, report_file: Path, tmp_path: Path, width: int, height: int, scheme: str
) -> None:
    with browser.new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
    ) as page:
        opened = Opened(page, report_file)
        # Everything that can be unfolded counts.
        page.evaluate("() => document.querySelectorAll('details').forEach(part => part.open = true)")
        opened.first_player()
        page.screenshot(path=tmp_path / f"report_{width}_{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # A box that is cut off without a way to scroll to the rest hides figures from a phone.
        hidden = page.evaluate(
            """() => [...document.querySelectorAll('main *, body > *')]
                .filter(box => box.scrollWidth > box.clientWidth + 1 && box.clientWidth > 0
                    && getComputedStyle(box).overflowX === 'hidden')
                .map(box => box.tagName + '.' + box.className)"""
        )
        assert hidden == []
        assert opened.complaints == []
        assert opened.requests == []


def test_the_answer_stands_on_the_first_screen(browser: Browser, report_file: Path) -> None:
    for width, height in (DESKTOP, PHONE):
        with browser.new_page(viewport={"width": width, "height": height}) as page:
            Opened(page, report_file)
            bottom = page.evaluate("document.querySelector('.card .effect').getBoundingClientRect().bottom")
            assert bottom < height


def test_at_rest_both_panes_show_the_moment_of_the_prediction(browser: Browser, report_file: Path) -> None:
    with browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}) as page:
        opened = Opened(page, report_file)
        opened.first_player()
        wait_until(page, f"({SHOWN_FRAMES})().every(frame => frame === {T0_FRAME})")
        label = page.locator(".player output").first
        assert label.text_content() == f"frame {T0_FRAME + 1} / {FRAMES}"


@pytest.mark.parametrize(("width", "height"), [DESKTOP, PHONE])
def test_both_videos_play_and_stay_in_step_to_the_frame(
    browser: Browser, report_file: Path, width: int, height: int
) -> None:
    with browser.new_page(viewport={"width": width, "height": height}) as page:
        opened = Opened(page, report_file)
        player = opened.first_player()
        # Written down in the page itself, at every repaint: from outside a busy machine would see too few of them.
        page.evaluate(
            f"""() => {{
                window.seen = [];
                const note = () => {{ window.seen.push(({SHOWN_FRAMES})()); requestAnimationFrame(note); }};
                note();
            }}"""
        )
        player.locator("[data-do=play]").click()
        wait_until(page, f"window.seen.at(-1)[0] >= {FRAMES - 6}")
        seen: list[list[int]] = page.evaluate("window.seen")
        assert all(original == edited for original, edited in seen)
        frames = [original for original, _ in seen]
        assert frames == sorted(frames)
        # It plays, it does not jump: of the 14 frames in between most are seen.
        assert len(set(frames)) > 7
        player.locator("[data-do=play]").click()
        wait_until(page, "document.querySelector('.player video').paused")
        assert page.evaluate("[...document.querySelectorAll('video')].slice(1).every(video => video.paused)")
        assert opened.complaints == []


def test_steps_and_the_slider_move_both_panes_by_whole_frames(browser: Browser, report_file: Path) -> None:
    with browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}) as page:
        opened = Opened(page, report_file)
        player = opened.first_player()
        wait_until(page, f"({SHOWN_FRAMES})().every(frame => frame === {T0_FRAME})")
        for step in range(1, 6):
            player.locator("[data-do=forward]").click()
            wait_until(page, f"({SHOWN_FRAMES})().every(frame => frame === {T0_FRAME + step})")
        player.locator("[data-do=back]").click()
        wait_until(page, f"({SHOWN_FRAMES})().every(frame => frame === {T0_FRAME + 4})")
        player.locator("input").fill("3")
        wait_until(page, f"({SHOWN_FRAMES})().every(frame => frame === 3)")
        player.locator("input").fill("0")
        wait_until(page, f"({SHOWN_FRAMES})().every(frame => frame === 0)")
        player.locator("[data-do=back]").click()
        page.wait_for_timeout(200)
        assert opened.shown() == [0, 0]


def test_playing_ends_at_the_last_frame_and_begins_anew(browser: Browser, report_file: Path) -> None:
    with browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}) as page:
        opened = Opened(page, report_file)
        player = opened.first_player()
        player.locator("input").fill(str(FRAMES - 4))
        wait_until(page, f"({SHOWN_FRAMES})().every(frame => frame === {FRAMES - 4})")
        player.locator("[data-do=play]").click()
        wait_until(page, "document.querySelector('.player [data-do=play]').textContent === '▶'")
        wait_until(page, f"({SHOWN_FRAMES})().every(frame => frame === {FRAMES - 1})")
        player.locator("[data-do=play]").click()
        wait_until(page, f"({SHOWN_FRAMES})().every(frame => frame > 0 && frame < 10)")


def test_a_link_from_the_overview_opens_what_is_folded(browser: Browser, report: ChunkReport, tmp_path: Path) -> None:
    many = replace(report, clips=report.clips * 5)
    assert len(many.items) > MAX_OPEN_ITEMS
    file = tmp_path / "many.html"
    file.write_text(render_html(many), encoding="utf-8")
    with browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}) as page:
        opened = Opened(page, file)
        assert page.evaluate("[...document.querySelectorAll('details.item')].every(item => !item.open)")
        page.locator(".overview a[href='#item-1']").click()
        wait_until(page, "document.getElementById('item-1').open")
        opened.first_player()
        assert page.evaluate("document.querySelectorAll('details.item[open]').length") == 1


def test_without_scripts_the_video_keeps_its_own_controls(browser: Browser, report_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    with context.new_page() as page:
        page.goto(report_file.as_uri())
        video = page.locator(".player video").first
        assert video.is_visible()
        assert video.get_attribute("controls") is not None
        assert not page.locator(".player canvas").first.is_visible()
    context.close()
