"""The evaluation report of one chunk: what goes into it, and the one HTML file that comes out.

Called by the evaluation stage, which fills the dataclasses here. The page is `report.html.j2` with `report.css` and
`report.js` inside, the pictures are `plots.py`'s, the plain-text form is `report_text.py`'s. No statistics are computed
here beyond differences of two given figures.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lanepaint_assets.clips.records import ClipGridName
from lanepaint_assets.rendering import plots
from lanepaint_assets.rendering.scene import EngineLabel

Float = NDArray[np.float64]
ItemStatus = Literal["ok", "failed", "outdated"]

# Browsers get slow above this, and mail servers refuse it. 16 previews of 12 s are 5 MB; a chunk of 100 clips and 5
# prompts is over it, and the page then names the files of the videos that it left out.
MAX_EMBEDDED_VIDEO_BYTES = 48_000_000

OFF_GRID_WARNING = (
    "Clip grid spec_8fps: the driver's four frames are 0.125 s apart, its training frames were 0.1 s apart. Both arms "
    "see the same frames, so differences between arms stand, but the absolute figures are off the model's training "
    "distribution. Use model_10hz for results to publish."
)
CPU_WARNING = (
    "These results come from CPU engines: {names}. They are classical methods, not foundation models, and say nothing "
    "about how a foundation model would paint or drive."
)


@dataclass(frozen=True, eq=False)
class ItemTrajectories:
    """The paths of one item, rig frame at t0, metres, at 10 Hz.

    Attributes:
        original_m, edited_m: (K, 64, 3) samples.
        gt_future_m: (64, 3), or None.
        history_m: (16, 3), or None.
    """

    original_m: Float
    edited_m: Float
    gt_future_m: Float | None = None
    history_m: Float | None = None


@dataclass(frozen=True)
class VerdictSummary:
    """What the inspector says of the edit: whether it shows what was asked for, and why."""

    passed: bool
    text: str


@dataclass(frozen=True, eq=False)
class ItemSection:
    """One clip and prompt. Figures that could not be had are None, and `reason` says why.

    Attributes:
        clip_id, camera, prompt_key, prompt_text: which item.
        status: `failed` items have only a reason.
        reason: why it failed, why a figure is missing, or what limited the prediction; None where all is well.
        is_control: True for the prompts that are not edits (`roundtrip`, `repaint_as_measured`).
        original_min_ade_m, edited_min_ade_m: against the driven path.
        arms_ade_m: average distance between the arms, sample by sample with common random numbers.
        lateral_shift_3s_m: how far the edit moves the plan sideways 3 s ahead, left positive.
        verdict: of the inspector, None where it was not asked.
        original_reasoning, edited_reasoning: the driver's own words, one text a sample.
        trajectories: None where there are none.
        preview_mp4: the small comparison video, None where there is none.
        comparison_file, overlay_file: names of the full videos in the store, for people who want them.
        t0_frame: frame of the preview at t0, which the players show at rest.
        camera_quality, ego_quality: how the geometry and the motion are known.
    """

    clip_id: str
    camera: str
    prompt_key: str
    prompt_text: str
    status: ItemStatus
    reason: str | None = None
    is_control: bool = False
    original_min_ade_m: float | None = None
    edited_min_ade_m: float | None = None
    arms_ade_m: float | None = None
    lateral_shift_3s_m: float | None = None
    verdict: VerdictSummary | None = None
    original_reasoning: tuple[str, ...] = ()
    edited_reasoning: tuple[str, ...] = ()
    trajectories: ItemTrajectories | None = None
    preview_mp4: bytes | None = None
    comparison_file: str | None = None
    overlay_file: str | None = None
    t0_frame: int | None = None
    camera_quality: str | None = None
    ego_quality: str | None = None

    @property
    def clip_key(self) -> str:
        """`<clip_id>.<camera>`."""
        return f"{self.clip_id}.{self.camera}"

    @property
    def min_ade_delta_m(self) -> float | None:
        """Edited minADE less the original one; positive is worse."""
        if self.original_min_ade_m is None or self.edited_min_ade_m is None:
            return None
        return self.edited_min_ade_m - self.original_min_ade_m


@dataclass(frozen=True)
class RefusedClip:
    """A clip of the chunk that never got as far as an item, and why."""

    clip_id: str
    camera: str
    reason: str


@dataclass(frozen=True, eq=False)
class ChunkReport:
    """Everything in one report.

    Attributes:
        chunk: partition key.
        clip_grid: the frame grid in use.
        frame_rate_hz: of the previews, for stepping by frames.
        engines: all that took part.
        items: in the order of the catalogue.
        refused_clips: clips without items.
        run_name: as stamped by the person who ran it.
        date: shown if given; the page is the same bytes for the same input, so nothing is taken from the clock.
        notes: sentences on the method, shown at the end.
    """

    chunk: str
    clip_grid: ClipGridName
    frame_rate_hz: float
    engines: tuple[EngineLabel, ...]
    items: tuple[ItemSection, ...]
    refused_clips: tuple[RefusedClip, ...] = ()
    run_name: str | None = None
    date: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def failed_count(self) -> int:
        """Items that failed."""
        return sum(item.status == "failed" for item in self.items)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before any figure: the grid, CPU engines, items and clips that are missing."""
        found = []
        weight_free = [engine.text for engine in self.engines if not engine.is_foundation_model]
        if weight_free:
            found.append(CPU_WARNING.format(names=", ".join(weight_free)))
        if self.clip_grid == "spec_8fps":
            found.append(OFF_GRID_WARNING)
        if self.failed_count:
            found.append(f"Incomplete: {self.failed_count} of {len(self.items)} items failed; their reasons are below.")
        outdated = sum(item.status == "outdated" for item in self.items)
        if outdated:
            found.append(f"Outdated: the inputs of {outdated} of {len(self.items)} items changed since they were made.")
        if self.refused_clips:
            found.append(
                f"Clips of the chunk that could not be used: {len(self.refused_clips)}; their reasons are below."
            )
        return tuple(found)


