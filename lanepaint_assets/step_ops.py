"""An asset with another op beneath it: Dagster takes pool, tags and retries only where an op is made.

Called by `automation.py` (pools) and `k8s_steps.py` (pods). Which asset gets what is theirs.
"""

from __future__ import annotations

from typing import Any

import dagster as dg


def with_op(asset: dg.AssetsDefinition, **changes: Any) -> dg.AssetsDefinition:
    """The asset with its op made again, changed in some of its arguments; as it is where no function lies beneath it.

    Args:
        asset: to be changed.
        changes: arguments of `dagster.OpDefinition`.
    """
    op = asset.node_def
    if not isinstance(op, dg.OpDefinition):
        return asset
    arguments: dict[str, Any] = {
        "name": op.name,
        "compute_fn": op.compute_fn,
        "description": op.description,
        "ins": {definition.name: dg.In.from_definition(definition) for definition in op.input_defs},
        "outs": {definition.name: dg.Out.from_definition(definition) for definition in op.output_defs},
        "config_schema": op.config_schema,
        "required_resource_keys": set(op.required_resource_keys),
        "tags": op.tags,
        "retry_policy": op.retry_policy,
        "pool": op.pool,
    }
    made = dg.OpDefinition(**{**arguments, **changes})
    return dg.AssetsDefinition.dagster_internal_init(**{**asset.get_attributes_dict(), "node_def": made})
