"""What a person does in the Dagster UI, done by a browser: real servers, the real graph, two chunks of one clip each.

The servers are `lanepaint_assets_tests/servers.py`. What the assets hold has tests of its own; here stands what a
person sees of them. With `--screenshots docs` the pictures of the README are made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from lanepaint_assets.clips.sample_drive import write_sample_drive
from lanepaint_assets.item_checks import COMPLETE_CHECK, FAILED_ITEMS
from lanepaint_assets.jobs import STAGE_ASSETS
from lanepaint_assets.partitions import register_chunks
from lanepaint_assets.platform import Platform
from lanepaint_assets.segmentation.checks import ROAD_MASK_CHECKS
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.servers import LOCATION, Servers

pytestmark = pytest.mark.slow

GROUPS = ("checkpoints", "clips", "editing", "evaluation", "segmentation", "training")
CHUNKS = ("chunk_0000", "chunk_0001")
PIPELINE = tuple(asset for stage in ("1", "2", "3") for asset in STAGE_ASSETS[stage])

# Wide enough for the UI's three columns, and as wide as a README shows pictures.
WIDTH, HEIGHT = 1400, 900
# The window for the whole graph, and a place of it without boxes.
GRAPH_HEIGHT, EMPTY = 780, (300, 720)
# The frame of an asset whose partitions are all made.
GREEN = "rgb(46, 204, 129)"
# A page of the UI asks the webserver a dozen questions, which takes seconds where other programs hold the cores.
PAGE_MS = 60_000
# Measured on two cores with a load of 5 to 13: a run 20 to 45 s, the backfill 200 to 320 s. The daemon looks at
# freshness twice a minute.
RUN_S = 180.0
BACKFILL_S = 600.0
FRESHNESS_S = 150.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers with the CPU engines, over rendered clips on which these find a road."""
    folder = tmp_path_factory.mktemp("dagster_ui")
    # The driver's moment needs 1.6 s before and 6.4 s after it.
    write_sample_drive(
        folder / "drive",
        seed=3,
        chunks=len(CHUNKS),
        clips_per_chunk=1,
        seconds=9.0,
        width=640,
        height=360,
        fps=10,
        other_cameras=False,
    )
    chosen = {
        "root": str(folder / "root"),
        "source": str(folder / "drive"),
        "prompts": "double_yellow_solid",
        "samples": "2",
    }
    environment = {f"LANEPAINT_{name.upper()}": value for name, value in chosen.items()}
    servers = Servers(folder, "lanepaint_assets.definitions", environment)
    with servers.instance() as instance:
        assert register_chunks(Platform(Settings.model_validate(chosen)), instance) == list(CHUNKS)
    with servers:
        # Otherwise a window about the community covers the first page.
        servers.ask("mutation {setNuxSeen}")
        yield servers


@pytest.fixture(scope="module")
def page(browser: Browser, servers: Servers) -> Iterator[Page]:
    """One window for all tests, as a person has; each begins with an address of its own."""
    with browser.new_page(
        viewport={"width": WIDTH, "height": HEIGHT}, base_url=servers.url, color_scheme="light"
    ) as page:
        page.set_default_timeout(PAGE_MS)
        expect.set_options(timeout=PAGE_MS)
        yield page


@pytest.fixture(scope="module")
def masks_of_one_chunk(page: Page, servers: Servers) -> dict[str, Any]:
    """`road_masks` of the first chunk, and `raw_clips` before it, launched by a person; the run that made it."""
    materialize_partition(page, servers, "raw_clips", CHUNKS[0])
    return materialize_partition(page, servers, "road_masks", CHUNKS[0])


@pytest.fixture(scope="module")
def backfill(page: Page, servers: Servers, masks_of_one_chunk: dict[str, Any]) -> str:
    """A backfill of `master_pipeline` over both chunks, launched by a person and finished; its id."""
    page.goto(f"/locations/{LOCATION}/jobs/master_pipeline")
    page.get_by_role("button", name=re.compile("Materialize all")).click()
    dialog = page.get_by_role("dialog").filter(has_text=f"Launch runs to materialize {len(PIPELINE)} assets")
    dialog.get_by_text("All", exact=True).click()
    expect(dialog).to_contain_text(f"{len(CHUNKS)} partitions")
    dialog.get_by_role("button", name="Launch backfill").click()
    told = page.get_by_text(re.compile("Created backfill"))
    expect(told).to_be_visible()
    page.get_by_text("View", exact=True).click()
    expect(page.get_by_text("In progress").first).to_be_visible()
    backfill = page.url.split("/b/")[1].split("?")[0]

    def finished() -> bool:
        status = servers.ask(
            "query ($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {status}}}",
            id=backfill,
        )["partitionBackfillOrError"]["status"]
        assert status in ("REQUESTED", "COMPLETED_SUCCESS"), f"{status}\n{servers.logs()}"
        return bool(status == "COMPLETED_SUCCESS")

    servers.wait_for("the backfill", finished, BACKFILL_S)
    return backfill


def materialize_partition(page: Page, servers: Servers, asset: str, chunk: str) -> dict[str, Any]:
    """Launch a run for one partition from the asset's page, and wait for its end.

    Returns:
        The run as GraphQL tells it.
    """
    page.goto(f"/assets/{asset}")
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    dialog = page.get_by_role("dialog").filter(has_text=f"Launch runs to materialize {asset}")
    dialog.get_by_text(re.compile("^Select a partition")).click()
    choice = page.locator(".dagster-popover").last
    choice.get_by_role("textbox").fill(chunk)
    choice.get_by_text(chunk, exact=True).first.click()
    page.keyboard.press("Escape")
    expect(dialog).to_contain_text("1 partition")
    dialog.get_by_role("button", name="Launch 1 run").click()
    launched = page.get_by_text(re.compile("Launched run"))
    expect(launched).to_be_visible()
    short_id = launched.inner_text().split()[-1]
    runs: list[dict[str, Any]] = []

    def finished() -> bool:
        # Observations of checkpoints and prompts run by themselves beside it.
        told = servers.ask("{runsOrError {... on Runs {results {runId status tags {key value}}}}}")
        runs[:] = [run for run in told["runsOrError"]["results"] if run["runId"].startswith(short_id)]
        assert not runs or runs[0]["status"] not in ("FAILURE", "CANCELED"), servers.logs()
        return bool(runs) and runs[0]["status"] == "SUCCESS"

    servers.wait_for(f"the run of {asset}", finished, RUN_S)
    return runs[0]


def open_partition(page: Page, asset: str, chunk: str) -> Locator:
    """The metadata table of a partition's last materialization."""
    page.goto(f"/assets/{asset}?view=partitions&partition={chunk}")
    expect(page.get_by_text("Materialized", exact=True)).to_be_visible()
    metadata = page.locator("table").filter(has_text="duration_s").first
    expect(metadata).to_be_visible()
    return metadata


def figure(metadata: Locator, name: str) -> Locator:
    """The row of one name in a metadata table."""
    return metadata.get_by_role("row").filter(has=metadata.page.get_by_role("cell", name=name, exact=True)).first


