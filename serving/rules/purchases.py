"""Rules on what the customer has bought, in whatever channel or store: the product, its style, its category.

Replenishable products turn it round: not before the customer's usual interval.
"""

from __future__ import annotations

from features.profiles import FIRST, LAST, LAST_ID, TRIPS
from features.vocabulary import DAY_S, Offer, Product
from serving.facts import later, moment
from serving.rules.case import Case, Held, Reason, Reasons, reason, within

CODE = "recently_purchased"


def same_product(case: Case, offer: Offer, product: Product) -> Reasons:
    entry = None if product.replenishable else case.facts.items.get("p:" + product.product_id)
    if entry is None:
        return ()
    days = case.book.recently_purchased.same_product.days_for(offer.kind, product.category)
    return reason(CODE, "same_product", within(case, entry[LAST], entry[LAST_ID], days), product)


def same_style(case: Case, offer: Offer, product: Product) -> Reasons:
    """Another size of the style was bought: one of the same `parent_id`. Several in one order are one reason."""
    if product.replenishable or not product.parent_id:
        return ()
    days = case.book.recently_purchased.same_style.days_for(offer.kind, product.category)
    found: list[Reason] = []
    for sibling in case.siblings(product):
        entry = None if sibling == product.product_id else case.facts.items.get("p:" + sibling)
        if entry is not None:
            found.extend(reason(CODE, "same_style", within(case, entry[LAST], entry[LAST_ID], days), product))
    return list(dict.fromkeys(found)) if len(found) > 1 else found


def same_category(case: Case, offer: Offer, product: Product) -> Reasons:
    if product.replenishable or not product.category:
        return ()
    key = (CODE, offer.kind, product.category)
    if key not in case.shared:
        case.shared[key] = _category(case, offer.kind, product.category)
    return reason(CODE, "same_category", case.shared[key], product)


def _category(case: Case, kind: str, category: str) -> Held | None:
    entry = case.facts.items.get("c:" + category)
    if entry is None:
        return None
    days = case.book.recently_purchased.same_category.days_for(kind, category)
    return within(case, entry[LAST], entry[LAST_ID], days)


def usual_interval(case: Case, offer: Offer, product: Product) -> Reasons:
    """Not before the customer's usual interval between two purchases of a replenishable product has gone by."""
    entry = case.facts.items.get("p:" + product.product_id) if product.replenishable else None
    if entry is None or not entry[LAST]:
        return ()
    rule = case.book.replenishment
    if entry[TRIPS] >= rule.usual_trips:
        interval_s = max((entry[LAST] - entry[FIRST]) / (entry[TRIPS] - 1), DAY_S)
    else:
        interval_s = rule.unknown_interval_days * DAY_S
    again = later(entry[LAST], interval_s)
    if case.facts.now >= again:
        return ()
    limit = f"{interval_s / DAY_S:.3g} days"
    told = (moment(entry[LAST]), limit, again, entry[LAST_ID], product.product_id)
    return (Reason("too_soon_to_replenish", "usual_interval", *told),)
