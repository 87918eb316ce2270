"""Stage 3: what a driving model does with an edited video, against the original."""
