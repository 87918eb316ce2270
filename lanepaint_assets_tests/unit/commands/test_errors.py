"""Which errors people see as one line."""

from __future__ import annotations

import importlib
import subprocess
import sys

from lanepaint_assets.commands.errors import _PERSON_ERRORS, person_errors


def test_every_named_error_exists_and_is_found_once_its_module_is_loaded() -> None:
    found = {
        getattr(importlib.import_module(module), name) for module, names in _PERSON_ERRORS.items() for name in names
    }
    assert all(issubclass(error, Exception) for error in found)
    assert found < set(person_errors())


def test_asking_for_them_loads_no_picture_library() -> None:
    told = "import sys; from lanepaint_assets.commands.errors import person_errors; person_errors();"
    subprocess.run([sys.executable, "-c", f"{told} assert not {{'cv2', 'av', 'scipy'}} & set(sys.modules)"], check=True)
