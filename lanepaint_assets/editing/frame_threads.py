"""Work on a clip's frames in threads, results in the frames' order.

Called by the procedural painter's analysis and painting, whose frames know nothing of each other and mostly run
compiled loops that free the GIL. No processes, no state; items run beside each other elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

# Beyond this the interpreter's own share of the work is the limit.
_MOST_THREADS = 8


def in_order(work: Callable[[int], Result], count: int) -> Iterator[Result]:
    """`work(k)` of every k below `count`, yielded as k rises; whatever `work` raises is raised here.

    Args:
        work: called from several threads at once.
        count: how many times.
    """
    threads = min(_MOST_THREADS, os.cpu_count() or 1, count)
    if threads < 2:
        yield from map(work, range(count))
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="lanepaint-frame") as pool:
        yield from pool.map(work, range(count))
