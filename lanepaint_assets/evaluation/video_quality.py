"""What `video_quality` says of one edited video: `<stem>_quality.json`.

Written by `quality_steps.py`, read by the report. How likeness is measured is `rendering.region_quality`'s work, motion
`warp_error`'s, the second opinion `independent_verdict`'s.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from lanepaint_assets.evaluation.independent_verdict import IndependentVerdict
from lanepaint_assets.rendering.region_quality import RegionQuality


class QualityRecord(BaseModel):
    """Quality of one edited video against its original.

    `inside` is the region that the painter's result was composited into (the paint mask with its growth and feather),
    `outside` all else. Both are measured on the video as delivered, decoded again: the loss of its encoding is in them,
    and the control prompt `roundtrip` of the same clip shows how much that is. `*_raw` is the painter's own output
    before it was composited and encoded.

    Attributes:
        outside, inside: None where that region is empty in every frame; `region_reason` then says so.
        outside_raw, inside_raw: None where not measured; `raw_reason` then says why.
        temporal_warp_error: mean squared difference (pixel values 0..1) of frames to their successors carried along
            the road's own motion, on the painted road, of the edited video.
        temporal_warp_error_original: the same of the original video, on the same pixels.
        warp_reason: why the two are absent.
        lpips_reason: why LPIPS is absent.
        frames: frames of both videos; PSNR uses all of them.
        ssim_frames, lpips_frames, warp_pairs: how many were used, evenly spread.
        verdict: see `IndependentVerdict`.
    """

    model_config = ConfigDict(frozen=True)

    outside: RegionQuality | None
    inside: RegionQuality | None
    region_reason: str | None
    outside_raw: RegionQuality | None
    inside_raw: RegionQuality | None
    raw_reason: str | None
    temporal_warp_error: float | None
    temporal_warp_error_original: float | None
    warp_reason: str | None
    lpips_reason: str | None
    frames: int
    ssim_frames: int
    lpips_frames: int
    warp_pairs: int
    verdict: IndependentVerdict

    def to_json(self) -> str:
        """As the file holds it."""
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, data: bytes | str) -> QualityRecord:
        """Read `to_json` back.

        Raises:
            pydantic.ValidationError: the file holds something else.
        """
        return cls.model_validate_json(data)
