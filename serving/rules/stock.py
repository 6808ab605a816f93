"""The rule on stock, and its way out: sold out online, but in a shop near the customer, it can be set aside there.

The shop is the nearest within the rulebook's kilometres of the customer's own that has enough, by a stock feed
fresh enough; only web, app and call_centre ask for it, about the location `online`.
"""

from __future__ import annotations

import math

from features.vocabulary import ONLINE, Offer, Product
from serving.rules.case import Case, Reason, Reasons

SETS_ASIDE = frozenset({"web", "app", "call_centre"})
_UNKNOWN = object()


def stock(case: Case, offer: Offer, product: Product) -> Reasons:
    location_id, product_id = case.facts.location_id, product.product_id
    if location_id is None:
        return (Reason("stock_unknown", "location", None, "a location_id", product_id=product_id),)
    level, minimum = case.facts.stock.get(product_id), case.book.stock.minimum
    if level is None:
        return (Reason("stock_unknown", "stock", None, minimum, None, location_id, product_id),)
    if level.quantity >= minimum or set_aside(case, product_id) is not None:
        return ()
    return (Reason("out_of_stock", "stock", level.quantity, minimum, None, level.message_id, product_id),)


def set_aside(case: Case, product_id: str) -> str | None:
    """The shop where a product that is sold out online can be set aside for the customer."""
    facts = case.facts
    if facts.location_id != ONLINE or facts.channel not in SETS_ASIDE:
        return None
    level = facts.stock.get(product_id)
    if level is None or level.quantity >= case.book.stock.minimum:
        return None
    key = ("set_aside", product_id)
    found = case.shared.get(key, _UNKNOWN)
    if found is _UNKNOWN:
        found = case.shared[key] = _nearest(case, product_id)
    return found  # type: ignore[no-any-return]


def _nearest(case: Case, product_id: str) -> str | None:
    rule, feed = case.book.reserve_in_store, case.book.signals.get("stock")
    fresh = feed.max_age_s if feed else math.inf
    if case.home is None or rule.max_km <= 0:
        return None
    for km, location_id in case.catalog.shops_near(case.home.location_id):
        if km > rule.max_km:
            return None
        shop = case.facts.shops.get(location_id)
        if shop is None or shop.heard_at is None or case.facts.now - shop.heard_at > fresh:
            continue
        level = shop.levels.get(product_id)
        if level is not None and level.quantity >= rule.minimum:
            return location_id
    return None
