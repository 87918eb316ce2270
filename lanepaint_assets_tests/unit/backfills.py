"""Backfills as they are entered when a person starts them; none of them launches a run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemotePartitionSetOrigin,
    RemoteRepositoryOrigin,
)


def backfill_of_job(
    job: str, chunks: Sequence[str], *, launched: str | None = None, name: str = "of_a_job"
) -> PartitionBackfill:
    """A backfill of a job by its name, which has launched its runs up to one chunk.

    Args:
        launched: the chunk; None where the daemon has not come to the backfill yet.
    """
    return PartitionBackfill(
        backfill_id=name,
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=time.time(),
        partition_set_origin=RemotePartitionSetOrigin(
            repository_origin=RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("lanepaint"), "__repository__"),
            partition_set_name=f"{job}_partition_set",
        ),
        partition_names=list(chunks),
        last_submitted_partition_name=launched,
    )
