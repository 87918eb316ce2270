"""The process in which a model is loaded for its check: `python -m lanepaint_assets.checkpoints.smoke_child`.

Started by `smoke_check.in_child`, which writes one line of JSON to its standard input and keeps that open. What is
checked belongs into `smoke_check.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from pathlib import Path

from lanepaint_assets.checkpoints.smoke_check import in_this_process
from lanepaint_assets.engines import ENGINES
from lanepaint_assets.settings import Settings


def main() -> None:
    """Carry out one order."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Where memory ends, the kernel shall end this process and not the one that waits for it.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    (entry,) = (entry for entry in ENGINES if entry.label == order["engine"] and entry.checkpoints)
    outcome = in_this_process(Settings(**order["settings"]), entry)
    Path(order["result"]).write_text(outcome.model_dump_json())
    sys.stdout.flush()
    # At once: libraries that failed half way may hang while they tidy up.
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
