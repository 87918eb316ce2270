"""What was last reported of each observed asset: the version in force, and what keeps a newer one back.

Called by the observations of checkpoints and of the prompt catalogue, and by `lanepaint doctor`. One small file an
asset, `ROOT/observed/<asset>.json`, so that every process and every Dagster instance on this store tells the same. How
a version is found does not belong here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from lanepaint_assets.store.artifacts import ArtifactStore
from lanepaint_assets.store.replace import AtomicFile, atomic_file

ABSENT: Final = "absent"
"""Version of something that is not there, or of which nothing usable was ever seen."""


@dataclass(frozen=True)
class Found:
    """What one look at an asset came to.

    Attributes:
        mark: of everything that was looked at; another mark means that another look is worth its time.
        version: to be published; None keeps the one in force.
        problem: why nothing is published, in words for people; None where all is well.
        due: when another look is worth its time though the mark stays; None for never.
    """

    mark: str
    version: str | None
    problem: str | None = None
    due: datetime | None = None


class Observed(BaseModel):
    """What is in force after a look.

    Attributes:
        version: the data version that was last published.
        published: when it became the one in force.
        problem: why a newer state is kept back; None where `version` is what is there.
        since: when the first look found a state that had to be kept back.
        mark, due: see `Found`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    published: datetime
    problem: str | None
    since: datetime | None
    mark: str
    due: datetime | None


def last_observed(store: ArtifactStore, asset: str) -> Observed | None:
    """What the last look left behind; None before the first one."""
    return _parsed(_file(store, asset).read())


def record_observed(store: ArtifactStore, asset: str, found: Found, now: datetime) -> Observed:
    """Enter a look, in one atomic step.

    Raises:
        StoreError: the file system cannot do that.
    """

    def change(content: bytes | None) -> bytes:
        return _merged(_parsed(content), found, now).model_dump_json(indent=1).encode()

    return Observed.model_validate_json(_file(store, asset).update(change))


def _merged(last: Observed | None, found: Found, now: datetime) -> Observed:
    version = found.version if found.version is not None else (last.version if last else ABSENT)
    kept = last is not None and last.version == version
    since = None
    if found.problem is not None:
        since = last.since if last is not None and last.since is not None else now
    return Observed(
        version=version,
        published=last.published if last is not None and kept else now,
        problem=found.problem,
        since=since,
        mark=found.mark,
        due=found.due,
    )


def _parsed(content: bytes | None) -> Observed | None:
    """A file that cannot be read is as good as none: all of it can be found anew."""
    if content is None:
        return None
    try:
        return Observed.model_validate_json(content)
    except ValidationError:
        return None


def _file(store: ArtifactStore, asset: str) -> AtomicFile:
    return atomic_file(store.root / "observed" / f"{asset}.json")
