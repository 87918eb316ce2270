"""Cameras and everything that is drawn for a person: overlays, bird's-eye insets, comparison videos, reports."""
