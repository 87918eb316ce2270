"""The program of each process of a training on several GPUs, started by `run.py` with the file of its job."""

import sys
from pathlib import Path

from lanepaint_assets.training.flux_lora.run import run_worker

if __name__ == "__main__":
    run_worker(Path(sys.argv[1]))
