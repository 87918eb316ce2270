"""What becomes of a step whose pod is told to stop, with the functions that steps have on a cluster."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from lanepaint_assets import k8s_steps
from lanepaint_assets.definitions import build
from lanepaint_assets.settings import Settings

ON_CLUSTER = Settings(executor="k8s", root="gs://bucket", k8s_image="registry/{family}:1")


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Process ids of the attempts; nobody waits between them."""
    monkeypatch.setattr(k8s_steps, "WAIT_S", 0)
    monkeypatch.setattr(k8s_steps, "LOST_PODS", dg.RetryPolicy(max_retries=k8s_steps.LOST_PODS.max_retries))
    return []


def on_cluster(*assets: dg.AssetsDefinition) -> list[dg.AssetsDefinition]:
    return k8s_steps.placed(ON_CLUSTER, assets)


def stopped_once(attempts: list[int]) -> None:
    attempts.append(os.getpid())
    if len(attempts) == 1:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def plain(attempts: list[int]) -> dg.AssetsDefinition:
    @dg.asset
    def raw_clips() -> None:
        stopped_once(attempts)

    return raw_clips


def with_results_one_by_one(attempts: list[int]) -> dg.AssetsDefinition:
    @dg.multi_asset(specs=[dg.AssetSpec("road_masks"), dg.AssetSpec("vp_inputs")])
    def segmentation() -> Iterator[dg.MaterializeResult[None]]:
        yield dg.MaterializeResult(asset_key="road_masks")
        stopped_once(attempts)
        yield dg.MaterializeResult(asset_key="vp_inputs")

    return segmentation


@pytest.mark.parametrize("made_by", [plain, with_results_one_by_one])
def test_a_step_that_is_told_to_stop_is_tried_again(
    attempts: list[int], made_by: Callable[[list[int]], dg.AssetsDefinition]
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(on_cluster(made_by(attempts)), instance=instance, raise_on_error=False)

    assert result.success
    assert len(attempts) == 2


def test_a_step_that_fails_for_good_is_not_tried_again(attempts: list[int]) -> None:
    @dg.asset
    def raw_clips() -> None:
        attempts.append(1)
        raise dg.Failure("there are no clips", allow_retries=False)

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(on_cluster(raw_clips), instance=instance, raise_on_error=False)

    assert not result.success
    assert len(attempts) == 1


def with_endings(attempts: list[int], endings: Iterator[str]) -> dg.AssetsDefinition:
    """An asset whose attempts are told to stop, crash or end well, as the endings say."""

    @dg.asset
    def raw_clips() -> None:
        attempts.append(1)
        ending = next(endings)
        if ending == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        elif ending == "crash":
            raise RuntimeError("the machine is broken")

    return raw_clips


def test_a_crash_after_several_stops_is_tried_again(attempts: list[int]) -> None:
    made = with_endings(attempts, iter(["stop"] * (k8s_steps.CRASHED_PODS + 1) + ["crash", "stop", "crash", "well"]))

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(on_cluster(made), instance=instance, raise_on_error=False)

    assert result.success
    assert len(attempts) == k8s_steps.CRASHED_PODS + 5


def test_a_step_that_always_crashes_ends_after_few_attempts(attempts: list[int]) -> None:
    made = with_endings(attempts, itertools.chain(["stop"], itertools.repeat("crash")))

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(on_cluster(made), instance=instance, raise_on_error=False)

    assert not result.success
    # The first one was told to stop.
    assert len(attempts) == 1 + 1 + k8s_steps.CRASHED_PODS


def test_stops_and_crashes_together_come_to_an_end() -> None:
    assert k8s_steps.LOST_PODS.max_retries == k8s_steps.STOPPED_PODS + k8s_steps.CRASHED_PODS


def test_run_config_of_the_assets_is_the_same_on_a_cluster() -> None:
    def schema(executor: str) -> dict[str, object]:
        chosen = ON_CLUSTER.model_copy(update={"executor": executor})
        ops = build(chosen).resolve_job_def("master_pipeline").graph.node_defs
        return {op.name: op.config_schema.config_type.key for op in ops if isinstance(op, dg.OpDefinition)}

    assert schema("k8s") == schema("in_process")
