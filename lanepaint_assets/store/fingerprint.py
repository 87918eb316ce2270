"""Fingerprints of items and data versions of partitions: SHA-256 of canonical JSON.

Called by every stage before it asks for an item. Paths, run ids, hosts and times never enter.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pydantic import JsonValue

from lanepaint_assets.store.layout import check_item_key
from lanepaint_assets.store.manifest import ItemRow

NO_CHECKPOINTS: Mapping[str, str] = MappingProxyType({})


def fingerprint(
    *,
    asset: str,
    item_key: str,
    upstream: Mapping[str, str],
    engine: str | None,
    params: Mapping[str, JsonValue],
    checkpoints: Mapping[str, str] = NO_CHECKPOINTS,
) -> str:
    """Digest of everything that decides an item's content.

    Args:
        asset: the asset that holds the item.
        item_key: the item's key.
        upstream: fingerprint of every upstream item (or etag of a source file), by a name of the caller's choice.
        engine: engine and algorithm version, None for steps without one.
        params: settings and resolved prompt fields that affect the output.
        checkpoints: digest of every checkpoint that the engine reads; empty for CPU engines.

    Returns:
        64 lower-case hex digits.

    Raises:
        ValueError: a value is not JSON, or is NaN or infinite.
    """
    return _digest(
        {
            "asset": asset,
            "item_key": check_item_key(item_key),
            "upstream": upstream,
            "engine": engine,
            "params": params,
            "checkpoints": checkpoints,
        }
    )


def data_version(rows: Iterable[ItemRow]) -> str:
    """Data version of a partition: digest over the sorted (key, fingerprint, status) of its called-for rows."""
    return _digest(sorted([row.key, row.fingerprint, row.status] for row in rows))


def canonical_json(value: object) -> str:
    """The one spelling of a JSON value: sorted keys, no spaces, ASCII, whole floats spelled as integers.

    8 and 8.0 are the same setting and 0.0 and -0.0 the same number, so they are spelled alike; True is not 1.

    Raises:
        ValueError: the value is not JSON, or holds NaN or an infinity; the message says where.
    """
    return json.dumps(_canonical(value, "value"), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _canonical(value: object, where: str) -> JsonValue:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: only finite numbers can be stored")
        # float() drops numpy's subclass of float; below 2**53 every whole float is one integer.
        return int(value) if value.is_integer() and abs(value) < 2**53 else float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}: only text can be a key")
        return {key: _canonical(member, f"{where}.{key}") for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(member, f"{where}[{index}]") for index, member in enumerate(value)]
    raise ValueError(f"{where} is a {type(value).__name__}: only JSON values can be stored")


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()
