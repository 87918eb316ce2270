"""Taking turns at a manifest: rows that threads of this process bring at the same time are merged in one step.

Called by `artifacts.py`. A bucket takes about one write of an object a second, and threads that compete for it by
compare-and-swap lose most of their tries. What a step does, and what happens between processes, does not belong here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from upath import UPath

from lanepaint_assets.store.manifest import ItemRow, Manifest

Write = Callable[[Sequence[ItemRow]], Manifest]
"""Merges rows into the manifest in one atomic step."""


@dataclass
class _Step:
    rows: list[ItemRow] = field(default_factory=list)
    outcome: Future[Manifest] = field(default_factory=Future)


class Turns:
    """One manifest's steps in this process: one at a time, and whoever waits meanwhile shares the next one."""

    def __init__(self) -> None:
        self._turn, self._lock, self._next = threading.Lock(), threading.Lock(), _Step()

    def merge(self, rows: Sequence[ItemRow], write: Write) -> Manifest:
        """Merge rows with those that other threads bring meanwhile; a thread that is alone waits for nothing.

        Args:
            rows: of the caller.
            write: does the step; the same for all callers.

        Returns:
            The manifest after the step that the rows were in.

        Raises:
            Exception: what `write` raised in that step.
        """
        with self._lock:
            step = self._next
            step.rows += rows
        with self._turn:
            if not step.outcome.done():
                with self._lock:
                    if self._next is step:
                        self._next = _Step()
                # An interrupt leaves the step undone, and the next thread in it does it.
                try:
                    step.outcome.set_result(write(step.rows))
                except Exception as error:  # noqa: BLE001  every thread in the step gets it
                    step.outcome.set_exception(error)
        return step.outcome.result()


_lock = threading.Lock()
# Only for as long as somebody waits for a turn.
_turns: WeakValueDictionary[UPath, Turns] = WeakValueDictionary()


def turns_at(manifest: UPath) -> Turns:
    """The turns of the manifest at an address."""
    with _lock:
        return _turns.setdefault(manifest, Turns())


# Another thread may have been at work when the process was forked: its turn would never end in the child.
def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _turns.clear()


os.register_at_fork(after_in_child=_after_fork)
