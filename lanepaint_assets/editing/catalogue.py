"""The prompt catalogue: which edits exist, what they ask for, how people select them.

Called by the editing stage's assets, the command line and reports. The built-in prompts are in `edit_prompts.yaml`; a
person's own file adds to them. Checkpoints and LoRA files are not known here, only the lane style whose LoRA is wanted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from upath import UPath

from lanepaint_assets.editing.marking_standards import StandardName
from lanepaint_assets.lanes.attributes import Color, Count, LaneStyle, Pattern

BUILT_IN_FILE = Path(__file__).with_name("edit_prompts.yaml")

ROUNDTRIP = "roundtrip"
REPAINT_AS_MEASURED = "repaint_as_measured"

PromptKind = Literal["edit", "roundtrip", "repaint_as_measured"]


class CatalogueError(ValueError):
    """A catalogue file cannot be used; the message names file, prompt, field and what is allowed."""


class PromptSelectionError(ValueError):
    """A selection names prompts that the catalogue does not have; the message lists those it has."""


class _StyleEntry(BaseModel):
    """`style` as written in the file: what a painter can be asked for, without `unknown` and `mixed`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: Literal["single", "double"]
    color: Literal["white", "yellow"]
    pattern: Literal["solid", "dashed"]

    def lane_style(self) -> LaneStyle:
        return LaneStyle(Count(self.count), Color(self.color), Pattern(self.pattern))


class _PromptEntry(BaseModel):
    """One prompt as written in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=80)
    instruction: str = Field(min_length=1)
    style: _StyleEntry
    lora_style: str | None = Field(default=None, pattern=r"^(single|double)_(white|yellow)_(solid|dashed)$")
    marking_standard: StandardName | None = None

    @model_validator(mode="after")
    def _key_is_free(self) -> _PromptEntry:
        if self.key in (ROUNDTRIP, REPAINT_AS_MEASURED):
            raise ValueError(f"the key {self.key!r} is reserved for the built-in control prompt of that name")
        if self.key.isdecimal():
            raise ValueError(f"the key {self.key!r} would be read as a prompt's number; begin it with a word")
        return self


class _CatalogueFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: tuple[_PromptEntry, ...]


@dataclass(frozen=True)
class Prompt:
    """One edit that a clip can get.

    Attributes:
        key: names the item, `<clip_id>.<camera>/<key>`.
        number: 1, 2, ... in the catalogue's order, for selection; None for control prompts.
        kind: an edit, or one of the two controls.
        instruction: the wish in words.
        style: wanted style of every line; None for controls.
        lora_style: key of the lane style whose LoRA the painter loads; None for controls.
        marking_standard: preset of dash, gap and width; None leaves it to the platform's setting.
    """

    key: str
    number: int | None
    kind: PromptKind
    instruction: str
    style: LaneStyle | None
    lora_style: str | None
    marking_standard: StandardName | None

    @property
    def is_control(self) -> bool:
        return self.kind != "edit"

    def resolved_fields(self) -> dict[str, str | None]:
        """What a change of must recompute the prompt's items; the number is a handle for people and stays out."""
        return {
            "kind": self.kind,
            "instruction": self.instruction,
            "style": None if self.style is None else self.style.key,
            "lora_style": self.lora_style,
            "marking_standard": self.marking_standard,
        }


_CONTROLS = (
    Prompt(
        key=ROUNDTRIP,
        number=None,
        kind="roundtrip",
        instruction="Decode, composite and encode without painting: what the file's way through the platform does.",
        style=None,
        lora_style=None,
        marking_standard=None,
    ),
    Prompt(
        key=REPAINT_AS_MEASURED,
        number=None,
        kind="repaint_as_measured",
        instruction="Repaint every lane line in the style that was measured for it: what the painter itself does.",
        style=None,
        lora_style=None,
        marking_standard=None,
    ),
)


