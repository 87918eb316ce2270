"""LanePaint: a Dagster asset graph that repaints lane markings and measures what a driving model makes of it.

Nothing of the package is imported here; `definitions.py` assembles the code location.
"""

import os

# Before gcsfs is imported by whoever comes first: it asks every bucket over gRPC what kind it is, and where a proxy or
# an emulator does not speak gRPC each question hangs for a minute.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

__version__ = "0.1.0"
