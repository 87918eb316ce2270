"""What is checked of `road_masks`: that roads have a plausible size, hold still, and are in every frame.

Called by this stage's `assets.py`. Whether what was found is a road at all decides whether an item is made
(`plausibility.py`); here is what a person should look at although it was made.
"""

from __future__ import annotations

from lanepaint_assets.item_checks import WARN, Finding, ItemCheck, measured, not_measured, number
from lanepaint_assets.store.manifest import ItemRow

# Share of the picture that is road, mean of a clip. Labelled street frames (CamVid) have 0.10 to 0.39, real clips of a
# motorway, a highway and a forest road 0.17 to 0.34, rendered drives 0.25 to 0.31. Less leaves no lane to paint, more
# means that the mask has run out over the verge or the sky.
ROAD_SHARE = (0.05, 0.60)

# Overlap of the road in neighbouring frames. Masks that look steady have a mean of 0.96 to 0.99 and 0.87 or more in the
# worst pair; on a highway clip whose mask visibly jumps where asphalt becomes concrete it is 0.88 and 0.71.
LEAST_MEAN_OVERLAP = 0.90
# Below this a quarter of the road came or went from one frame to the next: paint would jump.
LEAST_WORST_OVERLAP = 0.75


def _coverage(row: ItemRow) -> Finding:
    share, paint = number(row, "road_share_mean"), number(row, "paint_share_mean")
    if share is None:
        return not_measured(row, "the masks' share of the picture")
    figures = {"road_share": share, **({} if paint is None else {"paint_share": paint})}
    is_plausible = ROAD_SHARE[0] <= share <= ROAD_SHARE[1]
    return measured(figures, None if is_plausible else f"the road covers {share:.1%} of the picture")


def _stability(row: ItemRow) -> Finding:
    mean, worst = number(row, "temporal_iou_mean"), number(row, "temporal_iou_min")
    if mean is None or worst is None:
        return not_measured(row, "the masks' overlap from frame to frame")
    is_steady = mean >= LEAST_MEAN_OVERLAP and worst >= LEAST_WORST_OVERLAP
    fault = f"neighbouring masks overlap by {mean:.1%} on average and {worst:.1%} in the worst pair"
    return measured({"overlap": mean, "worst_overlap": worst}, None if is_steady else fault)


def _no_empty_masks(row: ItemRow) -> Finding:
    empty, frames = number(row, "empty_frames"), number(row, "frames")
    if empty is None or frames is None:
        return not_measured(row, "how many masks are empty")
    fault = f"{empty:.0f} of {frames:.0f} frames have no road" if empty else None
    return measured({"empty_frames": empty}, fault)


ROAD_MASK_CHECKS = (
    ItemCheck(
        name="mask_coverage",
        description=f"The road covers {ROAD_SHARE[0]:.0%} to {ROAD_SHARE[1]:.0%} of the picture, mean of each clip.",
        severity=WARN,
        judge=_coverage,
    ),
    ItemCheck(
        name="mask_stability",
        description=(
            f"Neighbouring masks overlap (intersection over union) by {LEAST_MEAN_OVERLAP:.0%} on average and "
            f"by {LEAST_WORST_OVERLAP:.0%} in a clip's worst pair."
        ),
        severity=WARN,
        judge=_stability,
    ),
    ItemCheck(
        name="no_empty_masks",
        description="Every frame has a road: where one has none, its edit is missing for that moment.",
        severity=WARN,
        judge=_no_empty_masks,
    ),
)
