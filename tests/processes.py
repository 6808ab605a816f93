"""The service as a process of its own, for tests that need one: `with serving(home) as server: …`.

It listens on a free port, is waited for until it is ready, and ends with the block by its process id.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from features.workspace import PROJECT, Workspace

READY_WITHIN_S = 60.0


@dataclass(frozen=True)
class Server:
    """A running service: where it answers, its process, and what it has said so far."""

    url: str
    pid: int
    log: Path

    def kill(self) -> None:
        """As by `kill -9`, workers and all."""
        for process in (*self.workers(), psutil.Process(self.pid)):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)


@contextmanager
def serving(
    home: Path,
    workers: int = 1,
    target: str = "serving.service:NextBestAction",
    environment: Mapping[str, str] | None = None,
    folder: Path = PROJECT,
    port: int | None = None,
) -> Iterator[Server]:
    """`bentoml serve` of `target`, called in `folder`, over the workspace at `home`; a `port` that was free before."""
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    variables = {
        **os.environ,
        **Workspace(home).environment(),
        "ONESTORY_WORKERS": str(workers),
        "PYTHONPATH": os.pathsep.join((str(PROJECT), str(PROJECT / "tests"))),
        **(environment or {}),
    }
    log = home / "served.log"
    command = [sys.executable, "-m", "bentoml", "serve", target, "--port", str(port)]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    server = Server(f"http://127.0.0.1:{port}", process.pid, log)
    try:
        _wait(server, process)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{server.url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(f"the service is not ready:\n{server.log.read_text()[-4000:]}")