@dataclass(frozen=True)
class PromptCatalogue:
    """All prompts: edits by number, then the two controls."""

    prompts: tuple[Prompt, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over every prompt's key and fields, whatever their order."""
        content = {prompt.key: prompt.resolved_fields() for prompt in self.prompts}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def edits(self) -> tuple[Prompt, ...]:
        return tuple(p for p in self.prompts if not p.is_control)

    @property
    def controls(self) -> tuple[Prompt, ...]:
        return tuple(p for p in self.prompts if p.is_control)

    def __getitem__(self, key: str) -> Prompt:
        return self.select([key])[0]

    def select(self, wanted: Iterable[str | int] | None) -> tuple[Prompt, ...]:
        """The prompts that `wanted` names, each once, in the catalogue's order.

        Args:
            wanted: numbers (`1` or `"1"`) and keys, mixed as one likes; None or nothing selects every edit.

        Raises:
            PromptSelectionError: a number or key is not in the catalogue.

        Source: spec 3, `PROMPT_IDS`.
        """
        names = [str(name).strip() for name in wanted] if wanted is not None else []
        if not names:
            return self.edits
        by_name = {prompt.key: prompt for prompt in self.prompts}
        by_name |= {str(prompt.number): prompt for prompt in self.edits}
        missing = [name for name in names if name not in by_name]
        if missing:
            known = ", ".join([f"{p.number} {p.key}" for p in self.edits] + [p.key for p in self.controls])
            raise PromptSelectionError(f"no prompt {', '.join(map(repr, missing))} in the catalogue; it has: {known}")
        chosen = {by_name[name].key for name in names}
        return tuple(prompt for prompt in self.prompts if prompt.key in chosen)

    def called_for(self, wanted: Iterable[str | int] | None) -> tuple[Prompt, ...]:
        """What a run computes for a selection: the selected prompts and, always, both controls."""
        selected = {prompt.key for prompt in self.select(wanted)}
        return tuple(prompt for prompt in self.prompts if prompt.is_control or prompt.key in selected)


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a mapping with the same key twice, where plain YAML keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the field {key!r} stands twice in one entry", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_catalogue(path: str | None) -> PromptCatalogue:
    """The built-in prompts, extended by a person's own file.

    Args:
        path: local path or fsspec address of a file in the form of `edit_prompts.yaml`; None for the built-in ones
            alone. A prompt with the key of a built-in one replaces it and keeps its number; others follow.

    Raises:
        CatalogueError: the file cannot be read or used.
    """
    entries = {entry.key: entry for entry in _read(str(BUILT_IN_FILE))}
    if path is not None:
        entries |= {entry.key: entry for entry in _read(path)}
    edits = tuple(_prompt(entry, number) for number, entry in enumerate(entries.values(), start=1))
    return PromptCatalogue(edits + _CONTROLS)


def _prompt(entry: _PromptEntry, number: int) -> Prompt:
    style = entry.style.lane_style()
    return Prompt(
        key=entry.key,
        number=number,
        kind="edit",
        instruction=entry.instruction,
        style=style,
        lora_style=entry.lora_style or style.key,
        marking_standard=entry.marking_standard,
    )


def _read(path: str) -> tuple[_PromptEntry, ...]:
    try:
        text = UPath(path).read_text(encoding="utf-8")
    except OSError as error:
        raise CatalogueError(f"{path}: the prompt catalogue cannot be read: {error}") from error
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise CatalogueError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("prompts"), list):
        raise CatalogueError(f"{path}: expected a mapping with the list 'prompts', as in {BUILT_IN_FILE.name}")
    try:
        entries = _CatalogueFile.model_validate(content).prompts
    except ValidationError as error:
        raise CatalogueError(_explain(path, content["prompts"], error)) from error
    keys = [entry.key for entry in entries]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise CatalogueError(f"{path}: the key {', '.join(map(repr, twice))} is given to more than one prompt")
    return entries


def _explain(path: str, raw: list[Any], error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = problem["loc"]
        prompt, field = "", ".".join(str(part) for part in where)
        if len(where) >= 2 and where[0] == "prompts" and isinstance(where[1], int):
            entry = raw[where[1]]
            key = entry.get("key") if isinstance(entry, dict) else None
            prompt = f"prompt {where[1] + 1}" + (f" ({key})" if key else "")
            field = ".".join(str(part) for part in where[2:])
        named = ", ".join(part for part in (prompt, f"field {field!r}" if field else "") if part)
        given = "" if problem["type"] in ("missing", "value_error") else f", not {problem['input']!r}"
        lines.append(f"{path}: {named}: {problem['msg']}{given}")
    return "\n".join(lines)
