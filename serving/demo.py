"""The running demo: the service as a child process, and the feeds beside it, until Ctrl-C.

Nothing is built here: data, profiles and models are in the workspace already (`make demo` sees to that).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import httpx
from rich.console import Console
from rich.markup import escape

from features.workspace import PROJECT, open_workspace
from serving import feeds
from serving.orphan import END_WITH_PARENT
from serving.settings import Settings, SettingsProblem

HOST = "127.0.0.1"
READY_WITHIN_S = 120.0
STOP_WITHIN_S = 15.0
SAID_EVERY_S = 5.0
CUSTOMER = "2375"
SERVICE = "serving.service:NextBestAction"


class Stopped(Exception):
    """Somebody asked the demo to end: Ctrl-C or SIGTERM."""


class Died(Exception):
    """The service ended by itself, or never got ready."""


def run(port: int, customer_id: str = CUSTOMER, target: str = SERVICE) -> int:
    """Serve on `port` of this machine until stopped; the exit code: 0 stopped, 1 the service died, 2 cannot begin."""
    screen, complaints = Console(highlight=False), Console(stderr=True, highlight=False)
    try:
        settings = Settings.read()
    except SettingsProblem as problem:
        complaints.print(escape(str(problem)))
        return 2
    if not is_free(port):
        complaints.print(f"port `{port}` is taken; choose another, as in `make demo PORT={port + 1}`", soft_wrap=True)
        return 2
    open_workspace()
    keys = settings.write_keys or settings.server_keys
    auth = (keys[0], "") if keys else None
    try:
        with (
            _stoppable(),
            _served(port, target) as child,
            httpx.Client(base_url=f"http://{HOST}:{port}", auth=auth) as client,
        ):
            _wait_until_ready(child, client, screen)
            _tell(feeds.beat(client), complaints)
            screen.print(welcome(port, customer_id, settings), markup=False, soft_wrap=True)
            while True:
                _sleep_beside(child, feeds.EVERY_S)
                _tell(feeds.beat(client), complaints)
    except Stopped:
        screen.print("stopped")
        return 0
    except Died as death:
        complaints.print(escape(str(death)))
        return 1


def is_free(port: int) -> bool:
    """Can we listen there? Asked just before, since the child's own failure is harder to tell."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def welcome(port: int, customer_id: str, settings: Settings) -> str:
    """A question to paste, and last the address of the shop."""
    key = "" if settings.is_open else " -u YOUR_SERVER_KEY:"
    body = f'{{"customer_id": "{customer_id}", "channel": "web", "placement": "home", "explain": true}}'
    return (
        f"\nOnestory answers on http://{HOST}:{port} (Ctrl-C ends it). Ask it:\n\n"
        f"  curl -s{key} http://{HOST}:{port}/decide -H 'Content-Type: application/json' -d '{body}'\n\n"
        f"Or look: the demo shop, and what is held back in it and why, is at http://{HOST}:{port}/shop\n"
    )


@contextmanager
def _stoppable() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _served(port: int, target: str) -> Iterator[subprocess.Popen[bytes]]:
    """The service, in a session of its own so that Ctrl-C reaches only us; it never outlives the block."""
    command = [sys.executable, "-m", "bentoml", "serve", target]
    command += ["--host", HOST, "--port", str(port)]
    environment = {**os.environ, END_WITH_PARENT: "1"}
    child = subprocess.Popen(command, cwd=PROJECT, env=environment, start_new_session=True)
    try:
        yield child
    finally:
        # A second Ctrl-C must not leave the service behind.
        ignored = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        if child.poll() is None:
            child.terminate()
        try:
            child.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        for number, handler in ignored.items():
            signal.signal(number, handler)


def _wait_until_ready(child: subprocess.Popen[bytes], client: httpx.Client, screen: Console) -> None:
    began = said = time.monotonic()
    screen.print("starting the service …")
    while not _is_ready(client):
        _check_alive(child)
        now = time.monotonic()
        if now - began > READY_WITHIN_S:
            raise Died(f"the service was not ready within {READY_WITHIN_S:.0f} s; its messages are above")
        if now - said > SAID_EVERY_S:
            screen.print(f"… {now - began:.0f} s")
            said = now
        time.sleep(0.2)
    screen.print(f"ready after {time.monotonic() - began:.1f} s")


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz", timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False


def _sleep_beside(child: subprocess.Popen[bytes], seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        _check_alive(child)
        time.sleep(min(left, 0.5))


def _check_alive(child: subprocess.Popen[bytes]) -> None:
    code = child.poll()
    if code is not None:
        raise Died(f"the service ended by itself with exit code {code}; its messages are above")


def _tell(problem: str | None, screen: Console) -> None:
    if problem:
        screen.print(escape(problem))
