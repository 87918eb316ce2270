"""The import rules of the package, read from every module's syntax tree, and the core install that they protect."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE_NAME = "lanepaint_assets"
REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / PACKAGE_NAME

STAGES = ("segmentation", "editing", "training", "evaluation")
SHARED_ROOMS = ("store", "rendering", "lanes")
# The glue stands above the stages: a room that imported it would import the stages through it.
GLUE = ("definitions", "jobs", "cli", "commands")

DAGSTER_MODULES = {
    "definitions.py", "partitions.py", "automation.py", "conditions.py", "jobs.py", "materialization.py",
    "run_progress.py", "item_checks.py", "under_way.py", "group_sensor.py", "partition_states.py", "step_ops.py",
    "metrics.py", "k8s_steps.py",
}  # fmt: skip
DAGSTER_DOORS = {"assets.py", "checks.py", "sensors.py"}
MODEL_LIBRARIES = {"torch", "torchvision", "diffusers", "transformers", "peft", "sam2", "alpamayo", "accelerate"}
# Modules and folders that implement engines with weights, and what these share.
MODEL_ENGINE_FOLDERS = {"torch_models", "sam2", "flux_fill", "flux_lora", "videopainter", "qwen", "alpamayo"}
# What the extra `cpu` brings; the code location must load without any of it.
CPU_LIBRARIES = ("cv2", "av", "scipy", "numba", "physical_ai_av", "matplotlib", "jinja2", "torch")


@dataclass(frozen=True)
class Import:
    """One import statement: the absolute module name, and whether it runs when the file is imported."""

    file: str
    line: int
    module: str
    at_import: bool

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    @property
    def room(self) -> str | None:
        parts = self.module.split(".")
        return parts[1] if parts[0] == PACKAGE_NAME and len(parts) > 1 else None

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports_of(source: str, file: str) -> Iterator[Import]:
    """Every import of a module, type-checking-only ones included (they are knowledge of another module too)."""
    yield from _walk(ast.parse(source), file, at_import=True)


def _walk(node: ast.AST, file: str, *, at_import: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, child.lineno, alias.name, at_import)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}:{child.lineno} imports relatively; use absolute imports"
            # `from package import module` names a module too; a mere name below one changes no rule here.
            for alias in child.names:
                yield Import(file, child.lineno, f"{child.module}.{alias.name}", at_import)
        else:
            body_runs = at_import and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                body_runs = False
            yield from _walk(child, file, at_import=body_runs)


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 50
    return [found for path in files for found in imports_of(path.read_text(), path.relative_to(PACKAGE).as_posix())]


def _listed(violations: list[Import]) -> str:
    return "\n".join(map(str, violations))


def test_the_reader_of_imports_sees_lazy_guarded_and_nested_ones() -> None:
    source = (
        "import torch\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import dagster\n"
        "def f():\n    from lanepaint_assets.editing import steps\n"
        "try:\n    import cv2\nexcept ImportError:\n    pass\n"
    )
    found = {(i.module, i.at_import) for i in imports_of(source, "x.py")}
    assert {
        ("torch", True),
        ("dagster", False),
        ("lanepaint_assets.editing.steps", False),
        ("cv2", True),
    } <= found


def test_only_the_doors_and_the_glue_import_dagster(imports: list[Import]) -> None:
    def allowed(found: Import) -> bool:
        path = Path(found.file)
        if len(path.parts) == 1:
            return path.name in DAGSTER_MODULES
        # A session holds an instance; naming its type is allowed where nothing is imported at run time.
        return (len(path.parts) == 2 and path.name in DAGSTER_DOORS) or (
            path.parts[0] == "commands" and not found.at_import
        )

    violations = [found for found in imports if found.top == "dagster" and not allowed(found)]
    assert not violations, _listed(violations)


def test_model_libraries_are_imported_inside_engine_modules_and_never_at_package_import(
    imports: list[Import],
) -> None:
    def allowed(found: Import) -> bool:
        path = Path(found.file)
        return bool(MODEL_ENGINE_FOLDERS & set(path.parts[:-1]))

    violations = [found for found in imports if found.top in MODEL_LIBRARIES and not allowed(found)]
    assert not violations, _listed(violations)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(imports: list[Import], stage: str) -> None:
    others = set(STAGES) - {stage}
    violations = [found for found in imports if found.file.startswith(f"{stage}/") and found.room in others]
    assert not violations, _listed(violations)


@pytest.mark.parametrize("room", SHARED_ROOMS)
def test_a_shared_room_imports_no_stage_and_no_glue(imports: list[Import], room: str) -> None:
    above = {*STAGES, *GLUE, "platform", "chunk_reader", "materialization", "partitions", "settings", "engines"}
    violations = [found for found in imports if found.file.startswith(f"{room}/") and found.room in above]
    assert not violations, _listed(violations)


def test_clips_import_no_stage_and_only_their_own_door_the_glue(imports: list[Import]) -> None:
    above = {*STAGES, *GLUE, "platform", "chunk_reader", "materialization", "partitions", "settings", "engines"}
    doors = {"clips/assets.py", "clips/sensors.py", "clips/steps.py"}
    violations = [
        found
        for found in imports
        if found.file.startswith("clips/") and found.room in (above if found.file not in doors else {*STAGES, *GLUE})
    ]
    assert not violations, _listed(violations)


def test_stages_import_neither_the_command_line_nor_the_table_of_contents(imports: list[Import]) -> None:
    violations = [found for found in imports if found.file.startswith(STAGES) and found.room in GLUE]
    assert not violations, _listed(violations)


def test_cameras_are_the_lowest_module(imports: list[Import]) -> None:
    violations = [
        found for found in imports if found.file == "rendering/cameras.py" and found.room not in (None, "rendering")
    ]
    assert not violations, _listed(violations)


CORE_INSTALL = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
import lanepaint_assets.definitions
from lanepaint_assets.settings import Settings
definitions = lanepaint_assets.definitions.build(Settings(root={root!r}))
import dagster
dagster.Definitions.validate_loadable(definitions)
print(len(list(definitions.resolve_all_asset_specs())), "assets")
"""


def test_the_code_location_loads_from_a_core_install(tmp_path: Path) -> None:
    """Without the extra `cpu` a Dagster web server must still be able to show the graph."""
    script = CORE_INSTALL.format(blocked=CPU_LIBRARIES, root=str(tmp_path / "root"))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("assets")
    assert not (tmp_path / "root").exists(), "loading the code location must write nothing"
