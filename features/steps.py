"""What each kind of event does to a profile: the table of all steps, and those of orders and responses.

A step changes `state` and `items` in place. Events reach it in order; steps look at nothing else, no clock above
all. What they do to cart, browsing, returns, order status, cases, consent, habits and reactions is in rooms of
that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from features import browsing, care, cart, consent, habits, orders, reactions, returns
from features.decay import count, half
from features.entries import Items, bought, returned
from features.vocabulary import DAY_S, OFFER_KINDS, Event

State = dict[str, Any]
Step = Callable[[State, Items, Event], None]

VERSION = 9
"""Of the state: raise it when a step writes other values. Another version is folded anew, never read (`profiles`)."""
YEAR_DAYS = 365
HALF_LIVES_DAYS = (7, 30, 90, 365)
SUMS = ("orders", "spend", "units", "lines", "discount", "coupons", "returned_units", "returned_spend")


def fresh_state() -> State:
    return {
        "v": VERSION,
        "at": 0.0,
        "id": "",
        "orders": 0,
        "first_order": 0.0,
        "last_order": 0.0,
        "gaps": [0, 0.0, 0.0],
        "sums_at": 0.0,
        "sums": {name: [0.0] * len(HALF_LIVES_DAYS) for name in SUMS},
        "products": 0,
        "categories": 0,
        "channels": {},
        "responses": {},
        "open_returns": {},
        "units": [0, 0],
        "corrected": {},
        "latest_orders": {},
        "cart": cart.fresh(),
        "browsing": browsing.fresh(),
        **care.fresh(),
        "consent": {},
        "habits": habits.fresh(),
        "reactions": reactions.fresh(),
    }


def note_correction(state: State, event: Event) -> None:
    """Remember what an event has corrected: of such an order nothing that comes later is simply added."""
    what = event.body.get("corrects")
    if isinstance(what, str):
        state["corrected"][what] = event.occurred_at


def _order_completed(state: State, items: Items, event: Event) -> None:
    now = event.occurred_at
    _decay(state, now)
    if state["last_order"] and now > state["last_order"]:
        gaps, mean, m2 = state["gaps"]  # Welford's running mean and variance
        gap = (now - state["last_order"]) / DAY_S
        delta = gap - mean
        mean += delta / (gaps + 1)
        state["gaps"] = [gaps + 1, mean, m2 + delta * (gap - mean)]
    state["first_order"] = state["first_order"] or now
    state["last_order"] = now
    state["orders"] += 1
    spend = units = discount = 0.0
    lines = event.body.get("products") or []
    seen: set[str] = set()
    for line in lines:
        quantity = line.get("quantity", 1)
        paid = float(line.get("price", 0.0) * quantity)
        spend += paid
        units += quantity
        discount += line.get("discount", 0.0)
        state["products"] += bought(items, "p:" + line["product_id"], event, paid, seen)
        if line.get("category"):
            state["categories"] += bought(items, "c:" + line["category"], event, paid, seen)
    coupons = 1.0 if event.body.get("coupon") or any(line.get("coupon") for line in lines) else 0.0
    for name, amount in (
        ("orders", 1.0),
        ("spend", spend),
        ("units", units),
        ("lines", float(len(lines))),
        ("discount", discount),
        ("coupons", coupons),
    ):
        _add(state, name, amount)
    count(state["channels"], event.channel or "store", now, YEAR_DAYS)


def _order_refunded(state: State, items: Items, event: Event) -> None:
    now = event.occurred_at
    _decay(state, now)
    for line in event.body.get("products") or []:
        quantity = line.get("quantity", 1)
        if not quantity:  # it had come back before
            continue
        _add(state, "returned_units", float(quantity))
        _add(state, "returned_spend", line.get("price", 0.0) * quantity)
        asked = returns.reason_of(state, event.body.get("order_id"), line["product_id"])
        reason = line.get("reason") or event.body.get("reason") or asked
        returned(items, "p:" + line["product_id"], event, reason)
        if line.get("category"):
            returned(items, "c:" + line["category"], event, reason)


def _responded(state: State, items: Items, event: Event) -> None:
    """A customer's response to an offer: counted by offer kind, decayed with a half-life of 365 days."""
    kind, response = event.body.get("offer_kind"), event.body.get("response")
    if kind in OFFER_KINDS and response and not reactions.says_again(state, event):
        count(state["responses"].setdefault(kind, {}), response, event.occurred_at, YEAR_DAYS)


def _campaign_sent(state: State, items: Items, event: Event) -> None:
    count(state["responses"].setdefault("promotion", {}), "sent", event.occurred_at, YEAR_DAYS)


_STEPS = {
    "Order Completed": _order_completed,
    "Order Refunded": _order_refunded,
    "Offer Responded": _responded,
    "Campaign Sent": _campaign_sent,
}


def _joined(*tables: Mapping[str, Step | tuple[Step, ...]]) -> dict[str, tuple[Step, ...]]:
    joined: dict[str, tuple[Step, ...]] = {}
    for table in tables:
        for name, steps in table.items():
            joined[name] = (*joined.get(name, ()), *(steps if isinstance(steps, tuple) else (steps,)))
    return joined


STEPS: Mapping[str, tuple[Step, ...]] = _joined(
    _STEPS,
    returns.STEPS,
    orders.STEPS,
    cart.STEPS,
    browsing.STEPS,
    care.STEPS,
    consent.STEPS,
    habits.STEPS,
    reactions.STEPS,
)
"""Every event that changes a profile, with its steps in all rooms. An event that is not here leaves no trace in it."""


ON_ENTRIES = frozenset({"Order Completed", "Order Refunded"})
"""The events whose steps look at entries or change them; every other leaves them as they are."""


def _decay(state: State, now: float) -> None:
    """Bring all sums to `now`; afterwards amounts of this instant are added with weight 1."""
    if state["sums_at"]:
        weights = [half(now - state["sums_at"], h) for h in HALF_LIVES_DAYS]
        for sums in state["sums"].values():
            for position, weight in enumerate(weights):
                sums[position] *= weight
    state["sums_at"] = now


def _add(state: State, name: str, amount: float) -> None:
    if amount:
        sums = state["sums"][name]
        for position in range(len(sums)):
            sums[position] += amount
