"""The terms of everything that edited videos and trajectories are made from, and which of them is the strictest.

Called by the chunk report. Plain facts and their sources for people who then read the texts; no legal advice, no files.
Raise `LICENCES_VERSION` when a fact changes: reports that showed the old one are outdated then. A new engine with
weights needs a row in `_MODELS`; without one its terms count as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lanepaint_assets.clips.records import SourceKind

LICENCES_VERSION = "2"

# What measures the likeness of pictures by learnt features: no engine, but weights that have terms too.
LPIPS = "lpips"

Limits = Literal["videos", "results"]


class Strictness(IntEnum):
    """What terms allow, from the loosest to the strictest. Unknown terms are the strictest: nothing is allowed yet."""

    PERMISSIVE = 0
    COMMERCIAL_BY_REGISTRATION = 1
    NON_COMMERCIAL = 2
    RESEARCH_ONLY = 3
    NO_PUBLICATION = 4
    UNKNOWN = 5

    @property
    def consequence(self) -> str:
        """What it means for what was made, in one sentence."""
        return _CONSEQUENCES[self]


_CONSEQUENCES = {
    Strictness.PERMISSIVE: "Use and publish freely; keep the notices.",
    Strictness.COMMERCIAL_BY_REGISTRATION: "Research is free; commercial use needs the licensor's registration first.",
    Strictness.NON_COMMERCIAL: "No commercial use.",
    Strictness.RESEARCH_ONLY: "Academic research and education only: no product, no commercial use.",
    Strictness.NO_PUBLICATION: "For internal development only: do not publish the videos or pass them on.",
    Strictness.UNKNOWN: "Somebody has to find out; until then do not publish or pass on what was made.",
}


@dataclass(frozen=True)
class LicenceNote:
    """The terms of one input.

    Attributes:
        part: what it is.
        code, weights: name of the licence of either; None where there is none of it.
        strictness: the stricter of both.
        says_who: where the fact is from.
        limits: what comes under the terms: edited videos (and all that is made of them), or only the driver's answers.
        remark: what a reader must check.
    """

    part: str
    code: str | None
    weights: str | None
    strictness: Strictness
    says_who: str
    limits: Limits = "videos"
    remark: str | None = None


_SOURCES: dict[SourceKind, LicenceNote] = {
    "sample_drive": LicenceNote(
        "Clips: LanePaint's sample drive",
        "Apache-2.0",
        None,
        Strictness.PERMISSIVE,
        "LICENSE of this project, which computes these clips",
    ),
    "physical_ai_av": LicenceNote(
        "Clips: PhysicalAI-Autonomous-Vehicles",
        None,
        "NVIDIA Autonomous Vehicle Dataset License Agreement",
        Strictness.NO_PUBLICATION,
        "the agreement that is accepted for access to the data set",
        remark=(
            "Licensed for internal development of automated driving. Edited videos are modified copies of the data: "
            "treat them as the data itself."
        ),
    ),
    "own_files": LicenceNote(
        "Clips: files of your own",
        None,
        None,
        Strictness.UNKNOWN,
        "nobody: a folder does not say",
        remark="You have to know the terms of your recordings, and what the law says of people and plates in them.",
    ),
}

_QWEN = LicenceNote(
    "Qwen2.5-VL-7B-Instruct",
    "Apache-2.0",
    "Apache-2.0",
    Strictness.PERMISSIVE,
    "model card Qwen/Qwen2.5-VL-7B-Instruct",
    remark="The 3B and 72B sizes have other terms.",
)
_MODELS: dict[str, tuple[LicenceNote, ...]] = {
    "sam2": (
        LicenceNote(
            "SAM 2.1",
            "Apache-2.0",
            "Apache-2.0",
            Strictness.PERMISSIVE,
            "LICENSE of facebookresearch/sam2, checkpoints included",
        ),
    ),
    "flux_fill": (
        LicenceNote(
            "FLUX.1 Fill [dev]",
            "Apache-2.0 (diffusers)",
            "FLUX.1 [dev] Non-Commercial License",
            Strictness.NON_COMMERCIAL,
            "model card black-forest-labs/FLUX.1-Fill-dev",
            remark=(
                "The weights and LoRAs made from them are for non-commercial use. The licence treats pictures more "
                "freely than weights, but not for training a competing model; its text decides."
            ),
        ),
    ),
    "videopainter": (
        LicenceNote(
            "CogVideoX-5B-I2V",
            "Apache-2.0 (diffusers)",
            "CogVideoX License",
            Strictness.COMMERCIAL_BY_REGISTRATION,
            "LICENSE beside the weights of CogVideoX-5b-I2V",
        ),
        LicenceNote(
            "VideoPainter branch",
            "Apache-2.0 (this project's own implementation)",
            "VideoPainter licence, academic use",
            Strictness.RESEARCH_ONLY,
            "LICENSE of TencentARC/VideoPainter",
            remark="For academic, research and education purposes; other labels have been proposed for the weights.",
        ),
    ),
    "qwen2_5_vl": (_QWEN,),
    "alpamayo": (
        LicenceNote(
            "Alpamayo R1 or 1.5",
            "Apache-2.0",
            "non-commercial, by its model card",
            Strictness.NON_COMMERCIAL,
            "model cards nvidia/Alpamayo-R1-10B and nvidia/Alpamayo-1.5-10B",
            "results",
            remark=(
                "Sources disagree: NVIDIA's page on the Alpamayo 1.5 service puts the model under OpenMDW-1.1. Read "
                "the card of the weights that you downloaded."
            ),
        ),
    ),
    LPIPS: (
        LicenceNote(
            "LPIPS with AlexNet",
            "Apache-2.0 (torchmetrics)",
            "BSD-2-Clause (LPIPS), BSD-3-Clause (torchvision's AlexNet)",
            Strictness.PERMISSIVE,
            "LICENSE of richzhang/PerceptualSimilarity and of pytorch/vision",
            "results",
            remark="torchvision leaves it to its users whether the pictures that AlexNet learnt from bind the weights.",
        ),
    ),
}
"""Terms of everything that reads weights, by the engine's name."""

