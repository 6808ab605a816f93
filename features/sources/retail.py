"""UCI Online Retail (December 2010 to December 2011, a gift shop's invoices), read and cleaned.

Dropped, each line for one reason, in this order: duplicates; codes that are no product (postage, fees,
adjustments, vouchers: whatever does not start with five digits); lines whose quantity has the wrong sign
(write-offs); lines without a price; lines without a customer, which say nothing of anybody. What is left
is sales, and cancellations: the invoices that start with `C`. What a cancellation means is the business
of `cancellations`; what becomes of all of it, of `onlineretail`.

The times have no zone and are taken as UTC. A few invoices were written over two minutes: the last one counts, for
only then was the order complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from features.sources import SourceProblem

__all__ = ["COLUMNS", "Retail", "load", "read"]

COLUMNS = ("invoice", "stock_code", "description", "quantity", "invoice_ts", "unit_price", "customer_id")
PRODUCT_CODE = r"\d{5}"


@dataclass(slots=True)
class Retail:
    """The lines, cleaned, in the order of time; ids are texts, quantities positive, `at` in epoch seconds."""

    sales: pd.DataFrame  # order_id customer_id product_id quantity price at
    cancelled: pd.DataFrame  # the same columns; order_id is the cancellation's own
    products: pd.DataFrame  # product_id name price
    ends_at: float
    published: int
    dropped: dict[str, int]


def load(path: Path) -> pd.DataFrame:
    """The file as published. Raises SourceProblem for one that is not there, no Parquet, or another table."""
    expected = "expected the Online Retail table as Parquet"
    try:
        frame = pd.read_parquet(path)
    except OSError as problem:
        reason = (problem.strerror or "no Parquet").lower()
        raise SourceProblem(f"`{path}` cannot be read: {reason}; {expected}") from None
    except ValueError:
        raise SourceProblem(f"`{path}` cannot be read: no Parquet; {expected}") from None
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise SourceProblem(f"`{path}` has no column `{missing[0]}`; {expected} with {', '.join(COLUMNS)}")
    return frame


def read(published: pd.DataFrame) -> Retail:
    """The published lines, cleaned; raises SourceProblem where nothing is left."""
    lines = published.drop_duplicates()
    dropped = {"duplicate": len(published) - len(lines)}
    lines = pd.DataFrame(
        {
            "invoice": _text(lines["invoice"]),
            "customer_id": _text(lines["customer_id"]),
            "product_id": _text(lines["stock_code"]),
            "name": _text(lines["description"]),
            "quantity": lines["quantity"],
            "price": lines["unit_price"],
            "at": pd.to_datetime(lines["invoice_ts"], utc=True).dt.tz_localize(None).astype("datetime64[s]"),
        }
    )

    def kept(reason: str, keep: pd.Series) -> pd.DataFrame:
        dropped[reason] = int((~keep).sum())
        return lines[keep]

    lines = kept("no product", lines["product_id"].str.match(PRODUCT_CODE, na=False))
    back = lines["invoice"].str.startswith("C")
    lines = kept("write-off", lines["quantity"].where(~back, -lines["quantity"]) > 0)
    lines = kept("no price", lines["price"] > 0)
    goods = _products(lines)
    lines = kept("no customer", lines["customer_id"].notna())
    if lines.empty:
        raise SourceProblem("no line of the file is a customer's; expected sales with `customer_id` and `stock_code`")
    lines = lines.assign(
        order_id=_order_ids(lines), quantity=lines["quantity"].abs().astype("int64"), price=lines["price"].astype(float)
    )
    at = lines.groupby("order_id")["at"].transform("max").astype("int64")
    lines = lines.assign(at=at).sort_values(["at", "order_id"], kind="stable", ignore_index=True)
    back = lines["invoice"].str.startswith("C")
    columns = ["order_id", "customer_id", "product_id", "quantity", "price", "at"]
    return Retail(
        sales=lines.loc[~back, columns].reset_index(drop=True),
        cancelled=lines.loc[back, columns].reset_index(drop=True),
        products=goods,
        ends_at=float(lines["at"].max()),
        published=len(published),
        dropped=dropped,
    )


def _text(column: pd.Series) -> pd.Series:
    """As text with single spaces, None where there is none; an id that came as a float is a whole number."""
    codes, values = pd.factorize(column)
    texts = [" ".join(str(value).split()).removesuffix(".0") or None for value in values]
    return pd.Series(np.array([*texts, None], dtype=object)[codes], index=column.index)


def _order_ids(lines: pd.DataFrame) -> pd.Series:
    """The invoice's number; with the customer's where several customers share one."""
    shared = lines.groupby("invoice")["customer_id"].transform("nunique") > 1
    return lines["invoice"].where(~shared, lines["invoice"] + "-" + lines["customer_id"])


def _products(lines: pd.DataFrame) -> pd.DataFrame:
    """Each product with its most frequent description and median price.

    The price is what known customers paid where one bought it: the others' lines carry a price with tax.
    """
    theirs = lines[lines["customer_id"].notna()].groupby("product_id")["price"].median()
    prices = theirs.combine_first(lines.groupby("product_id")["price"].median()).round(2)
    counts = lines.groupby(["product_id", "name"]).size().rename("times").reset_index()
    counts = counts.sort_values(["product_id", "times", "name"], ascending=[True, False, True])
    names = counts.drop_duplicates("product_id").set_index("product_id")["name"]
    frame = prices.rename("price").to_frame().join(names).reset_index().sort_values("product_id", ignore_index=True)
    frame["name"] = frame["name"].fillna("Product " + frame["product_id"])
    return frame[["product_id", "name", "price"]]
