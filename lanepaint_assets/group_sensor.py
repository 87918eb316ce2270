"""The sensor of a group of conditions: a daemon that is killed in any moment repeats nothing and loses nothing.

Built by `automation.build_sensors`. What is requested is the conditions' business, not this module's.

Dagster notes a tick's requests before it submits them, and submits the rest when it is started again. Two things are
missing where conditions are evaluated in the code server (`SensorLaunchContext._write` of `dagster/_daemon/sensor.py`):

- The note leaves out the cursor, and a tick that was resumed clears the stored one. All that the conditions remembered
  would be gone, changes that wait for their turn among it.
- A backfill that was submitted just before is submitted again and refused, which fails the tick. It is evaluated anew
  with the cursor from before its requests, which would be made a second time.

So an evaluation with requests also puts its own cursor into the instance, beside a mark that its requests carry as a
tag. Whether they were submitted is read from the runs and backfills; that decides which cursor the next one goes on
with. A tick makes one request at most, so that no part of it can be left over.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from hashlib import sha256
from operator import or_
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster_shared.record import replace

# Which evaluation asked for a run or a backfill.
REQUEST_TAG = "lanepaint/request"

# Newest ones among which an evaluation's is looked for. It was entered by the last tick; since then came at most what a
# person and the sensors of other groups started.
_BACKFILLS = 100


@dataclass(frozen=True)
class LastRequest:
    """The latest evaluation that requested anything.

    Attributes:
        mark: value of `REQUEST_TAG` on what it requested.
        stored: digest of the cursor that Dagster had stored then; None where it had none.
        before: the cursor that it started with; another one where the evaluation before had been interrupted too.
        after: the cursor that it came to.
    """

    mark: str
    stored: str | None
    before: str | None
    after: str


class GroupSensor(dg.AutomationConditionSensorDefinition):
    """An automation sensor that knows after a crash how far it had come."""

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> SensorExecutionData:
        """Called by Dagster in the code server once a tick; returns one request at most."""
        cursor = self._cursor(context)
        if cursor == context.cursor:
            tick = super().evaluate_tick(context)
        else:
            context.log.warning("A tick was interrupted after its request was submitted; going on from there.")
            with dg.build_sensor_context(
                instance=context.instance,
                cursor=cursor,
                repository_name=context.repository_name,
                repository_def=context.repository_def,
                sensor_name=self.name,
            ) as resumed:
                tick = super().evaluate_tick(resumed)
        if not tick.run_requests or tick.cursor is None or context.repository_def is None:
            return tick
        mark = uuid.uuid4().hex
        self._remember(context.instance, LastRequest(mark, _digest(context.cursor), cursor, tick.cursor))
        request = as_one_request(tick.run_requests, context.repository_def.asset_graph)
        return replace(tick, run_requests=[request.with_replaced_attrs(tags={**request.tags, REQUEST_TAG: mark})])

    def _cursor(self, context: dg.SensorEvaluationContext) -> str | None:
        """The stored cursor, or where the interrupted evaluation before began or ended."""
        last = self._last_request(context.instance)
        if last is None or (context.cursor is not None and _digest(context.cursor) != last.stored):
            return context.cursor
        return last.after if was_submitted(context.instance, last.mark) else last.before

    @property
    def _key(self) -> str:
        return f"lanepaint/last_request/{self.name}"

    def _last_request(self, instance: dg.DagsterInstance) -> LastRequest | None:
        stored = instance.daemon_cursor_storage.get_cursor_values({self._key}).get(self._key)
        return None if stored is None else LastRequest(**json.loads(stored))

    def _remember(self, instance: dg.DagsterInstance, request: LastRequest) -> None:
        instance.daemon_cursor_storage.set_cursor_values({self._key: json.dumps(asdict(request))})


def was_submitted(instance: dg.DagsterInstance, mark: str) -> bool:
    """Whether the instance has the run or the backfill of an evaluation."""
    if instance.get_run_ids(dg.RunsFilter(tags={REQUEST_TAG: mark}), limit=1):
        return True
    # Not by a filter of tags: databases that were not migrated look for them at a backfill's runs, which may be none.
    return any(backfill.tags.get(REQUEST_TAG) == mark for backfill in instance.get_backfills(limit=_BACKFILLS))


def as_one_request(requests: Sequence[dg.RunRequest], graph: BaseAssetGraph[Any]) -> dg.RunRequest:
    """A single request as it is; several as one backfill of all their partitions, with the tags that they share.

    Args:
        requests: of one evaluation: runs of one partition, or backfills.
        graph: the assets.
    """
    if len(requests) == 1:
        return requests[0]
    wanted = [
        request.asset_graph_subset
        or AssetGraphSubset.from_asset_partition_set(
            {AssetKeyPartitionKey(key, request.partition_key) for key in request.asset_selection or ()}, graph
        )
        for request in requests
    ]
    shared = set.intersection(*(set(request.tags.items()) for request in requests))
    return dg.RunRequest.for_asset_graph_subset(reduce(or_, wanted), tags=dict(shared))


def _digest(cursor: str | None) -> str | None:
    return None if cursor is None else sha256(cursor.encode()).hexdigest()
