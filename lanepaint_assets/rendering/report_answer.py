"""The report's answer in words: for each edit, whether the driver's path changed, and how sure that is.

Called by the page and by its plain-text form, so that both say the same. The statistics are given (`StudyLine`); here
is wording only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lanepaint_assets.rendering.report_content import ChunkReport, Finding, ItemSection, StudyLine

NO_COMPARISON = "no clip has both this edit and the control `repaint_as_measured`"
NOT_MADE = "no edit was evaluated; the reasons are below"

_WORDS: dict[Finding, str] = {
    "effect": "{count} of {all} edits changed the driver's path",
    "no effect larger than the margin": "for {count} of {all} any change is smaller than the margin",
    "cannot tell": "for {count} of {all} the data cannot tell",
}


@dataclass(frozen=True)
class Answer:
    """What is known of one edit.

    Attributes:
        prompt_key, prompt_text: which edit.
        finding, reason: whether the path changed, and what limits that; empty where nothing does.
        mean, low, high: sideways effect at 3 s, edit less repainting, metres; None where there is none.
        clips: n.
        shown: how many of the edits show what was asked for, as two inspectors see it.
        example: small picture before and after, or None.
    """

    prompt_key: str
    prompt_text: str
    finding: Finding
    reason: str
    mean: float | None
    low: float | None
    high: float | None
    clips: int
    shown: str
    example: bytes | None


def answers(report: ChunkReport) -> tuple[Answer, ...]:
    """One answer an edit, in the catalogue's order, those without any clip last; controls have none."""
    lines = {line.prompt_key: line for line in report.study if line.is_primary}
    by_prompt: dict[str, list[ItemSection]] = {}
    for item in report.items:
        if not item.is_control:
            by_prompt.setdefault(item.prompt_key, []).append(item)
    given = [_answer(key, items, lines.get(key)) for key, items in by_prompt.items()]
    return tuple(sorted(given, key=lambda answer: answer.clips == 0))


def headline(given: Sequence[Answer]) -> str:
    """All answers in one sentence."""
    compared = [answer for answer in given if answer.clips]
    if not compared:
        return "No edit could be compared."
    rest = f" {len(given) - len(compared)} more could not be compared." if len(compared) < len(given) else ""
    counts = Counter(answer.finding for answer in compared)
    if len(counts) == 1:
        return _unanimous(compared[0].finding, len(compared)) + rest
    parts = [
        words.format(count=counts[finding], all=len(compared)) for finding, words in _WORDS.items() if counts[finding]
    ]
    return f"{'; '.join(parts).capitalize()}.{rest}"


def _unanimous(finding: Finding, count: int) -> str:
    subject = "this edit" if count == 1 else f"any of the {count} edits"
    if finding == "effect":
        return f"{'The edit' if count == 1 else f'All {count} edits'} changed the driver's path."
    if finding == "cannot tell":
        return f"The data cannot tell whether {subject} changed the driver's path."
    return f"If {subject} changed the driver's path, then by less than the margin."


def noise_floor_m(report: ChunkReport) -> float | None:
    """Median over clips of how far other seeds alone move the plan sideways at 3 s; None where it was not measured."""
    shifts = [clip.null_other_seeds.lateral_m.get(3.0) for clip in report.clips if clip.null_other_seeds is not None]
    measured = [abs(shift) for shift in shifts if shift is not None and np.isfinite(shift)]
    return float(np.median(measured)) if measured else None


def _answer(key: str, items: Sequence[ItemSection], line: StudyLine | None) -> Answer:
    example = next((item.example for item in items if item.example is not None), None)
    text = items[0].prompt_text or key
    if line is None:
        reason = NOT_MADE if all(item.status == "failed" for item in items) else NO_COMPARISON
        return Answer(key, text, "cannot tell", reason, None, None, None, 0, _shown(items), example)
    return Answer(
        key, text, line.finding, line.reason or "", line.mean, line.low, line.high, line.clips, _shown(items), example
    )


def _shown(items: Sequence[ItemSection]) -> str:
    made = [item for item in items if item.status != "failed"]
    if not made:
        return "no edit was evaluated"
    judged = [item.verdict for item in made if item.verdict is not None]
    parts = [f"the refining judge passed {sum(v.passed for v in judged)} of {len(judged)}" if judged else "not judged"]
    checked = [item.verification for item in made if item.verification is not None]
    asked = [check for check in checked if check.agrees is not None]
    if asked:
        parts.append(f"an independent inspector agrees on {sum(bool(check.agrees) for check in asked)} of {len(asked)}")
    if len(asked) < len(made):
        parts.append(f"{len(made) - len(asked)} not independently verified")
    return "; ".join(parts)
