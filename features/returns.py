"""Returns under way: asked for and not yet refunded, by order; and how much of what was bought came back for good.

What came back of which product is in `steps`.

A refund closes the return of the products that it names, product by product; the return is over when none is
left. A correction (the goods never went out) closes it too; of a cancelled order none begins. Nothing is left
out: a return is forgotten only after 730 days, when the next one begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from features import orders
from features.corrections import CORRECTED
from features.profile_value import Profile
from features.vocabulary import DAY_S, KEEP_DAYS, Event

BOUGHT, BACK = range(2)
"""Positions in the state's units."""


@dataclass(frozen=True, slots=True)
class OpenReturn:
    """A return under way. `evidence` is the message that began it."""

    order_id: str
    product_ids: tuple[str, ...]
    reason: str | None
    since: float
    evidence: str


def under_way(profile: Profile | None) -> tuple[OpenReturn, ...]:
    """The returns under way, the oldest first."""
    found = profile.state["open_returns"] if profile is not None and profile.state else {}
    opened = [
        OpenReturn(order_id, tuple(one["products"]), one["reason"] or None, one["since"], one["id"])
        for order_id, one in found.items()
    ]
    return tuple(sorted(opened, key=lambda one: (one.since, one.order_id)))


def share(profile: Profile | None) -> float:
    """Units sent back of the units ever bought; 0 where nothing was. At most 1: one unit may be told of twice."""
    bought, back = profile.state["units"] if profile is not None and profile.state else (0, 0)
    return min(back / bought, 1.0) if bought else 0.0


# -------------------------------------------------------------------------------------------------- steps


def _bought(state: dict[str, Any], items: Any, event: Event) -> None:
    state["units"][BOUGHT] += _units(event)


def _came_back(state: dict[str, Any], items: Any, event: Event) -> None:
    """Of an order that is known no more than it held. Before `orders` counts it."""
    units, order = _units(event), state["latest_orders"].get(event.body.get("order_id"))
    if order is not None and order[orders.UNITS]:
        units = min(units, max(0, order[orders.UNITS] - order[orders.REFUNDED]))
    state["units"][BACK] += units
    _closed(state, items, event)


def _units(event: Event) -> int:
    return sum(line.get("quantity", 1) for line in event.body.get("products") or ())


def _requested(state: dict[str, Any], items: Any, event: Event) -> None:
    """A second request for the same order adds its products to the first; a reason given later counts."""
    returns, now = state["open_returns"], event.occurred_at
    for old in [key for key, one in returns.items() if now - one["since"] > KEEP_DAYS * DAY_S]:
        del returns[old]
    order_id = event.body.get("order_id") or event.message_id
    before = returns.get(order_id) or {"products": [], "categories": [], "since": now, "id": event.message_id}
    lines = dict(zip(before["products"], before["categories"], strict=True))
    lines |= {line["product_id"]: line.get("category") or "" for line in event.body.get("products") or ()}
    reason = event.body.get("reason") or before.get("reason") or ""
    returns[order_id] = {**before, **_columns(lines), "reason": reason}


def _closed(state: dict[str, Any], items: Any, event: Event) -> None:
    returns, order_id = state["open_returns"], event.body.get("order_id") or ""
    one = returns.get(order_id)
    if one is None:
        return
    back = {line["product_id"] for line in event.body.get("products") or ()}
    lines = dict(zip(one["products"], one["categories"], strict=True))
    left = {key: category for key, category in lines.items() if key not in back} if back else {}
    if left:
        returns[order_id] = {**one, **_columns(left)}
    else:
        del returns[order_id]


def _columns(lines: dict[str, str]) -> dict[str, list[str]]:
    """Two lists, a product and its category at the same place; an unknown category is empty."""
    return {"products": sorted(lines), "categories": [lines[key] for key in sorted(lines)]}


STEPS = {
    "Return Requested": _requested,
    "Order Completed": _bought,
    "Order Refunded": _came_back,
    CORRECTED: _closed,
}
