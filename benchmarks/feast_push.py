"""Feast's own way in, as its documentation has it: a push source over a view, local provider, SQLite online store.

For every line `COUNT SIZE` on stdin, pushes so many orders, so many a push, and prints rows a second.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig
from feast.data_source import PushMode
from feast.types import Float64, Int64, String

from benchmarks.ingestion import orders, rate

COLUMNS = {"order_id": String, "product_id": String, "quantity": Int64, "price": Float64, "channel": String}


def row(event: Mapping[str, Any]) -> dict[str, Any]:
    """An order of one line as a row of the view."""
    (line,) = event["body"]["products"]
    return {
        "customer_id": event["user_id"],
        "event_timestamp": datetime.fromtimestamp(event["occurred_at"], UTC),
        "order_id": event["body"]["order_id"],
        "channel": event["channel"],
        **line,
    }


def opened(home: Path) -> FeatureStore:
    """A feature store with the one view `last_order`."""
    batch = home / "orders.parquet"
    pd.DataFrame([row(event) for event in orders(1, time.time() - 86_400.0, 0)]).to_parquet(batch)
    customer = Entity(name="customer", join_keys=["customer_id"])
    source = PushSource(name="orders", batch_source=FileSource(path=str(batch), timestamp_field="event_timestamp"))
    schema = [Field(name=name, dtype=kind) for name, kind in COLUMNS.items()]
    view = FeatureView(name="last_order", entities=[customer], schema=schema, source=source, ttl=timedelta(days=730))
    config = {"project": "bench", "provider": "local", "registry": str(home / "registry.db")}
    store = FeatureStore(config=RepoConfig(**config, online_store={"type": "sqlite", "path": str(home / "online.db")}))
    store.apply([customer, view])
    return store


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = opened(Path(folder))

        def push(events: Sequence[Mapping[str, Any]]) -> None:
            store.push("orders", pd.DataFrame([row(event) for event in events]), to=PushMode.ONLINE)

        first = 0
        for line in sys.stdin:
            count, size = map(int, line.split())
            print(rate(push, orders(count, time.time() - 86_400.0, first), size), flush=True)
            first += count


if __name__ == "__main__":
    main()
