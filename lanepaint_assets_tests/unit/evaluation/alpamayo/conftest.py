from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from lanepaint_assets_tests.unit.evaluation.alpamayo.stand_ins import STAND_IN


@pytest.fixture(scope="module")
def stand_in_importable() -> Iterator[None]:
    """The stand-in package on this process's path; the real one, where there is one, is hidden meanwhile."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in PACKAGES}
    sys.path.insert(0, str(STAND_IN))
    yield
    sys.path.remove(str(STAND_IN))
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    sys.modules.update(hidden)


PACKAGES = ("alpamayo_r1", "alpamayo1_5")
