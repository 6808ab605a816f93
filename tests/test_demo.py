"""The running demo, as a process that is stopped, or whose service dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from features.workspace import PROJECT
from serving.demo import is_free, run, welcome
from serving.settings import Settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def demo(port: int, target: str) -> Iterator[subprocess.Popen[str]]:
    program = f"import sys; from serving.demo import run; sys.exit(run({port}, target={target!r}))"
    paths = os.pathsep.join((str(PROJECT), str(PROJECT / "tests")))
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(text: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"`{text}` was never said")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_nothing_running(number: int) -> None:
    port = free_port()
    with demo(port, "served_fake:Fake") as process:
        wait_for("curl -s http://127.0.0.1:", process)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert said.rstrip().endswith("stopped")
        _, alive = psutil.wait_procs(children, timeout=5)
        assert alive == []
    assert is_free(port)


def test_a_demo_whose_service_dies_says_so() -> None:
    with demo(free_port(), "served_fake:Nothing") as process:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "the service ended by itself with exit code 1; its messages are above" in said


def test_the_demo_refuses_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert run(port) == 2
    assert capsys.readouterr().err.startswith(f"port `{port}` is taken; choose another")


def test_the_demo_shows_a_question_without_any_key() -> None:
    assert "-u" not in welcome(3000, "2375", Settings())
    shown = welcome(3001, "2375", Settings(server_keys=("hush",)))
    assert "-u YOUR_SERVER_KEY: http://127.0.0.1:3001/decide" in shown
    assert "hush" not in shown
    assert shown.rstrip().endswith("http://127.0.0.1:3001/shop")
