"""How soon a worker is ready, and how much memory it holds: ours beside the empty endpoint.

From the start of `bentoml serve` until `/readyz` answers 200, files in the page cache (a first start is left out of
the figures). Memory is that of each process `_bentoml_impl.worker.service`, after decisions: PSS, its share of what it
has in common with others, and RSS, all that it maps.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import clients, servers, stand
from benchmarks.verdicts import Verdict
from features.workspace import Workspace

SERVED = {"empty": "benchmarks.empty:Empty", "ours": "serving.service:NextBestAction"}
ROUNDS, QUICK_ROUNDS = 3, 1
WORKERS, CANDIDATES, DECISIONS = (1, 2), 20, 200
WORKER = "_bentoml_impl.worker.service"
READY_S, MOST_MB = 12.0, 400.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds until ready, processor seconds of all processes by then, and MB of each worker."""

    ready_s: float
    cpu_s: float
    pss_mb: Sequence[float]
    rss_mb: Sequence[float]


def main(workspace: Workspace, console: Console, quick: bool) -> list[Verdict]:
    found: dict[tuple[str, int], list[Start]] = {}
    with tempfile.TemporaryDirectory(prefix="onestory-bench-") as folder:
        copy = stand.copied(workspace, Path(folder) / "home")
        stand.put(copy, stand.offers_of(workspace), CANDIDATES)
        asks = clients.asks(stand.customers(workspace))
        started(SERVED["ours"], copy, 1, [])
        for _ in range(QUICK_ROUNDS if quick else ROUNDS):
            for workers in WORKERS:
                for name, target in SERVED.items():
                    found.setdefault((name, workers), []).append(started(target, copy, workers, asks))
    console.print(_table(found))
    return [each for workers in WORKERS for each in _verdicts(workers, found["ours", workers])]


def started(target: str, workspace: Workspace, workers: int, asks: Sequence[bytes]) -> Start:
    """Start it, ask it so much, and end it."""
    began = time.perf_counter()
    with servers.served(target, workspace, workers) as server:
        ready, cpu = time.perf_counter() - began, server.cpu_s()
        if asks:  # every worker gets its share of as many connections
            clients.together(server.port, asks, workers * DECISIONS, 8 * workers)
        memory = [memory_mb(pid) for pid in workers_of(server.pid)]
    return Start(ready, cpu, [pss for pss, _ in memory], [rss for _, rss in memory])


def workers_of(pid: int) -> Iterator[int]:
    """The processes below `pid` that answer; `pid` itself where it has none below it."""
    below = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    found = [each for each in below if WORKER in Path(f"/proc/{each}/cmdline").read_text().replace("\0", " ")]
    yield from found or [pid]


def memory_mb(pid: int) -> tuple[float, float]:
    """PSS and RSS of one process."""
    said = Path(f"/proc/{pid}/smaps_rollup").read_text()
    pss, rss = (int(said.partition(f"\n{name}:")[2].split()[0]) / 1024 for name in ("Pss", "Rss"))
    return pss, rss


def _table(found: dict[tuple[str, int], list[Start]]) -> Table:
    table = Table(title=f"a start on a warm page cache; memory of each worker after {DECISIONS} decisions")
    headings = ("workers", "ready s", "slowest s", "CPU s", "PSS MB", "RSS MB")
    for heading in ("service", *headings):
        table.add_column(heading, justify="left" if heading == "service" else "right")
    for (name, workers), starts in found.items():
        ready = [each.ready_s for each in starts]
        pss, rss = (max(max(of) for of in every) for every in zip(*((s.pss_mb, s.rss_mb) for s in starts), strict=True))
        cpu = statistics.median(each.cpu_s for each in starts)
        times = (f"{statistics.median(ready):.1f}", f"{max(ready):.1f}", f"{cpu:.1f}")
        table.add_row(name, str(workers), *times, f"{pss:.0f}", f"{rss:.0f}")
    return table


def _verdicts(workers: int, starts: Sequence[Start]) -> Iterator[Verdict]:
    many = f"{workers} worker" + "s" * (workers > 1)
    yield Verdict(f"{many}: seconds until ready", READY_S, statistics.median(each.ready_s for each in starts))
    yield Verdict(f"{many}: MB of the largest (PSS)", MOST_MB, max(max(each.pss_mb) for each in starts))
