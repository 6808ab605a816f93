"""What became of each product so far: lines bought and sent back, per product, per customer, and per both.

A fold over everybody's orders, refunds and cancellations in the order in which we heard of them, so that
what it says at any moment is what was known then. Training asks it for return risk; serving makes the same
columns (`line_values`) of the counts of the last build (`product_counts`) and of the customer's profile. Pure: no
clock, no store.

A line is a product within an order, whatever its quantity. It is sent back once however many refunds it
took. What a correction or cancellation un-buys (`corrections`) was never a line; a refund of an order that
we do not know is no line either, but something of the product came back, and that counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from features.corrections import settled
from features.vocabulary import Event

__all__ = ["HEARD", "LINE_FEATURES", "PRIOR_LINES", "Counts", "Order", "ProductHistory", "line_values", "standing"]

HEARD = ("Order Completed", "Order Refunded", "Order Cancelled")
"""The events that change anything here."""
PRIOR_LINES = 30.0
"""A rate starts as that of all products; the product's own lines outweigh it from so many on."""

LINE_FEATURES: Mapping[str, str] = {
    "product_return_rate": f"share of the product's lines sent back, with {PRIOR_LINES:g} lines of the mean rate added",
    "product_lines": "lines of the product, of all customers",
    "customer_line_return_rate": f"the same share of the customer's lines, with {PRIOR_LINES:g} added likewise",
    "customer_lines": "lines of the customer, of all products",
    "own_lines": "lines of the product that the customer bought before",
    "own_returned": "of these, sent back",
    "line_quantity": "units on the line; where the question names none, what the customer's lines have on average",
    "line_price": "price per unit; where the question names none, the last price that the product was sold at",
    "line_value": "quantity × price",
}
"""What `ProductHistory.line` gives for one line, in that order."""


@dataclass(slots=True)
class Counts:
    """Lines bought, the units on them, and lines sent back."""

    lines: int = 0
    units: int = 0
    returned: int = 0


@dataclass(slots=True)
class Order:
    """What we have heard of one order of one customer, and what of it counts at present."""

    events: list[Event] = field(default_factory=list)
    bought: dict[str, int] = field(default_factory=dict)
    returned: set[str] = field(default_factory=set)


def standing(events: list[Event]) -> tuple[dict[str, int], dict[str, list[Event]]]:
    """What of an order stands as bought, in units, and the refunds of each product, of all that was heard of it."""
    bought: dict[str, int] = {}
    refunds: dict[str, list[Event]] = {}
    for event in settled(sorted(events, key=lambda event: event.key)):
        products = event.body.get("products") or []
        if event.name == "Order Completed":
            for line in products:
                bought[line["product_id"]] = bought.get(line["product_id"], 0) + line.get("quantity", 1)
        elif event.name == "Order Refunded":
            for product_id in sorted({line["product_id"] for line in products}):
                refunds.setdefault(product_id, []).append(event)
    return bought, refunds


class ProductHistory:
    """The counts after all events added so far; `of_people`: those of customers too, which takes most of the memory."""

    def __init__(self, of_people: bool = True) -> None:
        self._of_people = of_people
        self.all = Counts()
        self.products: dict[str, Counts] = defaultdict(Counts)
        self.customers: dict[str, Counts] = defaultdict(Counts)
        self.pairs: dict[tuple[str, str], Counts] = defaultdict(Counts)
        self.prices: dict[str, float] = {}
        self._orders: dict[tuple[str, str], Order] = {}

    def add(self, event: Event, customer_id: str) -> None:
        """Take in one event, in the order of knowing."""
        order_id = event.body.get("order_id")
        if event.name not in HEARD or not order_id:
            return
        order = self._orders.setdefault((customer_id, order_id), Order())
        order.events.append(event)
        bought, refunds = standing(order.events)
        returned = set(refunds)
        self._count(customer_id, order, bought, returned)
        order.bought, order.returned = bought, returned
        if event.name == "Order Completed":
            priced = (line for line in event.body.get("products") or [] if line.get("price"))
            self.prices.update((line["product_id"], float(line["price"])) for line in priced)

    def _count(self, customer_id: str, order: Order, bought: Mapping[str, int], returned: Set[str]) -> None:
        """Add what stands of the order now, less what stood before."""
        for product_id in {*order.bought, *bought, *order.returned, *returned}:
            lines = (product_id in bought) - (product_id in order.bought)
            units = bought.get(product_id, 0) - order.bought.get(product_id, 0)
            back = (product_id in returned) - (product_id in order.returned)
            if not (lines or units or back):
                continue
            changed = [self.all, self.products[product_id]]
            if self._of_people:
                changed += [self.customers[customer_id], self.pairs[customer_id, product_id]]
            for counts in changed:
                counts.lines += lines
                counts.units += units
                counts.returned += back

    def line(
        self, customer_id: str, product_id: str, quantity: float | None = None, price: float | None = None
    ) -> tuple[float, ...]:
        """The values of `LINE_FEATURES` for a line that this customer might buy now; None or NaN: not known."""
        return line_values(
            self.all,
            self.products.get(product_id, _NONE),
            self.customers.get(customer_id, _NONE),
            self.pairs.get((customer_id, product_id), _NONE),
            quantity,
            self.prices.get(product_id, math.nan) if price is None or price != price else price,
        )


def line_values(
    everything: Counts, product: Counts, customer: Counts, own: Counts, quantity: float | None, price: float
) -> tuple[float, ...]:
    """The values of `LINE_FEATURES`, of the counts of all lines, of the product's, the customer's, and of both."""
    if quantity is None or quantity != quantity:
        quantity = next((each.units / each.lines for each in (own, customer, product) if each.lines), 1.0)
    return (
        _rate(product, everything),
        float(product.lines),
        _rate(customer, everything),
        float(customer.lines),
        float(own.lines),
        float(own.returned),
        quantity,
        price,
        quantity * price,
    )


def _rate(counts: Counts, everything: Counts) -> float:
    mean = (everything.returned + 1.0) / (everything.lines + PRIOR_LINES)
    return (counts.returned + PRIOR_LINES * mean) / (counts.lines + PRIOR_LINES)


_NONE = Counts()
