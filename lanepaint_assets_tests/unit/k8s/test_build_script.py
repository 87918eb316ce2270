"""`k8s/images/build.sh`: which images it builds, under which tags. Docker itself is not needed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from lanepaint_assets.jobs import JOB_OF_STAGES
from lanepaint_assets_tests.unit.k8s.dockerfile import TARGETS

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGES = REPOSITORY / "k8s" / "images"


def build(
    *options: str, folder: Path = REPOSITORY, path: str = os.environ["PATH"], **variables: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"STAGES", "TAG", "REGISTRY"}}
    return subprocess.run(
        [str(folder / "k8s/images/build.sh"), *options],
        env=kept | {"PATH": path} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def printed_images(*options: str, **variables: str) -> list[str]:
    done = build("--print", *options, **{"TAG": "t1"} | variables)
    assert done.returncode == 0, done.stderr
    words = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[line.index("--target") + 1] for line in words] == [
        line[line.index("--tag") + 1].rpartition("/")[2].partition(":")[0] for line in words
    ]
    return [line[line.index("--target") + 1] for line in words]


@pytest.mark.parametrize(
    ("stages", "images"),
    [
        ("1", ["orchestrator", "segmentation"]),
        ("2", ["orchestrator", "editing"]),
        ("3", ["orchestrator", "evaluation"]),
        ("12", ["orchestrator", "segmentation", "editing"]),
        ("23", ["orchestrator", "editing", "evaluation"]),
        ("123", ["orchestrator", "segmentation", "editing", "evaluation"]),
    ],
)
def test_only_the_images_of_the_selected_stages_are_built(stages: str, images: list[str]) -> None:
    assert stages in JOB_OF_STAGES
    assert printed_images(STAGES=stages) == images


def test_all_images_are_built_where_no_stages_are_selected() -> None:
    assert printed_images() == printed_images(STAGES="123") == list(TARGETS)


@pytest.mark.parametrize(
    ("variables", "options", "said"),
    [
        ({"STAGES": "13"}, [], "stages are 1, 2, 3, 12, 23 and 123"),
        ({"STAGES": "4"}, [], "STAGES=4 is not allowed"),
        ({"TAG": "latest"}, [], "a tag of its own"),
        ({}, ["--pus"], "unknown option --pus"),
    ],
)
def test_a_wrong_selection_is_refused_in_one_line(variables: dict[str, str], options: list[str], said: str) -> None:
    done = build("--print", *options, **{"TAG": "t1"} | variables)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of its own with the build's files, all committed."""
    folder = tmp_path / "checkout"
    shutil.copytree(IMAGES, folder / "k8s" / "images")
    (folder / "lanepaint_assets").mkdir()
    (folder / "lanepaint_assets" / "__init__.py").write_text("")
    shutil.copy(REPOSITORY / ".dockerignore", folder)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "All")
    return folder


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_an_image_is_tagged_with_the_commit_that_is_in_it(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    done = build("--print", folder=checkout, STAGES="1", REGISTRY="registry.example.org/lanepaint")
    assert done.stdout.count(f"GIT_COMMIT={commit}") == 2
    assert f"registry.example.org/lanepaint/segmentation:{commit[:12]}" in done.stdout


def test_uncommitted_work_needs_a_tag_of_its_own_and_claims_no_commit(checkout: Path) -> None:
    (checkout / "lanepaint_assets" / "new.py").write_text("")
    refused = build("--print", folder=checkout)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "uncommitted changes" in refused.stderr
    tagged = build("--print", folder=checkout, STAGES="3", TAG="trial")
    assert tagged.stdout.count("'GIT_COMMIT='") == 2


def test_files_outside_a_build_do_not_matter_for_its_tag(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("to do")
    assert build("--print", folder=checkout).returncode == 0


def test_docker_is_asked_for_one_image_after_the_other_and_a_failure_ends_it(checkout: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncase "$*" in *"--target editing"*) exit 3;; esac\n')
    docker.chmod(0o755)
    done = build("--push", folder=checkout, path=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 3
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split("--target ")[1].split()[0] for line in asked] == ["orchestrator", "segmentation", "editing"]
    assert all(line.startswith("buildx build --platform linux/amd64 ") and line.endswith(" --push .") for line in asked)
