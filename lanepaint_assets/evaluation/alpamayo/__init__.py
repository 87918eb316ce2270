"""NVIDIA's Alpamayo as a driver: in this process, or in a worker process with a Python environment of its own."""
