"""The cart: what a customer has put in and not bought yet, on whichever device, when, and through which channel.

A customer has one cart: a product that was put in on two devices is one line, the later word counts. Every
line remembers its device (the anonymous id), channel and `cart_id`, so that what was begun on the phone can be
gone on with on the laptop. What each event does is in docs/events.md; who reads this writes nothing.

A line is kept for 730 days. More than MOST_LINES is a crawler's; of those the oldest go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.corrections import LEFT_CART, VOID
from features.profile_value import Profile
from features.vocabulary import KEEP_DAYS, Event

MOST_LINES = 1_000
KEEP_S = KEEP_DAYS * 86_400.0

# Positions in a line of the state; a line's time is that at which it was put in, or its quantity last changed.
QUANTITY, ADDED, DEVICE, CHANNEL, CART_ID = range(5)

FEATURES: Mapping[str, str] = {
    "cart_products": "products in the cart, on any device",
    "cart_units": "units of them",
    "cart_age_hours": "hours since something was last put in, taken out or looked at; unknown where the cart is empty",
    "checkout_age_hours": "hours since a checkout was last gone on with, and not completed since",
}


@dataclass(frozen=True, slots=True)
class CartLine:
    """One product in the cart. `device` is an anonymous id; None for what was not said."""

    product_id: str
    quantity: int
    added_at: float
    age_s: float
    device: str | None
    channel: str | None
    cart_id: str | None


def of(profile: Profile | None, now: float) -> tuple[CartLine, ...]:
    """What is in the cart at `now`, the latest first."""
    if profile is None or not profile.state:
        return ()
    lines = [
        CartLine(
            product_id,
            line[QUANTITY],
            line[ADDED],
            max(0.0, now - line[ADDED]),
            line[DEVICE] or None,
            line[CHANNEL] or None,
            line[CART_ID] or None,
        )
        for product_id, line in profile.state["cart"]["lines"].items()
        if now - line[ADDED] <= KEEP_S
    ]
    return tuple(sorted(lines, key=lambda line: (-line.added_at, line.product_id)))


def checkout_since(profile: Profile | None) -> float | None:
    """When a checkout that has not been completed since was last gone on with."""
    return profile.state["cart"]["checkout"] or None if profile is not None and profile.state else None


def fresh() -> dict[str, Any]:
    return {"at": 0.0, "checkout": 0.0, "lines": {}}


def derive(state: Mapping[str, Any], as_of: float) -> dict[str, float]:
    cart = state["cart"]
    checkout = (as_of - cart["checkout"]) / 3600.0 if cart["checkout"] else math.nan
    lines = [line for line in cart["lines"].values() if as_of - line[ADDED] <= KEEP_S] if cart["lines"] else ()
    return {
        "cart_products": float(len(lines)),
        "cart_units": float(sum(line[QUANTITY] for line in lines)),
        "cart_age_hours": (as_of - cart["at"]) / 3600.0 if lines else math.nan,
        "checkout_age_hours": checkout,
    }


# -------------------------------------------------------------------------------------------------- steps


def _added(state: dict[str, Any], items: Any, event: Event) -> None:
    product_id = event.body.get("product_id")
    if isinstance(product_id, str):
        held = state["cart"]["lines"].get(product_id)
        more = event.body.get("quantity", 1)
        _put(state["cart"], event, product_id, (held[QUANTITY] if held else 0) + (more if type(more) is int else 1))


def _removed(state: dict[str, Any], items: Any, event: Event) -> None:
    """So many fewer, on whichever device they were put in; without `quantity` none is left."""
    cart = state["cart"]
    cart["at"] = event.occurred_at
    product_id, quantity = event.body.get("product_id"), event.body.get("quantity")
    held = cart["lines"].get(product_id)
    if held is not None and quantity and held[QUANTITY] > quantity:
        held[QUANTITY] -= quantity
    elif held is not None:
        del cart["lines"][product_id]


def _viewed(state: dict[str, Any], items: Any, event: Event) -> None:
    """A list of products is all that this cart, or this device's, holds; without a list nothing is said of it."""
    cart, listed = state["cart"], event.body.get("products")
    cart["at"] = event.occurred_at
    if listed is None:
        return
    shown = {line["product_id"] for line in listed}
    for product_id in [key for key, line in cart["lines"].items() if key not in shown and _is_of(line, event)]:
        del cart["lines"][product_id]
    _put_all(cart, event, listed)


def _checkout(state: dict[str, Any], items: Any, event: Event) -> None:
    """What is checked out is in the cart; some shops let only a part of a cart be checked out, so nothing leaves it."""
    cart = state["cart"]
    cart["at"] = cart["checkout"] = event.occurred_at
    _put_all(cart, event, event.body.get("products") or ())


def _checkout_step(state: dict[str, Any], items: Any, event: Event) -> None:
    state["cart"]["at"] = state["cart"]["checkout"] = event.occurred_at


def _ordered(state: dict[str, Any], items: Any, event: Event) -> None:
    """What was bought is no longer in the cart, nor is what else was in the order's own cart.

    An order that names neither products nor cart empties its device's. Cancelling it refills nothing.
    """
    cart = state["cart"]
    cart["checkout"] = 0.0
    if not cart["lines"]:
        return
    bought = event.body.get("products") or ()
    for line in bought:
        cart["lines"].pop(line["product_id"], None)
    if event.body.get("cart_id") or not bought:
        for product_id in [key for key, line in cart["lines"].items() if _is_of(line, event)]:
            del cart["lines"][product_id]


def _put_all(cart: dict[str, Any], event: Event, listed: Any) -> None:
    quantities: dict[str, int] = {}
    for line in listed:
        quantities[line["product_id"]] = quantities.get(line["product_id"], 0) + line.get("quantity", 1)
    for product_id, quantity in quantities.items():
        _put(cart, event, product_id, quantity)


def _put(cart: dict[str, Any], event: Event, product_id: str, quantity: int) -> None:
    """So many of this product from now on; where nothing changes, the line keeps its age."""
    now, lines = event.occurred_at, cart["lines"]
    held = lines.get(product_id)
    cart_id = event.body.get("cart_id") or (held[CART_ID] if held else "")
    added = held[ADDED] if held and held[QUANTITY] == quantity else now
    lines[product_id] = [quantity, added, event.anonymous_id or "", event.channel or "", cart_id]
    cart["at"] = now
    if held is None:
        for old in [key for key, line in lines.items() if now - line[ADDED] > KEEP_S]:
            del lines[old]
        while len(lines) > MOST_LINES:
            del lines[min(lines, key=lambda key: (lines[key][ADDED], key))]


def _is_of(line: list[Any], event: Event) -> bool:
    """Whether a line belongs to the cart that an event is about: by its id, else by device, else by channel."""
    if event.body.get("cart_id") and line[CART_ID]:
        return bool(line[CART_ID] == event.body["cart_id"])
    if event.anonymous_id or line[DEVICE]:
        return bool(line[DEVICE] == (event.anonymous_id or ""))
    return bool(line[CHANNEL] == (event.channel or ""))


STEPS = {
    "Product Added": _added,
    "Wishlist Product Added to Cart": _added,
    "Product Removed": _removed,
    "Cart Viewed": _viewed,
    "Checkout Started": _checkout,
    "Checkout Step Viewed": _checkout_step,
    "Checkout Step Completed": _checkout_step,
    "Payment Info Entered": _checkout_step,
    "Order Completed": _ordered,
    VOID: _ordered,
    LEFT_CART: _ordered,
}
