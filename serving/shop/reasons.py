"""Why an offer is held back, in plain words: per reason a heading, a sentence, and what lifts it. Pure.

The rules have said everything already (`serving.rules`); here it is put for people who look at the demo shop.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

REASONS = {
    "open_return": ("A return is under way", "until the return is settled"),
    "recently_returned": ("Sent back recently", None),
    "recently_purchased": ("Bought recently", None),
    "too_soon_to_replenish": ("Not used up yet", None),
    "in_cart": ("Already in the cart", "until it leaves the cart"),
    "out_of_stock": ("Sold out", "until it is back in stock"),
    "open_case": ("Waiting for support", "until the case is resolved"),
    "promise_broken": ("We owe them something", "until the promise is kept"),
    "checkout_failed": ("Could not pay a moment ago", None),
    "no_consent": ("No consent", "until they agree"),
    "contact_limit": ("Contacted often enough", None),
    "quiet_hours": ("Night where they are", None),
    "recently_dismissed": ("Waved away", None),
    "already_redeemed": ("Used already", None),
    "terms_conflict": ("Other terms shown elsewhere", None),
    "too_many_returns": ("Sends a lot back", None),
    "mutually_exclusive": ("A better one of its kind is shown", None),
    "below_margin": ("Would earn too little", None),
    "below_floor": ("Not worth showing", None),
    "offer_budget_spent": ("Budget is spent", None),
    "stock_unknown": ("Nobody says how much is left", "until a stock message comes"),
    "signal_stale": ("Its feed has gone quiet", "until the feed is heard"),
    "signal_missing": ("Its feed was never heard", "until the feed is heard"),
    "rule_error": ("A rule failed", None),
}
"""Per reason code: what it means in a word, and what lifts it where no time does. In the order of telling."""
ASIDE = ("wrong_channel", "wrong_placement", "wrong_market", "not_eligible", "outside_validity", "control_arm")
"""Reasons that are about the offer and this place; what has one is told in one heap."""
_SCOPES = {"same_product": "this product", "same_style": "another size of it", "same_category": "its category"}


def label_of(code: str) -> str:
    return REASONS.get(code, (code.replace("_", " ").capitalize(), None))[0]


def place_of(code: str) -> int:
    """Where a reason stands in the order of telling."""
    return list(REASONS).index(code) if code in REASONS else len(REASONS)


def detail_of(reason: Mapping[str, Any]) -> str:
    """One reason as a sentence: what was seen, and what would have been allowed."""
    code, observed, limit = reason["code"], reason["observed"], reason["limit"]
    scope = _SCOPES.get(reason["rule"], "")
    if code in ("recently_purchased", "recently_returned") and isinstance(observed, str):
        verb = "bought" if code == "recently_purchased" else "sent back"
        return f"{scope or 'it'} was {verb} {moment_of(observed)}; not again within {limit}"
    if code == "too_soon_to_replenish" and isinstance(observed, str):
        return f"bought {moment_of(observed)}; usually bought again after {limit}"
    if code == "below_margin":
        return f"would earn {_said(observed)}, at least {_said(limit)} is asked"
    if code == "recently_dismissed":
        return f"waved away {_said(observed)}; not again within {_said(limit)}"
    if code == "open_return":
        return "a return of its kind has been asked for and is not settled"
    if code == "in_cart":
        return "put in on any device, it counts on all"
    if code == "out_of_stock":
        return f"{observed} left, at least {limit} needed"
    if code == "stock_unknown":
        return "no stock message has come for it" if observed is None else f"stock is {observed}"
    if code == "no_consent":
        return f"needs a yes to {reason['rule'].replace('_', ' ')} that has not been given"
    if code == "quiet_hours":
        return f"{_said(observed)}; {_said(limit)}"
    if code == "contact_limit":
        return f"{_said(observed)} so far, allowed {_said(limit)}"
    return f"{label_of(code).lower()}: saw {_said(observed)}, limit {_said(limit)}"


def _said(value: Any) -> str:
    if isinstance(value, str) and len(value) > 18 and value[4:5] == "-" and value[10:11] == "T":
        return moment_of(value)
    if isinstance(value, list | tuple):
        return ", ".join(_said(each) for each in value)
    return "nothing" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def day_of(at: str | float) -> str:
    """The same, shorter: `22 Nov, 10:00`."""
    return moment_of(at)[4:].removesuffix(" UTC")


def moment_of(at: str | float) -> str:
    """A time for people, in UTC: `Sun 22 Nov, 10:00`."""
    when = datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)
    return f"{when:%a} {when.day} {when:%b}, {when:%H:%M} UTC"