@dataclass(frozen=True, eq=False)
class _ItemView:
    """An item as the page shows it: figures as words, pictures as markup."""

    item: ItemSection
    anchor: str
    title: str
    drawing: Markup | None
    video_uri: Markup | None
    original_reasoning: tuple[tuple[str, str], ...]
    edited_reasoning: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class _ClipView:
    clip_key: str
    anchor: str
    views: tuple[_ItemView, ...]
    facts: str
    start_frame: int

    @property
    def has_videos(self) -> bool:
        return any(view.video_uri is not None for view in self.views)


def render_html(report: ChunkReport, max_embedded_video_bytes: int = MAX_EMBEDDED_VIDEO_BYTES) -> str:
    """The report as one HTML page that asks for nothing outside itself.

    Args:
        report: what to show; also with failed items, or with none at all.
        max_embedded_video_bytes: previews are carried inside the page, in order, until they reach this many bytes.

    Returns:
        UTF-8 text; equal input gives equal text.
    """
    template = _environment().get_template("report.html.j2")
    clips = _clip_views(report, max_embedded_video_bytes)
    return template.render(
        report=report,
        clips=clips,
        style=Markup(_resource("report.css")),
        script=Markup(_resource("report.js")),
        delta_plot=Markup(plots.paired_deltas_svg(_delta_rows(report))),
        shift_plot=Markup(plots.lateral_shift_svg(_shift_rows(report))),
        summary=tuple(view for clip in clips for view in clip.views),
    )


def metres(value: float | None, signed: bool = False) -> str:
    """`1.23`, `+0.48`, or a dash where there is no figure."""
    if value is None or not np.isfinite(value):
        return "–"
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return text.replace("-", "−")


def _clip_views(report: ChunkReport, video_budget: int) -> tuple[_ClipView, ...]:
    by_clip: dict[str, list[_ItemView]] = {}
    left = video_budget
    for number, item in enumerate(report.items, start=1):
        video_uri = None
        if item.preview_mp4 is not None and len(item.preview_mp4) <= left:
            left -= len(item.preview_mp4)
            # base64 has no character that HTML would escape, and escaping megabytes is slow.
            video_uri = Markup("data:video/mp4;base64," + base64.b64encode(item.preview_mp4).decode("ascii"))
        paths = item.trajectories
        svg = None
        if paths is not None:
            svg = plots.trajectories_svg(
                paths.original_m,
                paths.edited_m,
                paths.gt_future_m,
                paths.history_m,
                f"{item.clip_key} {item.prompt_key}",
            )
        view = _ItemView(
            item=item,
            anchor=f"item-{number}",
            title=item.prompt_text or item.prompt_key,
            drawing=None if svg is None else Markup(svg),
            video_uri=video_uri,
            original_reasoning=_grouped(item.original_reasoning),
            edited_reasoning=_grouped(item.edited_reasoning),
        )
        by_clip.setdefault(item.clip_key, []).append(view)
    views = []
    for number, (key, of_clip) in enumerate(by_clip.items(), start=1):
        first = next((view.item for view in of_clip if view.item.status != "failed"), of_clip[0].item)
        facts = [f"camera geometry {first.camera_quality}" if first.camera_quality else ""]
        facts.append(f"ego motion {first.ego_quality}" if first.ego_quality else "")
        known = ", ".join(fact for fact in facts if fact)
        views.append(_ClipView(key, f"clip-{number}", tuple(of_clip), known, first.t0_frame or 0))
    return tuple(views)


def _grouped(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Equal texts once, each with the numbers of its samples: most samples of a driver say the same."""
    samples: dict[str, list[str]] = {}
    for number, text in enumerate(texts, start=1):
        samples.setdefault(text, []).append(str(number))
    plural = {True: "samples", False: "sample"}
    return tuple((f"{plural[len(numbers) > 1]} {', '.join(numbers)}", text) for text, numbers in samples.items())


def _delta_rows(report: ChunkReport) -> tuple[plots.DotRow, ...]:
    return _rows(report, "min_ade_delta_m")


def _shift_rows(report: ChunkReport) -> tuple[plots.DotRow, ...]:
    return _rows(report, "lateral_shift_3s_m")


def _rows(report: ChunkReport, figure: Literal["min_ade_delta_m", "lateral_shift_3s_m"]) -> tuple[plots.DotRow, ...]:
    found: dict[str, list[plots.Dot]] = {}
    controls = {item.prompt_key for item in report.items if item.is_control}
    for item in report.items:
        value: float | None = getattr(item, figure)
        dots = found.setdefault(item.prompt_key, [])
        if value is not None and np.isfinite(value):
            dots.append(plots.Dot(float(value), item.clip_key))
    return tuple(plots.DotRow(key, tuple(dots), key in controls) for key, dots in found.items())


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        # Names of clips and texts of drivers come from outside: everything is escaped unless it is Markup.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["metres"] = metres
    return environment


def _resource(name: str) -> str:
    return resources.files("lanepaint_assets.rendering").joinpath(name).read_text(encoding="utf-8")
