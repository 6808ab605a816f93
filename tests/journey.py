"""A small Complete Journey for tests that need real data end to end: 150 households, one of them 2375."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd

from features import build, database
from features.sources import completejourney, journey
from features.workspace import Workspace, open_workspace

HOUSEHOLD = "2375"
HOUSEHOLDS = 150


def small_tables() -> dict[str, pd.DataFrame]:
    """The published tables for those households that redeemed most, and the products they or a coupon name."""
    tables = journey.load()
    redeemed = tables["coupon_redemptions"]["household_id"].value_counts()
    chosen = {int(HOUSEHOLD), *sorted(redeemed.index, key=lambda h: (-redeemed[h], h))[: HOUSEHOLDS - 1]}
    for name in ("transactions", "campaigns", "coupon_redemptions"):
        tables[name] = tables[name][tables[name]["household_id"].isin(chosen)]
    open_at_the_end = tables["campaign_descriptions"]["end_date"] >= "2018-01-01"
    kept = set(
        tables["campaign_descriptions"][
            open_at_the_end | tables["campaign_descriptions"]["campaign_id"].isin(range(1, 8))
        ]["campaign_id"]
    )
    for name in ("coupons", "campaigns", "coupon_redemptions", "campaign_descriptions"):
        tables[name] = tables[name][tables[name]["campaign_id"].isin(kept)]
    named = {*tables["transactions"]["product_id"], *tables["coupons"]["product_id"]}
    tables["products"] = tables["products"][tables["products"]["product_id"].isin(named)]
    return tables


def make(home: Path) -> Workspace:
    """Ingest and build the small journey, ending now, in the workspace at `home`."""
    workspace = open_workspace(home)
    completejourney.ingest(workspace, time.time(), tables=small_tables)
    build.build(workspace)
    database.connect(workspace).dispose()
    return workspace
