"""What we know of one customer: `fold` turns events into a profile, `derive` turns a profile into features.

These two are the only definition of every customer feature: the batch build, the live intake,
training, serving and replay all call them. Both are pure: no clock, no store, time is an argument.

A profile has two parts. `state` is small: decayed sums, last-seen times, and what stands open or was seen lately, in
rooms of their own (`cart`, `browsing`, `orders`, `returns`, `care`, `consent`, `habits`, `reactions`), each with the
functions to read it. Only `corrected` in it grows as long as there are corrections: the order of a refund or
cancellation may still come, however late. `items` holds one entry for every product and category that the
customer bought or returned in the last 730 days. Customer × offer features are made from the items in `affinity`.

Decayed sums: a sum with half-life h counts an event that is t old with weight 2^(−t/h), so it is exact
at any later instant from its last value alone (no window needs recomputing).

Events fold in the order of `(occurred_at, message_id)`. An event that would come earlier than the last
one folded, or that corrects an earlier one, makes `fold` refuse (`must_refold`); the caller then folds
the customer's whole history with `fold_all`. Same events, same bytes, whatever the order of arrival.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from features import browsing, care, cart, columns, habits, orders, steps
from features.corrections import corrected, corrects, settled
from features.decay import half as _half
from features.entries import (
    DECAYED_SPEND,
    DECAYED_TRIPS,
    FIRST,
    ITEM_HALF_LIFE_DAYS,
    LAST,
    LAST_ID,
    RETURN_ID,
    RETURN_REASON,
    RETURNED,
    TRIPS,
)
from features.profile_value import Profile
from features.steps import HALF_LIVES_DAYS, SUMS
from features.vocabulary import DAY_S, Event

__all__ = [
    "DECAYED_SPEND",
    "DECAYED_TRIPS",
    "FEATURES",
    "FIRST",
    "HALF_LIVES_DAYS",
    "ITEM_HALF_LIFE_DAYS",
    "LAST",
    "LAST_ID",
    "RETURNED",
    "RETURN_ID",
    "RETURN_REASON",
    "SUMS",
    "TRIPS",
    "Profile",
    "derive",
    "empty",
    "expected",
    "fold",
    "fold_all",
    "from_log",
    "logged",
    "must_refold",
    "outdated",
    "pack",
    "packed_state",
    "unpack",
]


def empty() -> Profile:
    return Profile()


# ---------------------------------------------------------------------------------------------- fold


def must_refold(profile: Profile, event: Event) -> bool:
    """Whether `event` cannot simply be added: it is older than what was folded, or one corrects the other.

    Nothing is added to a profile of another version of the code: it is folded anew with its next event.
    """
    if event.key <= profile.key or outdated(profile):
        return True
    corrections = profile.state["corrected"] if profile.state else None
    return corrects(event) or bool(corrections and corrected(event, corrections))


def outdated(profile: Profile) -> bool:
    """Whether another version of the code made this profile; such a one is folded anew, never read."""
    return bool(profile.state) and profile.state.get("v") != steps.VERSION


def fold_all(events: Iterable[Event]) -> Profile:
    """The profile after all of `events` (one customer's), in any order."""
    profile = empty()
    for event in settled(sorted(events, key=lambda event: event.key)):
        _fold(profile, event)
    return profile


def fold(profile: Profile, event: Event) -> Profile:
    """`profile` after `event`, changed in place and returned.

    Raises ValueError where `must_refold` says so: the caller decides where the history comes from.
    """
    if must_refold(profile, event):
        raise ValueError(f"event `{event.message_id}` cannot be folded in order; fold the whole history")
    return _fold(profile, event)


def _fold(profile: Profile, event: Event) -> Profile:
    if event.name not in steps.STEPS:
        return profile
    if not profile.state:
        profile.state = steps.fresh_state()
    state = profile.state
    state["at"], state["id"] = event.key
    steps.note_correction(state, event)
    for step in steps.STEPS[event.name]:
        step(state, profile.items, event)
    return profile


# ---------------------------------------------------------------------------------------------- bytes


ROUNDED_BYTES = 512
"""To a multiple of it a state is filled up with spaces: SQLite writes a row of the same length over the former one,
page by page where it differs, any other anew, the entries of years with it."""


def pack(profile: Profile) -> tuple[bytes, bytes]:
    """`(state, items)` as bytes, the same ones for the same profile: canonical JSON, and the entries' columns, without
    those idle for more than 730 days at the last event."""
    return packed_state(profile), columns.pack(profile.items, profile.key[0])


def packed_state(profile: Profile) -> bytes:
    """The first of the two."""
    state = orjson.dumps(profile.state, option=orjson.OPT_SORT_KEYS)
    return state + b" " * (-len(state) % ROUNDED_BYTES) if profile.state else state


def unpack(state: bytes, items: bytes) -> Profile:
    """The profile of these bytes; of one that is `outdated` the state alone. Raises ValueError for other bytes."""
    profile = Profile(orjson.loads(state))
    if profile.state and not outdated(profile):
        profile.items = columns.unpack(items)
    return profile


def logged(state: bytes, items: bytes) -> dict[str, Any]:
    """A packed profile as a line of JSON keeps it."""
    return {"state": orjson.Fragment(state), "columns": b64encode(items).decode()}


def from_log(content: Mapping[str, Any]) -> Profile:
    """The profile of what `logged` gave, or of what a line held before there were columns."""
    state = content["state"]
    items = content["items"] if "items" in content else columns.unpack(b64decode(content["columns"]))
    return Profile({**steps.fresh_state(), **state} if state else {}, items)


# ---------------------------------------------------------------------------------------------- derive

_SUMS = {f"{name}_{days}d": (name, days) for name in SUMS for days in HALF_LIVES_DAYS}
_SHARES = {f"share_{channel}": channel for channel in ("web", "app", "store")}
_RESPONSES = {
    f"{kind}_{response}": (kind, response)
    for kind in ("promotion", "cross_sell")
    for response in ("sent", "shown", "clicked", "accepted", "dismissed")
}
"""The features that there are of each of several things, by their names: these are many, and made once."""

FEATURES: Mapping[str, str] = {
    "days_since_order": "days from the last order to as_of",
    "days_since_first_order": "days from the first order to as_of",
    "orders": "orders ever",
    **{name: f"decayed sum of {s}, half-life {h} days" for name, (s, h) in _SUMS.items()},
    "gap_mean_days": "mean days between orders",
    "gap_cv": "variation of the days between orders (standard deviation / mean)",
    "gaps_overdue": "days since the last order / mean gap",
    "expected_orders_90d": "orders to expect in 90 days at the customer's own pace, shrunk to one in 90 days",
    "silence_chance_90d": "chance of no order in 90 days: gone for good (BG/NBD), or not gone and quiet",
    "distinct_products": "products bought for the first time in 730 days, counted",
    "distinct_categories": "the same for categories",
    "basket_spend": "spend_90d / orders_90d",
    "basket_lines": "lines_90d / orders_90d",
    "discount_share": "discount_365d / (spend_365d + discount_365d)",
    "coupon_share": "coupons_365d / orders_365d",
    "return_rate": "returned_units_365d / units_365d, at most 1",
    "open_returns": "returns requested and not yet refunded",
    **{name: f"decayed share of orders through {c}" for name, c in _SHARES.items()},
    **{
        name: f"decayed count of {response} for offers of kind {kind}, half-life 365 days"
        for name, (kind, response) in _RESPONSES.items()
    },
    "promotion_accept_rate": "(promotion_accepted + 0.1) / (promotion_sent + promotion_shown + 1)",
    **cart.FEATURES,
    **browsing.FEATURES,
    **orders.FEATURES,
    **care.FEATURES,
    **habits.FEATURES,
}
"""Every customer feature, in the order of `derive`'s values, with what it means. All are float64."""

_NEVER = math.nan
_NO_COUNTS: Mapping[str, tuple[float, float]] = {}


def derive(profile: Profile | None, as_of: float) -> dict[str, float]:
    """The feature columns of one customer at `as_of` (epoch seconds); NaN where nothing is known.

    `profile` must hold only events with `occurred_at <= as_of`; None or an empty profile is a customer
    of whom we know nothing.
    """
    if profile is None or not profile.state:
        return dict.fromkeys(FEATURES, _NEVER)
    state = profile.state
    weights = [_half(max(0.0, as_of - state["sums_at"]), h) if state["sums_at"] else 0.0 for h in HALF_LIVES_DAYS]
    decayed = [value * weight for name in SUMS for value, weight in zip(state["sums"][name], weights, strict=True)]
    sums = dict(zip(_SUMS, decayed, strict=True))
    count, mean, m2 = state["gaps"]
    since = (as_of - state["last_order"]) / DAY_S if state["last_order"] else _NEVER
    channels = {c: w * _half(max(0.0, as_of - at), 365) for c, (w, at) in state["channels"].items()}
    total = sum(channels.values())
    responses = _responses(state["responses"], as_of)
    sent = responses["promotion_sent"] + responses["promotion_shown"]
    return {
        "days_since_order": since,
        "days_since_first_order": (as_of - state["first_order"]) / DAY_S if state["first_order"] else _NEVER,
        "orders": float(state["orders"]),
        **sums,
        "gap_mean_days": mean if count else _NEVER,
        "gap_cv": math.sqrt(m2 / count) / mean if count > 1 and mean > 0 else _NEVER,
        "gaps_overdue": since / mean if count and mean > 0 else _NEVER,
        **expected(state["orders"], state["first_order"], state["last_order"], as_of),
        "distinct_products": float(state["products"]),
        "distinct_categories": float(state["categories"]),
        "basket_spend": _ratio(sums["spend_90d"], sums["orders_90d"]),
        "basket_lines": _ratio(sums["lines_90d"], sums["orders_90d"]),
        "discount_share": _ratio(sums["discount_365d"], sums["spend_365d"] + sums["discount_365d"]),
        "coupon_share": _ratio(sums["coupons_365d"], sums["orders_365d"]),
        "return_rate": min(_ratio(sums["returned_units_365d"], sums["units_365d"]), 1.0),  # of NaN the minimum is NaN
        "open_returns": float(len(state["open_returns"])),
        **{name: _ratio(channels.get(c, 0.0), total) for name, c in _SHARES.items()},
        **responses,
        "promotion_accept_rate": (responses["promotion_accepted"] + 0.1) / (sent + 1.0),
        **cart.derive(state, as_of),
        **browsing.derive(state, as_of),
        **orders.derive(state, as_of),
        **care.derive(state, as_of),
        **habits.derive(state, as_of),
    }


def _responses(counts: Mapping[str, Mapping[str, tuple[float, float]]], as_of: float) -> dict[str, float]:
    found = dict.fromkeys(_RESPONSES, 0.0)
    for name, (kind, response) in _RESPONSES.items() if counts else ():
        weight, at = counts.get(kind, _NO_COUNTS).get(response, (0.0, as_of))
        if weight:
            found[name] = weight * _half(max(0.0, as_of - at), 365)
    return found


PACE_ORDERS, PACE_DAYS = 1.0, 90.0
"""Gamma(1, 90 days): what is assumed of a customer's pace before the first repeat order. Assumed once, never fitted."""
LEAVE, STAY = 0.5, 2.5
"""Beta(½, 2½): what is assumed of the chance that a customer leaves for good after an order."""


def expected(orders: int, first: float, last: float, as_of: float) -> dict[str, float]:
    """Orders to expect in the next 90 days, and the chance of none, from nothing but the customer's own dates."""
    if not orders:
        return {"expected_orders_90d": _NEVER, "silence_chance_90d": _NEVER}
    repeats, known, active = orders - 1.0, max(0.0, as_of - first) / DAY_S, (last - first) / DAY_S
    shape, days = PACE_ORDERS + repeats, PACE_DAYS + known
    gone = 0.0
    if repeats:
        odds = LEAVE / (STAY + repeats - 1.0) * (days / (PACE_DAYS + active)) ** min(shape, 100.0)
        gone = odds / (1.0 + odds)
    quiet = (days / (days + 90.0)) ** shape
    return {"expected_orders_90d": 90.0 * shape / days, "silence_chance_90d": gone + (1.0 - gone) * quiet}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else _NEVER
