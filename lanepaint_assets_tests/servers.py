"""Dagster's webserver, daemon and code server as processes of their own, for suites that need the real ones.

Called by tests that let the servers work, kill the daemon, or open the UI. They are three processes and not
`dagster dev`, which ends all of them with the first. What a test expects of the servers does not belong here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import dagster as dg

REPOSITORY = Path(__file__).resolve().parents[1]
LOCATION = "lanepaint"

# Each server takes 5 to 10 s on two idle cores.
START_S = 120.0
# Longest wait for a server that was asked to end; then it is killed.
END_S = 15.0
# Lines of each server's log that a failure shows.
_LOG_TAIL_BYTES = 4000

_START_SENSOR = """mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
    __typename ... on PythonError { message } } }"""
_BACKFILL = """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_CANCEL = """mutation ($backfillId: String!) { cancelPartitionBackfill(backfillId: $backfillId) { __typename } }"""


class Servers:
    """The three servers over one instance, each in a process group of its own.

    Args:
        folder: where the instance (`home`), the workspace file and the logs go.
        module: what the code server serves.
        environment: `LANEPAINT_*` of all servers and of the runs that they start.
    """

    def __init__(self, folder: Path, module: str, environment: Mapping[str, str]) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        shutil.copy(REPOSITORY / "dagster.yaml", self.home)
        self._folder, self._module = folder, module
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LANEPAINT_")}
        self._environment = {**inherited, **environment, "DAGSTER_HOME": str(self.home)}
        self._code_port, self._web_port = _free_port(), _free_port()
        self.workspace = folder / "workspace.yaml"
        self.workspace.write_text(
            f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {self._code_port}, location_name: {LOCATION}}}\n"
        )
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Of the UI."""
        return f"http://127.0.0.1:{self._web_port}"

    def __enter__(self) -> Self:
        try:
            self._start("code_server", *self._code_server())
            self.wait_for("the code server", lambda: _listens(self._code_port), START_S)
            web = ["-w", str(self.workspace), "-h", "127.0.0.1", "-p", str(self._web_port)]
            self._start("webserver", "-m", "dagster_webserver", *web)
            self.start_daemon()
            self.wait_for("the webserver", self._answers, START_S)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process, and what it started; the daemon first, so that it asks for nothing more."""
        for name in reversed(list(self._processes)):
            self._end(name)

    def _code_server(self) -> Sequence[str]:
        where = ["-h", "127.0.0.1", "-p", str(self._code_port), "--location-name", LOCATION]
        return ("-m", "dagster", "api", "grpc", "-m", self._module, *where)

    def start_daemon(self, *program: str) -> None:
        """Start the daemon, or another program around it that takes the same arguments."""
        self._start("daemon", *(program or ("-m", "dagster._daemon")), "run", "-w", str(self.workspace))

    def kill_daemon(self) -> None:
        """SIGKILL, from one instruction to the next."""
        daemon = self._processes.pop("daemon")
        daemon.kill()
        daemon.wait()

    def wait_until_daemon_is_killed(self, limit_s: float) -> None:
        """Wait for the end of a daemon that kills itself.

        Raises:
            AssertionError: it still runs, or it ended in another way.
        """
        daemon = self._processes["daemon"]
        self.wait_for("the daemon's end", lambda: daemon.poll() is not None, limit_s, may_end="daemon")
        assert daemon.returncode == -signal.SIGKILL, self.logs()
        del self._processes["daemon"]

    def wait_for(self, what: str, ready: Callable[[], bool], limit_s: float, *, may_end: str = "") -> None:
        """Poll until `ready`.

        Raises:
            AssertionError: not within `limit_s`, or a server other than `may_end` has ended; shows all logs.
        """
        deadline = time.monotonic() + limit_s
        while not ready():
            for name, process in self._processes.items():
                assert name == may_end or process.poll() is None, f"{name} ended\n{self.logs()}"
            assert time.monotonic() < deadline, f"{what}: not within {limit_s:.0f} s\n{self.logs()}"
            time.sleep(0.2)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The webserver's answer to a GraphQL query or mutation."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            reply: dict[str, Any] = json.load(answer)
        assert "errors" not in reply, reply["errors"]
        data: dict[str, Any] = reply["data"]
        return data

    def turn_on(self, sensor: str) -> None:
        """As the switch on the page of sensors does."""
        selector = {"repositoryName": "__repository__", "repositoryLocationName": LOCATION, "sensorName": sensor}
        answer = self.ask(_START_SENSOR, selector=selector)["startSensor"]
        assert answer["__typename"] == "Sensor", answer

    def backfill(self, assets: Sequence[str], chunks: Sequence[str]) -> str:
        """As the button "Launch backfill" does; returns its id."""
        params = {"assetSelection": [{"path": [name]} for name in assets], "partitionNames": list(chunks)}
        answer = self.ask(_BACKFILL, params=params)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        backfill_id: str = answer["backfillId"]
        return backfill_id

    def cancel(self, backfill_id: str) -> None:
        """As the button "Cancel backfill" does."""
        answer = self.ask(_CANCEL, backfillId=backfill_id)["cancelPartitionBackfill"]
        assert answer["__typename"] == "CancelBackfillSuccess", answer

    def instance(self) -> dg.DagsterInstance:
        """The servers' instance, opened beside them."""
        return dg.DagsterInstance.from_config(str(self.home))

    def logs(self) -> str:
        """The ends of all servers' logs."""
        return "\n".join(
            f"--- {path.name}\n{path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors='replace')}"
            for path in sorted(self._folder.glob("*.log"))
        )

    def _answers(self) -> bool:
        try:
            return bool(self.ask("{version}"))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _start(self, name: str, *arguments: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                env=self._environment,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Runs are children of the code server. A group outlives its leader as long as one of them does.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
