"""What is checked of trajectories and of finished videos.

Called by this stage's `assets.py`. Effects are no business of a check: whether a driver drives differently is what the
report says.
"""

from __future__ import annotations

from collections.abc import Sequence

from lanepaint_assets.evaluation.driver import FUTURE_STEPS, NOT_FINITE, STEP_S
from lanepaint_assets.item_checks import ERROR, WARN, Finding, ItemCheck, measured, not_measured, number
from lanepaint_assets.settings import Settings
from lanepaint_assets.store.manifest import ItemRow

# No road vehicle is faster, so a position beyond this is no plan: 100 m/s over the whole horizon, in metres.
FARTHEST_M = 100.0 * FUTURE_STEPS * STEP_S

# PSNR outside the painted region, edited video against the clip. Encoding alone (CRF 16) leaves 38 dB on a forest road
# and 46 dB on a motorway; a background that a video model painted itself has 23 dB (VideoPainter's paper).
LEAST_BACKGROUND_PSNR_DB = 32.0


def _finite(row: ItemRow) -> Finding:
    farthest = number(row, "farthest_m")
    if farthest is None:
        return not_measured(row, "how far its positions reach")
    fault = f"a position lies {farthest:.0f} m from the car, which nothing can drive"
    return measured({"farthest_m": farthest}, None if farthest <= FARTHEST_M else fault)


def _refused_as_not_finite(row: ItemRow) -> Finding | None:
    # Such answers become failed items; other failures are no matter of the driver's numbers.
    if row.reason is None or NOT_FINITE not in row.reason:
        return None
    return Finding(passed=False, text=row.reason)


TRAJECTORIES_FINITE = ItemCheck(
    name="trajectories_finite",
    description=(
        f"Every position of every arm is a number, and none lies more than {FARTHEST_M:.0f} m away. Items whose driver "
        "answered otherwise are not used."
    ),
    severity=ERROR,
    judge=_finite,
    judge_failed=_refused_as_not_finite,
)


def _null_arm(row: ItemRow) -> Finding:
    distance = number(row, "null_same_seeds_ade_m")
    if distance is None:
        return not_measured(row, "the null arm")
    figures = {"null_arm_ade_m": distance}
    floor = number(row, "null_other_seeds_ade_m")
    if floor is not None:
        figures["other_seeds_ade_m"] = floor
    # Rows keep micrometres: less is no difference.
    fault = f"the driver's answers to the same frames and seeds are {distance:.6f} m apart"
    return measured(figures, fault if distance else None)


NULL_ARM_ZERO = ItemCheck(
    name="null_arm_zero",
    description=(
        "Asked again with the same frames and seeds, the driver gives the same trajectories. Where it does not, no "
        "smaller effect of an edit means anything."
    ),
    severity=ERROR,
    judge=_null_arm,
)


def _background(row: ItemRow) -> Finding | None:
    psnr, ssim = number(row, "outside_psnr_db"), number(row, "outside_ssim")
    if "outside_psnr_db" not in row.facts:
        return not_measured(row, "the background")
    figures = {} if ssim is None else {"outside_ssim": ssim}
    if psnr is None:
        # The facts give no PSNR for two reasons: there is no background, or none of it differs.
        return None if ssim is None else measured(figures, None)
    figures["outside_psnr_db"] = psnr
    fault = f"outside the mask it has {psnr:.1f} dB against its clip"
    return measured(figures, None if psnr >= LEAST_BACKGROUND_PSNR_DB else fault)


BACKGROUND_UNCHANGED = ItemCheck(
    name="background_unchanged",
    description=(
        f"Outside the painted region the encoded video is its clip, up to what encoding loses: at least "
        f"{LEAST_BACKGROUND_PSNR_DB:.0f} dB PSNR."
    ),
    severity=ERROR,
    judge=_background,
)


def _verified(row: ItemRow) -> Finding | None:
    if "verified" not in row.facts:
        return not_measured(row, "what an independent inspector says")
    verified = row.facts["verified"]
    if verified is None:
        return None
    return measured({}, None if verified else str(row.facts.get("verification") or "disagrees"))


ORIGINAL_TRAJECTORY_CHECKS = (TRAJECTORIES_FINITE, NULL_ARM_ZERO)
EDITED_TRAJECTORY_CHECKS = (TRAJECTORIES_FINITE,)


def video_quality_checks(settings: Settings) -> Sequence[ItemCheck]:
    """The finished videos: their background, and whether who did not refine them sees the edit."""
    return (
        BACKGROUND_UNCHANGED,
        ItemCheck(
            name="independent_verdict_rate",
            description=(
                f"At least {settings.min_verdict_rate:.0%} of the edits pass an inspector that did not refine them "
                "(LANEPAINT_MIN_VERDICT_RATE). Where no such inspector is at hand there is nothing to judge."
            ),
            severity=WARN,
            judge=_verified,
            least_share=settings.min_verdict_rate,
        ),
    )
