"""The Feast repository of `naive`: the same customers' features, products and purchases as columns, SQLite online.

`python -m benchmarks.naive_store CUSTOMER …` makes it inside the workspace of `ONESTORY_HOME`, with a LightGBM
classifier of 200 trees beside it, fitted on chance: what it says does not matter, what it costs does.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64
from lightgbm import LGBMClassifier

from features.catalog import load_catalog
from features.profiles import FEATURES, LAST, derive
from features.workspace import open_workspace

FOLDER = "naive"
CUSTOMER = [f"customer:{name}" for name in FEATURES]
PRODUCT = ["product:quantity", "product:price"]
BOUGHT = ["bought:last_bought"]
TREES, ROWS = 200, 5_000


def main(customer_ids: list[str]) -> None:
    workspace = open_workspace(os.environ["ONESTORY_HOME"])
    home = workspace.home / FOLDER
    home.mkdir()
    from features.store import ProfileStore

    ours, now, at = ProfileStore(workspace), time.time(), datetime.now(UTC)
    profiles = {customer_id: seen.profile for customer_id, seen in ours.read_many(customer_ids).items()}
    ours.close()
    catalog = load_catalog(workspace)
    leads = sorted({catalog.products_of(offer)[0] for offer in catalog.offers.values()})
    with sqlite3.connect(workspace.home / "onestory.db") as connection:
        levels = dict(connection.execute("SELECT product_id, quantity FROM stock WHERE location_id = 'online'"))
    rows: dict[str, list[dict[str, Any]]] = {
        "customer": [{"customer_id": each, **derive(profile, now)} for each, profile in profiles.items()],
        "product": [
            {
                "product_id": product_id,
                "quantity": float(levels.get(product_id, 0)),
                "price": catalog.products[product_id].price if product_id in catalog.products else 0.0,
            }
            for product_id in leads
        ],
        "bought": [
            {"customer_id": each, "product_id": product_id, "last_bought": profile.items[f"p:{product_id}"][LAST]}
            for each, profile in profiles.items()
            for product_id in leads
            if f"p:{product_id}" in profile.items
        ],
    }
    _store(home, {name: pd.DataFrame(rows[name]).assign(event_timestamp=at) for name in rows})
    chance = np.random.default_rng(1)
    columns = [*FEATURES, "price", "discount"]
    frame = pd.DataFrame(chance.normal(size=(ROWS, len(columns))), columns=columns)
    model = LGBMClassifier(n_estimators=TREES, verbose=-1).fit(frame, chance.integers(0, 2, ROWS))
    joblib.dump(model, home / "model.joblib")


def _store(home: Path, frames: dict[str, pd.DataFrame]) -> None:
    (home / "feature_store.yaml").write_text(
        f"project: naive\nprovider: local\nregistry: {home}/registry.db\n"
        f"online_store: {{type: sqlite, path: {home}/online.db}}\nentity_key_serialization_version: 3\n"
    )
    entities = {
        name: Entity(name=name, join_keys=[f"{name}_id"], value_type=ValueType.STRING)
        for name in ("customer", "product")
    }
    of = {"customer": ["customer"], "product": ["product"], "bought": ["customer", "product"]}
    views = []
    for name, frame in frames.items():
        frame.to_parquet(home / f"{name}.parquet")
        source = FileSource(path=str(home / f"{name}.parquet"), timestamp_field="event_timestamp")
        ids = [f"{each}_id" for each in of[name]]
        schema = [Field(name=column, dtype=Float64) for column in frame if column not in (*ids, "event_timestamp")]
        views.append(
            FeatureView(
                name=name,
                entities=[entities[each] for each in of[name]],
                schema=schema,
                source=source,
                ttl=timedelta(days=730),
            )
        )
    store = FeatureStore(repo_path=str(home))
    store.apply([*entities.values(), *views])
    for name, frame in frames.items():
        store.write_to_online_store(name, frame)


if __name__ == "__main__":
    main(sys.argv[1:])
