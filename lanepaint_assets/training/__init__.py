"""Training samples, filtered subsets and lane LoRAs."""
