"""Fine-tuning of FLUX.1 Fill: a LoRA learns the lane markings of one style from the samples that show it."""
