"""The benchmark's own code: every job does its work on a small world, and figures are told as they are."""

from __future__ import annotations

import gc
import io
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from champions import promote_trees
from rich.console import Console
from rich.table import Table

from benchmarks import (
    audience,
    datasets,
    decisions,
    instructions,
    machine,
    replay,
    sizes,
    stand,
    start,
    training,
    verdicts,
)
from benchmarks import build as building
from benchmarks.servers import environment_of
from benchmarks.sizes import NOT_RUN, Run
from benchmarks.verdicts import Verdict
from features import build, database
from features.workspace import PROJECT, Workspace, open_workspace
from serving.engine import Engine
from serving.schemas import DecideRequest
from training.datasets import Dataset
from training.tasks import PROPENSITY

DAY_S = 86_400.0
SHOP = ["chair-oak", "chair-woven", "coffee-beans-1kg", "table-oak-180", "trail-shoe-42"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A dozen customers who bought something on some days, a model, and what is sold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONESTORY_HOME", "")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = open_workspace(tmp_path_factory.mktemp("shop") / "home")
        promote_trees(workspace, "1")
        engine, now = Engine.open(workspace), time.time()
        for number in range(36):
            at = now - (40 - number) * DAY_S
            engine.intake.one(_order(number, at), at)
        engine.ingest([_stock(product_id) for product_id in SHOP], now, None)
        engine.close()
        build.build(workspace)
        yield workspace
        database.connect(workspace).dispose()


def _order(number: int, at: float) -> dict[str, object]:
    lines = [{"product_id": SHOP[number % 5], "quantity": 1, "price": 9.5}]
    body = {"order_id": f"o{number}", "products": lines}
    told = {"message_id": f"m{number}", "name": "Order Completed", "occurred_at": at}
    return {**told, "user_id": f"c{number % 12}", "body": body}


def _stock(product_id: str) -> dict[str, object]:
    properties = {"product_id": product_id, "location_id": "online", "quantity": 9}
    return {"type": "track", "event": "Stock Updated", "messageId": f"stock-{product_id}", "properties": properties}


@pytest.fixture
def copy(shop: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    made = stand.copied(shop, tmp_path / "home")
    stand.put(made, stand.offers_of(shop), 20)
    yield made
    open_workspace(shop.home)


def test_growth_is_the_exponent_of_the_rows() -> None:
    runs = [Run(rows, 0.0, 3e-6 * rows**2, 250.0) for rows in (10, 100, 1_000)]
    assert sizes.exponent(runs) == pytest.approx(2.0)
    assert sizes.exponent(runs, lambda run: run.peak_mb) == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(sizes.exponent(runs[:1]))


def test_who_gives_up_at_a_size_is_told_up_to_there() -> None:
    ways = {
        "steady": lambda size: Run(size, size / 100, 1.0, 9.0),
        "gives up": lambda size: Run(size, size / 50, 1.0, 9.0) if size < 100 else NOT_RUN,
    }
    found = sizes.in_turns(ways, (10, 100, 1_000), rounds=3)
    assert [len(runs) for runs in found.values()] == [3, 1]
    told = shown(sizes.table("title", "rows", found, "gives up"))
    assert "0.50" in told and "2.00" not in told
    assert "n^0.00" in told


def test_a_target_is_met_from_either_side() -> None:
    assert Verdict("time", 3.0, 2.9).met and not Verdict("time", 3.0, 3.1).met
    assert Verdict("rate", 5_000.0, 5_001.0, True).met and not Verdict("rate", 5_000.0, 326.0, True).met
    (row,) = [
        line for line in shown(verdicts.table([Verdict("rate", 5_000.0, 326.4, True)])).splitlines() if "│" in line
    ]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["rate", "≥ 5,000", "326", "no"]


def shown(table: Table) -> str:
    """As it is printed."""
    console = Console(width=200, file=io.StringIO())
    with console.capture() as told:
        console.print(table)
    return told.get()


def test_every_target_of_a_decision_has_its_verdict() -> None:
    def figures(seconds: float, rate: float) -> decisions.Figures:
        return decisions.Figures([[seconds] * 3], [rate], [seconds], [181.6])

    found = {
        count: {
            "empty": figures(0.001, 1_000.0),
            "ours": figures(0.0015, 600.0),
            "naive": figures(0.03, 20.0),
            decisions.BUSY: figures(0.003, 300.0),
        }
        for count in (20, 100, 300)
    }
    measured = {each.what: (round(each.measured, 2), each.met) for each in decisions._verdicts(found)}
    assert list(measured.values()) == [(1.5, True), (0.6, True), (20.0, True), (30.0, True), (2.0, False), (1.5, True)]
    assert "p50 with 182 of 200 events a second against quiet" in measured


def test_the_machines_noise_is_at_least_none() -> None:
    middle, often = (float(part.split()[-1]) for part in machine.noise(5).split("×")[:2])
    assert 1.0 <= middle <= often


def test_memory_is_that_of_this_process() -> None:
    pss, rss = start.memory_mb(os.getpid())
    assert 50.0 < pss <= rss
    assert sizes.peak_mb() >= 0.9 * rss
    assert list(start.workers_of(os.getpid())) == [os.getpid()]


def test_a_decision_and_an_event_leave_nothing_for_the_search_for_cycles(copy: Workspace) -> None:
    engine, now = Engine.open(copy), time.time()

    def at_work() -> None:
        engine.decide(DecideRequest(customer_id="c1", channel="web", placement="home"), now)
        engine.ingest([_stock(SHOP[0])], now, None)

    at_work()
    gc.collect()
    gc.disable()
    try:
        at_work()
        assert gc.collect() == 0
    finally:
        gc.enable()
        engine.close()


def test_a_worker_loads_nothing_that_it_does_not_need(copy: Workspace) -> None:
    """In a process of its own: what is imported here already stays."""
    script = (
        "import sys\n"
        "from serving import service\n"
        "engine = service._open_engine()\n"
        "idle = {'sklearn', 'mlflow', 'dask', 'matplotlib', 'scipy.stats', 'grpc', 'training'} & set(sys.modules)\n"
        "assert engine.policy.models.propensity is not None and not idle, idle\n"
        "engine.close()\n"
        "from sklearn.base import BaseEstimator\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=PROJECT, env=environment_of(copy), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_way_to_a_dataset_gives_its_rows_and_ours_are_feasts(shop: Workspace, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "simulated")
    datasets.simulate(shop, other, 50, 90)
    for job in datasets.JOBS.values():
        assert sizes.work(job(other, 50)).rows == 50
    assert len(pd.read_parquet(other.offline / "profile.parquet")) == pytest.approx(90, abs=16)
    open_workspace(shop.home)


def test_a_difference_from_feast_ends_the_benchmark(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Workspace(tmp_path / "simulated")
    datasets.simulate(shop, other, 20, 36)
    real = datasets.moments.joined

    def too_early(feast: object, pairs: pd.DataFrame, features: object) -> pd.DataFrame:
        return real(feast, pairs.assign(event_timestamp=pd.Timestamp(0, tz="UTC")), features)

    compare = datasets.checked(other, 20)
    monkeypatch.setattr(datasets.moments, "joined", too_early)
    with pytest.raises(AssertionError):
        compare()
    open_workspace(shop.home)


def test_a_log_made_is_decided_again(copy: Workspace) -> None:
    assert replay.JOBS["log"](copy, 15)() == 15
    assert replay.JOBS["replay"](copy, 15)() == 14


def test_an_audience_is_decided_and_its_rows_are_predicted_alone(copy: Workspace) -> None:
    assert audience.JOBS["agreed"](copy, 8)() == 8
    for name in (audience.ALONE, "ours"):
        assert audience.JOBS[name](copy, 8)() == 8


def test_the_first_customers_histories_are_built_either_way(shop: Workspace, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "few")
    building.take_over(shop, other, 4)
    for job in building.JOBS.values():
        assert job(other, 4)() == 12
    assert len(pd.read_parquet(other.home / "notebook.parquet")) == 12
    assert len(pd.read_parquet(other.offline / "profile.parquet")) == 12
    open_workspace(shop.home)


def test_a_competition_and_a_plain_fit_get_the_same_rows(workspace: Workspace) -> None:
    training.keep(workspace, exposures(900), 600)
    data = training._kept(workspace, 600)
    assert len(data.frame) == len(data.rows) == 600
    whole = exposures(900).frame.groupby("customer_id").size()
    kept = data.frame.groupby("customer_id").size()
    assert (kept == whole[kept.index]).sum() >= len(kept) - 1
    assert training.plain(workspace, 600)() == training.ours(workspace, 600)() == 600


def exposures(rows: int) -> Dataset:
    """Offers sent to a hundred customers, taken by chance."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{number % 100}" for number in range(rows)],
            "offer_id": [f"o{number % 7}" for number in range(rows)],
            "group": [f"g{number * 6 // rows}" for number in range(rows)],
            "as_of": [1.7e9 + number * 6 // rows * 9 * DAY_S for number in range(rows)],
            "label": (random.random(rows) < 0.2).astype(float),
            "closes_at": [1.7e9 + (number * 6 // rows + 1) * 9 * DAY_S for number in range(rows)],
            "channel": "email",
            "placement": "newsletter",
            "segment": "loyal",
            "kind": "coupon",
        }
    )
    return Dataset(frame, random.gamma(1.0, 5.0, (rows, len(PROPENSITY.columns))), PROPENSITY.columns)


def test_without_valgrind_instructions_are_not_counted_and_it_says_so(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = Console(file=io.StringIO(), width=100)
    assert instructions.main(shop, said, quick=True) == []
    assert "no `valgrind`" in said.file.getvalue()


@pytest.mark.parametrize("part", instructions.PARTS)
def test_instructions_are_counted_of_each_part_of_an_answer(
    shop: Workspace, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(instructions, "_control", lambda *told: said.append(told))
    instructions._part(part, shop)
    assert said == [("-i", "on"), ("-d", part)]
