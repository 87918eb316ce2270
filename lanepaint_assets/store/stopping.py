"""How a loop over items ends early when its process is asked to (SIGTERM): the items under way may finish for a while.

Called by `items.py` around its loop; `run_progress.py` says how long. Cloud machines that are taken away, and pods that
are moved, get SIGTERM and some seconds later SIGKILL. Without a grace period SIGTERM has the effect that it has
elsewhere. SIGINT is left alone: who presses Ctrl-C or cancels a run of this machine wants its end now.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

Handler = Callable[[int, FrameType | None], object] | int | None
"""What `signal.getsignal` gives."""

# Seconds; 0: SIGTERM is not handled here. Of the whole process, as signals are.
_grace_s = 0.0


class AbandonedError(Exception):
    """The time for finishing an item is over; nothing of it is recorded."""


class Stop:
    """Whether a loop was asked to end, and whether its time for that is over."""

    def __init__(self) -> None:
        self.requested = False
        self.expired = False


@contextmanager
def grace_period(seconds: float) -> Iterator[None]:
    """Within the context, loops over items may finish what they have begun for so long after SIGTERM."""
    global _grace_s
    before, _grace_s = _grace_s, seconds
    try:
        yield
    finally:
        _grace_s = before


@contextmanager
def graceful_stop() -> Iterator[Stop]:
    """Watch for SIGTERM while a loop runs.

    The first one only sets `requested`, whereupon the loop begins no other item. When the loop has ended, or
    the grace period, or at a second SIGTERM, the signal goes to the handler that was there before: Dagster's raises
    its interrupt in the main thread. Does nothing outside the main thread, which alone handles signals.
    """
    stop = Stop()
    previous: Handler = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    if not _grace_s or not is_main or previous in (None, signal.SIG_IGN):
        yield stop
        return
    grace_s = _grace_s

    def ask(_: int, frame: FrameType | None) -> None:
        # No logging here: the signal may fall into a write of the same log.
        if stop.requested:
            stop.expired = True
            _hand_on(previous, frame)
            return
        stop.requested = True
        # A timer of the system: starting a thread in a handler may wait for a lock that the main thread holds.
        signal.setitimer(signal.ITIMER_REAL, grace_s)

    alarm = signal.signal(signal.SIGALRM, ask)
    signal.signal(signal.SIGTERM, ask)
    try:
        yield stop
    except AbandonedError:
        # An interrupt that is raised while Python cleans up goes unseen; the loop has noticed by itself.
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGTERM, previous)
        if stop.requested:
            ended = "abandoned" if stop.expired else "finished"
            log.warning("asked to end (SIGTERM); what was under way is %s, nothing else was begun", ended)
    if stop.requested:
        _hand_on(previous, None)


def _hand_on(handler: Handler, frame: FrameType | None) -> None:
    if callable(handler):
        handler(signal.SIGTERM, frame)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
