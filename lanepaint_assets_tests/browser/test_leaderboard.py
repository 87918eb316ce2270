"""The leaderboard as a reader meets it: on a desktop and on a phone, without network, with everything folded open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Request

from lanepaint_assets.rendering.leaderboard import render_leaderboard
from lanepaint_assets_tests.unit.rendering.test_leaderboard import LINE, a_board, a_leaderboard

pytestmark = pytest.mark.slow

LONG = "mixed_unknown_dashed_with_a_name_that_is_longer_than_any_phone_is_wide_and_then_some_more"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window_and_asks_for_nothing(browser: Browser, tmp_path: Path, width: int) -> None:
    lines = (*a_board().primary, replace(LINE, prompt_key=LONG, reason=LONG.replace("_", " ")))
    boards = (a_board(primary=lines), a_board(driver="alpamayo_r1 1", exploratory=lines * 20))
    file = tmp_path / "leaderboard.html"
    file.write_text(render_leaderboard(a_leaderboard(*boards, left_out=((LONG, LONG),))), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    requests: list[Request] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # Nothing reaches out of its plot, and no label lies on another.
    assert page.locator("svg.forest").count() == 2
    overlaps = page.evaluate(
        """() => [...document.querySelectorAll('svg.forest')].flatMap(svg => {
            const boxes = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
            return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b =>
                a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1));
        }).length"""
    )
    assert overlaps == 0
    assert [request.url for request in requests] == [file.as_uri()]
    assert complaints == []
    page.close()
