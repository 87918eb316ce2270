"""How far the long loops inside a step are: denoising, pictures of an iteration, training. Told now and then to whoever
listens.

Called by model engines and the loops around them, which know neither runs nor terminals. A run of Dagster listens
(`run_progress.py`); bars on a terminal are drawn besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LoopListener = Callable[[str, int, int, float], None]
"""Told what is under way, steps done, of how many, and the seconds left at the pace so far."""

# Between two lines of one loop, and before the first.
TELL_EVERY_S = 30.0

_listeners: list[LoopListener] = []


@contextmanager
def loops_told_to(listener: LoopListener) -> Iterator[None]:
    """Within the context, loops of any thread of this process are told to `listener`."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class LoopProgress:
    """One loop, from now on.

    Args:
        what: names it, such as "window 1 of 3 of clip.camera".
        total: its steps.
        begun: how many of them were done before.
        clock: seconds; given by tests.
    """

    def __init__(self, what: str, total: int, begun: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._total, self._begun, self._clock = what, total, begun, clock
        self._started = self._told = clock()

    def done(self, steps: int) -> None:
        """So many steps are done, of this loop at least one."""
        now = self._clock()
        if steps >= self._total or now - self._told < TELL_EVERY_S:
            return
        self._told = now
        left_s = (now - self._started) / (steps - self._begun) * (self._total - steps)
        for listener in tuple(_listeners):
            listener(self._what, steps, self._total, left_s)
