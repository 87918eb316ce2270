"""LanePaint: a Dagster asset graph that repaints lane markings and measures what a driving model makes of it.

Nothing is imported or configured here; `definitions.py` assembles the code location.
"""

__version__ = "0.1.0"
