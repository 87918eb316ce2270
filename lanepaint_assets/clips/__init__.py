"""Driving clips: where they come from, what is in them, which of their frames the platform uses."""
