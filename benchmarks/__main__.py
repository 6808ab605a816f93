"""`python -m benchmarks`: the hot path against its floor, in one interleaved run, as ratios with the machine's noise.

Needs the demo's workspace (`make demo` makes it); measures a copy of nothing and changes only its decision log and
a customer of its own. Figures are medians; noise is the spread of the floor's own medians over the rounds.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks import ingestion, trace
from features.workspace import PROJECT, open_workspace

ROUNDS, CALLS = 7, 150
ASK = {"customer_id": "2375", "channel": "web", "placement": "home"}


def main() -> int:
    workspace = open_workspace()
    if not (workspace.home / "online.db").exists():
        print(f"benchmarks: no profiles in `{workspace.home}`; run `make demo` first", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        floor = stack.enter_context(_client("benchmarks.empty:Empty"))
        ours = stack.enter_context(_client("serving.service:NextBestAction"))
        _feeds_alive(ours)
        number = iter(range(10**9))
        began = time.time()

        def track() -> None:
            properties = {"order_id": "bench", "products": [{"product_id": "1029743", "quantity": 1}]}
            body = {"userId": "bench", "event": "Order Completed", "messageId": f"bench-{began}-{next(number)}"}
            ours.post("/v1/track", json={**body, "properties": properties}).raise_for_status()

        calls: dict[str, Callable[[], object]] = {
            "empty endpoint": lambda: floor.post("/decide", json=ASK),
            "/decide": lambda: ours.post("/decide", json=ASK),
            "/decide, explained": lambda: ours.post("/decide", json={**ASK, "explain": True}),
            "/v1/track, one order": track,
        }
        times: dict[str, list[list[float]]] = {name: [] for name in calls}
        for call in calls.values():
            for _ in range(30):
                call()
        for number_of_round in range(ROUNDS):
            Console(stderr=True).print(f"round {number_of_round + 1} of {ROUNDS}")
            for name, call in calls.items():
                times[name].append([_timed(call) for _ in range(CALLS)])
        candidates = len(ours.post("/decide", json={**ASK, "explain": True, "limit": 20}).json()["suppressed"])
    _print(times, candidates)
    trace.main(workspace, Console(), quick=False)
    ingestion.main()
    return 0


def _print(times: dict[str, list[list[float]]], suppressed: int) -> None:
    table = Table(title=f"1 client, 1 worker, {ROUNDS} rounds of {CALLS} calls ({suppressed} offers held back)")
    for heading in ("call", "p50 ms", "p99 ms", "per second", "× empty", "noise ±%"):
        table.add_column(heading, justify="right" if heading != "call" else "left")
    floor = statistics.median([t for each in times["empty endpoint"] for t in each])
    for name, rounds in times.items():
        every = sorted(t for each in rounds for t in each)
        medians = [statistics.median(each) for each in rounds]
        noise = 50 * (max(medians) - min(medians)) / statistics.median(medians)
        median = statistics.median(every)
        p99 = every[int(len(every) * 0.99)]
        row = (median * 1e3, p99 * 1e3, len(every) / sum(every), median / floor, noise)
        table.add_row(name, *(f"{value:.2f}" for value in row[:2]), f"{row[2]:,.0f}", f"{row[3]:.2f}", f"{row[4]:.0f}")
    Console().print(table)


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _feeds_alive(client: httpx.Client) -> None:
    for signal in ("stock", "profile"):
        body = {"userId": "bench", "event": "Feed Alive", "properties": {"signal": signal}}
        client.post("/v1/track", json=body).raise_for_status()


@contextmanager
def _client(target: str) -> Iterator[httpx.Client]:
    """A client of `bentoml serve target`, on a free port, ended with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", target, "--port", str(port)]
    environment = {**os.environ, "ONESTORY_WORKERS": "1", "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            until = time.monotonic() + 120
            while time.monotonic() < until:
                try:
                    if client.get("/readyz").status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    sys.exit(main())
