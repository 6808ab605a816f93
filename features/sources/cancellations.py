"""Which purchase a cancelled line takes back, and whether that is a return or the correction of an order.

Cancellations are taken in the order of time, and each looks only at what was bought before it: at the
customer's purchases of the same product, of which so many units are left as were bought and not yet
taken back. It takes the most recent purchase with enough left; where none has enough, it is split over
them, most recent first. So every unit goes back once. What finds no purchase was bought before the data
begin (or under another code) and stays without one.

Within 24 hours of its purchase a cancellation corrects the order: the goods never went out. Later it is a
return. A correction that leaves nothing of an order cancels it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pandas as pd

__all__ = ["CANCELLED", "CORRECTED", "RETURNED", "WITHIN_S", "Cancellation", "Line", "match"]

WITHIN_S = 86_400
RETURNED, CORRECTED, CANCELLED = "return", "correction", "cancellation"


@dataclass(frozen=True, slots=True)
class Line:
    """So many units of a product that go back, at the price paid back for each."""

    product_id: str
    quantity: int
    price: float


@dataclass(slots=True)
class Cancellation:
    """What one cancelling invoice takes back of one order; of no order that we know where that is None."""

    invoice: str
    order_id: str | None
    customer_id: str
    at: int
    meaning: str
    lines: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class _Purchase:
    """A bought line, and how many of its units have not been taken back."""

    order_id: str
    at: int
    left: int


def match(sales: pd.DataFrame, cancelled: pd.DataFrame) -> list[Cancellation]:
    """The cancellations, one per cancelling invoice and order, in the order of time. Both frames are in that order."""
    purchases = _purchases(sales, cancelled)
    left: Counter[str] = Counter(sales.groupby("order_id")["quantity"].sum().to_dict())
    found: dict[tuple[str, str | None], Cancellation] = {}
    for row in _rows(cancelled):
        invoice, customer_id, product_id, quantity, price, at = row
        for purchase, units in _taken(purchases[customer_id, product_id], quantity, at):
            order_id = purchase.order_id if purchase else None
            corrected = purchase is not None and at - purchase.at <= WITHIN_S
            meaning = CORRECTED if corrected else RETURNED
            this = found.setdefault((invoice, order_id), Cancellation(invoice, order_id, customer_id, at, meaning))
            this.lines.append(Line(product_id, units, price))
            if order_id is not None:
                left[order_id] -= units
                if corrected and not left[order_id]:
                    this.meaning = CANCELLED
    return list(found.values())


def _rows(frame: pd.DataFrame) -> Iterator[tuple[str, str, str, int, float, int]]:
    columns = ("order_id", "customer_id", "product_id", "quantity", "price", "at")
    return zip(*(frame[name].tolist() for name in columns), strict=True)


def _purchases(sales: pd.DataFrame, cancelled: pd.DataFrame) -> dict[tuple[str, str], list[_Purchase]]:
    """The bought lines by customer and product, for those of which something was cancelled; most recent first."""
    pairs = cancelled[["customer_id", "product_id"]].drop_duplicates()
    found: dict[tuple[str, str], list[_Purchase]] = defaultdict(list)
    for order_id, customer_id, product_id, quantity, _, at in _rows(sales.merge(pairs)[::-1]):
        found[customer_id, product_id].append(_Purchase(order_id, at, quantity))
    return found


def _taken(purchases: list[_Purchase], quantity: int, at: int) -> Iterator[tuple[_Purchase | None, int]]:
    """The purchases that `quantity` units cancelled at `at` are taken from; None for units of none."""
    before = [purchase for purchase in purchases if purchase.at <= at and purchase.left]
    enough = next((purchase for purchase in before if purchase.left >= quantity), None)
    for purchase in [enough] if enough else before:
        units = min(quantity, purchase.left)
        purchase.left -= units
        quantity -= units
        yield purchase, units
        if not quantity:
            return
    yield None, quantity
