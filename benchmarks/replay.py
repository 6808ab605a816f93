"""Deciding the log again: decisions a second of one core, beside asking the live service for each once more.

The log is made in a copy of the demo's workspace, by the engine itself. Opening the policy, which is done once however
long the log is, is not in the time; reading the log and comparing every answer is.
"""

from __future__ import annotations

import tempfile
import time
from itertools import islice
from pathlib import Path

from rich.console import Console

from benchmarks import clients, servers, sizes, stand
from benchmarks.sizes import Run, Work
from benchmarks.start import memory_mb, workers_of
from benchmarks.verdicts import Verdict
from features.workspace import Workspace
from serving.engine import Engine
from serving.question import Question
from serving.replay import replay

CANDIDATES, PER_CORE = 20, 5_000.0
SIZES, QUICK_SIZES = (500, 1_500, 4_500), (250, 1_000)
ROUNDS = 1
LIVE = "asking /decide again"


def main(workspace: Workspace, console: Console, quick: bool) -> list[Verdict]:
    many = QUICK_SIZES if quick else SIZES
    with tempfile.TemporaryDirectory(prefix="onestory-bench-") as folder:
        copy = stand.copied(workspace, Path(folder) / "home")
        stand.put(copy, stand.offers_of(workspace), CANDIDATES)
        sizes.run(copy, __name__, "log", many[-1])
        asks = clients.asks(stand.customers(copy))
        with servers.served("serving.service:NextBestAction", copy) as server:
            clients.feeds_alive(server.port)
            clients.timed(server.port, asks, len(asks))
            ways = {
                LIVE: lambda size: _asked(server, asks, size),
                "replay": lambda size: sizes.run(copy, __name__, "replay", size),
            }
            found = sizes.in_turns(ways, many, ROUNDS)
    console.print(sizes.table(f"the log decided again, {CANDIDATES} candidates, one process", "decisions", found, LIVE))
    last = found["replay"][-1]
    return [Verdict("replay, decisions a second a core", PER_CORE, last.rows / last.cpu, True)]


def _asked(server: servers.Server, asks: list[bytes], size: int) -> Run:
    """By one client; the most memory is what the worker holds after it."""
    began, cpu = time.perf_counter(), server.cpu_s()
    clients.timed(server.port, asks, size)
    seconds, cpu = time.perf_counter() - began, server.cpu_s() - cpu
    return Run(size, seconds, cpu, max(memory_mb(pid)[1] for pid in workers_of(server.pid)))


def logged(workspace: Workspace, size: int) -> Work:
    """So many decisions of the website's home page, of the workspace's customers in turn."""
    engine, customers = Engine.open(workspace), stand.customers(workspace)
    stand.feeds_alive(engine, time.time())

    def decide() -> int:
        for number in range(size):
            engine.decision(Question(customers[number % len(customers)], "web", "home"), time.time())
        engine.close()
        return size

    return decide


def again(workspace: Workspace, size: int) -> Work:
    """The first `size` of the log, made again; ValueError where one comes out different."""
    found = replay(workspace)
    next(found)

    def decide() -> int:
        for each in islice(found, size - 1):
            if each.problem is not None:
                raise ValueError(f"decision `{each.decision_id}`: {each.problem}")
        return size - 1

    return decide


JOBS = {"log": logged, "replay": again}
