"""FLUX.1 Fill as networks: their architecture and the parts of a checkpoint, for painting and for training."""
