"""Progress of a run on the terminal that its command was typed in."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from tqdm import tqdm


class Bars:
    """A bar with the time left for the items of each asset in turn, on the terminal that the command was typed in.

    Dagster redirects the standard streams of a running step into its own log, so the terminal is kept from before.
    """

    def __init__(self) -> None:
        self._terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w") if sys.stderr.isatty() else None
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, asset: str, done: int, total: int, label: str) -> None:
        """See `ProgressListener`."""
        if self._terminal is None or total == 0:
            return
        if self._bar is None:
            # Every item is drawn: items take seconds, and the last one would otherwise be missed.
            self._bar = tqdm(
                desc=f"  {asset}", total=total, unit="item", file=self._terminal, leave=False, mininterval=0
            )
        self._bar.set_postfix_str(label.rpartition("/")[2][-40:], refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()
            self._bar = None
