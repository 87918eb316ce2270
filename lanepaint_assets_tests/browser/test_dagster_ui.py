"""A person materializes a partition in the Dagster UI: real servers, a real browser, two tiny clips."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from lanepaint_assets.clips.encoding import write_video

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

GROUPS = ("clips", "segmentation", "training", "editing", "evaluation", "checkpoints")

# Dagster's servers take 15 to 25 s on two idle cores, a run 5 to 10 s.
START_S = 120.0
RUN_S = 120.0
END_S = 20.0


@dataclass(frozen=True)
class DagsterServer:
    """The UI's address and its GraphQL."""

    url: str

    def ask(self, query: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            reply: dict[str, Any] = json.load(answer)
        assert "errors" not in reply, reply["errors"]
        data: dict[str, Any] = reply["data"]
        return data


def wait_for(what: str, ready: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {limit_s:.0f} s"
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterServer]:
    """`dagster dev` over an instance and a source of its own, in a process group of its own."""
    folder = tmp_path_factory.mktemp("dagster_ui")
    clips = folder / "clips" / "camera_front_wide_120fov" / "chunk_0001"
    clips.mkdir(parents=True)
    for index in range(2):
        frames = np.full((20, 48, 64, 3), 60 + 60 * index, dtype=np.uint8)
        write_video(clips / f"drive_{index}.mp4", frames, 10.0)
    home = folder / "home"
    home.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LANEPAINT_")}
    environment |= {
        "DAGSTER_HOME": str(home),
        "LANEPAINT_ROOT": str(folder / "root"),
        "LANEPAINT_SOURCE": str(folder / "clips"),
    }
    subprocess.run([BIN / "lanepaint", "chunks", "add"], env=environment, check=True, cwd=REPOSITORY, timeout=120)
    port = free_port()
    with (folder / "dagster.log").open("w") as log:
        process = subprocess.Popen(
            [BIN / "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
            env=environment,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        running = DagsterServer(f"http://127.0.0.1:{port}")

        def answers() -> bool:
            assert process.poll() is None, (folder / "dagster.log").read_text()[-2000:]
            try:
                return bool(running.ask("{version}"))
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return False

        wait_for("dagster dev", answers, START_S)
        yield running
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Interrupt as Ctrl-C does; what is left of the group after that is killed."""
    if group_is_alive(process.pid):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 5.0
    while group_is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    if group_is_alive(process.pid):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def page(browser: Browser, server: DagsterServer) -> Iterator[Page]:
    # Otherwise a window about the community covers the first page.
    server.ask("mutation {setNuxSeen}")
    with browser.new_page(viewport={"width": 1500, "height": 1000}) as page:
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        yield page


def test_a_partition_is_materialized_in_the_ui(page: Page, server: DagsterServer, tmp_path: Path) -> None:
    page.goto(f"{server.url}/asset-groups")
    for group in GROUPS:
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    page.screenshot(path=tmp_path / "asset_groups.png")
    page.goto(f"{server.url}/locations/lanepaint/asset-groups/evaluation/lineage")
    # Names of up to 18 letters; the graph shortens longer ones in the middle.
    for asset in ("raw_clips", "edited_videos", "trajectory_videos", "trajectory_reports", "prompt_leaderboard"):
        expect(page.get_by_text(asset, exact=True).first).to_be_visible()
    page.screenshot(path=tmp_path / "asset_graph.png")

    page.goto(f"{server.url}/assets/raw_clips")
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    dialog = page.get_by_role("dialog").filter(has_text="Launch runs to materialize")
    expect(dialog).to_be_visible()
    select = dialog.get_by_text(re.compile("^Select a partition"))
    if select.count():
        select.first.click()
        popover = page.locator(".dagster-popover").last
        popover.get_by_role("textbox").fill("chunk_0001")
        popover.get_by_text("chunk_0001", exact=True).first.click()
        page.keyboard.press("Escape")
    page.screenshot(path=tmp_path / "dialog.png")
    dialog.get_by_role("button", name=re.compile("^Launch")).click()

    def finished() -> bool:
        runs = server.ask("{runsOrError {... on Runs {results {status tags {key value}}}}}")["runsOrError"]["results"]
        # Observations of checkpoints and prompts run by themselves beside it.
        of_chunk = {"key": "dagster/partition", "value": "chunk_0001"}
        statuses = [run["status"] for run in runs if of_chunk in run["tags"]]
        assert "FAILURE" not in statuses
        return statuses == ["SUCCESS"]

    wait_for("the run", finished, RUN_S)

    page.goto(f"{server.url}/assets/raw_clips?view=partitions&partition=chunk_0001")
    metadata = page.locator("table").filter(has_text="duration_s").first
    expect(metadata).to_be_visible()
    expect(metadata.get_by_role("row").filter(has_text="items").first).to_contain_text("2")
    # The table of clips inside: a row a clip, the picture size that probing found.
    rows = metadata.locator("table").first
    for clip in ("drive_0", "drive_1"):
        expect(rows.get_by_role("row").filter(has_text=clip)).to_contain_text("64x48")
    page.screenshot(path=tmp_path / "partition.png")

    recorded = server.ask(
        '{assetNodeOrError(assetKey: {path: ["raw_clips"]}) {... on AssetNode {'
        ' latestMaterializationByPartition(partitions: ["chunk_0001"]) {metadataEntries {label __typename}}}}}'
    )["assetNodeOrError"]["latestMaterializationByPartition"][0]["metadataEntries"]
    assert "TableMetadataEntry" in {entry["__typename"] for entry in recorded}
