"""Sample drives: rendered roads with known truth, written in the PhysicalAI-AV layout.

`write_sample_drive` makes one; `truth.read_truth` reads its truth; `profile` says how hard it is and stays as it is.
The rooms: `layout` and `world` (metres), `materials`, `textures` and `vehicles` (looks), `ground_kernel`,
`panel_kernels` and `render` (pixels), `rig` (cameras), `truth`, `tables` and `write` (files).
No stage may import anything but these two functions.
"""

from lanepaint_assets.clips.sample_drive.write import SampleDrive, write_sample_drive

__all__ = ["SampleDrive", "write_sample_drive"]
