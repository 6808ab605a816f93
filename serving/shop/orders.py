"""A customer's orders with their lines and what became of each, from the events of the log. Pure.

The profile keeps how the latest orders stand; which lines they had, and what of them is on its way back, stands in
the events alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from features.vocabulary import Event

NAMES = ("Order Completed", "Order Cancelled", "Return Requested", "Order Refunded")
"""The events that this is made of."""
REASONS = ("quality", "wrong size", "a gift", "not needed any more")
"""What a customer may say of a return; the rulebook knows `size` and `gift`."""


@dataclass(slots=True)
class Bought:
    """One line of an order; `state` is empty, `asked` (on its way back) or `back`."""

    product_id: str
    quantity: int
    price: float
    state: str = ""
    reason: str = ""


@dataclass(slots=True)
class Sale:
    """One order."""

    order_id: str
    at: float
    channel: str | None
    location_id: str | None
    lines: list[Bought] = field(default_factory=list)
    cancelled: bool = False

    @property
    def total(self) -> float:
        return sum(line.quantity * line.price for line in self.lines)

    @property
    def open_return(self) -> bool:
        return any(line.state == "asked" for line in self.lines)


def sales(events: Iterable[Event]) -> list[Sale]:
    """The orders in these events, the latest first."""
    found: dict[str, Sale] = {}
    for event in sorted(events, key=lambda each: each.key):
        order_id = str(event.body.get("order_id") or event.message_id)
        if event.name == "Order Completed":
            bought = [_bought(line) for line in event.body.get("products") or ()]
            found[order_id] = Sale(order_id, event.occurred_at, event.channel, event.location_id, bought)
            continue
        sale = found.get(order_id)
        if sale is None:
            continue
        if event.name == "Order Cancelled":
            sale.cancelled = True
            continue
        named = {line.get("product_id") for line in event.body.get("products") or ()}
        for line in sale.lines:
            if not named or line.product_id in named:
                line.state = "asked" if event.name == "Return Requested" else "back"
                line.reason = str(event.body.get("reason") or line.reason)
    return sorted(found.values(), key=lambda sale: (-sale.at, sale.order_id))


def _bought(line: dict[str, Any]) -> Bought:
    return Bought(str(line["product_id"]), int(line.get("quantity") or 1), float(line.get("price") or 0.0))
