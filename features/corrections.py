"""Events whose meaning lies in another event: cancelled orders, corrected lines, refunds, and what a cancelled order
takes with it: its refunds and returns, and the offers that it took up.

`settled` applies them to a whole history, so that the fold meets only events that say all by themselves.
Pure, like the fold; it knows nothing of profiles.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from typing import Any

from features.vocabulary import CORRECTION, Event

VOID, CORRECTED, LEFT_CART = "\0order void", "\0order corrected", "\0order left the cart"
"""Names that `settled` gives: an order of which nothing is left, a correction, and, beside an order that has been
corrected, what it once was. No sender can use them, `events.check` refuses a zero byte."""
UNASKED, NOT_TAKEN = "\0return of a cancelled order", "\0offer taken up by a cancelled order"
"""Likewise: a return that was asked for of a cancelled order, and an offer that only cancelled orders took up."""

Lines = list[dict[str, Any]]


def corrects(event: Event) -> bool:
    """Whether this event's meaning lies in others: a cancelled order or line, a return of whatever was ordered, and
    every refund, since no more can come back of a line than it held and has not come back before.
    """
    if event.name in ("Order Cancelled", "Order Refunded"):
        return True
    return event.name == "Return Requested" and not event.body.get("products")


def corrected(event: Event, corrections: Container[str]) -> bool:
    """Whether one of these corrections, the `corrects` of those before, may have changed what this event means."""
    if event.name in ("Order Completed", "Return Requested"):
        return str(event.body.get("order_id") or "") in corrections
    return _accepts(event) and (_order_of(event) in corrections or _acceptance(event) in corrections)


def _unbuys(event: Event) -> bool:
    """Whether the goods never went out: the order stands with so many fewer, and nothing was returned."""
    return event.name == "Order Refunded" and event.body.get("reason") == CORRECTION


def unbuys(event: Event) -> bool:
    """Whether it takes an order back, or lines of it."""
    return event.name == "Order Cancelled" or _unbuys(event)


def settled(events: list[Event]) -> Iterable[Event]:
    """The history with corrections applied: what was cancelled is gone, with all that came of it; whole refunds have
    their order's products, and of each line comes back what has not come back before.
    """
    orders, unbought, void = _orders(events)
    not_taken = _not_taken(events, void) if void else set()
    came_back: dict[str, dict[str, int]] = {}
    for event in events:
        order_id = event.body.get("order_id")
        if event.name == "Order Completed" and order_id in void:
            event = replace(event, name=VOID)
        elif event.name == "Order Completed" and order_id in unbought:
            yield replace(event, name=LEFT_CART)
            event = replace(event, body={**event.body, "products": orders[order_id]})
        elif _unbuys(event):
            event = replace(event, name=CORRECTED, body={**event.body, "corrects": order_id})
        elif event.name == "Return Requested" and order_id in void:
            event = replace(event, name=UNASKED)
        elif corrects(event):
            lines = event.body.get("products") or orders.get(order_id or "", [])
            if event.name == "Order Refunded" and order_id in void:
                lines = []
            elif event.name == "Order Refunded" and order_id in orders:
                before, gone = came_back.setdefault(order_id, {}), unbought.get(order_id, [])
                lines = _coming_back(lines, orders[order_id], gone, before)
            event = replace(event, body={**event.body, "products": lines, "corrects": order_id})
        elif not_taken and _accepts(event) and _acceptance(event) in not_taken:
            event = replace(event, name=NOT_TAKEN, body={**event.body, "corrects": _acceptance(event)})
        yield event


def void_since(events: Iterable[Event]) -> dict[str, float]:
    """By order: since when we knew that nothing is left of it, by cancellation or correction."""
    of_order: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda event: event.known_at):
        if event.body.get("order_id"):
            of_order.setdefault(event.body["order_id"], []).append(event)
    found = {}
    for order_id, theirs in of_order.items():
        for known in range(1, len(theirs) + 1) if any(map(unbuys, theirs)) else ():
            if order_id in _orders(sorted(theirs[:known], key=lambda event: event.key))[2]:
                found[order_id] = theirs[known - 1].known_at
                break
    return found


def _orders(events: list[Event]) -> tuple[dict[str, Lines], dict[str, Lines], set[str]]:
    """The lines of each order as they stand; what orders have lost; and of which nothing is left."""
    orders: dict[str, Lines] = {}
    cancelled: set[str] = set()
    unbought: dict[str, Lines] = {}
    for event in events:
        order_id = event.body.get("order_id")
        if order_id and event.name == "Order Completed":
            orders[order_id] = event.body.get("products") or []
        elif order_id and (event.name == "Order Cancelled" or (_unbuys(event) and not event.body.get("products"))):
            cancelled.add(order_id)
        elif order_id and _unbuys(event):
            unbought.setdefault(order_id, []).extend(event.body["products"])
    fewer = {order_id: gone for order_id, gone in unbought.items() if order_id in orders}
    orders.update((order_id, _less(orders[order_id], gone)) for order_id, gone in fewer.items())
    return orders, fewer, cancelled | {order_id for order_id in fewer if not orders[order_id]}


def _accepts(event: Event) -> bool:
    return event.name == "Offer Responded" and event.body.get("response") == "accepted"


def _order_of(event: Event) -> str:
    """The order that took the offer up, empty where the message does not say."""
    order_id = event.body.get("order_id")
    return order_id if isinstance(order_id, str) else ""


def _acceptance(event: Event) -> str:
    """Which acceptance it tells of: all that name one offer of one decision tell of one, any other of its own."""
    decision_id = event.body.get("decision_id")
    return f"{decision_id}\0{event.body.get('offer_id')}" if decision_id is not None else f"\0{event.message_id}"


def _not_taken(events: list[Event], void: set[str]) -> set[str]:
    """The acceptances of which some message names its order, and all that do name one of which nothing is left."""
    by: dict[str, set[str]] = {}
    for event in events:
        if _accepts(event) and _order_of(event):
            by.setdefault(_acceptance(event), set()).add(_order_of(event))
    return {acceptance for acceptance, order_ids in by.items() if order_ids <= void}


def _coming_back(lines: Lines, held: Lines, gone: Lines, before: dict[str, int]) -> Lines:
    """These lines with no more units of a product than the order held and have not come back `before`; it is added to.

    A line of which nothing comes back stays, with quantity 0: it still closes the return that was asked for; so does
    one that never went out (`gone`). What the order did not hold comes back as it is told.
    """
    left = {line["product_id"]: 0 for line in gone}
    for line in held:
        left[line["product_id"]] = left.get(line["product_id"], 0) + line.get("quantity", 1)
    found = []
    for line in lines:
        product_id, told = line["product_id"], line.get("quantity", 1)
        if product_id in left:
            back = min(told, left[product_id] - before.get(product_id, 0))
            before[product_id] = before.get(product_id, 0) + back
            line = line if back == told else {**line, "quantity": back}
        found.append(line)
    return found


def _less(lines: Lines, gone: Lines) -> Lines:
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
