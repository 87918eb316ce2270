"""The one error type of the store: what went wrong with shared files, and what to do about it.

Raised by every module of this room, and caught by the command line to print one line. Errors of single items do not
belong here: they become rows (see `items.ItemError`).
"""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot be read or written as asked; the message names the file and the remedy."""
