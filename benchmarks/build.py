"""Building every profile and all its past: events a second, beside what a notebook does with the same orders.

Ours is `python -m features build --whole`: the log replayed into the state after every event, all entries with it, and
the online store written. Beside it pandas: a dozen usual features (recency, frequency, money, gaps, variety) of each
customer after each order, by `groupby` and a loop over the orders, written to parquet; no returns, no late events, no
online store. Both get the first so many customers' events of the demo.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import sqlalchemy as sa
from rich.console import Console

from benchmarks import sizes
from benchmarks.sizes import Work
from features import build, database
from features.store import ProfileStore
from features.vocabulary import DAY_S
from features.workspace import Workspace

SIZES, QUICK_SIZES = (75, 225, 675), (25, 75)
"""Customers, of some 60 events each."""
ROUNDS, AT_ONCE = 1, 50
NOTEBOOK = "pandas, groupby"
WINDOWS_D = (7, 30, 90, 365)


def main(workspace: Workspace, console: Console, quick: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="onestory-bench-") as folder:
        homes = {size: Workspace(Path(folder) / str(size)) for size in (QUICK_SIZES if quick else SIZES)}
        for size, home in homes.items():
            take_over(workspace, home, size)
        ways = {
            name: lambda size, name=name: sizes.run(homes[size], __name__, name, size) for name in (NOTEBOOK, "ours")
        }
        found = sizes.in_turns(ways, homes, ROUNDS)
    console.print(sizes.table("every profile built, with all its past", "events", found, NOTEBOOK))


def take_over(workspace: Workspace, other: Workspace, customers: int) -> None:
    """Put the events of the first so many customers into `other`, which is empty."""
    log, here = database.events, database.connect(workspace)
    other.home.mkdir(parents=True, exist_ok=True)
    with database.reading(here) as source, database.transaction(database.connect(other)) as target:
        known = sa.select(log.c.customer_id).where(log.c.customer_id.is_not(None)).distinct()
        ids = source.scalars(known.order_by(log.c.customer_id).limit(customers)).all()
        for start in range(0, len(ids), AT_ONCE):
            theirs = sa.select(log).where(log.c.customer_id.in_(ids[start : start + AT_ONCE])).order_by(log.c.seq)
            target.execute(sa.insert(log), [dict(row) for row in source.execute(theirs).mappings()])


def count(workspace: Workspace) -> int:
    with database.reading(database.connect(workspace)) as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(database.events)) or 0


def ours(workspace: Workspace, size: int) -> Work:
    store = ProfileStore(workspace)

    def make() -> int:
        build.build(workspace, store=store, whole=True)
        return count(workspace)

    return make


def notebook(workspace: Workspace, size: int) -> Work:
    def make() -> int:
        orders = _orders(workspace)
        found = [_after_each(theirs) for _, theirs in orders.groupby("customer_id")]
        pd.concat(found, ignore_index=True).to_parquet(workspace.home / "notebook.parquet")
        return count(workspace)

    return make


def _orders(workspace: Workspace) -> pd.DataFrame:
    """A row per order, as anybody would have them in a table."""
    log = database.events.c
    query = sa.select(log.customer_id, log.occurred_at, log.body).where(log.name == "Order Completed")
    rows: list[dict[str, Any]] = []
    with database.reading(database.connect(workspace)) as connection:
        for row in connection.execute(query.order_by(log.customer_id, log.occurred_at)):
            lines = orjson.loads(row.body)["products"]
            spend = sum(line.get("price", 0.0) * line.get("quantity", 1) for line in lines)
            products = [line["product_id"] for line in lines]
            rows.append({"customer_id": row.customer_id, "at": row.occurred_at, "spend": spend, "products": products})
    return pd.DataFrame(rows)


def _after_each(orders: pd.DataFrame) -> pd.DataFrame:
    """The features of one customer after each order."""
    rows = []
    for place, now in enumerate(orders["at"]):
        past = orders.iloc[: place + 1]
        age = (now - past["at"]) / DAY_S
        gaps = past["at"].diff() / DAY_S
        row = {
            "customer_id": past["customer_id"].iloc[-1],
            "at": now,
            "orders": len(past),
            "days_since_first": age.max(),
            "gap_mean": gaps.mean(),
            "gap_std": gaps.std(),
            "spend": past["spend"].sum(),
            "basket_spend": past["spend"].mean(),
            "distinct_products": past["products"].explode().nunique(),
        }
        for days in WINDOWS_D:
            recent = past[age <= days]
            row |= {f"orders_{days}d": len(recent), f"spend_{days}d": recent["spend"].sum()}
        rows.append(row)
    return pd.DataFrame(rows)


JOBS = {NOTEBOOK: notebook, "ours": ours}