_OWN_ENGINES = frozenset({"classical", "procedural", "measured", "lane_follow", "constant_velocity"})


def source_licence(kind: SourceKind) -> LicenceNote:
    """The terms of the clips."""
    return _SOURCES[kind]


def engine_licences(makers: Iterable[str], answering: Iterable[str] = ()) -> tuple[LicenceNote, ...]:
    """The terms of the engines that had a part in something.

    Args:
        makers: of what is seen in a video, by name as rows carry it, without version.
        answering: those that drove, judged or measured. They put nothing into a video unless they are makers too.

    Returns:
        One note a model; this project's own engines share one. Engines that nobody described are unknown.
    """
    made = set(makers)
    wanted = sorted(made | set(answering))
    notes = [
        note if name in made else replace(note, limits="results") for name in wanted for note in _MODELS.get(name, ())
    ]
    own = [name for name in wanted if name in _OWN_ENGINES]
    if own:
        notes.append(
            LicenceNote(
                f"CPU engines: {', '.join(own)}", "Apache-2.0", None, Strictness.PERMISSIVE, "LICENSE of this project"
            )
        )
    notes += [
        LicenceNote(
            f"Engine {name}",
            None,
            None,
            Strictness.UNKNOWN,
            "nobody: its terms are not among those that LanePaint knows",
            "videos" if name in made else "results",
        )
        for name in wanted
        if name not in _MODELS and name not in _OWN_ENGINES
    ]
    return tuple(notes)


def strictest(notes: Iterable[LicenceNote]) -> LicenceNote | None:
    """The note whose terms win, the first of equals; None where there is none."""
    return max(notes, key=lambda note: note.strictness, default=None)
