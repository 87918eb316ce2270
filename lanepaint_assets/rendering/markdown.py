"""Words from outside in Markdown: in metadata that the Dagster UI renders, and in the cards of datasets.

Called wherever a prompt's text, a name or a reason enters Markdown. Pictures in Markdown are `previews.py`'s, HTML
pages escape by themselves (`pages.py`). Imports nothing: the code location does without libraries for pictures.
"""

from __future__ import annotations

import re

# What begins code, emphasis, a link, a picture, a table's cell or struck text. Not the underscore: within words, where
# names have it, it means nothing, and elsewhere nothing worse than italics.
_MARKUP = re.compile(r"[\\`*\[\]|~]")


def plain(text: str) -> str:
    """`text` so that Markdown shows it word for word, on one line: no HTML, link, picture, heading or cell comes of it.

    An address in it stays readable, and some viewers make a visible link of that.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\g<0>", escaped)
