"""The evaluation report of one chunk as one HTML file that needs nothing else.

Called by the evaluation stage with a `ChunkReport`. The page is `report.html.j2` with its parts, `report.css` and
`report.js` inside, the pictures are `plots.py`'s, the words of its answer `report_answer.py`'s, the plain-text form is
`report_text.py`'s. Here is only what turns records into what a template can show.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from lanepaint_assets.rendering import plots
from lanepaint_assets.rendering.licence_views import licence_views
from lanepaint_assets.rendering.pages import markup_file, render_page
from lanepaint_assets.rendering.report_answer import answers, headline, noise_floor_m
from lanepaint_assets.rendering.report_content import ArmFigures, ChunkReport, ClipSection, ItemSection
from lanepaint_assets.rendering.text_difference import TextPair, paired

# More items than these are folded: a page of hundreds must be a list first.
MAX_OPEN_ITEMS = 16
# Of a driver that says something else in each of 64 samples a page shows so many pairs, those that changed first.
MAX_PAIRS = 12
NULL_SAME_SEEDS, NULL_OTHER_SEEDS = "null, same seeds", "null, other seeds"


@dataclass(frozen=True, eq=False)
class _ItemView:
    """An item as the page shows it: figures as words, pictures as markup."""

    item: ItemSection
    anchor: str
    title: str
    primary_m: float | None
    drawing: Markup | None
    video_uri: Markup | None
    reasoning: tuple[TextPair, ...]
    more_reasoning: int
    drawn_samples: int | None
    captions: TextPair | None
    thumbnails: tuple[Markup | None, ...]


@dataclass(frozen=True)
class _ArmView:
    """One row of a clip's table of arms; `is_size` where shifts have lost their sides."""

    name: str
    remark: str
    figures: ArmFigures
    primary_m: float | None = None
    anchor: str | None = None
    is_size: bool = False


@dataclass(frozen=True, eq=False)
class _ClipView:
    clip: ClipSection
    anchor: str
    views: tuple[_ItemView, ...]
    arms: tuple[_ArmView, ...]


def render_html(report: ChunkReport) -> str:
    """The report as one HTML page that asks for nothing outside itself.

    Args:
        report: what to show; also with failed items, or with none at all.

    Returns:
        UTF-8 text; equal input gives equal text.
    """
    clips = _clip_views(report)
    given = answers(report)
    return render_page(
        "report.html.j2",
        report=report,
        clips=clips,
        prompts=_prompt_keys(report),
        is_open=len(report.items) <= MAX_OPEN_ITEMS,
        answers=given,
        examples=[_data_uri(answer.example, "image/webp") for answer in given],
        headline=headline(given),
        noise_floor_m=noise_floor_m(report),
        script=markup_file("report.js"),
        effect_plot=Markup(plots.lateral_effect_svg(_effect_rows(report))),
        delta_plot=Markup(plots.paired_deltas_svg(_delta_rows(report))),
        licences=licence_views(report.licences),
    )


def _clip_views(report: ChunkReport) -> tuple[_ClipView, ...]:
    views, count = [], 0
    for place, clip in enumerate(report.clips, start=1):
        of_clip = []
        for item in clip.items:
            count += 1
            of_clip.append(_item_view(clip, item, f"item-{count}"))
        views.append(_ClipView(clip, f"clip-{place}", tuple(of_clip), _arms(clip, of_clip)))
    return tuple(views)


