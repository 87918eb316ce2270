"""A Dockerfile as stages, and the rules that the images keep. Used by `test_images.py`.

Each rule returns what breaks it, a line each.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TARGETS = ("orchestrator", "segmentation", "editing", "evaluation")


@dataclass(frozen=True)
class Stage:
    """One FROM of a Dockerfile, with its (instruction, argument) pairs."""

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]

    def arguments(self, instruction: str) -> list[str]:
        return [argument for name, argument in self.instructions if name == instruction]

    @property
    def environment(self) -> dict[str, str]:
        words = (word for argument in self.arguments("ENV") for word in shlex.split(argument))
        return dict(word.split("=", 1) for word in words)


def read_stages(text: str) -> dict[str, Stage]:
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, lines.splitlines())):
        instruction, _, argument = line.partition(" ")
        if instruction == "FROM":
            base, _, name = argument.partition(" AS ")
            stages[name] = Stage(name, base, ())
        else:
            last = next(reversed(stages.values()))
            stages[last.name] = Stage(last.name, last.base, (*last.instructions, (instruction, argument.strip())))
    return stages


def ancestry(stages: dict[str, Stage], name: str) -> list[Stage]:
    """The stage and those that it is built upon."""
    stage = stages[name]
    return [stage, *(ancestry(stages, stage.base) if stage.base in stages else [])]


def commands(stages: dict[str, Stage]) -> Iterator[tuple[Stage, str]]:
    """Each shell command of each RUN."""
    for stage in stages.values():
        for script in stage.arguments("RUN"):
            for command in script.split("&&"):
                yield stage, re.sub(r"--mount=\S+ ", "", command).strip()


def unpinned_bases(stages: dict[str, Stage]) -> list[str]:
    exact = re.compile(r"[a-z0-9./-]+:\d+\.\d+\.\d+-[a-z0-9.-]+@sha256:[0-9a-f]{64}")
    return [
        f"{stage.name} is built on {stage.base}"
        for stage in stages.values()
        if stage.base not in stages and not exact.fullmatch(stage.base)
    ]


def loose_requirements(command: str) -> list[str]:
    """What a command installs without saying which version."""
    words = shlex.split(command)
    if "uv sync" in command:
        return [] if "--frozen" in words else ["the lock file is not held to"]
    if "install" not in words:
        return []
    named = [word for word in words[words.index("install") + 1 :] if not word.startswith("-")]
    if words[0] == "apt-get":
        return [word for word in named if not re.search(r"=(\d+:)?\d", word)]
    addresses = [word for word in named if " @ " in word]
    loose = [word for word in addresses if not re.search(r"@\$\w+_COMMIT$|#sha256=\$\w+_SHA256$", word)]
    if "--constraint constraints.txt" not in command:
        names = [word for word in named if word not in addresses and "/" not in word]
        loose += [word for word in names if not re.search(r"==\d[\d.]*$", word)]
    return loose


def unpinned_packages(stages: dict[str, Stage]) -> list[str]:
    found = [f"{stage.name}: {word}" for stage, command in commands(stages) for word in loose_requirements(command)]
    for stage in stages.values():
        for argument in stage.arguments("ARG"):
            name, _, value = argument.partition("=")
            if name.endswith("_COMMIT") and value and not re.fullmatch("[0-9a-f]{40}", value):
                found.append(f"{stage.name}: {argument} is no commit")
            if name.endswith("_SHA256") and not re.fullmatch("[0-9a-f]{64}", value):
                found.append(f"{stage.name}: {argument} is no digest")
    return found


def privileged_targets(stages: dict[str, Stage]) -> list[str]:
    found = []
    for name in TARGETS:
        last, argument = stages[name].instructions[-1]
        if last != "USER" or not re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", argument):
            found.append(f"{name} ends with {last} {argument}, not with a numeric user")
    return found


def targets_of_one_stage(stages: dict[str, Stage]) -> list[str]:
    brought = re.compile(r"--from=\S+-environment /opt/lanepaint /opt/lanepaint")
    return [
        f"{name} copies no environment from another stage"
        for name in TARGETS
        if not any(brought.fullmatch(argument) for argument in stages[name].arguments("COPY"))
    ]


def entry_points(stages: dict[str, Stage]) -> list[str]:
    return [stage.name for stage in stages.values() if stage.arguments("ENTRYPOINT") or stage.arguments("CMD")]


def additions(stages: dict[str, Stage]) -> list[str]:
    return [f"{stage.name}: ADD {argument}" for stage in stages.values() for argument in stage.arguments("ADD")]


def kept_package_lists(stages: dict[str, Stage]) -> list[str]:
    return [
        stage.name
        for stage in stages.values()
        for script in stage.arguments("RUN")
        if "apt-get" in script and "rm -rf /var/lib/apt/lists/*" not in script
    ]


def secrets(stages: dict[str, Stage]) -> list[str]:
    telling = re.compile(r"(?i)token|secret|passw|credential|api_?key|_key\b|netrc")
    return [
        f"{stage.name}: {instruction} {argument}"
        for stage in stages.values()
        for instruction, argument in stage.instructions
        if instruction in {"ARG", "ENV", "COPY"} and telling.search(argument)
    ]


def whole_context_copies(stages: dict[str, Stage]) -> list[str]:
    copies = [(stage.name, argument.split()) for stage in stages.values() for argument in stage.arguments("COPY")]
    return [f"{name}: COPY {' '.join(words)}" for name, words in copies if {".", "./"} & set(words[:-1])]


RULES: tuple[Callable[[dict[str, Stage]], list[str]], ...] = (
    unpinned_bases,
    unpinned_packages,
    privileged_targets,
    targets_of_one_stage,
    entry_points,
    additions,
    kept_package_lists,
    secrets,
    whole_context_copies,
)
