"""What a customer's story costs an agent's screen: beside the decision that stands in it, over HTTP, taking turns.

The customers have decisions to tell of: those of the benchmark's own first calls.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import clients, servers, stand
from features.workspace import Workspace

ROUNDS, QUICK_ROUNDS, CALLS, CANDIDATES = 7, 3, 100, 100


def main(workspace: Workspace, console: Console, quick: bool) -> None:
    customers = stand.customers(workspace)
    asks = clients.asks(customers, channel="call_centre", placement="agent")
    stories = [clients.reading(f"/customers/{each}") for each in customers]
    times: dict[str, list[list[float]]] = {"/decide": [], "/customers/{id}": []}
    with tempfile.TemporaryDirectory(prefix="onestory-bench-") as folder:
        copy = stand.copied(workspace, Path(folder) / "home")
        stand.put(copy, stand.offers_of(workspace), CANDIDATES)
        with servers.served("serving.service:NextBestAction", copy) as ours:
            clients.feeds_alive(ours.port)
            for wires in (asks, asks, asks, stories):
                clients.timed(ours.port, wires, len(wires))
            for _ in range(QUICK_ROUNDS if quick else ROUNDS):
                times["/decide"].append(clients.timed(ours.port, asks, CALLS))
                times["/customers/{id}"].append(clients.timed(ours.port, stories, CALLS))
    table = Table(title=f"a customer's story beside a decision for the agent, {CANDIDATES} candidates, 1 worker")
    for heading in ("call", "p50 ms", "× /decide"):
        table.add_column(heading, justify="right" if heading != "call" else "left")
    medians = {name: statistics.median(statistics.median(each) for each in rounds) for name, rounds in times.items()}
    for name, median in medians.items():
        table.add_row(name, f"{median * 1e3:.2f}", f"{median / medians['/decide']:.2f}")
    console.print(table)
