"""What `/decide` costs: beside an empty endpoint of the same settings, a bare one, and what a tutorial would build.

Ours has everything on: identity, signals, every rule, the whole trace, the durable log. For each number of candidates
all four are served at once and called in turns. Then ours and the empty one with two workers, which share the
machine's cores with their callers.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import clients, servers, stand
from benchmarks.verdicts import Verdict
from features.workspace import PROJECT, Workspace

SERVED = {
    "bare": "uvicorn benchmarks.bare:app",
    "empty": "benchmarks.empty:Empty",
    "naive": "benchmarks.naive:Naive",
    "ours": "serving.service:NextBestAction",
}
CALLS = {"bare": 200, "empty": 200, "naive": 12, "ours": 200}
ROUNDS, QUICK_ROUNDS = 3, 2
CANDIDATES, QUICK_CANDIDATES = (20, 100, 300), (20,)
CLIENTS, MANY_WORKERS, WRITES_A_SECOND = 16, 2, 200.0
BUSY, STORED = "ours, while events are written", 'onestory_events_total{outcome="stored"}'


@dataclass
class Figures:
    """Of one server: per round the seconds of each call alone, and the answers a second to many clients."""

    alone: list[list[float]] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Processor seconds of the server for an answer, whoever asked."""
    events: list[float] = field(default_factory=list)
    """Events a second that came in meanwhile, where some were written."""

    @property
    def p50(self) -> float:
        return statistics.median(statistics.median(each) for each in self.alone)

    @property
    def p99(self) -> float:
        every = sorted(one for each in self.alone for one in each)
        return every[int(len(every) * 0.99)]

    @property
    def noise(self) -> float:
        medians = [statistics.median(each) for each in self.alone]
        return 50 * (max(medians) - min(medians)) / self.p50

    @property
    def cpu_ms(self) -> float:
        return statistics.median(self.cpu) * 1e3

    @property
    def rate(self) -> float:
        return statistics.median(self.together)


def main(workspace: Workspace, console: Console, quick: bool) -> list[Verdict]:
    found: dict[int, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="onestory-bench-") as folder:
        copy = stand.copied(workspace, Path(folder) / "home")
        offers, customers = stand.offers_of(workspace), stand.customers(workspace)
        for count in QUICK_CANDIDATES if quick else CANDIDATES:
            stand.put(copy, offers, count)
            prepare_naive(copy, customers)
            found[count] = measured(copy, customers, QUICK_ROUNDS if quick else ROUNDS)
            console.print(_table(count, found[count]))
            if count == min(found):
                console.print(_shared(count, found[count], at_once(copy, customers, QUICK_ROUNDS if quick else ROUNDS)))
    return list(_verdicts(found))


def measured(workspace: Workspace, customers: Sequence[str], rounds: int) -> dict[str, Figures]:
    """Every server's figures, in rounds in which they take turns; ours also while events are written."""
    asks = clients.asks(customers)
    figures = {name: Figures() for name in [*SERVED, BUSY]}
    busy = figures[BUSY]
    with ExitStack() as stack:
        at_work = {name: stack.enter_context(servers.served(target, workspace)) for name, target in SERVED.items()}
        ours = at_work["ours"]
        clients.feeds_alive(ours.port)
        for name, server in at_work.items():
            clients.timed(server.port, asks, min(2 * len(asks), 2 * CALLS[name]))
        for _ in range(rounds):
            for name, server in at_work.items():
                _round(figures[name], server, asks, CALLS[name])
            with clients.written(ours.port, customers, WRITES_A_SECOND):
                clients.timed(ours.port, asks, 50)
                before, began = _stored(ours.port), time.perf_counter()
                _round(busy, ours, asks, CALLS["ours"])
                busy.events.append((_stored(ours.port) - before) / (time.perf_counter() - began))
    return figures


