"""What the launchers ask of Kubernetes, answered here: a Job's container is started as a process of this machine.

It knows nothing of scheduling, images, volumes, accounts or networks, and keeps what was asked for, for tests to see.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class StartedJob:
    """A Job and the one pod that it has."""

    document: dict[str, Any]
    process: subprocess.Popen[bytes]
    log: Path
    is_deleted: bool = False

    @property
    def name(self) -> str:
        return self.document["metadata"]["name"]

    @property
    def status(self) -> dict[str, Any]:
        code = self.process.poll()
        if code is None and not self.is_deleted:
            return {"active": 1, "startTime": "2030-01-01T00:00:00Z"}
        return {"succeeded": 1} if code == 0 else {"failed": 1}

    @property
    def pod(self) -> dict[str, Any]:
        phase = {"active": "Running", "succeeded": "Succeeded", "failed": "Failed"}[next(iter(self.status))]
        labels = {**self.document["spec"]["template"]["metadata"]["labels"], "job-name": self.name}
        spec = self.document["spec"]["template"]["spec"]
        return {"metadata": {"name": f"{self.name}-pod", "labels": labels}, "spec": spec, "status": {"phase": phase}}

    def stop(self) -> None:
        """As a node does: SIGTERM now, SIGKILL after the grace period."""
        self.process.send_signal(signal.SIGTERM)
        seconds = self.document["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)

        def end() -> None:
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()

        threading.Thread(target=end, daemon=True).start()


class StandIn:
    """An API server without a cluster.

    Args:
        folder: for logs of pods.
    """

    def __init__(self, folder: Path) -> None:
        self.jobs: dict[str, StartedJob] = {}
        self._folder = folder
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(stand_in._get(self.path))

            def do_POST(self) -> None:
                document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(stand_in._start(document))

            def do_DELETE(self) -> None:
                self._answer(stand_in._delete(self.path))

            def _answer(self, found: dict[str, Any] | None) -> None:
                body = json.dumps(found or {"kind": "Status", "status": "Failure", "code": 404}).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *given: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        for job in self.jobs.values():
            if job.process.poll() is None:
                job.process.kill()
            job.process.wait()
        self._server.shutdown()
        self._server.server_close()

    def _start(self, document: dict[str, Any]) -> dict[str, Any]:
        (container,) = document["spec"]["template"]["spec"]["containers"]
        given = {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        log = self._folder / f"{document['metadata']['name']}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*container.get("command", []), *container["args"]],
                env={"PATH": path, "HOME": os.environ.get("HOME", "/"), **given},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.jobs[document["metadata"]["name"]] = StartedJob(document, process, log)
        return document

    def _get(self, path: str) -> dict[str, Any] | None:
        parts = urlsplit(path)
        kind, *rest = parts.path.split("/namespaces/")[1].split("/")[1:]
        if kind == "jobs" and rest:
            job = self.jobs.get(rest[0])
            return None if job is None or job.is_deleted else {**job.document, "status": job.status}
        if kind == "pods" and not rest:
            selector = parse_qs(parts.query).get("labelSelector", [""])[0]
            name = selector.partition("=")[2]
            return {"items": [job.pod for job in self.jobs.values() if name in ("", job.name)]}
        if kind == "pods":
            return next((job.pod for job in self.jobs.values() if job.pod["metadata"]["name"] == rest[0]), None)
        return {"items": []}

    def _delete(self, path: str) -> dict[str, Any] | None:
        kind, name = urlsplit(path).path.split("/namespaces/")[1].split("/")[1:]
        for job in self.jobs.values():
            if name == (job.name if kind == "jobs" else job.pod["metadata"]["name"]):
                job.is_deleted |= kind == "jobs"
                job.stop()
                return {"kind": "Status", "status": "Success"}
        return None
