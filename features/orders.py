"""How the latest orders stand: placed, packed, shipped, delayed, delivered or cancelled, and how much came back.

The MOST orders heard of last are kept, those on the way before all others. The latest word in time counts: an update
that is known before its order, or dated before it, is not lost. What was bought, and so what is held back, does
not depend on this room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.columns import columns_of
from features.corrections import CORRECTED, VOID
from features.entries import LAST_ID
from features.profile_value import Profile
from features.vocabulary import Event

MOST = 5
CANCELLED = "cancelled"
ON_THE_WAY = frozenset({"packed", "shipped", "delayed"})

# Positions in an order of the state; times 0.0 and texts "" where nothing was said.
PLACED, STATUS, STATUS_AT, CHANNEL, LOCATION, UNITS, REFUNDED, ID = range(8)

FEATURES: Mapping[str, str] = {
    "orders_under_way": "orders packed, shipped or delayed and not delivered, among the latest 5",
    "orders_delayed": "orders delayed, among the latest 5",
}


@dataclass(frozen=True, slots=True)
class Order:
    """One order as it stands. `placed_at` is None where only updates of it are known.

    `product_ids` are those of its products that have not been bought again since.
    """

    order_id: str
    placed_at: float | None
    status: str
    status_at: float
    channel: str | None
    location_id: str | None
    units: int
    refunded_units: int
    product_ids: tuple[str, ...]


def last(profile: Profile | None) -> Order | None:
    """The order placed last; where none is known to be placed, the one last heard of."""
    found = latest(profile)
    return found[0] if found else None


def latest(profile: Profile | None) -> tuple[Order, ...]:
    """The latest orders, the one placed last first; then those heard of and not placed."""
    if profile is None or not profile.state:
        return ()
    products: dict[str, list[str]] = {}
    entries = columns_of(profile.items)
    theirs = {one[ID] for one in profile.state["latest_orders"].values()}
    for key, message_id in sorted(zip(entries.keys, entries.text_of(LAST_ID), strict=True)):
        if message_id in theirs and key.startswith("p:"):
            products.setdefault(message_id, []).append(key[2:])
    orders = [
        Order(
            order_id,
            one[PLACED] or None,
            one[STATUS],
            one[STATUS_AT],
            one[CHANNEL] or None,
            one[LOCATION] or None,
            one[UNITS],
            min(one[REFUNDED], one[UNITS]) if one[UNITS] else one[REFUNDED],  # one unit may be told of twice
            tuple(products.get(one[ID], ())) if one[ID] else (),
        )
        for order_id, one in profile.state["latest_orders"].items()
    ]
    return tuple(
        sorted(orders, key=lambda one: (one.placed_at is None, -(one.placed_at or one.status_at), one.order_id))
    )


def derive(state: Mapping[str, Any], as_of: float) -> dict[str, float]:
    statuses = [one[STATUS] for one in state["latest_orders"].values()]
    return {
        "orders_under_way": float(sum(status in ON_THE_WAY for status in statuses)),
        "orders_delayed": float(statuses.count("delayed")),
    }


# -------------------------------------------------------------------------------------------------- steps


def _completed(state: dict[str, Any], items: Any, event: Event) -> None:
    """Placed, unless more is known already."""
    _place(state, event, "placed")


def _void(state: dict[str, Any], items: Any, event: Event) -> None:
    """An order of which nothing is left, by cancellation or correction."""
    _place(state, event, "")[STATUS] = CANCELLED


def _place(state: dict[str, Any], event: Event, status: str) -> list[Any]:
    one = _order(state, event)
    if not one[STATUS]:
        one[STATUS], one[STATUS_AT] = status, event.occurred_at
    one[PLACED], one[ID] = event.occurred_at, event.message_id
    one[CHANNEL], one[LOCATION] = event.channel or "", event.location_id or ""
    one[UNITS] = sum(line.get("quantity", 1) for line in event.body.get("products") or ())
    return one


def _updated(state: dict[str, Any], items: Any, event: Event) -> None:
    """Only the status is looked at; what has been cancelled stays so."""
    if event.body.get("status"):
        one = _order(state, event)
        if one[STATUS] != CANCELLED:
            one[STATUS], one[STATUS_AT] = event.body["status"], event.occurred_at


def _cancelled(state: dict[str, Any], items: Any, event: Event) -> None:
    one = _order(state, event)
    one[STATUS], one[STATUS_AT] = CANCELLED, event.occurred_at


def _corrected(state: dict[str, Any], items: Any, event: Event) -> None:
    """Dates the end of an order of which nothing is left; of the others the order itself has its lines fewer."""
    one = state["latest_orders"].get(event.body.get("order_id"))
    if one is not None and one[STATUS] == CANCELLED:
        one[STATUS_AT] = event.occurred_at


def _refunded(state: dict[str, Any], items: Any, event: Event) -> None:
    one = state["latest_orders"].get(event.body.get("order_id"))
    if one is not None:
        one[REFUNDED] += sum(line.get("quantity", 1) for line in event.body.get("products") or ())


def _order(state: dict[str, Any], event: Event) -> list[Any]:
    orders: dict[str, list[Any]] = state["latest_orders"]
    order_id = event.body.get("order_id") or event.message_id
    one = orders.get(order_id)
    if one is None:
        one = orders[order_id] = [0.0, "", event.occurred_at, "", "", 0, 0, ""]
        if len(orders) > MOST:
            del orders[min(_weight(key, other) for key, other in orders.items() if key != order_id)[-1]]
    return one


def _weight(order_id: str, one: list[Any]) -> tuple[bool, float, str]:
    """The order of least weight is left out first."""
    placed, at = one[PLACED], one[STATUS_AT]
    return one[STATUS] in ON_THE_WAY, placed if placed > at else at, order_id


STEPS = {
    "Order Completed": _completed,
    VOID: _void,
    "Order Updated": _updated,
    "Order Cancelled": _cancelled,
    CORRECTED: _corrected,
    "Order Refunded": _refunded,
}
