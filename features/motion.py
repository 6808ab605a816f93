"""How features move while nothing happens, and so when a condition that is not met will be. Pure: time is an argument.

Days and hours since something grow; decayed sums fade; promises fall due. Each crosses a limit once at most, so a
condition can turn only at such a crossing. All other features stay as they are until an event comes, and of what is
unknown nothing becomes known. (That a cart's line is forgotten after 730 days is not looked ahead to.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from features import care
from features.eligibility import meets
from features.profiles import HALF_LIVES_DAYS, PACE_DAYS, SUMS, Profile, derive, expected
from features.vocabulary import DAY_S

FARTHEST_S = 36_525 * DAY_S
"""A hundred years: what is farther off is not told."""
_MS = 0.001
Features = Mapping[str, float]

_RISING: Mapping[str, float] = {
    **dict.fromkeys(("days_since_order", "days_since_first_order", "days_since_seen", "days_since_view"), DAY_S),
    "days_since_contact": DAY_S,
    **dict.fromkeys(("cart_age_hours", "checkout_age_hours", "checkout_failed_hours"), 3600.0),
}
"""The unit in which each is counted."""
_FADING: Mapping[str, int] = {
    **{f"{name}_{days}d": days for name in SUMS for days in HALF_LIVES_DAYS},
    **dict.fromkeys(("viewed_30d", "searches_30d", "lists_30d"), 30),
    **{
        f"{kind}_{response}": 365
        for kind in ("promotion", "cross_sell")
        for response in ("sent", "shown", "clicked", "accepted", "dismissed")
    },
}
"""The half-life of each, in days."""


def met_at(condition: Any, profile: Profile | None, features: Features, now: float) -> float | None:
    """The first millisecond at which the condition is met if nothing happens; None if it never is of itself.

    `features` are the profile's at `now`, of which the condition is not met.
    """
    near = {
        round(round(at, 3) + aside, 3)
        for at in _crossings(condition, profile, features, now)
        if at - now <= FARTHEST_S
        for aside in (-_MS, 0.0, _MS)  # rounding may put the turn on either side
    }
    return next((at for at in sorted(near) if at > now and meets(condition, derive(profile, at))), None)


def _crossings(condition: Any, profile: Profile | None, features: Features, now: float) -> Iterator[float]:
    """When a feature that the condition names reaches the limit it is compared with."""
    if "field" not in condition:
        parts = [condition["not"]] if "not" in condition else next(iter(condition.values()))
        for part in parts:
            yield from _crossings(part, profile, features, now)
        return
    name, limit = condition["field"], condition.get("value")
    value = features[name]
    if value != value or limit is None or isinstance(limit, str):
        return
    if name in _RISING:
        yield now + (limit - value) * _RISING[name]
    elif name in _FADING:
        if 0.0 < limit <= value:
            yield now + math.log2(value / limit) * _FADING[name] * DAY_S
    elif name == "promises_overdue":
        yield from (each.due_at for each in care.promises(profile) if each.kept_at is None)
    elif name in _OTHERWISE:
        at = _OTHERWISE[name](features, float(limit), now)
        if at is not None:
            yield at


def _gaps(features: Features, limit: float, now: float) -> float:
    return now + (limit - features["gaps_overdue"]) * features["gap_mean_days"] * DAY_S


def _rate(features: Features, limit: float, now: float) -> float | None:
    """(accepted × f + 0.1) / (sent × f + 1) = limit, where f is what half the weight in 365 days leaves."""
    sent = features["promotion_sent"] + features["promotion_shown"]
    below = limit * sent - features["promotion_accepted"]
    left = (0.1 - limit) / below if below else 0.0
    return now - math.log2(left) * 365 * DAY_S if 0.0 < left <= 1.0 else None


def _orders_to_expect(features: Features, limit: float, now: float) -> float | None:
    """90 × orders / (90 days assumed + days known) = limit."""
    if limit <= 0.0:
        return None
    known = 90.0 * features["orders"] / limit - PACE_DAYS
    return now + (known - features["days_since_first_order"]) * DAY_S


def _silence(features: Features, limit: float, now: float) -> float | None:
    """It rises, by no formula that could be turned round: found by halves."""
    first, last = (now - features[f"days_since_{which}order"] * DAY_S for which in ("first_", ""))

    def reached(at: float) -> bool:
        return expected(int(features["orders"]), first, last, at)["silence_chance_90d"] >= limit

    low, high = now, now + FARTHEST_S
    if reached(low):
        return now if features["silence_chance_90d"] == limit else None  # about to leave the limit, or long beyond
    if not reached(high):
        return None
    while high - low > _MS / 4:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


_OTHERWISE: Mapping[str, Callable[[Features, float, float], float | None]] = {
    "gaps_overdue": _gaps,
    "promotion_accept_rate": _rate,
    "expected_orders_90d": _orders_to_expect,
    "silence_chance_90d": _silence,
}

MOVING = frozenset({*_RISING, *_FADING, *_OTHERWISE, "promises_overdue"})
"""The features that change while nothing happens."""
