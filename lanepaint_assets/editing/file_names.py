"""The file names of edited videos (spec 10), built and read back.

Called by the editing stage when it writes and by imports that bring existing results in.
Names only: no folders, no files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_EDITED = re.compile(r"(?P<clip_id>[^/\\]+)\.(?P<camera>[^./\\]+)_vp_edit_sample0_generated\.mp4")


@dataclass(frozen=True)
class EditedVideoName:
    """The clip and camera of an edited video; the prompt is the folder's business."""

    clip_id: str
    camera: str

    def __post_init__(self) -> None:
        for field, value in (("clip_id", self.clip_id), ("camera", self.camera)):
            if not value or any(c in value for c in "/\\\n\r"):
                raise ValueError(
                    f"{field} {value!r} cannot stand in a file name: it is empty or holds a path separator"
                )
        if "." in self.camera:
            raise ValueError(f"camera {self.camera!r} holds a dot, which separates clip and camera in {self.EXAMPLE}")

    EXAMPLE = "<clip_id>.<camera>_vp_edit_sample0_generated.mp4"

    def __str__(self) -> str:
        return f"{self.clip_id}.{self.camera}_vp_edit_sample0_generated.mp4"


def parse_edited_video_name(name: str) -> EditedVideoName:
    """Read `<clip_id>.<camera>_vp_edit_sample0_generated.mp4`; clip ids may hold dots, cameras may not.

    Args:
        name: the bare file name, without folders.

    Raises:
        ValueError: the name has another form.

    Source: spec 10, file name parsing.
    """
    match = _EDITED.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of an edited video; expected {EditedVideoName.EXAMPLE}")
    return EditedVideoName(clip_id=match["clip_id"], camera=match["camera"])
