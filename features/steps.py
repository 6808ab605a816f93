"""What each kind of event does to a profile: one small step per event name, used by `profiles` alone.

A step changes `state` (constant size: decayed sums and last-seen times) and `items` (one entry per
product and category) in place. Events reach it in order; steps look at nothing else, no clock above all.
"""

from __future__ import annotations

import math
from typing import Any

from features.vocabulary import DAY_S, KEEP_DAYS, OFFER_KINDS, Event

State = dict[str, Any]
Items = dict[str, list[Any]]

HALF_LIVES_DAYS = (7, 30, 90, 365)
SUMS = ("orders", "spend", "units", "lines", "discount", "coupons", "returned_units", "returned_spend")

# Positions in an entry of `items`; times in epoch seconds, 0.0 means never.
LAST, FIRST, TRIPS, DECAYED_TRIPS, DECAYED_SPEND, LAST_ID, RETURNED, RETURN_ID, RETURN_REASON = range(9)
ITEM_HALF_LIFE_DAYS = 90
"""Half-life of an entry's decayed trips and spend, both anchored at its last purchase."""

KEEP_S = KEEP_DAYS * DAY_S


def fresh_state() -> State:
    return {
        "v": 1,
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
        "corrected": {},
    }


def note_correction(state: State, event: Event) -> None:
    """Remember which orders an event has corrected: such an order, if it comes later, is not simply added."""
    order_id = event.body.get("corrects")
    if order_id:
        state["corrected"][order_id] = event.occurred_at


def _order_completed(state: State, items: Items, event: Event) -> None:
    now = event.occurred_at
    _decay(state, now)
    if state["last_order"] and now > state["last_order"]:
        count, mean, m2 = state["gaps"]  # Welford's running mean and variance
        gap = (now - state["last_order"]) / DAY_S
        delta = gap - mean
        mean += delta / (count + 1)
        state["gaps"] = [count + 1, mean, m2 + delta * (gap - mean)]
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
        state["products"] += _bought(items, "p:" + line["product_id"], event, paid, seen)
        if line.get("category"):
            state["categories"] += _bought(items, "c:" + line["category"], event, paid, seen)
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
    channel = event.channel or "store"
    shares = state["channels"]
    weight, at = shares.get(channel, (0.0, now))
    shares[channel] = [weight * half(now - at, 365) + 1.0, now]


def _bought(items: Items, key: str, event: Event, paid: float, seen: set[str]) -> int:
    """Count one line into its entry; 1 if the entry is new. A trip counts once however many lines it has."""
    now = event.occurred_at
    entry = items.get(key)
    if key in seen and entry is not None:
        entry[DECAYED_SPEND] += paid
        return 0
    seen.add(key)
    if entry is None or now - max(entry[LAST], entry[RETURNED]) > KEEP_S:
        items[key] = [now, now, 1, 1.0, paid, event.message_id, 0.0, "", ""]
        return 1
    weight = half(now - entry[LAST], ITEM_HALF_LIFE_DAYS) if entry[LAST] else 0.0
    entry[DECAYED_TRIPS] = entry[DECAYED_TRIPS] * weight + 1.0
    entry[DECAYED_SPEND] = entry[DECAYED_SPEND] * weight + paid
    entry[FIRST] = entry[FIRST] or now
    entry[TRIPS] += 1
    entry[LAST] = now
    entry[LAST_ID] = event.message_id
    return 0


def _order_refunded(state: State, items: Items, event: Event) -> None:
    now = event.occurred_at
    _decay(state, now)
    for line in event.body.get("products") or []:
        quantity = line.get("quantity", 1)
        _add(state, "returned_units", float(quantity))
        _add(state, "returned_spend", line.get("price", 0.0) * quantity)
        reason = line.get("reason") or event.body.get("reason") or ""
        _returned(items, "p:" + line["product_id"], event, reason)
        if line.get("category"):
            _returned(items, "c:" + line["category"], event, reason)
    state["open_returns"].pop(event.body.get("order_id") or "", None)


def _returned(items: Items, key: str, event: Event, reason: str) -> None:
    entry = items.get(key)
    if entry is None or event.occurred_at - max(entry[LAST], entry[RETURNED]) > KEEP_S:
        entry = items[key] = [0.0, 0.0, 0, 0.0, 0.0, "", 0.0, "", ""]
    entry[RETURNED], entry[RETURN_ID], entry[RETURN_REASON] = event.occurred_at, event.message_id, reason


def _return_requested(state: State, items: Items, event: Event) -> None:
    order_id = event.body.get("order_id") or event.message_id
    products = sorted({line["product_id"] for line in event.body.get("products") or []})
    categories = sorted({line["category"] for line in event.body.get("products") or [] if line.get("category")})
    state["open_returns"][order_id] = {
        "since": event.occurred_at,
        "id": event.message_id,
        "products": products,
        "categories": categories,
        "reason": event.body.get("reason") or "",
    }


def _responded(state: State, items: Items, event: Event) -> None:
    """A customer's response to an offer: counted by offer kind, decayed with a half-life of 365 days."""
    kind, response = event.body.get("offer_kind"), event.body.get("response")
    now = event.occurred_at
    if kind in OFFER_KINDS and response:
        counts = state["responses"].setdefault(kind, {})
        weight, at = counts.get(response, (0.0, now))
        counts[response] = [weight * half(now - at, 365) + 1.0, now]


def _campaign_sent(state: State, items: Items, event: Event) -> None:
    counts = state["responses"].setdefault("promotion", {})
    weight, at = counts.get("sent", (0.0, event.occurred_at))
    counts["sent"] = [weight * half(event.occurred_at - at, 365) + 1.0, event.occurred_at]


STEPS = {
    "Order Completed": _order_completed,
    "Order Refunded": _order_refunded,
    "Return Requested": _return_requested,
    "Offer Responded": _responded,
    "Campaign Sent": _campaign_sent,
}


def half(age_s: float, half_life_days: float) -> float:
    return math.exp2(-age_s / (half_life_days * DAY_S))


def _decay(state: dict[str, Any], now: float) -> None:
    """Bring all sums to `now`; afterwards amounts of this instant are added with weight 1."""
    if state["sums_at"]:
        weights = [half(now - state["sums_at"], h) for h in HALF_LIVES_DAYS]
        for sums in state["sums"].values():
            for position, weight in enumerate(weights):
                sums[position] *= weight
    state["sums_at"] = now


def _add(state: dict[str, Any], name: str, amount: float) -> None:
    if amount:
        sums = state["sums"][name]
        for position in range(len(sums)):
            sums[position] += amount
