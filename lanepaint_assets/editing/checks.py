"""What is checked of first frames and edited videos.

Called by this stage's `assets.py`. The videos' facts are measured when they are written (`written_video.py`); how good
they look is the evaluation's `video_quality`.
"""

from __future__ import annotations

from collections.abc import Sequence

from lanepaint_assets.item_checks import ERROR, WARN, Finding, ItemCheck, measured, not_measured, number
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.manifest import ItemRow


def first_frame_checks(settings: Settings) -> Sequence[ItemCheck]:
    """How many first frames their judge passed."""
    return (
        ItemCheck(
            name="verdict_rate",
            description=(
                f"At least {settings.min_verdict_rate:.0%} of the first frames passed their judge "
                "(LANEPAINT_MIN_VERDICT_RATE); control prompts are not judged."
            ),
            severity=WARN,
            judge=_verdict,
            least_share=settings.min_verdict_rate,
        ),
    )


def _verdict(row: ItemRow) -> Finding | None:
    if "verdict" not in row.facts:
        return not_measured(row, "the verdict")
    verdict = row.facts["verdict"]
    if verdict is None:
        return not_measured(row, "the verdict") if "origin" in row.facts else None
    attributes = row.facts.get("attributes")
    figures: dict[str, float | bool] = {}
    if isinstance(attributes, dict):
        figures |= {f"{name}_passed": bool(passed) for name, passed in attributes.items()}
    iterations = number(row, "iterations")
    if iterations is not None:
        figures["iterations"] = iterations
    reasons = str(row.facts.get("reasons") or "the judge gave no reason")
    return measured(figures, None if verdict == "PASS" else reasons)


def edited_video_checks(settings: Settings) -> Sequence[ItemCheck]:
    """That an edited video shows its clip's moments, and its clip's pixels where nothing was to be painted."""
    return (
        ItemCheck(
            name="frames_equal_source",
            description=(
                "The edited file holds as many frames as its clip's grid, and its sidecar gives the grid's times."
            ),
            severity=ERROR,
            judge=_frames,
        ),
        ItemCheck(
            name="background_unchanged",
            description=(
                "Before encoding, no pixel outside the grown and feathered paint mask differs from the source. What "
                "encoding leaves is checked by `video_quality`."
                + (
                    ""
                    if settings.keep_masked_pixels
                    else " Off: LANEPAINT_KEEP_MASKED_PIXELS keeps all that is painted."
                )
            ),
            # A person asked for it; still, nobody should take such videos for edits of the road alone.
            severity=ERROR if settings.keep_masked_pixels else WARN,
            judge=_background,
        ),
    )


def _frames(row: ItemRow) -> Finding:
    frames, wanted = number(row, "frames"), number(row, "source_frames")
    if frames is None or wanted is None:
        return not_measured(row, "the number and times of its frames")
    figures = {"frames": frames}
    faults = []
    if frames != wanted:
        faults.append(f"it has {frames:.0f} frames, its clip's grid {wanted:.0f}")
    error_us = number(row, "time_error_us")
    if error_us is None:
        faults.append("its sidecar has another number of entries than frames")
    else:
        figures["time_error_us"] = error_us
        if error_us:
            faults.append(f"its times are up to {error_us:.0f} us beside the grid's")
    return measured(figures, " and ".join(faults) or None)


def _background(row: ItemRow) -> Finding:
    changed = number(row, "background_changed_px")
    if changed is None:
        return not_measured(row, "the background before encoding")
    fault = f"{changed:.0f} pixels outside the mask differ from the source" if changed else None
    return measured({"background_changed_px": changed}, fault)
