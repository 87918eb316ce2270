"""Whose terms win."""

from __future__ import annotations

import pytest

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.engines import ENGINES
from lanepaint_assets.licences import LPIPS, LicenceNote, Strictness, engine_licences, source_licence, strictest

ALL_MODELS = {"sam2", "flux_fill", "videopainter", "qwen2_5_vl", "alpamayo"}


def test_every_engine_of_the_platform_has_known_terms() -> None:
    names = {entry.name for entry in ENGINES}
    assert all(note.strictness is not Strictness.UNKNOWN for note in engine_licences(names))


def test_every_checkpoint_is_read_by_an_engine_whose_weights_are_named() -> None:
    for entry in ENGINES:
        if {file.asset for file in entry.checkpoints} & set(CHECKPOINT_FOLDERS):
            assert all(note.weights is not None for note in engine_licences({entry.name})), entry.name


def test_an_engine_that_nobody_described_is_unknown_and_the_strictest_of_all() -> None:
    notes = engine_licences({"sam2", "videopainter", "my_painter"})
    winner = strictest((*notes, source_licence("physical_ai_av")))
    assert winner is not None
    assert winner.part == "Engine my_painter"
    assert winner.strictness is max(Strictness)


def test_files_of_a_persons_own_are_theirs_to_know() -> None:
    assert source_licence("own_files").strictness is Strictness.UNKNOWN


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"classical", "procedural", "measured", "lane_follow"}, Strictness.PERMISSIVE),
        ({"sam2", "qwen2_5_vl"}, Strictness.PERMISSIVE),
        ({"flux_fill"}, Strictness.NON_COMMERCIAL),
        ({"flux_fill", "videopainter"}, Strictness.RESEARCH_ONLY),
        (ALL_MODELS, Strictness.RESEARCH_ONLY),
    ],
)
def test_the_strictest_engine_wins(names: set[str], expected: Strictness) -> None:
    winner = strictest((source_licence("sample_drive"), *engine_licences(names)))
    assert winner is not None
    assert winner.strictness is expected


def test_a_driver_binds_its_answers_and_not_the_videos() -> None:
    notes = (source_licence("sample_drive"), *engine_licences({"procedural"}, {"alpamayo", "mine"}))
    videos, everything = strictest(note for note in notes if note.limits == "videos"), strictest(notes)
    assert videos is not None
    assert everything is not None
    assert videos.strictness is Strictness.PERMISSIVE
    assert everything.part == "Engine mine"


def test_an_inspector_that_only_judged_binds_no_video_and_one_that_also_refined_does() -> None:
    (only_judged,) = engine_licences((), {"qwen2_5_vl"})
    (refined_too,) = engine_licences({"qwen2_5_vl"}, {"qwen2_5_vl"})
    assert (only_judged.limits, refined_too.limits) == ("results", "videos")


def test_the_weights_that_pictures_are_compared_with_have_terms_too() -> None:
    (note,) = engine_licences((), {LPIPS})
    assert note.weights is not None
    assert note.limits == "results"


def test_only_engines_that_took_part_are_named() -> None:
    assert engine_licences(set()) == ()
    assert [note.part for note in engine_licences({"sam2"})] == ["SAM 2.1"]


def test_nothing_wins_among_no_terms() -> None:
    notes: tuple[LicenceNote, ...] = ()
    assert strictest(notes) is None


def test_every_degree_says_what_follows() -> None:
    assert len({degree.consequence for degree in Strictness}) == len(Strictness)
