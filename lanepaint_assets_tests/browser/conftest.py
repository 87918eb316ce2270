"""A headless Chromium, and where pictures of its pages go; servers and pages belong to their tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install -c constraints.txt '.[test]'")

from playwright.sync_api import Browser, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# A container's root has no sandbox, and a closed network must not see a browser's own chatter.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]

SCREENSHOTS = "--screenshots"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        SCREENSHOTS,
        type=Path,
        metavar="DIR",
        help="Write the README's pictures of the Dagster UI to DIR; name lanepaint_assets_tests/browser with it.",
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser found ({', '.join(PROGRAMS)}); on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for pictures that people will see; one of the test run's own where nobody asked for them."""
    # Unknown where the folder was not named on the command line: pytest reads this file after the options then.
    wanted: Path | None = pytestconfig.getoption(SCREENSHOTS, default=None)
    if wanted is None:
        return tmp_path_factory.mktemp("screenshots")
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted
