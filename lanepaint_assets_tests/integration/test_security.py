"""What comes from outside and means harm: names that lead elsewhere, archives, addresses, weights that are programs,
and texts that are HTML, Markdown or YAML. Each is refused with its reason, or does nothing.

Pickled checkpoints of all formats, and the HTML of single reports, have tests of their own beside their code.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.checkpoints.sensors import OBSERVE_INPUTS
from lanepaint_assets.clips.chunks_uri import parse_chunks_uri
from lanepaint_assets.clips.file_tree import FileTree
from lanepaint_assets.clips.folder_source import chunk_key
from lanepaint_assets.clips.physical_ai import CACHE_FOLDER, find_mirror
from lanepaint_assets.clips.sources import ClipSourceError, open_source
from lanepaint_assets.definitions import build
from lanepaint_assets.editing.catalogue import CatalogueError, load_catalogue
from lanepaint_assets.rendering.markdown import plain
from lanepaint_assets.segmentation.vp_folder import VideoPainterFolderError, read_vp_folder
from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.layout import (
    CHUNK_ROW,
    check_chunk_key,
    check_item_key,
    check_relative_path,
    chunk_path,
    item_folder,
    manifest_path,
)
from lanepaint_assets.training.dataset_card import DatasetStory, dataset_card
from lanepaint_assets.training.samples import RefusedRow
from lanepaint_assets_tests.fixtures import Graph
from lanepaint_assets_tests.unit.clips.mirror import WIDE, write_mirror
from lanepaint_assets_tests.unit.clips.videos import write_numbered

# One text for every place: it leaves a tag, an attribute, a cell, a YAML value and a Markdown line, and then does harm.
HOSTILE = (
    "</title></script></td>'\"><script>alert(1)</script><img src=x onerror=alert(2)> "
    "![pixel](https://evil.example/p.png) [click](javascript:alert(3)) | `x` --- "
    "!!python/object/apply:os.system [id] {{7*7}}"
)
SOMEWHERE_ELSE = [
    "..",
    "../x",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    ".hidden",
    "a\\..\\b",
    "a/b/c",
    "",
    "a\n",
    "a\x00b",
]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# Names and paths


@pytest.mark.parametrize("name", SOMEWHERE_ELSE)
def test_no_key_and_no_path_of_the_store_leads_elsewhere(name: str) -> None:
    for check in (check_chunk_key, check_item_key, chunk_path, lambda key: manifest_path("road_masks", key)):
        with pytest.raises(ValueError, match="not allowed"):
            check(name)
    with pytest.raises(ValueError, match="not allowed"):
        item_folder("road_masks", "chunk_0001", name, "0" * 64)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "a\\..\\b", "", "a/./b", "a//b"])
def test_no_file_of_an_item_lies_outside_its_folder(path: str) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        check_relative_path(path)


@pytest.mark.parametrize("where", ["name", "folder"])
def test_a_manifest_that_names_files_elsewhere_is_not_read(tmp_path: Path, where: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    root = tmp_path / "root"
    row: dict[str, Any] = {
        "key": "a.front",
        "fingerprint": "0" * 64,
        "status": "ok",
        "folder": "outputs/sam2/chunk_0001/road_masks/a.front/" + "0" * 64,
        "files": [{"name": "out.txt", "size": 6, "sha256": "0" * 64}],
        "run_id": "run",
    }
    if where == "name":
        row["files"][0]["name"] = "../../../../../../../secret.txt"
    else:
        row["folder"] = "../"
    place = root / manifest_path("road_masks", "chunk_0001")
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"asset": "road_masks", "chunk": "chunk_0001", "rows": {"a.front": row}}))
    with pytest.raises(StoreError, match="not allowed"):
        ArtifactStore(str(root)).manifest("road_masks", "chunk_0001")


def test_clips_with_hostile_names_are_made_inside_the_root_under_harmless_keys(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    folder = tmp_path / "clips" / WIDE / "chunk_0001"
    folder.mkdir(parents=True)
    names = [
        "..%2f..%2fescape",
        "..",
        "...",
        "-rf",
        "<script>alert(1)<",
        "a\nb",
        "x\n",
        "{{7*7}}",
        "$(id)",
        "!!python",
        "n" * 240,
    ]
    for name in names:
        write_numbered(folder / f"{name}.mp4", count=20, rate=10)
    before = files_of(tmp_path / "clips")
    graph = Graph(tmp_path / "root", tmp_path / "clips", instance)
    (chunk,) = graph.register()
    assert graph.run("sam2_only", chunk).success
    rows = graph.store.manifest("vp_inputs", chunk).rows
    # Names that begin with a dot are hidden files, which no source lists.
    assert len(rows) == sum(not name.startswith(".") for name in names)
    assert {key: row.reason for key, row in rows.items() if row.status != "ok"} == {}
    for key in rows:
        assert check_item_key(key) == key
    assert files_of(tmp_path / "clips") == before
    assert {path.name for path in tmp_path.iterdir()} == {"clips", "root"}


@given(st.text(max_size=80))
def test_every_folder_name_gives_a_chunk_key_that_stays_below_its_folder(name: str) -> None:
    assert check_chunk_key(chunk_key(name)) == chunk_key(name)


# Archives and data sets


CLIP = "../../../escape"


def test_members_of_a_zip_that_lead_elsewhere_are_read_and_never_put_there(tmp_path: Path) -> None:
    """The data set's index and zips agree on a clip whose name is a path; it becomes a clip with a plain id."""
    mirror = write_mirror(tmp_path / "deep" / "er" / "mirror", {1: [CLIP, "plain"]})
    before = files_of(tmp_path)
    source = open_source(str(mirror), [WIDE])
    (chunk,) = source.chunks()
    hostile = next(ref for ref in chunk.clips if ref.clip_id != "plain")
    assert "/" not in hostile.clip_id
    assert check_item_key(hostile.item_key) == hostile.item_key
    with source.open_video(hostile) as path:
        assert path.name == "clip.mp4"
        assert path.stat().st_size > 0
        copied_to = path
    assert source.frame_timestamps_us(hostile) is not None
    assert source.egomotion(hostile) is not None
    assert not copied_to.exists()
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    "place", ["../elsewhere/x.chunk_{chunk_id:04d}.zip", "/etc/x.chunk_{chunk_id:04d}.zip", "a\\..\\b.zip"]
)
def test_a_data_set_whose_table_leads_out_of_it_is_refused(tmp_path: Path, place: str) -> None:
    mirror = write_mirror(tmp_path / "mirror", {1: ["plain"]})
    table = pd.read_csv(mirror / "features.csv")
    table.loc[table["feature"] == WIDE, "chunk_path"] = place
    table.to_csv(mirror / "features.csv", index=False)
    with pytest.raises(ClipSourceError, match=r"features\.csv .* outside the mirror"):
        list(open_source(str(mirror), [WIDE]).chunks())


def test_a_cache_whose_reference_leads_out_of_it_is_not_followed(tmp_path: Path) -> None:
    outside = write_mirror(tmp_path / "outside", {1: ["plain"]})
    cache = tmp_path / CACHE_FOLDER
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(f"../../{outside.name}")
    with pytest.raises(ClipSourceError, match="holds no snapshot"):
        find_mirror(FileTree.at(str(cache)))


def test_a_zip_that_unpacks_to_more_than_it_says_is_not_read(tmp_path: Path) -> None:
    mirror = write_mirror(tmp_path / "mirror", {1: ["plain"]})
    (archive,) = (mirror / "camera" / WIDE).glob("*.zip")
    with zipfile.ZipFile(archive) as opened:
        (name,) = (info.filename for info in opened.infolist() if info.filename.endswith(".mp4"))
        others = {info.filename: opened.read(info) for info in opened.infolist() if info.filename != name}
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as rewritten:
        rewritten.writestr(name, bytes(4 << 20))
        for other, content in others.items():
            rewritten.writestr(other, content)
    content = archive.read_bytes()
    size = (4 << 20).to_bytes(4, "little")
    assert content.count(size) >= 2
    archive.write_bytes(content.replace(size, (1000).to_bytes(4, "little")))
    source = open_source(str(mirror), [WIDE])
    (ref,) = next(iter(source.chunks())).clips
    with pytest.raises(ClipSourceError, match="cannot be unpacked"), source.open_video(ref):
        pass


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        "chunks://bucket/data/../../other-bucket/camera",
        "chunks://bucket/%2e%2e/other/camera",
        "chunks:///srv/clips/..%2f..%2fetc",
        "chunks+memory://a/./b",
        "chunks://bucket/camera?start=0&per_chunk=1%0a",
        "chunks://bucket/camera?start=٣",
        "chunks://bucket/camera?endpoint_url=http://169.254.169.254/",
    ],
)
def test_an_address_of_chunks_that_leads_elsewhere_or_brings_options_is_refused(address: str) -> None:
    with pytest.raises(ClipSourceError, match=r"source .*: "):
        parse_chunks_uri(address)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "-x", ".x", "a\n", ""])
def test_a_videopainter_folder_names_no_video_outside_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "meta.csv").write_text(
        f'path,start_frame,end_frame,fps,mask_id,caption\n"{name}.0.mp4",0,2,8,1,"a road"\n'
    )
    with pytest.raises(VideoPainterFolderError, match=r"rename the video|is not"):
        read_vp_folder(tmp_path)


# Texts


@pytest.mark.parametrize(
    "entry",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "!!python/name:os.system",
        "!!python/object/new:os.system ['touch {marker}']",
        "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {marker}']",
    ],
)
def test_yaml_that_would_build_objects_is_refused_and_builds_nothing(tmp_path: Path, entry: str) -> None:
    marker = tmp_path / "ran"
    file = tmp_path / "prompts.yaml"
    file.write_text(
        f"prompts:\n  - key: bad\n    instruction: {entry.format(marker=marker)}\n"
        "    style: {count: single, color: white, pattern: solid}\n"
    )
    with pytest.raises(CatalogueError, match="not valid YAML"):
        load_catalogue(str(file))
    assert not marker.exists()


@pytest.mark.parametrize("key", ["../x", "a/b", "<b>", "a b", "A", "x\n", ""])
def test_a_prompt_key_is_a_plain_word(tmp_path: Path, key: str) -> None:
    style = {"count": "single", "color": "white", "pattern": "solid"}
    file = tmp_path / "prompts.yaml"
    file.write_text(yaml.safe_dump({"prompts": [{"key": key, "instruction": "x", "style": style}]}))
    try:
        (prompt,) = load_catalogue(str(file)).select([key.strip() or "missing"])
    except ValueError:
        return
    assert prompt.key == "x"


@given(st.text(max_size=200))
def test_plain_text_in_markdown_is_one_line_without_tags_links_and_cells(text: str) -> None:
    shown = plain(text)
    assert "\n" not in shown
    assert "<" not in shown
    assert ">" not in shown
    for mark in "[]|`*~":
        assert all(shown[place - 1] == "\\" for place, character in enumerate(shown) if character == mark)


def test_the_card_of_a_dataset_holds_hostile_names_and_reasons_as_words() -> None:
    story = DatasetStory(
        name=HOSTILE + "\n---\nlicense: mit",
        url="file:///x",
        licence=HOSTILE,
        made_by="LanePaint 1.0",
        published="2030-01-02",
        origin="From nowhere.",
        removed={},
        refused=[RefusedRow(HOSTILE, HOSTILE)],
        near_duplicates=None,
    )
    card = dataset_card([], story)
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "pretty_name": story.name,
        "license": "other",
        "license_name": HOSTILE,
        "tags": ["lane-markings", "inpainting", "driving"],
    }
    assert "<" not in body
    assert "](" not in body.replace("\\](", "")


class Page(HTMLParser):
    """What a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcdoc")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_prompts_and_file_names_are_only_words_in_every_page_and_in_the_ui(
    tmp_path: Path, tiny_drive: Path, instance: dg.DagsterInstance
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    write_numbered(clips / "<img src=x onerror=alert(4)>.mp4", count=90, rate=10, size=(192, 108))
    (clips / "<script>alert(5)<.mp4").write_text("no video")
    prompts = tmp_path / "prompts.yaml"
    style = {"count": "single", "color": "white", "pattern": "solid"}
    prompts.write_text(yaml.safe_dump({"prompts": [{"key": "hostile", "instruction": HOSTILE, "style": style}]}))
    graph = Graph(tmp_path / "root", clips, instance, prompt_file=str(prompts), prompts=("hostile",))
    (chunk,) = graph.register()
    result = graph.run("master_pipeline", chunk)
    assert result.success

    report = graph.store.manifest("trajectory_reports", chunk).rows[CHUNK_ROW]
    page = Page()
    page.feed(graph.store.read_bytes(report, "report.html").decode())
    assert "<script>alert(1)</script>" in page.text, "the instruction is not shown, so this test shows nothing"
    assert page.tags.count("script") <= 1
    assert page.handlers == []
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "{{7*7}}" in page.text
    assert "alert(5)" not in "".join(tag for tag in page.tags)

    observed = graph_observation(graph)
    shown = observed.metadata["prompts"].value
    assert "<script" not in shown
    assert "](https://evil" not in shown.replace("\\](", "")
    for event in result.get_asset_materialization_events():
        for name, value in event.materialization.metadata.items():
            if isinstance(value, dg.MarkdownMetadataValue):
                assert "<script" not in (value.value or ""), (event.asset_key, name)


def graph_observation(graph: Graph) -> dg.AssetObservation:
    platform = graph.platform()
    job = build(platform.settings, platform=platform).resolve_job_def(OBSERVE_INPUTS)
    result = job.execute_in_process(instance=graph.instance, asset_selection=[dg.AssetKey("prompt_catalogue")])
    (observation,) = (
        event.asset_observation_data.asset_observation
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.ASSET_OBSERVATION
    )
    return observation
