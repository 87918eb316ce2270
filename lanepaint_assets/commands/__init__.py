"""What the `lanepaint` commands do; `cli.py` only parses their options."""
