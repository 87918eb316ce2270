"""Which lines of an edited picture are read as the edit's own."""

from __future__ import annotations

import numpy as np
import pytest

from lanepaint_assets.lanes.detection import detect_lines
from lanepaint_assets.lanes.edit_reading import Reference, ground_alike, read_edit
from lanepaint_assets.lanes.inspector import RoadView
from lanepaint_assets.lanes.measured import MeasuredLaneInspector
from lanepaint_assets_tests.unit.lanes.flat_road import WHITE, YELLOW, FlatRoad, PaintedLine, camera, drive, render

LEFT, RIGHT = 1.75, -1.75


def picture(*lines: PaintedLine) -> RoadView:
    view, ego = camera(), drive(1, 14.0)
    return RoadView(render(FlatRoad(lines), view, ego), ego.timestamps_us, 0, camera=view, ego=ego)


@pytest.mark.parametrize(("before", "read"), [((), ["yellow"]), ((PaintedLine(RIGHT, YELLOW),), [])])
def test_a_line_where_the_originals_was_not_measured_counts_if_the_edit_painted_it(
    before: tuple[PaintedLine, ...], read: list[str]
) -> None:
    original = picture(PaintedLine(LEFT, WHITE), *before)
    edit = picture(PaintedLine(LEFT, WHITE), PaintedLine(RIGHT, YELLOW))
    assert edit.camera is not None
    lines = tuple(line for line in MeasuredLaneInspector().inspect(original).lines if line.role == "ego_left")
    reading = read_edit(
        Reference(lines, ground_alike(original, edit)),
        MeasuredLaneInspector().inspect(edit),
        detect_lines(edit, edit.camera, edit.ego),
    )
    right = [boundary for boundary in reading.boundaries if boundary.off_course_m is None]
    assert [boundary.color.value for boundary in right] == read
    assert [line.role for line in reading.added] == ["ego_right"] * len(read)
    assert np.isfinite([boundary.kept_m for boundary in reading.boundaries]).all()
