"""Dagster's daemon, which kills itself with SIGKILL right after a chosen write.

Started by `test_automation_servers.py` as `dying_daemon.py MOMENT SENSOR run -w WORKSPACE`. Between two writes of a
tick lie milliseconds that no test hits from outside; all but the moment of death is the daemon that Dagster ships.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.schedules.sql_schedule_storage import SqlScheduleStorage
from dagster._daemon.cli import main


@dataclass(frozen=True)
class Moment:
    """When the daemon dies.

    Attributes:
        write: the method that has just returned.
        of: whether its argument is the one that is meant.
        owner: the class whose method it is.
    """

    write: str
    of: Callable[[Any], bool] = lambda _: True
    owner: type[Any] = dg.DagsterInstance


def _reserved(tick: Any) -> bool:
    return bool(tick.tick_data.reserved_run_ids) and not tick.run_ids


def _requested(tick: Any) -> bool:
    return tick.status is TickStatus.SUCCESS and bool(tick.run_ids)


def _looked(state: Any) -> bool:
    return state.instigator_data.last_tick_success_timestamp is not None


# In the order in which they come; those of ticks are the first tick of a sensor that asks for something.
MOMENTS: Mapping[str, Moment] = {
    "look_begun": Moment("create_tick"),
    "look_noted": Moment("add_auto_materialize_asset_evaluations", owner=SqlScheduleStorage),
    "requests_reserved": Moment("update_tick", _reserved),
    "backfill_entered": Moment("add_backfill"),
    "tick_finished": Moment("update_tick", _requested),
    "cursor_written": Moment("update_instigator_state", _looked),
    "runs_planned": Moment("update_backfill", lambda backfill: bool(backfill.submitting_run_requests)),
    "run_created": Moment("create_run"),
    "run_queued": Moment("submit_run"),
    "run_starting": Moment("report_dagster_event", lambda event: event.event_type_value == "PIPELINE_STARTING"),
    "run_launched": Moment("launch_run", owner=DefaultRunLauncher),
}


def die_at(moment: Moment, sensor: str) -> None:
    """Have this process killed at the moment; where ticks or states are written, at one of this sensor."""
    original = getattr(moment.owner, moment.write)

    def write(self: object, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        written = args[0] if args else None
        if getattr(written, "instigator_name", sensor) == sensor and moment.of(written):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(moment.owner, moment.write, write)


if __name__ == "__main__":
    die_at(MOMENTS[sys.argv.pop(1)], sys.argv.pop(1))
    main()
