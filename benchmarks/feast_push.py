"""Feast's own way in, as its documentation has it: a push source over a view, local provider, SQLite online store.

Two views: `order` has the five fields of an order; `features` has every feature of its customer, which is what an
order must change for the next decision to see it. Their values are given, to work them out costs nothing here; and
nothing is kept but the row: no log, no duplicates found. For every line `VIEW COUNT SIZE` on stdin, pushes so many
orders, so many a push, and prints rows a second.
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
from features import profiles

VIEWS = {
    "order": {"order_id": String, "product_id": String, "quantity": Int64, "price": Float64, "channel": String},
    "features": dict.fromkeys(profiles.FEATURES, Float64),
}
VALUES = dict.fromkeys(profiles.FEATURES, 0.5)


def row(event: Mapping[str, Any], view: str) -> dict[str, Any]:
    """An order of one line as a row of the view."""
    at = datetime.fromtimestamp(event["occurred_at"], UTC)
    (line,) = event["body"]["products"]
    order = {"order_id": event["body"]["order_id"], "channel": event["channel"], **line}
    return {"customer_id": event["user_id"], "event_timestamp": at, **(order if view == "order" else VALUES)}


def opened(home: Path) -> FeatureStore:
    """A feature store with both views."""
    customer = Entity(name="customer", join_keys=["customer_id"])
    objects: list[Any] = [customer]
    for view, columns in VIEWS.items():
        batch = home / f"{view}.parquet"
        pd.DataFrame([row(event, view) for event in orders(1, time.time() - 86_400.0, 0)]).to_parquet(batch)
        source = PushSource(name=view, batch_source=FileSource(path=str(batch), timestamp_field="event_timestamp"))
        schema = [Field(name=name, dtype=kind) for name, kind in columns.items()]
        ttl = timedelta(days=730)
        objects.append(FeatureView(name=f"{view}_view", entities=[customer], schema=schema, source=source, ttl=ttl))
    config = {"project": "bench", "provider": "local", "registry": str(home / "registry.db")}
    store = FeatureStore(config=RepoConfig(**config, online_store={"type": "sqlite", "path": str(home / "online.db")}))
    store.apply(objects)
    return store


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = opened(Path(folder))
        first = 0
        for line in sys.stdin:
            view, count, size = line.split()

            def push(events: Sequence[Mapping[str, Any]], view: str = view) -> None:
                store.push(view, pd.DataFrame([row(event, view) for event in events]), to=PushMode.ONLINE)

            print(rate(push, orders(int(count), time.time() - 86_400.0, first), int(size)), flush=True)
            first += int(count)


if __name__ == "__main__":
    main()
