"""Model checkpoints: where they lie, whether they are whole and compute, and the versions of them that are in force."""