def _item_view(clip: ClipSection, item: ItemSection, anchor: str) -> _ItemView:
    paths, history = item.trajectories, item.refinement
    svg = None
    if paths is not None:
        name = f"{clip.key} {item.prompt_key}"
        svg = plots.trajectories_svg(paths.original_m, paths.edited_m, paths.gt_future_m, paths.history_m, name)
    reasoning = paired(item.original_reasoning, item.edited_reasoning)
    drawn = None if paths is None or len(paths.edited_m) <= plots.MAX_DRAWN_SAMPLES else plots.MAX_DRAWN_SAMPLES
    captions = None
    if item.original_caption or item.edited_caption:
        captions = paired((item.original_caption or "",), (item.edited_caption or "",))[0]
    return _ItemView(
        item=item,
        anchor=anchor,
        title=item.prompt_text or item.prompt_key,
        primary_m=clip.primary_shift_m(item),
        drawing=None if svg is None else Markup(svg),
        video_uri=_data_uri(item.preview_mp4, "video/mp4"),
        reasoning=reasoning[:MAX_PAIRS],
        more_reasoning=max(0, len(reasoning) - MAX_PAIRS),
        drawn_samples=drawn,
        captions=captions,
        thumbnails=()
        if history is None
        else tuple(_data_uri(attempt.thumbnail, "image/webp") for attempt in history.attempts),
    )


def _arms(clip: ClipSection, views: Iterable[_ItemView]) -> tuple[_ArmView, ...]:
    """All conditions that the driver was asked in, from the one that must change nothing to the one that must."""
    rows = []
    if clip.original is not None:
        rows.append(_ArmView("original", "the unedited clip", clip.original))
    if clip.null_same_seeds is not None:
        rows.append(_ArmView(NULL_SAME_SEEDS, "must be 0 for a deterministic driver", clip.null_same_seeds))
    if clip.null_other_seeds is not None:
        rows.append(_ArmView(NULL_OTHER_SEEDS, "the noise floor", clip.null_other_seeds, is_size=True))
    made = [view for view in views if view.item.status != "failed"]
    remarks = {"roundtrip": "codec and resizing alone", "repaint_as_measured": "the painter in the original's style"}
    for view in sorted(made, key=lambda view: ("roundtrip", "repaint_as_measured", "edit").index(view.item.kind)):
        remark = remarks.get(view.item.kind, "edit")
        rows.append(_ArmView(view.item.prompt_key, remark, view.item.figures, view.primary_m, view.anchor))
    if clip.positive_control is not None:
        rows.append(_ArmView("camera blanked", "positive control: must be large", clip.positive_control))
    return tuple(rows)


def _prompt_keys(report: ChunkReport) -> tuple[str, ...]:
    """Edits first, then controls, each in the catalogue's order."""
    kinds = {item.prompt_key: item.is_control for item in report.items}
    return tuple(sorted(kinds, key=lambda key: kinds[key]))


def _effect_rows(report: ChunkReport) -> tuple[plots.DotRow, ...]:
    """Edit less repainting at 3 s: a dot a clip, and the estimate over clips."""
    found: dict[str, list[plots.Dot]] = {}
    for clip in report.clips:
        for item in clip.items:
            if not item.is_control:
                dots = found.setdefault(item.prompt_key, [])
                value = clip.primary_shift_m(item)
                if value is not None and np.isfinite(value):
                    dots.append(plots.Dot(float(value), clip.key))
    estimates = {
        answer.prompt_key: plots.Estimate(answer.mean, answer.low, answer.high)
        for answer in answers(report)
        if answer.mean is not None
    }
    return tuple(plots.DotRow(key, tuple(dots), False, estimates.get(key)) for key, dots in found.items())


def _delta_rows(report: ChunkReport) -> tuple[plots.DotRow, ...]:
    """Edited less original minADE, a dot a clip."""
    found: dict[str, list[plots.Dot]] = {}
    controls = {item.prompt_key for item in report.items if item.is_control}
    for clip in report.clips:
        before = None if clip.original is None else clip.original.min_ade_m
        for item in clip.items:
            dots = found.setdefault(item.prompt_key, [])
            after = item.figures.min_ade_m if item.status == "ok" else None
            if before is not None and after is not None and np.isfinite([before, after]).all():
                dots.append(plots.Dot(after - before, clip.key))
    return tuple(plots.DotRow(key, tuple(dots), key in controls) for key, dots in found.items())


def _data_uri(data: bytes | None, media_type: str) -> Markup | None:
    # base64 has no character that HTML would escape, and escaping megabytes is slow.
    return None if data is None else Markup(f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}")
