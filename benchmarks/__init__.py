"""Measurements, one module a topic: `python -m benchmarks.NAME [--json FILE]`. Nothing in the package imports them."""
