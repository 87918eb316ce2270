"""Sensor that finds new chunks in the source. Off until a person turns it on."""

import dagster as dg

from lanepaint_assets.partitions import register_chunks
from lanepaint_assets.platform import Platform

# A tick must end well within the daemon's limit of a minute, and a first look at a large bucket must not request
# thousands of runs at once.
CHUNKS_PER_TICK = 10
INTERVAL_S = 300


def build_sensors() -> list[dg.SensorDefinition]:
    """The sensors of this stage."""

    @dg.sensor(
        name="new_chunks",
        job_name="master_pipeline",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Registers new chunks of the source as partitions and runs master_pipeline for each.",
    )
    def new_chunks(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        added = register_chunks(platform, context.instance, limit=CHUNKS_PER_TICK)
        if not added:
            return dg.SkipReason(f"no new chunk in {platform.settings.source_address}")
        return dg.SensorResult(
            run_requests=[dg.RunRequest(run_key=f"new_chunks:{key}", partition_key=key) for key in added]
        )

    return [new_chunks]
