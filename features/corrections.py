"""Events whose meaning lies in another event: cancelled orders, corrected lines, returns of "whatever was ordered".

`settled` applies them to a whole history, so that the fold meets only events that say all by themselves.
Pure, like the fold; it knows nothing of profiles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from features.vocabulary import CORRECTION, Event

VOID, CORRECTED, LEFT_CART = "\0order void", "\0order corrected", "\0order left the cart"
"""Names that `settled` gives: an order of which nothing is left, a correction, and, beside an order that has been
corrected, what it once was. No sender can use them, `events.check` refuses a zero byte."""


def corrects(event: Event) -> bool:
    """Whether this event's meaning lies in another one: a cancelled order or line, a return of whatever was ordered."""
    if event.name == "Order Cancelled" or _unbuys(event):
        return True
    return event.name in ("Order Refunded", "Return Requested") and not event.body.get("products")


def _unbuys(event: Event) -> bool:
    """Whether the goods never went out: the order stands with so many fewer, and nothing was returned."""
    return event.name == "Order Refunded" and event.body.get("reason") == CORRECTION


def settled(events: list[Event]) -> Iterable[Event]:
    """The history with corrections applied: what was cancelled is gone, whole refunds have their order's products."""
    orders: dict[str, list[Any]] = {}
    cancelled: set[str] = set()
    unbought: dict[str, list[Any]] = {}
    for event in events:
        order_id = event.body.get("order_id")
        if order_id and event.name == "Order Completed":
            orders[order_id] = event.body.get("products") or []
        elif order_id and (event.name == "Order Cancelled" or (_unbuys(event) and not event.body.get("products"))):
            cancelled.add(order_id)
        elif order_id and _unbuys(event):
            unbought.setdefault(order_id, []).extend(event.body["products"])
    orders.update(
        (order_id, _less(orders[order_id], gone)) for order_id, gone in unbought.items() if order_id in orders
    )
    void = cancelled | {order_id for order_id in unbought if not orders.get(order_id)}
    for event in events:
        order_id = event.body.get("order_id")
        if event.name == "Order Completed" and order_id in void:
            event = replace(event, name=VOID)
        elif event.name == "Order Completed" and order_id in unbought:
            yield replace(event, name=LEFT_CART)
            event = replace(event, body={**event.body, "products": orders[order_id]})
        elif _unbuys(event):
            event = replace(event, name=CORRECTED, body={**event.body, "corrects": order_id})
        elif corrects(event):
            body = {**event.body, "products": orders.get(order_id or "", []), "corrects": order_id}
            event = replace(event, body=body)
        yield event


def _less(lines: list[Any], gone: list[Any]) -> list[Any]:
    """The lines of an order without so many units of each product as are `gone`; its last line loses first."""
    taken: dict[str, int] = {}
    for line in gone:
        taken[line["product_id"]] = taken.get(line["product_id"], 0) + line.get("quantity", 1)
    left = []
    for line in reversed(lines):
        quantity = line.get("quantity", 1)
        fewer = min(quantity, taken.get(line["product_id"], 0))
        if fewer:
            taken[line["product_id"]] -= fewer
            share = (quantity - fewer) / quantity
            line = {**line, "quantity": quantity - fewer}
            line |= {"discount": line["discount"] * share} if "discount" in line else {}
        if line.get("quantity", 1):
            left.append(line)
    return left[::-1]
