"""What an event costs until it is durable and visible to the next decision, beside Feast's own `FeatureStore.push`.

Ours takes the orders through `Intake`: checked, deduplicated, appended to the log, resolved to a customer, folded,
and written online. Feast's push gets the same orders, online only, in a process of its own (`feast_push`), so that it
runs with Feast as it is installed; the two take turns, round by round.

Two rows can be called the same event: the order's own five fields, as the tutorials push them, and the customer's
features, which are what an order must change before a decision sees it. The targets are held against the first one:
it is the cheaper, and leaves all the rest of the work to somebody else. The second stands beside it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from features import database
from features.catalog import load_catalog
from features.intake import Intake
from features.store import ProfileStore
from features.workspace import PROJECT, Workspace, open_workspace

CUSTOMERS, ROUNDS, ALONE, TOGETHER = 500, 5, 60, 100
FEATURES_ALONE, FIELDS_ALONE = "Feast push of 80 features, one by one", "Feast push of 5 fields, one by one"
FIELDS_TOGETHER = "Feast push of 5 fields, 100 rows"
OURS_ALONE, OURS_TOGETHER = "ours, one by one", "ours, batches of 100"
TARGETS = ((OURS_ALONE, FIELDS_ALONE, 10.0), (OURS_TOGETHER, FIELDS_ALONE, 30.0))
"""What of ours has to be how many times as fast as what of Feast's."""


def orders(count: int, began: float, first: int) -> list[dict[str, Any]]:
    """`count` orders of one line, a tenth of a second apart, by 500 customers in turn."""
    return [
        {
            "message_id": f"bench-{first + i}",
            "name": "Order Completed",
            "occurred_at": began + (first + i) / 10,
            "user_id": f"c{(first + i) % CUSTOMERS}",
            "channel": "web",
            "body": {
                "order_id": f"o{first + i}",
                "products": [{"product_id": f"p{i % 97}", "quantity": 1, "price": 2.5}],
            },
        }
        for i in range(count)
    ]


def main(workspace: Workspace, console: Console, quick: bool) -> None:
    """Print the table: rows a second, one by one and in batches, in interleaved rounds."""
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, _feast() as push:
        intake = _intake(Path(folder))
        began, first = time.time() - 86_400.0, 0
        rounds = 2 if quick else ROUNDS
        for number in range(rounds + 1):
            for name, measured in {
                FEATURES_ALONE: push("features", ALONE, 1),
                "Feast push of 80 features, 100 rows": push("features", 5 * TOGETHER, TOGETHER),
                FIELDS_ALONE: push("order", ALONE, 1),
                FIELDS_TOGETHER: push("order", 10 * TOGETHER, TOGETHER),
                OURS_ALONE: rate(intake, orders(5 * ALONE, began, first), 1),
                OURS_TOGETHER: rate(intake, orders(20 * TOGETHER, began, first + 5 * ALONE), TOGETHER),
            }.items():
                if number:
                    rates.setdefault(name, []).append(measured)
            first += 5 * ALONE + 20 * TOGETHER
    console.print(_table(rates))
    console.print(_verdicts({name: _middle(each) for name, each in rates.items()}))


def rate(take: Callable[[Sequence[dict[str, Any]]], object], events: Sequence[dict[str, Any]], size: int) -> float:
    """Events a second when `take` gets them in pieces of `size`."""
    started = time.perf_counter()
    for start in range(0, len(events), size):
        take(events[start : start + size])
    return len(events) / (time.perf_counter() - started)


def _intake(home: Path) -> Callable[[Sequence[dict[str, Any]]], object]:
    workspace = open_workspace(home)
    intake = Intake(database.connect(workspace), ProfileStore(workspace), load_catalog(workspace))
    return lambda events: intake.many(events, time.time())


@contextmanager
def _feast() -> Iterator[Callable[[str, int, int], float]]:
    """Asks `feast_push` for one round at a time: `(view, rows, rows a push)` to rows a second."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.feast_push"]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        asks, answers = child.stdin, child.stdout
        assert asks is not None and answers is not None

        def push(view: str, count: int, size: int) -> float:
            print(view, count, size, file=asks, flush=True)
            return float(answers.readline())

        yield push
        asks.close()


def _table(rates: dict[str, list[float]]) -> Table:
    table = Table(title="ingestion, durable and visible, one process")
    for heading in ("way in", "events a second", "× 80 features", "× 5 fields", "noise ±%"):
        table.add_column(heading, justify="right" if heading != "way in" else "left")
    middle = {name: _middle(each) for name, each in rates.items()}
    for name, each in rates.items():
        noise = 50 * (max(each) - min(each)) / middle[name]
        times = (f"{middle[name] / middle[floor]:.1f}" for floor in (FEATURES_ALONE, FIELDS_ALONE))
        table.add_row(name, f"{middle[name]:,.0f}", *times, f"{noise:.0f}")
    return table


def _verdicts(middle: Mapping[str, float]) -> Table:
    """The targets of the project, each with what came out; and the fair comparison of batches, which has no target."""
    table = Table(title="targets")
    for heading in ("what", "against", "target", "measured", "met"):
        table.add_column(heading, justify="left" if heading in ("what", "against") else "right")
    for ours, theirs, least in TARGETS:
        ratio = middle[ours] / middle[theirs]
        table.add_row(ours, theirs, f"≥ {least:.0f} ×", f"{ratio:.1f} ×", "yes" if ratio >= least else "no")
    fair = middle[OURS_TOGETHER] / middle[FIELDS_TOGETHER]
    table.add_row(OURS_TOGETHER, FIELDS_TOGETHER, "none", f"{fair:.2f} ×", "")
    return table


def _middle(rates: Sequence[float]) -> float:
    return sorted(rates)[len(rates) // 2]
