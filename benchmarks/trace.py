"""What the always-on trace costs: `/decide`'s work in one process with it, and with all reasons left out, in turns.

Without it nothing of what is held back is told, counted or logged; the rules are asked all the same, because the
screen needs them. The product has no such switch: `Untraced` is the benchmark's own. Processor time, so that
what else the machine does is on neither side; HTTP is left out, which would only make the share smaller.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks import stand
from features.workspace import Workspace, open_workspace
from serving.decide import Decision
from serving.desk import Desk
from serving.engine import Engine
from serving.question import Question

LEFT_BEHIND = shutil.ignore_patterns("mlartifacts", "mlflow.db*", "offline", "decisions", "demo", "continuity")
CUSTOMERS, ROUNDS, QUICK_ROUNDS = 30, 20, 5
CANDIDATES = (20, 200)


class Untraced(Desk):
    """A desk that keeps no reasons."""

    def traced(self, decision: Decision) -> dict[str, Any]:
        return {"suppressed": [], "passed_over": []}


def main(workspace: Workspace, console: Console, quick: bool) -> None:
    table = Table(title=f"the trace: {CUSTOMERS} customers' decisions, in one process")
    for heading in ("offers", "held back", "ms with it", "ms without", "it adds %"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory(prefix="onestory-bench-") as scratch:
        home = Path(scratch) / "home"
        shutil.copytree(workspace.home, home, ignore=LEFT_BEHIND)
        offers = yaml.load((home / "offers.yaml").read_bytes(), yaml.CSafeLoader)["offers"]
        try:
            for count in CANDIDATES:
                few = {"offers": offers[:: max(1, len(offers) // count)][:count]}
                (home / "offers.yaml").write_text(yaml.dump(few, Dumper=yaml.CSafeDumper))
                table.add_row(*_measured(open_workspace(home), QUICK_ROUNDS if quick else ROUNDS))
        finally:
            open_workspace(workspace.home)
    console.print(table)


def _measured(copy: Workspace, rounds: int) -> tuple[str, ...]:
    """Of each customer the quickest of all rounds, with and without: what disturbs only ever adds."""
    traced, bare = Engine.open(copy), Engine.open(copy)
    bare.desk = Untraced(bare.resolver, bare.store, bare.signals, bare.log, bare.last, bare.policy)
    now = time.time()
    stand.feeds_alive(bare, now)
    asks = [Question(str(number), "web", "home") for number in range(1, CUSTOMERS + 1)]
    with_it, without = (
        [min(each) for each in zip(*rounds_, strict=True)] for rounds_ in _rounds(traced, bare, asks, now, rounds)
    )
    held = statistics.mean(len(traced.decision(ask, now)["suppressed"]) for ask in asks)
    offers = len(traced.policy.catalog.offers)
    traced.close()
    bare.close()
    figures = (statistics.median(with_it), statistics.median(without), 100.0 * (sum(with_it) / sum(without) - 1.0))
    return (str(offers), f"{held:.0f}", *(f"{figure:.2f}" for figure in figures))


def _rounds(
    traced: Engine, bare: Engine, asks: Sequence[Question], now: float, rounds: int
) -> Iterator[list[list[float]]]:
    times: dict[Engine, list[list[float]]] = {traced: [], bare: []}
    for number in range(rounds):
        turn = (traced, bare) if number % 2 else (bare, traced)
        for engine in turn:
            times[engine].append([])
        for ask in asks:
            for engine in turn:
                times[engine][-1].append(_spent(engine, ask, now))
    yield times[traced]
    yield times[bare]


def _spent(engine: Engine, ask: Question, now: float) -> float:
    began = time.thread_time_ns()
    engine.decide(ask, now)
    return (time.thread_time_ns() - began) / 1e6
