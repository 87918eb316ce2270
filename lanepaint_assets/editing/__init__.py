"""Stage 2: prompts, first frames, edited videos."""
