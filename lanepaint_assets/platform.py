"""The one object that asset code is given: settings, store, source and engines of a run.

Built by `definitions.py` (the real one) and by tests (with overrides). Engines are built at first use, once a
process, so that a step which reuses everything loads nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import JsonValue
from upath import UPath

from lanepaint_assets.checkpoints.digest import CHECKPOINT_FOLDERS
from lanepaint_assets.engines import EngineEntry, Role, chosen_engine, engine_named, file_of
from lanepaint_assets.settings import Settings

if TYPE_CHECKING:
    from lanepaint_assets.checkpoints.known_digests import KnownDigests
    from lanepaint_assets.clips.sources import ClipSource
    from lanepaint_assets.editing.catalogue import PromptCatalogue
    from lanepaint_assets.editing.engine import FirstFramePainter, VideoPainter
    from lanepaint_assets.evaluation.driver import Driver
    from lanepaint_assets.lanes.inspector import LaneInspector
    from lanepaint_assets.segmentation.engine import RoadSegmenter
    from lanepaint_assets.store.artifacts import ArtifactStore
    from lanepaint_assets.store.items import Progress

T = TypeVar("T")

# Told (asset, items done, items to compute, item just done); first with 0 done.
ProgressListener = Callable[[str, int, int, str], None]

# Clips held for the next prompt or the next step of the same process. With its frames (156 MB for 100 of 960x540) and
# what the painter learnt of it, a clip takes about half a gigabyte there, 2 GB at 1080p.
MEMORY_SLOTS = 4


class Memory:
    """A small least-recently-used memory of expensive per-clip values, safe to ask from several threads.

    The first part of a key is the kind of value; each kind has its own slots. Two threads that ask for the same key
    compute it once.
    """

    def __init__(self, slots: int = MEMORY_SLOTS) -> None:
        self._slots = slots
        self._values: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._locks: dict[tuple[str, ...], threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """The value under `key`, made by `make` if it is not held."""
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            with self._guard:
                if key in self._values:
                    self._values.move_to_end(key)
                    held: T = self._values[key]
                    return held
            value = make()
            with self._guard:
                self._values[key] = value
                alike = [held_key for held_key in self._values if held_key[0] == key[0]]
                for evicted in alike[: -self._slots]:
                    del self._values[evicted]
                    self._locks.pop(evicted, None)
            return value


@dataclass(frozen=True)
class Verifier:
    """An inspector that may judge an edit, not loaded yet.

    Attributes:
        label: its name and version.
        checkpoints: digests of the checkpoints that it reads, by asset.
        deciding: the settings that change its answers.
        load: gives the inspector, built once a process.
    """

    label: str
    checkpoints: Mapping[str, str]
    deciding: Mapping[str, JsonValue]
    load: Callable[[], LaneInspector]


class Platform:
    """Settings, store, source and engines.

    Args:
        settings: as read from the environment.
        store: given by tests; otherwise opened at `settings.root`.
        progress: told of every finished item; by default `run_items` draws its own bar on a terminal.
        **engines: ready engines by role, given by tests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: ArtifactStore | None = None,
        progress: ProgressListener | None = None,
        **engines: object,
    ) -> None:
        self.settings = settings
        self._listeners: list[ProgressListener] = [] if progress is None else [progress]
        # Every worker is at a clip of its own while the next ones are loaded.
        self.memory = Memory(max(MEMORY_SLOTS, settings.workers + 1))
        self._given_store = store
        self._engines: dict[str, object] = dict(engines)
        self._built: dict[str, object] = {}
        self._sources: dict[str, ClipSource] = {}
        self._guard = threading.Lock()

    @cached_property
    def store(self) -> ArtifactStore:
        """Where items are."""
        from lanepaint_assets.store.artifacts import ArtifactStore

        root = str(self.settings.local_root) if self.settings.is_local else self.settings.root
        return self._given_store or ArtifactStore(root)

    @cached_property
    def catalogue(self) -> PromptCatalogue:
        """The edit prompts in force."""
        from lanepaint_assets.editing.catalogue import load_catalogue

        return load_catalogue(self.settings.prompt_file)

    @property
    def source_address(self) -> str:
        """Address of the source in the settings, as memberships keep it."""
        return _absolute(self.settings.source_address)

    def source(self, address: str | None = None) -> ClipSource:
        """The clip source at `address`, by default the one in the settings."""
        from lanepaint_assets.clips.sources import open_source

        wanted = self.source_address if address is None else _absolute(address)
        with self._guard:
            if wanted not in self._sources:
                self._sources[wanted] = open_source(wanted, self.settings.cameras)
            return self._sources[wanted]

    def entry(self, role: Role) -> EngineEntry:
        """Name and version of the engine of a role, without loading it."""
        return chosen_engine(self.settings, role)

    def checkpoint_digests(self, *roles: Role) -> dict[str, str]:
        """Digest of every checkpoint that each role's engine reads, by asset; nothing for CPU engines.

        Raises:
            CheckpointError: a file is not there.
        """
        return {asset: digest for role in roles for asset, digest in self._digests(self.entry(role)).items()}

    def deciding_settings(self, *roles: Role) -> dict[str, JsonValue]:
        """The settings that change the results of each role's engine; none for CPU engines."""
        return self._deciding(*(self.entry(role) for role in roles))

    def verifier(self, refined_by: str | None) -> Verifier | None:
        """The inspector that judges edits which another one has refined.

        Args:
            refined_by: name of that one, None where an edit was not refined here.

        Returns:
            The one that the settings name, else `measured`; None where neither is at hand and a different one.
        """
        from lanepaint_assets.checkpoints.files import CheckpointError

        for name in dict.fromkeys((self.settings.verifying_inspector, "measured")):
            if name == refined_by:
                continue
            entry = engine_named("inspector", name)
            try:
                digests = self._digests(entry)
            except CheckpointError:
                continue
            return Verifier(entry.label, digests, self._deciding(entry), partial(self._inspector_of, entry))
        return None

    def _digests(self, entry: EngineEntry) -> dict[str, str]:
        return {checkpoint.asset: self.checkpoint_digest(checkpoint.asset) for checkpoint in entry.checkpoints}

    def checkpoint_digest(self, asset: str) -> str:
        """The digest of a checkpoint's contents, which fingerprints hold.

        Raises:
            CheckpointError: it is not there.
        """
        return self.known_digests(asset).digest(self.mounted_checkpoint(asset), file_of(asset, self.settings))

    def known_digests(self, asset: str) -> KnownDigests:
        """What is known of the contents of a checkpoint, without reading them."""
        from lanepaint_assets.checkpoints.known_digests import KnownDigests

        return KnownDigests(self.store, asset, self.settings.cache_folder)

    def _deciding(self, *entries: EngineEntry) -> dict[str, JsonValue]:
        names = sorted(name for entry in entries for name in entry.deciding.values())
        return {name: getattr(self.settings, name) for name in names}

    def _inspector_of(self, entry: EngineEntry) -> LaneInspector:
        if entry == self.entry("inspector"):
            return self.inspector
        with self._guard:
            return cast("LaneInspector", self._build(entry))

    def checkpoint_folder(self, asset: str) -> UPath:
        """Where a checkpoint is observed, or belongs."""
        return self.store.root / "checkpoints" / CHECKPOINT_FOLDERS[asset]

    def mounted_checkpoint(self, asset: str) -> UPath:
        """Where engines read a checkpoint: a mount or copy of this machine where the settings name one."""
        mount = self.settings.checkpoints_mount
        return self.checkpoint_folder(asset) if mount is None else UPath(mount) / CHECKPOINT_FOLDERS[asset]

    @contextmanager
    def told(self, listener: ProgressListener) -> Iterator[Platform]:
        """Within the context, also tell `listener` of every finished item."""
        self._listeners.append(listener)
        try:
            yield self
        finally:
            self._listeners.remove(listener)

    def progress_for(self, asset: str) -> Progress | None:
        """What `run_items` tells of one asset's items, or None where nobody listens."""
        if not self._listeners:
            return None

        def tell(done: int, total: int, label: str) -> None:
            for listener in tuple(self._listeners):
                listener(asset, done, total, label)

        return tell

    @property
    def segmenter(self) -> RoadSegmenter:
        """The road segmenter, built once."""
        return cast("RoadSegmenter", self._engine("segmenter"))

    @property
    def first_frame_painter(self) -> FirstFramePainter:
        """The painter of first frames, built once."""
        return cast("FirstFramePainter", self._engine("first_frame_painter"))

    @property
    def video_painter(self) -> VideoPainter:
        """The painter of videos, built once; the same object as `first_frame_painter` where one class does both."""
        return cast("VideoPainter", self._engine("video_painter"))

    @property
    def inspector(self) -> LaneInspector:
        """The lane inspector, built once."""
        return cast("LaneInspector", self._engine("inspector"))

    def release_inspector(self) -> None:
        """Tell the inspector, if there is one yet, that a step has asked its last question."""
        with self._guard:
            built = self._engines.get("inspector")
        if built is not None:
            cast("LaneInspector", built).release()

    @property
    def driver(self) -> Driver:
        """The driving model, built once."""
        return cast("Driver", self._engine("driver"))

    def release_driver(self) -> None:
        """Tell the driver, if there is one yet and it holds anything, that a step has asked its last question."""
        self._release("driver")

    def release_painters(self) -> None:
        """Tell the painters, if there are any yet and they hold anything, that a stage has asked its last question."""
        self._release("first_frame_painter", "video_painter")

    def _release(self, *roles: Role) -> None:
        with self._guard:
            built = [self._engines.get(role) for role in roles]
        for engine in built:
            release = getattr(engine, "release", None)
            if release is not None:
                release()

    def _engine(self, role: Role) -> object:
        with self._guard:
            if role not in self._engines:
                # One painter may serve both painter roles, and then reuses what it learnt of a clip.
                self._engines[role] = self._build(self.entry(role))
            return self._engines[role]

    def engine_of(self, entry: EngineEntry) -> object:
        """An engine whatever the settings choose, built once; for checking its checkpoint."""
        with self._guard:
            return self._build(entry)

    def _build(self, entry: EngineEntry) -> object:
        if entry.target not in self._built:
            self._built[entry.target] = entry.build(**self._options(entry))
        return self._built[entry.target]

    def _options(self, entry: EngineEntry) -> dict[str, object]:
        if not entry.checkpoints:
            return {}
        folders = {checkpoint.argument: self.mounted_checkpoint(checkpoint.asset) for checkpoint in entry.checkpoints}
        chosen = {
            argument: getattr(self.settings, name) for argument, name in {**entry.deciding, **entry.other}.items()
        }
        return {**folders, "cache": self.settings.cache_folder, **chosen}


def _absolute(address: str) -> str:
    """A chunk keeps its source's address, and is read again from other working folders."""
    return address if "://" in address else str(Path(address).expanduser().absolute())
