"""Steps as pods: where `LANEPAINT_EXECUTOR=k8s`, every asset's step says what it needs and outlives its first pod.

Called by `definitions.py` for all assets at once, after `automation.py`. What steps need is in `k8s_profiles.py`;
nothing that knows a single asset belongs here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.definitions.decorators.op_decorator import DecoratedOpFunction
from dagster._core.errors import DagsterExecutionInterruptedError

from lanepaint_assets.k8s_profiles import observation_config, step_config
from lanepaint_assets.settings import Settings
from lanepaint_assets.step_ops import with_op

# A pod that is lost without a word (a broken machine, too much memory) leaves its finished items, and the step goes on
# with the others. What fails for good says so (`allow_retries`) and is not tried again.
CRASHED_PODS = 4
# A pod that is told to stop finishes what it can. Spot nodes are taken away once a day and more, and steps take up to
# four days; no attempt is lost work.
STOPPED_PODS = 20
# A minute later there may be another node.
WAIT_S = 60
# Dagster counts both in one number, so its limit has to be that of both: with less, the first crash after a few stops
# would be the last. Crashes alone are counted by the step itself, at its start. A pod that never gets that far (its
# image is gone) has no other limit than this one and the longest time of a run (k8s/values.yaml).
LOST_PODS = dg.RetryPolicy(max_retries=STOPPED_PODS + CRASHED_PODS, delay=WAIT_S)

# How the event log tells a stop from a crash: by the cause of the retry.
_INTERRUPT = DagsterExecutionInterruptedError.__name__


def placed(settings: Settings, assets: Sequence[Any]) -> list[Any]:
    """On a cluster, assets whose steps say what they need of it; those that make something outlive their first pod."""
    if settings.executor != "k8s":
        return list(assets)
    return [_on_cluster(settings, asset) if isinstance(asset, dg.AssetsDefinition) else asset for asset in assets]


def _on_cluster(settings: Settings, asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    op = asset.node_def
    if not isinstance(op, dg.OpDefinition):
        return asset
    if not asset.is_materializable:
        # Without its own it would run with the launcher's rights: some in Kubernetes, and none in most of the bucket.
        return with_op(asset, tags={**op.tags, "dagster-k8s/config": observation_config()})
    return with_op(
        asset,
        compute_fn=_tried_again_when_stopped(op.compute_fn),
        tags={
            **op.tags,
            "dagster-k8s/config": step_config(settings, sorted(key.to_user_string() for key in asset.keys)),
        },
        retry_policy=LOST_PODS,
    )


def _tried_again_when_stopped(compute: Any) -> Any:
    """A step's function that asks for another attempt when SIGTERM ends it. Dagster counts an interrupt as a failure.

    Where a person cancelled the run, nobody listens any more, and no other attempt is made. An attempt after more than
    `CRASHED_PODS` crashes fails for good before it does anything.
    """
    if not isinstance(compute, DecoratedOpFunction):
        return compute
    function = compute.decorated_fn

    @contextmanager
    def another_attempt() -> Iterator[None]:
        _refuse_after_crashes(dg.OpExecutionContext.get())
        try:
            yield
        except DagsterExecutionInterruptedError as stopped:
            raise dg.RetryRequested(max_retries=STOPPED_PODS + CRASHED_PODS, seconds_to_wait=WAIT_S) from stopped

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def tried(*given: Any, **named: Any) -> Any:
            with another_attempt():
                yield from function(*given, **named)
    else:

        @functools.wraps(function)
        def tried(*given: Any, **named: Any) -> Any:
            with another_attempt():
                return function(*given, **named)

    return DecoratedOpFunction(tried)


def _refuse_after_crashes(context: dg.OpExecutionContext) -> None:
    """Ends a step that crashed too often, however often it was told to stop in between.

    Raises:
        dagster.Failure: this run's attempts at the step ended in more than `CRASHED_PODS` crashes or errors.
    """
    if not context.retry_number:
        return
    step = context.get_step_execution_context().step.key
    retries = context.instance.all_logs(context.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    events = [entry.dagster_event for entry in retries if entry.step_key == step]
    crashes = sum(event is not None and not _was_told_to_stop(event) for event in events)
    if crashes > CRASHED_PODS:
        raise dg.Failure(f"{crashes} attempts crashed; the events of this step say how", allow_retries=False)


def _was_told_to_stop(retry: dg.DagsterEvent) -> bool:
    error = retry.step_retry_data.error
    return error is not None and error.cause is not None and error.cause.cls_name == _INTERRUPT
