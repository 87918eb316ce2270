"""Statistics as pages show them: names of metrics as words, with their units.

Called by the chunk report and the leaderboard, so that both say the same.
"""

from __future__ import annotations

from lanepaint_assets.evaluation.statistics import METRICS, ContrastSummary
from lanepaint_assets.rendering.report_content import StudyLine

_METRICS = {metric.name: metric for metric in METRICS}


def study_line(line: ContrastSummary) -> StudyLine:
    """One line for a page; its driver is the heading that it stands under."""
    metric = _METRICS[line.metric]
    return StudyLine(
        prompt_key=line.prompt_key,
        contrast=line.contrast,
        metric=f"{metric.words}, {metric.unit}",
        population=line.population.replace("_", " "),
        is_primary=line.role == "primary",
        clips=line.clips,
        mean=line.mean,
        low=line.low,
        high=line.high,
        p_value=line.p_value,
        q_value=line.q_value,
        equivalent=line.equivalent,
        equivalence_p=line.equivalence_p,
        clips_needed={needed.effect_m: needed.clips for needed in line.clips_needed},
        finding=line.verdict,
        reason=line.reason,
    )
