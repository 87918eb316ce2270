from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.editing.file_names import EditedVideoName, parse_edited_video_name

CAMERA = st.from_regex(r"[a-z0-9_]{1,30}", fullmatch=True)
CLIP = st.from_regex(r"[A-Za-z0-9_.-]{1,60}", fullmatch=True)


@given(CLIP, CAMERA)
def test_a_built_name_is_read_back_whatever_dots_the_clip_id_holds(clip_id: str, camera: str):
    name = EditedVideoName(clip_id, camera)
    assert parse_edited_video_name(str(name)) == name


def test_the_name_has_the_form_of_the_specification():
    name = str(EditedVideoName("25cd4769-5dcf", "camera_front_wide_120fov"))
    assert name == "25cd4769-5dcf.camera_front_wide_120fov_vp_edit_sample0_generated.mp4"


@pytest.mark.parametrize(
    "name",
    [
        "a.b_vp_edit_sample1_generated.mp4",
        "ab_vp_edit_sample0_generated.mp4",
        "x/a.b_vp_edit_sample0_generated.mp4",
        "",
    ],
)
def test_a_name_of_another_form_is_refused_with_the_form_expected(name: str):
    with pytest.raises(ValueError, match=r"<clip_id>\.<camera>_vp_edit"):
        parse_edited_video_name(name)


@pytest.mark.parametrize(("clip_id", "camera"), [("", "c"), ("a", ""), ("a/b", "c"), ("a", "b.c")])
def test_parts_that_cannot_be_read_back_are_refused(clip_id: str, camera: str):
    with pytest.raises(ValueError, match=r"clip_id|camera"):
        EditedVideoName(clip_id, camera)
