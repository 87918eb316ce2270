"""Commands as a person types them, in the process of a test.

Not click's own runner: it replaces the standard streams, and a log handler or a bar that was made meanwhile closes
pytest's.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from lanepaint_assets.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command printed and came to."""

    code: int
    out: str
    err: str


def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> Answer:
    """`lanepaint WORDS` and its answer."""
    monkeypatch.setattr(sys, "argv", ["lanepaint", *words])
    code = 0
    try:
        main()
    except SystemExit as left:
        code = int(left.code or 0)
    captured = capsys.readouterr()
    return Answer(code, captured.out, captured.err)
