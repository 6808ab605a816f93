"""Returns under way: asked for and not yet refunded, by order; and how much of what was bought came back for good.

What came back of which product is in `steps`.

A refund closes the return of the products that it names, product by product; the return is over when none is
left. A correction (the goods never went out) closes it too; of a cancelled order none begins. Nothing is left
out: a return is forgotten only after 730 days, when the next one begins. Each product comes back for the reason
that was given with it, and a refund that gives none is for the reason of the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from features import orders
from features.corrections import CORRECTED
from features.profile_value import Profile
from features.vocabulary import DAY_S, KEEP_DAYS, Event

BOUGHT, BACK = range(2)
"""Positions in the state's units."""
_COLUMNS = ("categories", "reasons", "sinces", "ids")
"""What the state has of each product of a return."""


@dataclass(frozen=True, slots=True)
class OpenReturn:
    """What of an order is on its way back for one reason. `evidence` is the message that began it."""

    order_id: str
    product_ids: tuple[str, ...]
    reason: str | None
    since: float
    evidence: str


def under_way(profile: Profile | None) -> tuple[OpenReturn, ...]:
    """The returns under way, the oldest first."""
    found = profile.state["open_returns"] if profile is not None and profile.state else {}
    opened = [
        OpenReturn(order_id, tuple(products), reason or None, *began)
        for order_id, one in found.items()
        for reason, (products, began) in _by_reason(one).items()
    ]
    return tuple(sorted(opened, key=lambda one: (one.since, one.order_id, one.product_ids)))


def _by_reason(one: dict[str, Any]) -> dict[str, tuple[list[str], tuple[float, str]]]:
    """The products of each reason, and when and by which message the first of them was asked for."""
    if not one["products"]:
        return {one["reason"]: ([], (one["since"], one["id"]))}
    found: dict[str, tuple[list[str], tuple[float, str]]] = {}
    for product_id, line in _lines(one).items():
        products, began = found.get(line.reason, ([], (line.since, line.id)))
        found[line.reason] = [*products, product_id], min(began, (line.since, line.id))
    return found


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


class _Line(NamedTuple):
    """One product of a return."""

    category: str
    reason: str
    since: float
    id: str


def _lines(one: Mapping[str, Any]) -> dict[str, _Line]:
    if "reasons" not in one:  # logged when a return had one reason for all: it is still replayed
        told = zip(one["products"], one["categories"], strict=True)
        return {product_id: _Line(category, one["reason"], one["since"], one["id"]) for product_id, category in told}
    return dict(zip(one["products"], map(_Line, *(one[name] for name in _COLUMNS)), strict=True))


def _columns(lines: Mapping[str, _Line]) -> dict[str, list[Any]]:
    """Lists, a product's category, reason, time and message at its own place; what is unknown is empty."""
    products = sorted(lines)
    told = {name: [lines[key][at] for key in products] for at, name in enumerate(_COLUMNS)}
    return {"products": products, **told}


def _requested(state: dict[str, Any], items: Any, event: Event) -> None:
    """A second request for the same order adds its products to the first.

    A reason given later is that of the products that it comes with, and of those that had none.
    """
    returns, now = state["open_returns"], event.occurred_at
    for old in [key for key, one in returns.items() if now - one["since"] > KEEP_DAYS * DAY_S]:
        del returns[old]
    order_id = event.body.get("order_id") or event.message_id
    one = returns.get(order_id) or {"since": now, "id": event.message_id, "reason": "", **_columns({})}
    reason, lines = event.body.get("reason") or "", _lines(one)
    for product_id, before in lines.items():
        lines[product_id] = before._replace(reason=before.reason or reason)
    for told in event.body.get("products") or ():
        before = lines.get(told["product_id"]) or _Line("", "", now, event.message_id)
        why = told.get("reason") or reason or before.reason
        lines[told["product_id"]] = before._replace(category=told.get("category") or before.category, reason=why)
    returns[order_id] = {**one, **_columns(lines), "reason": reason or one["reason"]}


def reason_of(state: Mapping[str, Any], order_id: str | None, product_id: str) -> str:
    """Why the customer asked to send this product of the order back; empty where they did not, or gave no reason."""
    one = state["open_returns"].get(order_id)
    if one is None:
        return ""
    line = _lines(one).get(product_id)
    return line.reason if line is not None else one["reason"]


def _closed(state: dict[str, Any], items: Any, event: Event) -> None:
    returns, order_id = state["open_returns"], event.body.get("order_id") or ""
    one = returns.get(order_id)
    if one is None:
        return
    back = {line["product_id"] for line in event.body.get("products") or ()}
    left = {key: line for key, line in _lines(one).items() if key not in back} if back else {}
    if left:
        returns[order_id] = {**one, **_columns(left)}
    else:
        del returns[order_id]


STEPS = {
    "Return Requested": _requested,
    "Order Completed": _bought,
    "Order Refunded": _came_back,
    CORRECTED: _closed,
}
