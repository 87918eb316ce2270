"""Fingerprints are canonical: the same meaning gives the same digest, another meaning another one."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lanepaint_assets.store.fingerprint import canonical_json, data_version, fingerprint
from lanepaint_assets.store.manifest import ItemRow, Status

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PARAMS = st.dictionaries(st.text(max_size=5), JSON, max_size=4)
KEYS = st.from_regex(r"[a-z0-9_]{1,8}(/[a-z0-9_]{1,8})?", fullmatch=True)
DIGESTS = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)


def _shuffled(value, seed):
    if isinstance(value, dict):
        return {key: _shuffled(value[key], seed) for key in sorted(value, key=lambda key: hash((key, seed)))}
    return [_shuffled(member, seed) for member in value] if isinstance(value, list) else value


def _of(params, upstream=None, checkpoints=None, key="clip.front", asset="road_masks", engine="classical 1") -> str:
    return fingerprint(
        asset=asset, item_key=key, upstream=upstream or {}, engine=engine, params=params, checkpoints=checkpoints or {}
    )


@given(PARAMS, DIGESTS, DIGESTS, st.integers(0, 99))
def test_key_order_does_not_enter(params, upstream, checkpoints, seed) -> None:
    shuffled = _of(_shuffled(params, seed), _shuffled(upstream, seed), _shuffled(checkpoints, seed))
    assert shuffled == _of(params, upstream, checkpoints)


@given(PARAMS, PARAMS)
def test_different_parameters_give_different_fingerprints(first, second) -> None:
    assume(canonical_json(first) != canonical_json(second))
    assert _of(first) != _of(second)


@given(PARAMS, st.text(max_size=5), JSON, JSON)
def test_changing_one_value_changes_the_fingerprint(params, name, before, after) -> None:
    assume(canonical_json(before) != canonical_json(after))
    assert _of({**params, name: before}) != _of({**params, name: after})


def test_every_ingredient_enters_in_its_own_place() -> None:
    digests = [
        _of({"a": "1"}),
        _of({"a": 1}),
        _of({"a": True}),
        _of({"a": None}),
        _of({}),
        _of({}, upstream={"a": "1"}),
        _of({}, checkpoints={"a": "1"}),
        _of({}, key="clip.left"),
        _of({}, asset="vp_inputs"),
        _of({}, engine=None),
        _of({}, engine="None"),
    ]
    assert len(set(digests)) == len(digests)


@given(JSON)
def test_the_canonical_spelling_reads_back_as_the_same_value(value) -> None:
    assert json.loads(canonical_json(value)) == value


def test_whole_floats_are_spelled_as_integers_because_they_are_the_same_setting() -> None:
    assert _of({"fps": 8.0, "shift": -0.0}) == _of({"fps": 8, "shift": 0})
    assert _of({"fps": np.float64(0.1)}) == _of({"fps": 0.1})
    assert canonical_json(1e300) == "1e+300"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_with_its_place(value: float) -> None:
    with pytest.raises(ValueError, match=r"params\.masks\[1\]"):
        _of({"masks": [1.0, value]})


@pytest.mark.parametrize("value", [b"bytes", {1: "a"}, {"a"}, np.float32(1.5), object()])
def test_a_value_that_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"params\.a"):
        _of({"a": value})


def test_a_fingerprint_stays_what_it_was_in_earlier_releases() -> None:
    expected = "0336b09a5fd3389bede2f687540caf13f3d5a70f2d8011e5eed47c6d76c7b0b1"
    assert _of({"kernel_px": [5, 15], "name": "Straße"}, upstream={"raw_clips": "0" * 64}) == expected


def _row(key: str, status: Status = "ok", version: int = 1) -> ItemRow:
    reason = "broken" if status == "failed" else None
    return ItemRow(key=key, fingerprint=_of({"v": version}), status=status, reason=reason, run_id="r")


@given(st.permutations(["a", "b", "c/d"]))
def test_the_data_version_ignores_the_order_of_rows(order: list[str]) -> None:
    assert data_version(_row(key) for key in order) == data_version(_row(key) for key in ("a", "b", "c/d"))


def test_the_data_version_sees_key_fingerprint_and_status_and_nothing_else() -> None:
    base = data_version([_row("a"), _row("b")])
    assert data_version([_row("a"), _row("c")]) != base
    assert data_version([_row("a"), _row("b", version=2)]) != base
    assert data_version([_row("a"), _row("b", status="failed")]) != base
    assert data_version([_row("a")]) != base
    assert data_version([_row("a"), _row("b").model_copy(update={"run_id": "other", "timings_s": {"x": 1.0}})]) == base
