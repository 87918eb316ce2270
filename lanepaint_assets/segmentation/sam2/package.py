"""The installed `sam2` package, imported without Hydra.

Called by `architecture.py` and `predictor.py` before their first import of the package. Its top module starts Hydra,
whose parser runtime (antlr4 4.9) cannot be installed beside the one that Dagster's parser needs (4.13). Hydra
only reads configuration files there, and `architecture.py` builds the models without them.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

NAME = "sam2"


def enter_package() -> None:
    """Make `sam2.modeling` and the other modules of the package importable; its top module is not run.

    Raises:
        ImportError: the package is not installed.
    """
    if NAME in sys.modules:
        return
    spec = importlib.util.find_spec(NAME)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("the package sam2 is not installed (`make install-sam2`)", name=NAME)
    package = ModuleType(NAME)
    package.__spec__ = spec
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[NAME] = package
