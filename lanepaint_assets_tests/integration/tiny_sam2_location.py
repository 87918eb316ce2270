"""The project's own code location with SAM 2.1's smallest network made smaller still: the package's real classes, which
a busy CPU runs in seconds. Served by module name, and read by the runs that the code server starts.
"""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import dagster as dg

from lanepaint_assets.definitions import build
from lanepaint_assets.segmentation.sam2 import engine
from lanepaint_assets.segmentation.sam2.architecture import ARCHITECTURES
from lanepaint_assets.settings import load_settings
from lanepaint_assets_tests.unit.segmentation.sam2.tiny import TINY

# For as long as the process lives: its steps build the network, not its definitions.
patch.object(engine, "ARCHITECTURES", {**ARCHITECTURES, "tiny": replace(TINY, name=ARCHITECTURES["tiny"].name)}).start()


@dg.definitions
def defs() -> dg.Definitions:
    """What the code server loads."""
    return build(load_settings())
