"""Where and when a customer is to be met: channels and hours of their own acts, shops, loyalty tier, home shop.

Only what the customer does counts (ACTS), not what we or a system send. Acts per channel and hour of the day
(UTC: an event says no time zone) and orders per shop are counted with a half-life of 90 days; of the shops the
MOST_SHOPS used last are kept. Of the traits of an `identify` only the tier and the home shop are kept here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.corrections import NOT_TAKEN, UNASKED, VOID
from features.decay import AT, count, keep_latest, worth
from features.profile_value import Profile
from features.vocabulary import DAY_S, ONLINE, Event

HALF_LIFE_DAYS = 90
MOST_SHOPS = 10
LONGEST_TRAIT = 100
TIERS = ("basic", "bronze", "silver", "gold", "platinum", "diamond")

ACTS = (
    *("Products Searched", "Product List Viewed", "Product List Filtered", "Product Clicked", "Product Viewed"),
    *("Product Added", "Product Removed", "Cart Viewed", "Checkout Started", "Checkout Step Viewed"),
    *("Checkout Step Completed", "Payment Info Entered", "Checkout Failed", "Order Completed", VOID),
    *("Coupon Entered", "Coupon Applied", "Coupon Removed", "Product Added to Wishlist", "Product Shared"),
    *("Product Removed from Wishlist", "Wishlist Product Added to Cart", "Cart Shared", "Product Reviewed"),
    *("Return Requested", UNASKED, "Support Case Opened", "$page", "$screen"),
)
RESPONDING = frozenset({"clicked", "accepted", "dismissed"})
"""The responses that are an act of the customer; `shown` is ours."""

FEATURES: Mapping[str, str] = {
    "days_since_seen": "days since the customer last did anything in any channel",
    "loyalty_tier": "basic 0, bronze 1, silver 2, gold 3, platinum 4, diamond 5; a number is taken as it is",
}


@dataclass(frozen=True, slots=True)
class Home:
    """The customer's shop: `said` by an `identify`, else the one used most."""

    location_id: str
    said: bool


def preferred_channel(profile: Profile | None, now: float) -> str | None:
    """The channel used most of late."""
    return _top(_counters(profile, "acts"), now)


def preferred_hour(profile: Profile | None, now: float) -> int | None:
    """The hour of the day (0 to 23, UTC) in which the customer was most active of late."""
    hour = _top(_counters(profile, "hours"), now)
    return None if hour is None else int(hour)


def last_seen(profile: Profile | None) -> dict[str, float]:
    """Per channel when the customer was last active there."""
    return {channel: counter[AT] for channel, counter in sorted(_counters(profile, "acts").items())}


def loyalty_tier(profile: Profile | None) -> str | None:
    """The tier as it was told."""
    return _habits(profile).get("tier") or None


def home(profile: Profile | None, now: float) -> Home | None:
    """The shop that an `identify` named; else the one with most orders of late."""
    said = _habits(profile).get("home")
    used = said or _top(_counters(profile, "shops"), now)
    return Home(used, bool(said)) if used else None


def _habits(profile: Profile | None) -> Mapping[str, Any]:
    return profile.state["habits"] if profile is not None and profile.state else {}


def _counters(profile: Profile | None, what: str) -> Mapping[str, Any]:
    return _habits(profile).get(what) or {}


def _top(counters: Mapping[str, Any], now: float) -> str | None:
    """The counter worth most; of equal ones the first by its key."""
    return min(counters, key=lambda key: (-worth(counters[key], now, HALF_LIFE_DAYS), key), default=None)


def fresh() -> dict[str, Any]:
    return {"acts": {}, "hours": {}, "shops": {}, "seen": 0.0, "tier": "", "home": ""}


def derive(state: Mapping[str, Any], as_of: float) -> dict[str, float]:
    habits = state["habits"]
    return {
        "days_since_seen": (as_of - habits["seen"]) / DAY_S if habits["seen"] else math.nan,
        "loyalty_tier": _rank(habits["tier"]) if habits["tier"] else math.nan,
    }


def _rank(tier: str) -> float:
    """Where a tier stands; NaN for a name that says no order."""
    name = tier.strip().lower()
    if name in TIERS:
        return float(TIERS.index(name))
    return float(name) if name.isdecimal() and name.isascii() else math.nan


# -------------------------------------------------------------------------------------------------- steps


def _acted(state: dict[str, Any], items: Any, event: Event) -> None:
    habits, now = state["habits"], event.occurred_at
    habits["seen"] = now
    count(habits["hours"], str(int(now // 3600 % 24)), now, HALF_LIFE_DAYS)
    if event.channel:
        count(habits["acts"], event.channel, now, HALF_LIFE_DAYS)


def _ordered(state: dict[str, Any], items: Any, event: Event) -> None:
    if event.location_id and event.location_id != ONLINE:
        count(state["habits"]["shops"], event.location_id, event.occurred_at, HALF_LIFE_DAYS)
        keep_latest(state["habits"]["shops"], MOST_SHOPS)


def _responded(state: dict[str, Any], items: Any, event: Event) -> None:
    if event.body.get("response") in RESPONDING:
        _acted(state, items, event)


def _identified(state: dict[str, Any], items: Any, event: Event) -> None:
    """A trait that is given empty is taken back; one that is no text or number is not looked at."""
    traits = event.body.get("traits")
    for part, names in (("tier", ("loyalty_tier", "tier")), ("home", ("home_location_id", "store_id"))):
        for name in names:
            if isinstance(traits, Mapping) and name in traits:
                value = traits[name]
                if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
                    state["habits"][part] = "" if value is None else str(value)[:LONGEST_TRAIT]
                break


STEPS = {
    **dict.fromkeys(ACTS, (_acted,)),
    "Order Completed": (_acted, _ordered),
    **dict.fromkeys(("Offer Responded", NOT_TAKEN), (_responded,)),
    "$identify": (_identified,),
}
