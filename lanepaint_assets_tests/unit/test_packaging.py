"""What `pip install` brings: every requirement is pinned, and the base install stays free of torch."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
CORE: list[str] = PROJECT["dependencies"]

# Packages of several gigabytes that a laptop must not get by asking for the CPU engines or the UI.
MODEL_LIBRARIES = {"torch", "torchvision", "diffusers", "transformers", "accelerate", "triton", "sam2"}


def read_pins(text: str) -> dict[str, Version]:
    pins: dict[str, Version] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            assert canonicalize_name(name) not in pins, f"{name} is pinned twice"
            pins[canonicalize_name(name)] = Version(version)
    return pins


PINS = read_pins((REPOSITORY / "constraints.txt").read_text())


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of all distributions that `requirements` pull in, as far as they are installed here."""
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [Requirement(text) for text in requirements]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        found.add(name)
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        for text in needed:
            further = Requirement(text)
            contexts = [{"extra": extra} for extra in ("", *requirement.extras)]
            if further.marker is None or any(further.marker.evaluate(context) for context in contexts):
                queue.append(further)
    return found


@pytest.mark.parametrize("text", sorted({*CORE, *(text for extra in EXTRAS.values() for text in extra)}))
def test_every_requirement_has_a_pin_that_satisfies_it(text: str) -> None:
    requirement = Requirement(text)
    pin = PINS.get(canonicalize_name(requirement.name))
    assert pin is not None, f"constraints.txt has no pin for {requirement.name}; its head says how it is renewed"
    assert requirement.specifier.contains(pin), f"the pin {requirement.name}=={pin} does not satisfy {text}"


def test_whatever_the_installed_extras_pull_in_is_pinned() -> None:
    pulled = closure([*CORE, *EXTRAS["cpu"], *EXTRAS["ui"], *EXTRAS["test"]])
    assert {"numpy", "grpcio", "starlette", "iniconfig"} <= pulled  # the walk goes below the first level
    assert pulled - set(PINS) == set()


def test_neither_core_nor_cpu_nor_ui_pulls_in_a_model_library() -> None:
    assert closure([*CORE, *EXTRAS["cpu"], *EXTRAS["ui"]]) & MODEL_LIBRARIES == set()


def test_dagsters_packages_are_pinned_to_one_release() -> None:
    pins = {pin for name, pin in PINS.items() if name.startswith("dagster")}
    release = PINS["dagster"]
    # The libraries count 0.(16 + minor).micro beside the core's 1.minor.micro.
    assert pins == {release, Version(f"0.{release.minor + 16}.{release.micro}")}


def test_constraints_name_versions_only() -> None:
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
