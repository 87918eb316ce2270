"""A second opinion on an edited video: an inspector that did not refine the edit judges it.

Called by `quality_steps.py`, which knows who refined it. An inspector that chose among attempts until it was content
says nothing new when it is content; where no other one is at hand, that is said in these words: `NOT_VERIFIED`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pydantic import BaseModel, ConfigDict

from lanepaint_assets.engines import parse_label
from lanepaint_assets.lanes.attributes import LaneStyle
from lanepaint_assets.lanes.inspector import LaneInspector, RoadView, Verdict

NOT_VERIFIED = "not independently verified"
CONTROL_PROMPT = "a control prompt asks for no style that could be verified"

# Shares of the video at which it is judged. The first frame was refined; what counts here is what the painter made of
# it, and every moment is read from the seconds around it.
MOMENTS = (0.2, 0.5, 0.8)


class IndependentVerdict(BaseModel):
    """What an inspector says that did not take part in making the edit.

    Attributes:
        inspector: name and version of who judged; None where nobody did.
        agrees: whether it finds the wanted style at most of the moments it looks at; None where nobody judged.
        found: normalized caption of what it reads in the video.
        text: one sentence for people; exactly `NOT_VERIFIED` where no inspector is at hand but the one that refined
            the edit.
    """

    model_config = ConfigDict(frozen=True)

    inspector: str | None
    agrees: bool | None
    found: str | None
    text: str


def unjudged(text: str) -> IndependentVerdict:
    """Nobody judged, for the reason `text`."""
    return IndependentVerdict(inspector=None, agrees=None, found=None, text=text)


def refined_by(first_frame_engine: str | None) -> str | None:
    """Name of the inspector in the engine label of a first frame, `<painter> <version> + <inspector> <version>`.

    None for labels that name no inspector: such a first frame was imported.
    """
    inspector = (first_frame_engine or "").partition(" + ")[2]
    return parse_label(inspector)[0] or None


def judge_video(
    inspector: LaneInspector, label: str, original: RoadView, edited: RoadView, wanted: LaneStyle, instruction: str
) -> IndependentVerdict:
    """Judge a whole edited video at `MOMENTS`.

    Args:
        inspector: not the one that refined the edit.
        label: its name and version.
        original, edited: all frames of both videos; their target frames are replaced.
        wanted: the style that the edit asks for.
        instruction: the edit in words.
    """
    verdicts: list[Verdict] = []
    captions: list[str] = []
    for k in sorted({round(share * (len(edited.frames) - 1)) for share in MOMENTS}):
        before, after = replace(original, target_index=k), replace(edited, target_index=k)
        verdicts.append(inspector.judge(before, after, wanted, wanted.caption, instruction))
        captions.append(inspector.inspect(after).caption)
    passed = sum(verdict.passed for verdict in verdicts)
    agrees = passed > len(verdicts) / 2
    text = f"{label} finds the wanted style at {passed} of {len(verdicts)} moments of the video"
    doubts = Counter(
        mark.reason for verdict in verdicts for mark in verdict.attributes if not verdict.passed and not mark.passed
    )
    if doubts:
        text += ": " + "; ".join(reason for reason, _ in doubts.most_common(3))
    found = Counter(captions).most_common(1)[0][0]
    return IndependentVerdict(inspector=label, agrees=agrees, found=found, text=text)
