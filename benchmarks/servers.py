"""What is measured, each served in a process of its own on a free port of this machine, ended with the block."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from features.workspace import PROJECT, Workspace

READY_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and the process whose children answer."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """Seconds of processor time that it and its children have used: what a busy machine does not change much."""
        return _cpu_s(self.pid)


class Died(Exception):
    """A server ended by itself, or never got ready."""


@contextmanager
def served(target: str, workspace: Workspace, workers: int = 1) -> Iterator[Server]:
    """`target` answering: a Bento service, or by `uvicorn:` an application."""
    port = _free()
    kind, _, rest = target.partition(" ")
    command = [sys.executable, "-W", "ignore", "-m"]
    if kind == "uvicorn":
        command += ["uvicorn", rest, "--port", str(port), "--no-access-log", "--log-level", "warning"]
    else:
        command += ["bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    environment = {**environment_of(workspace), "ONESTORY_WORKERS": str(workers)}
    said = workspace.home / f"{port}.log"
    with said.open("wb") as out:
        child = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait(child, port, target, said)
        yield Server(port, child.pid)
    finally:
        child.terminate()
        child.wait(30)


def environment_of(workspace: Workspace) -> dict[str, str]:
    return {**os.environ, **workspace.environment(), "PYTHONPATH": str(PROJECT)}


def _wait(child: subprocess.Popen[bytes], port: int, target: str, said: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and child.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise Died(f"`{target}` did not get ready:\n{said.read_text()[-2000:]}")


def _cpu_s(pid: int) -> float:
    """Of a process and all below it, as Linux counts them."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(_cpu_s(int(each)) for each in below)


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
