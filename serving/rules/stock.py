"""The rule on stock, and its way out: sold out online, but in a shop near the customer, it can be set aside there.

The shop is the nearest within the rulebook's kilometres of the customer's own that has enough, by a stock feed
fresh enough; only web, app and call_centre ask for it, about the location `online`.
"""

from __future__ import annotations

import math

from features.vocabulary import ONLINE, Offer, Product
from serving.rules.case import Case, Reason, Reasons

SETS_ASIDE = frozenset({"web", "app", "call_centre"})


def stock(case: Case, offer: Offer, product: Product) -> Reasons:
    location_id, product_id = case.facts.location_id, product.product_id
    if location_id is None:
        return (Reason("stock_unknown", "location", None, "a location_id", product_id=product_id),)
    level, minimum = case.facts.stock.get(product_id), case.book.stock.minimum
    if level is None and not case.demands("stock") and case.facts.feeds.get("stock") is None:
        return ()  # nobody counts here, and the rulebook says to go on
    if level is None:
        return (Reason("stock_unknown", "stock", None, minimum, None, location_id, product_id),)
    if level.quantity >= minimum:
        return ()
    if product_id not in case.set_aside:
        case.set_aside[product_id] = _shop_for(case, product_id)
    if case.set_aside[product_id] is not None:
        return ()
    return (Reason("out_of_stock", "stock", level.quantity, minimum, None, level.message_id, product_id),)


def _shop_for(case: Case, product_id: str) -> str | None:
    facts = case.facts
    return _nearest(case, product_id) if facts.location_id == ONLINE and facts.channel in SETS_ASIDE else None


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
