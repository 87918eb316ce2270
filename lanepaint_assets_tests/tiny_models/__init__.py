"""Models of the real classes with random weights, small enough for a CPU; used by several suites and by benchmarks."""
