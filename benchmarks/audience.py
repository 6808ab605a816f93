"""Deciding for an audience file: customers a second, beside LightGBM's `predict` alone on the same rows.

As `python -m serving decide` does it, for an e-mail newsletter by day, with everything on: contacts, reservations, the
log and the result file. Everybody is made to have agreed to e-mail, which in the demo nobody has. LightGBM gets the
rows that these decisions scored as one matrix, on one thread; what takes so short is compared by the processor's time,
which other work does not stretch. The demo has 2,467 customers; at an exponent of 1 an audience of 100,000 takes forty
times as long, on either side.
"""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import sizes, stand
from benchmarks.sizes import Work
from benchmarks.verdicts import Verdict
from features.workspace import Workspace, open_workspace
from serving.audience import decide_audience
from serving.engine import Engine
from serving.question import Question
from serving.scoring import Model, model_folder, read_pointer

CANDIDATES, TIMES = 20, 3.0
SIZES, QUICK_SIZES = (250, 1_000, 2_467), (100, 400)
ROUNDS = 1
ALONE = "LightGBM's predict"
FLAT = 0.1
"""Memory that grows with a smaller exponent than this counts as flat."""


def main(workspace: Workspace, console: Console, quick: bool) -> list[Verdict]:
    many = QUICK_SIZES if quick else SIZES
    with tempfile.TemporaryDirectory(prefix="onestory-bench-") as folder:
        copy = stand.copied(workspace, Path(folder) / "home")
        stand.put(copy, stand.offers_of(workspace), CANDIDATES)
        sizes.run(copy, __name__, "agreed", many[-1])
        ways = {name: lambda size, name=name: sizes.run(copy, __name__, name, size) for name in (ALONE, "ours")}
        found = sizes.in_turns(ways, many, ROUNDS)
    title = f"decisions for an audience, {CANDIDATES} candidates, one process"
    console.print(sizes.table(title, "customers", found, ALONE))
    ours, alone = found["ours"], found[ALONE]
    what = f"an audience of {ours[-1].rows:,}"
    grows = sizes.exponent(ours, lambda run: run.peak_mb)
    return [
        Verdict(f"{what}: CPU against LightGBM's predict alone", TIMES, ours[-1].cpu / alone[-1].cpu),
        Verdict(f"{what}: exponent of memory (flat)", FLAT, grows),
    ]


def customers(workspace: Workspace, size: int) -> list[str]:
    """The first `size` logins, always the same ones."""
    with sqlite3.connect(workspace.home / "onestory.db") as connection:
        ids = [row[0] for row in connection.execute("SELECT customer_id FROM profiles ORDER BY customer_id")]
    return [each for each in ids if not each.startswith("anonymous:")][:size]


def by_day() -> float:
    """Today at 18:00 UTC: no quiet hours in Europe or America."""
    return time.time() // 86_400 * 86_400 + 64_800.0


def opened(workspace: Workspace) -> Engine:
    """An engine over a copy of its own, since who was written to today is not written to again; feeds are alive."""
    folder = tempfile.mkdtemp(prefix="onestory-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    engine = Engine.open(open_workspace(stand.copied(workspace, Path(folder) / "home").home))
    stand.feeds_alive(engine, by_day())
    return engine


def question(customer_id: str) -> Question:
    return Question(customer_id, "email", "newsletter")


def ours(workspace: Workspace, size: int) -> Work:
    ids, engine = customers(workspace, size), opened(workspace)
    out = engine.workspace.home / "decided.parquet"

    def decide() -> int:
        whose = engine.resolver.customer
        summary = decide_audience(engine.decisions, ids, question, by_day, out, lambda count: None, whose)
        engine.close()
        return summary.customers

    return decide


@dataclass
class Heard:
    """A model that keeps the rows it is asked about."""

    model: Model
    rows: list[Any] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict(self, rows: Any) -> list[float]:
        self.rows.append(rows[:, self.model.positions])
        return self.model.predict(rows)


def alone(workspace: Workspace, size: int) -> Work:
    import lightgbm

    ids, engine = customers(workspace, size), opened(workspace)
    model, pointer = engine.policy.models.propensity, read_pointer(workspace, "propensity")
    if model is None or pointer is None:
        raise ValueError("the workspace has no propensity model; run `make demo` first")
    heard = Heard(model)
    engine.desk.policy = replace(engine.policy, models=replace(engine.policy.models, propensity=heard))
    for _ in _asked(engine, ids):
        pass
    engine.close()
    matrix = np.ascontiguousarray(np.vstack(heard.rows))
    booster = lightgbm.Booster(model_file=model_folder(workspace, pointer["tag"]) / "booster.txt")

    def predict() -> int:
        booster.predict(matrix, num_threads=1)
        return len(ids)

    return predict


def _asked(engine: Engine, ids: Sequence[str]) -> Iterator[object]:
    for start in range(0, len(ids), 100):
        yield list(engine.decisions([question(each) for each in ids[start : start + 100]], by_day()))


def agreed(workspace: Workspace, size: int) -> Work:
    """Everybody says yes to e-mail, an hour before the audience is decided for."""
    ids, engine, at = customers(workspace, size), Engine.open(workspace), by_day() - 3_600.0
    consents = [
        {
            "message_id": f"bench-consent-{each}",
            "name": "Consent Updated",
            "occurred_at": at,
            "user_id": each,
            "body": {"channel": "email", "granted": True, "purpose": "marketing"},
        }
        for each in ids
    ]

    def take() -> int:
        for start in range(0, size, 100):
            engine.intake.many(consents[start : start + 100], at)
        engine.close()
        return len(ids)

    return take


JOBS = {ALONE: alone, "ours": ours, "agreed": agreed}
