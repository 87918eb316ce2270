from __future__ import annotations

from pathlib import Path

from lanepaint_assets.commands.leaderboard import leaderboard
from lanepaint_assets.evaluation.outcomes import outcomes_table
from lanepaint_assets.platform import Platform
from lanepaint_assets.settings import Settings
from lanepaint_assets_tests.unit.evaluation.test_leaderboard_steps import report, rows_of


def test_the_command_prints_the_leaderboard_and_where_its_page_lies(tmp_path: Path) -> None:
    platform = Platform(Settings(root=str(tmp_path), source=str(tmp_path)))
    report(platform, "chunk_0000", outcomes_table(rows_of(range(8))))
    said: list[str] = []
    leaderboard(platform, said.append)
    text, page = said
    assert "Of 1 prompt: 1 changed the plan." in text
    assert Path(page.removeprefix("page: ")).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_without_any_report_the_command_says_what_is_missing(tmp_path: Path) -> None:
    said: list[str] = []
    leaderboard(Platform(Settings(root=str(tmp_path / "root"), source=str(tmp_path))), said.append)
    assert said == ["no chunk has a report yet; make them with: lanepaint run"]
    assert not (tmp_path / "root").exists(), "nothing is written"