def test_the_asset_graph_has_a_box_for_every_group(page: Page) -> None:
    page.goto("/asset-groups")
    for group in GROUPS:
        expect(page.get_by_role("button", name=group).first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Materialize all"))).to_be_visible()


def test_a_run_of_one_partition_makes_that_partition_and_no_other(
    page: Page, masks_of_one_chunk: dict[str, Any]
) -> None:
    assert {"key": "dagster/partition", "value": CHUNKS[0]} in masks_of_one_chunk["tags"]
    metadata = open_partition(page, "road_masks", CHUNKS[0])
    expect(figure(metadata, "items")).to_contain_text("1")
    expect(figure(metadata, "complete")).to_contain_text("true")
    expect(figure(metadata, "engines")).to_contain_text("classical")
    for count in ("Materialized (1)", "Missing (1)", "Failed (0)"):
        expect(page.get_by_text(count, exact=True)).to_be_visible()


def test_the_preview_in_the_metadata_shows_the_road_in_green(
    page: Page, masks_of_one_chunk: dict[str, Any], screenshots: Path
) -> None:
    metadata = open_partition(page, "road_masks", CHUNKS[0])
    figure(metadata, "preview").get_by_text("Show Markdown").click()
    dialog = page.get_by_role("dialog").filter(has_text="preview")
    picture = dialog.locator("img")
    expect(picture).to_be_visible()
    green_share = picture.evaluate(
        """async picture => {
            await picture.decode();
            const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
            const context = canvas.getContext('2d');
            context.drawImage(picture, 0, 0);
            const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
            let green = 0;
            for (let at = 0; at < pixels.length; at += 4)
                if (pixels[at + 1] > pixels[at] + 30 && pixels[at + 1] > pixels[at + 2] + 30) green++;
            return green / (pixels.length / 4);
        }"""
    )
    # Rendered roads fill a quarter to a third of the picture; grass is nowhere near as green as the overlay.
    assert 0.1 < green_share < 0.5
    page.set_viewport_size({"width": WIDTH, "height": 700})
    page.screenshot(path=screenshots / "ui_partition.jpg", quality=90)
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    dialog.get_by_role("button", name="Close").click()


def test_checks_are_seen_with_their_results_and_figures(
    page: Page, masks_of_one_chunk: dict[str, Any], screenshots: Path
) -> None:
    page.goto("/assets/road_masks?view=checks")
    for check in (*(check.name for check in ROAD_MASK_CHECKS), FAILED_ITEMS.name, COMPLETE_CHECK):
        page.get_by_text(check, exact=True).first.click()
        expect(page.get_by_text("Passed", exact=True).first).to_be_visible()
        expect(page.get_by_text("non-blocking").first).to_be_visible()
        expect(page.get_by_text(CHUNKS[0], exact=True).first).to_be_visible()
    page.get_by_text("mask_stability", exact=True).first.click()
    expect(page.get_by_role("row").filter(has_text="worst_overlap_min")).to_contain_text("0.")
    page.screenshot(path=screenshots / "ui_checks.png")


def test_freshness_is_seen_with_its_windows(page: Page, servers: Servers, masks_of_one_chunk: dict[str, Any]) -> None:
    def evaluated() -> bool:
        node = servers.ask(
            '{assetNodeOrError(assetKey: {path: ["road_masks"]}) {... on AssetNode {'
            "freshnessStatusInfo {freshnessStatus}}}}"
        )["assetNodeOrError"]
        return bool(node["freshnessStatusInfo"]["freshnessStatus"] == "HEALTHY")

    # A page that is open already goes on to say "Not evaluated".
    servers.wait_for("a look of the daemon at freshness", evaluated, FRESHNESS_S)
    page.goto("/assets/road_masks")
    expect(page.get_by_text("Passing", exact=True).first).to_be_visible()
    expect(page.get_by_text("Warns if more than 26 hours since last materialization")).to_be_visible()
    expect(page.get_by_text("Fails if more than 4 days since last materialization")).to_be_visible()


def test_a_backfill_makes_every_asset_of_both_chunks(
    page: Page, servers: Servers, backfill: str, screenshots: Path
) -> None:
    page.goto(f"/runs/b/{backfill}?tab=runs")
    expect(page.get_by_text("Succeeded", exact=True).first).to_be_visible()
    for chunk in CHUNKS:
        expect(page.get_by_text(f"partition: {chunk}").first).to_be_visible()
        expect(page.get_by_text(f"lanepaint/chunk: {chunk}").first).to_be_visible()
    page.set_viewport_size({"width": WIDTH, "height": 600})
    page.screenshot(path=screenshots / "ui_backfill.png")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    with servers.instance() as instance:
        for asset in PIPELINE:
            assert instance.get_materialized_partitions(dg.AssetKey(asset)) == set(CHUNKS), asset


def test_a_backfill_computes_nothing_twice(page: Page, backfill: str) -> None:
    made_before = open_partition(page, "road_masks", CHUNKS[0])
    expect(figure(made_before, "reused")).to_contain_text("1")
    expect(figure(made_before, "computed")).to_contain_text("0")
    made_by_it = open_partition(page, "road_masks", CHUNKS[1])
    expect(figure(made_by_it, "computed")).to_contain_text("1")


def test_after_a_backfill_the_graph_shows_every_asset_with_its_state(
    page: Page, backfill: str, screenshots: Path
) -> None:
    page.goto(f"/locations/{LOCATION}/asset-groups/segmentation/lineage")
    expect(page.get_by_text("100% filled", exact=True)).to_have_count(2)
    # All of so many, whatever the number of checks is.
    expect(page.get_by_text(re.compile(r"^(\d+) / \1 Passed$"))).to_have_count(2)

    page.set_viewport_size({"width": WIDTH, "height": GRAPH_HEIGHT})
    page.goto("/asset-groups")
    page.get_by_text("Hide navigation").click()
    page.get_by_role("button").filter(has=page.get_by_role("img", name="panel_show_right")).first.click()
    # The longest path decides the scale: without these two groups it fills the window.
    page.locator(".CodeMirror").first.click()
    page.keyboard.type('not (group:"checkpoints" or group:"training")')
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name=re.compile(r"Materialize all \(11\)"))).to_be_visible()
    page.mouse.click(*EMPTY, button="right")
    page.get_by_role("menuitem").filter(has_text="Expand all groups").click()
    for asset in PIPELINE:
        # The graph shortens names of more than 18 letters in the middle.
        shown = asset if len(asset) <= 18 else f"{asset[:4]}…_{asset.split('_')[-1]}"
        expect(page.get_by_text(shown, exact=True).locator("..")).to_have_css("border-top-color", GREEN)
    for asset in ("prompt_catalogue", "prompt_leaderboard"):
        expect(page.get_by_text(asset, exact=True)).to_be_visible()
    # The graph lies a little too high, and its right end below the buttons for the scale.
    page.mouse.move(*EMPTY)
    page.mouse.down()
    page.mouse.move(EMPTY[0] - 30, EMPTY[1] + 35, steps=5)
    page.mouse.up()
    page.screenshot(path=screenshots / "ui_graph.png")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
