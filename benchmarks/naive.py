"""What a good tutorial builds of the same parts, for `bentoml serve`: Feast's front door, pandas, scikit-learn.

BentoML's default settings, `get_online_features(…).to_df()` for the customer, the products and what the customer
bought of them, rules as masks over a frame, `predict_proba`, the best offers in the shape of our answer. It knows
fewer rules than Onestory does and keeps no record, which is to its advantage. `naive_store` makes what it reads.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bentoml
import joblib
import pandas as pd
from feast import FeatureStore

from benchmarks.naive_store import BOUGHT, CUSTOMER, FOLDER, PRODUCT
from features.catalog import load_catalog
from features.workspace import Workspace

WINDOW_DAYS = 30


@bentoml.service
class Naive:
    def __init__(self) -> None:
        home = Path(os.environ["ONESTORY_HOME"])
        self.store = FeatureStore(repo_path=str(home / FOLDER))
        self.model = joblib.load(home / FOLDER / "model.joblib")
        catalog = load_catalog(Workspace(home))
        self.offers = pd.DataFrame(
            [
                {
                    "offer_id": offer.offer_id,
                    "kind": offer.kind,
                    "product_id": catalog.products_of(offer)[0],
                    "valid_from": offer.valid_from,
                    "valid_until": offer.valid_until,
                    "discount": offer.value.discount,
                    "cost": offer.value.cost,
                    "own_margin": offer.value.margin,
                    "treatments": offer.treatments,
                }
                for offer in catalog.offers.values()
            ]
        )

    @bentoml.api
    def decide(self, customer_id: str, channel: str, placement: str, limit: int = 3) -> dict[str, Any]:
        now = time.time()
        product_ids = self.offers["product_id"].tolist()
        customer = self.store.get_online_features(features=CUSTOMER, entity_rows=[{"customer_id": customer_id}]).to_df()
        products = self.store.get_online_features(
            features=PRODUCT, entity_rows=[{"product_id": product_id} for product_id in product_ids]
        ).to_df()
        bought = self.store.get_online_features(
            features=BOUGHT,
            entity_rows=[{"customer_id": customer_id, "product_id": product_id} for product_id in product_ids],
        ).to_df()
        offers = self.offers.assign(
            quantity=products["quantity"], price=products["price"], last_bought=bought["last_bought"].astype(float)
        )
        is_open = (
            (offers["valid_from"] <= now)
            & (now < offers["valid_until"])
            & (offers["quantity"] >= 1)
            & ~(now - offers["last_bought"] < WINDOW_DAYS * 86_400)
            & (offers["own_margin"] - offers["discount"] - offers["cost"] >= 0)
        )
        open_ = offers[is_open]
        frame = customer.drop(columns="customer_id").astype(float).merge(open_[["price", "discount"]], how="cross")
        open_ = open_.assign(
            propensity=self.model.predict_proba(frame)[:, 1] if len(frame) else [],
            value=open_["own_margin"] - open_["discount"] - open_["cost"],
        )
        open_ = open_.assign(priority=open_["propensity"] * open_["value"])
        best = open_.sort_values(["priority", "offer_id"], ascending=[False, True]).head(limit)
        return {
            "decision_id": str(uuid.uuid4()),
            "customer_id": customer_id,
            "channel": channel,
            "placement": placement,
            "decided_at": datetime.fromtimestamp(now, UTC).isoformat(),
            "offers": [
                {
                    "rank": rank,
                    "offer_id": row["offer_id"],
                    "kind": row["kind"],
                    "product_id": row["product_id"],
                    "treatment": row["treatments"].get(channel, {}),
                    "priority": row["priority"],
                    "propensity": row["propensity"],
                    "value": row["value"],
                }
                for rank, row in enumerate(best.to_dict("records"), 1)
            ],
        }
