"""A code location for servers that are killed again and again: the real graph with engines that take no time, and
sensors that look every second. Served by module name, and read by the runs that the code server starts.
"""

from __future__ import annotations

from unittest.mock import patch

import dagster as dg

from lanepaint_assets import automation
from lanepaint_assets.clips import sensors
from lanepaint_assets.definitions import build
from lanepaint_assets.evaluation.constant_velocity import ConstantVelocityDriver
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings, load_settings
from lanepaint_assets_tests.fixtures import AgreeingInspector, Journal, StripePainter, TrapezoidSegmenter


def fast_definitions(settings: Settings) -> dg.Definitions:
    """The definitions with fast engines under the names of the chosen ones, whose checkpoints are inputs."""
    journal = Journal()
    painter = StripePainter(journal)
    return build(
        settings,
        platform=Platform(
            settings,
            segmenter=TrapezoidSegmenter(journal),
            first_frame_painter=painter,
            video_painter=painter,
            inspector=AgreeingInspector(),
            driver=ConstantVelocityDriver(),
        ),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What the code server loads."""
    with patch.object(automation, "INTERVAL_S", 1), patch.object(sensors, "INTERVAL_S", 1):
        return fast_definitions(load_settings())