def at_once(workspace: Workspace, customers: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """The answers a second to many clients of the empty endpoint and of ours, each with `MANY_WORKERS`, in turns."""
    asks = clients.asks(customers)
    rates: dict[str, list[float]] = {"empty": [], "ours": []}
    with ExitStack() as stack:
        at_work = {
            name: stack.enter_context(servers.served(SERVED[name], workspace, MANY_WORKERS)).port for name in rates
        }
        clients.feeds_alive(at_work["ours"])
        for number in range(rounds + 1):
            for name, port in at_work.items():
                rate = clients.together(port, asks, MANY_WORKERS * CALLS[name], CLIENTS)[0]
                if number:  # the first is to warm up
                    rates[name].append(rate)
    return rates


def _shared(count: int, alone: dict[str, Figures], rates: dict[str, list[float]]) -> Table:
    table = Table(title=f"/decide, {count} candidates, {CLIENTS} clients, {MANY_WORKERS} workers")
    headings = ("endpoint", "a second", "× empty", "× of 1 worker", "noise ±%")
    for heading in headings:
        table.add_column(heading, justify="right" if heading != "endpoint" else "left")
    middle = {name: statistics.median(each) for name, each in rates.items()}
    for name, each in rates.items():
        noise = 50 * (max(each) - min(each)) / middle[name]
        times = (f"{middle[name] / middle['empty']:.2f}", f"{middle[name] / alone[name].rate:.2f}")
        table.add_row(name, f"{middle[name]:,.0f}", *times, f"{noise:.0f}")
    return table


def _round(figures: Figures, server: servers.Server, asks: Sequence[bytes], calls: int) -> None:
    """So many calls one after the other, then as many by many clients at once."""
    before = server.cpu_s()
    figures.alone.append(clients.timed(server.port, asks, calls))
    figures.together.append(clients.together(server.port, asks, calls, CLIENTS)[0])
    figures.cpu.append((server.cpu_s() - before) / (2 * calls))


def _stored(port: int) -> int:
    """Events that the server has stored since it started."""
    with clients.client(port) as one:
        told = one.call(clients.reading("/metrics")).decode()
    return int(float(next(line for line in told.splitlines() if line.startswith(STORED)).rpartition(" ")[2]))


def prepare_naive(workspace: Workspace, customers: Sequence[str]) -> None:
    made = workspace.home / "naive"
    if made.exists():
        made.rename(workspace.home / f"naive-{len(list(workspace.home.glob('naive*')))}")
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.naive_store", *customers]
    subprocess.run(command, cwd=PROJECT, env=servers.environment_of(workspace), check=True)


def _table(count: int, figures: dict[str, Figures]) -> Table:
    table = Table(title=f"/decide, {count} candidates, 1 worker")
    headings = ("endpoint", "p50 ms", "p99 ms", "× empty", "noise ±%", f"{CLIENTS} clients: a second", "× empty")
    headings += ("CPU ms", "× empty")
    for heading in headings:
        table.add_column(heading, justify="right" if heading != "endpoint" else "left")
    floor = figures["empty"]
    for name, each in figures.items():
        alone = (f"{each.p50 * 1e3:.2f}", f"{each.p99 * 1e3:.2f}", f"{each.p50 / floor.p50:.2f}", f"{each.noise:.0f}")
        table.add_row(
            name,
            *alone,
            f"{each.rate:,.0f}",
            f"{each.rate / floor.rate:.2f}",
            f"{each.cpu_ms:.2f}",
            f"{each.cpu_ms / floor.cpu_ms:.2f}",
        )
    return table


def _verdicts(found: dict[int, dict[str, Figures]]) -> Iterator[Verdict]:
    for count, figures in found.items():
        ours, empty, naive = figures["ours"], figures["empty"], figures["naive"]
        most = {20: 1.8, 100: 2.2}.get(count)
        if most is not None:
            yield Verdict(f"p50 against the empty endpoint, {count} candidates", most, ours.p50 / empty.p50)
        if count == min(found):
            many, busy = f"{CLIENTS} clients", figures[BUSY]
            yield Verdict(f"{many}, answers a second against empty", 0.55, ours.rate / empty.rate, True)
            yield Verdict("p50 of the naive service against ours", 12.0, naive.p50 / ours.p50, True)
            yield Verdict(f"{many}, ours against naive", 20.0, ours.rate / naive.rate, True)
            came = f"{statistics.median(busy.events):.0f} of {WRITES_A_SECOND:.0f} events a second"
            yield Verdict(f"p50 with {came} against quiet", 1.3, busy.p50 / ours.p50)
