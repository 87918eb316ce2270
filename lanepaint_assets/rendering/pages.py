"""What every HTML page of this project shares: its templates' environment, and numbers as people read them.

Called by `report.py` and `leaderboard.py`. What a page shows is theirs, its pictures are drawn elsewhere.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import jinja2
import numpy as np
from markupsafe import Markup, escape


def render_page(template: str, **context: object) -> str:
    """A template of this package with its context; `style` holds the one style sheet of all pages.

    Returns:
        UTF-8 text; equal input gives equal text.
    """
    return _environment().get_template(template).render(style=markup_file("report.css"), **context)


def markup_file(name: str) -> Markup:
    """A style sheet or script of this package, to stand in a page as it is."""
    return Markup(_resource(name))


def metres(value: float | None, signed: bool = False) -> str:
    """`1.23`, `+0.48`, or a dash where there is no figure."""
    return number(value, 2, signed)


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """With so many digits after the point, or a dash where there is no figure. What rounds to zero has no sign."""
    if value is None or not np.isfinite(value):
        return "–"
    rounded = round(float(value), digits)
    # A minus before a zero would say that there is something.
    text = f"{rounded or 0.0:{'+' if signed and rounded else ''}.{digits}f}"
    return text.replace("-", "−")


def percent(value: float | None, signed: bool = False) -> str:
    """`17 %`, or a dash where there is no figure."""
    text = number(None if value is None else 100 * value, 0, signed)
    return text if text == "–" else f"{text} %"


def p_value(value: float | None) -> str:
    """`0.043`, `< 0.001`, or a dash where there is no test."""
    return "< 0.001" if value is not None and value < 0.001 else number(value, 3)


def breakable(key: str) -> Markup:
    """A key that may break after its underscores: many words long, it would widen a table beyond a phone."""
    return escape(key).replace("_", Markup("_<wbr>"))


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        # Names of clips and texts of drivers come from outside: everything is escaped unless it is Markup.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "breakable": breakable,
        "metres": metres,
        "number": number,
        "p_value": p_value,
        "percent": percent,
    }
    return environment


def _resource(name: str) -> str:
    return resources.files("lanepaint_assets.rendering").joinpath(name).read_text(encoding="utf-8")
