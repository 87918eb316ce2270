"""What was last reported of an observed asset: a problem keeps the version before, and counts from its start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.observed import ABSENT, Found, Observed, _merged, last_observed, record_observed

START = datetime(2026, 5, 1, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def test_a_version_stays_in_force_while_newer_states_have_problems(store: ArtifactStore) -> None:
    assert last_observed(store, "flux") is None
    assert record_observed(store, "flux", Found("a", "v1"), at(0)).version == "v1"
    first = record_observed(store, "flux", Found("b", None, "half copied"), at(5))
    assert (first.version, first.published, first.problem, first.since) == ("v1", at(0), "half copied", at(5))
    second = record_observed(store, "flux", Found("c", None, "gives NaN", at(60)), at(10))
    assert (second.version, second.problem, second.since, second.due) == ("v1", "gives NaN", at(5), at(60))
    assert last_observed(store, "flux") == second
    mended = record_observed(store, "flux", Found("d", "v2"), at(15))
    assert (mended.version, mended.published, mended.problem, mended.since) == ("v2", at(15), None, None)
    assert record_observed(store, "flux", Found("d", "v2"), at(20)).published == at(15)


def test_before_anything_was_usable_the_version_is_absent(store: ArtifactStore) -> None:
    state = record_observed(store, "flux", Found("a", None, "half copied"), at(0))
    assert (state.version, state.since) == (ABSENT, at(0))


def test_a_state_that_cannot_be_read_is_found_anew(store: ArtifactStore) -> None:
    path = store.root / "observed" / "flux.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{half")
    assert record_observed(store, "flux", Found("a", "v1"), at(0)).version == "v1"


LOOKS = st.lists(
    st.tuples(st.sampled_from(["v1", "v2", None]), st.integers(0, 5)).map(
        lambda drawn: Found("m", drawn[0], None if drawn[0] else f"problem {drawn[1]}")
    ),
    min_size=1,
    max_size=12,
)


@given(LOOKS)
def test_what_is_in_force_is_always_the_last_version_without_a_problem(looks: list[Found]) -> None:
    state: Observed | None = None
    for minute, found in enumerate(looks):
        state = _merged(state, found, at(minute))
    assert state is not None
    good = [found.version for found in looks if found.problem is None]
    assert state.version == (good[-1] if good else ABSENT)
    assert (state.since is None) == (looks[-1].problem is None)
    if state.since is not None:
        trailing = next((n for n, found in enumerate(reversed(looks)) if found.problem is None), len(looks))
        assert state.since == at(len(looks) - trailing)
