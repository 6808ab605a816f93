"""UCI Online Retail (December 2010 to December 2011, a gift shop's invoices), read and cleaned.

Dropped, each line for one reason, in this order: duplicates; what cannot be read (no invoice, no time, a quantity or
price that is no number); codes that are no product (postage, fees, adjustments, vouchers: `NO_PRODUCT`); lines whose
quantity has the wrong sign (write-offs); lines without a price; lines without a customer, which say nothing of
anybody. What is left is sales, and cancellations: the invoices that start with `C`. What a cancellation means is the
business of `cancellations`; what becomes of all of it, of `onlineretail`.

The times have no zone and are taken as UTC. A few invoices were written over two minutes: the last one counts, for
only then was the order complete.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from features.commerce import CONTROL, LARGEST, LONGEST_ID
from features.sources import SourceProblem

__all__ = ["COLUMNS", "Retail", "load", "read"]

COLUMNS = ("invoice", "stock_code", "description", "quantity", "invoice_ts", "unit_price", "customer_id")
NO_PRODUCT = r"(?i)(?:POST|DOT|CRUK|C2|[DMS]|BANK CHARGES|AMAZON ?FEE|ADJUST.*|GIFT_.*)"
"""Codes of postage, carriage, fees, discounts, samples, corrections by hand and vouchers. All else is goods."""


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
    except (ValueError, NotImplementedError):
        raise SourceProblem(f"`{path}` cannot be read: no Parquet; {expected}") from None
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise SourceProblem(f"`{path}` has no column `{missing[0]}`; {expected} with {', '.join(COLUMNS)}")
    for name in COLUMNS:
        if frame[name].dtype == object and not frame[name].map(pd.api.types.is_hashable).all():
            raise SourceProblem(f"`{path}` has lists or objects in its column `{name}`; {expected} with plain values")
    return frame[[name for name in (*COLUMNS, "country") if name in frame.columns]]


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
            "quantity": _numbers(lines["quantity"]),
            "price": _numbers(lines["unit_price"]),
            "at": _times(lines["invoice_ts"]),
        }
    )

    def kept(reason: str, keep: pd.Series) -> pd.DataFrame:
        dropped[reason] = int((~keep).sum())
        return lines[keep]

    lines = kept("unreadable", _readable(lines))
    bad_debt = lines["product_id"].eq("B") & lines["invoice"].str.startswith("A")
    lines = kept("no product", ~(lines["product_id"].str.fullmatch(NO_PRODUCT, na=True) | bad_debt))
    back = lines["invoice"].str.startswith("C")
    lines = kept("write-off", lines["quantity"].where(~back, -lines["quantity"]) > 0)
    lines = kept("no price", lines["price"] > 0)
    goods = _products(lines)
    lines = kept("no customer", lines["customer_id"].notna())
    if lines.empty:
        told = ", ".join(f"{reason}: {count:,}" for reason, count in dropped.items() if count) or "it is empty"
        raise SourceProblem(f"no line of the file is a customer's purchase of goods ({told}); expected some")
    lines = lines.assign(order_id=_order_ids(lines), quantity=lines["quantity"].abs().astype("int64"))
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


def _numbers(column: pd.Series) -> pd.Series:
    """As floats, NaN for what is no number."""
    if not pd.api.types.is_numeric_dtype(column):
        column = pd.to_numeric(column.astype(object).astype(str), errors="coerce")
    return column.astype("Float64").astype("float64")


def _times(column: pd.Series) -> pd.Series:
    """In UTC to the second, NaT for what is no time."""
    if not pd.api.types.is_datetime64_any_dtype(column):
        column = column.astype(object).map(lambda value: None if pd.isna(value) else str(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the first text is no time, and each is read by itself
        times = pd.to_datetime(column, utc=True, errors="coerce")
    return times.dt.tz_localize(None).astype("datetime64[s]")


def _readable(lines: pd.DataFrame) -> pd.Series:
    """Whether each line says when what was sold; a price of nothing, or no customer, are other reasons."""
    whole = lines["quantity"].abs().le(LARGEST) & lines["quantity"].mod(1).eq(0)
    fair = lines["price"].isna() | lines["price"].abs().le(LARGEST)
    timely = lines["at"].between(pd.Timestamp("1990-01-01"), pd.Timestamp("2199-12-31"))
    named = _are_ids(lines["invoice"]) & lines["invoice"].notna()
    return whole & fair & timely & named & _are_ids(lines["customer_id"]) & _are_ids(lines["product_id"])


def _are_ids(column: pd.Series) -> pd.Series:
    """Whether each text may be an id; none is another matter."""
    codes, texts = pd.factorize(column)
    fit = [len(text) <= LONGEST_ID and not CONTROL.search(text) for text in texts]
    return pd.Series(np.array([*fit, True], dtype=bool)[codes], index=column.index)


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
