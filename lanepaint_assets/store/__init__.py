"""Content-addressed items, their manifests, and the loop that computes only what is missing."""
