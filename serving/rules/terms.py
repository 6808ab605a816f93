"""Rules on the offer's terms for one product: what it would earn, and what another channel has shown this customer.

Terms are what we really know of them: the discount of an offer that a response says was shown on a product.
"""

from __future__ import annotations

from collections.abc import Collection

from features.catalog import Catalog
from features.vocabulary import Offer, Product
from serving.facts import moment
from serving.rulebook import Rulebook
from serving.rules.case import Case, Reason, Reasons, within

_kept: list[tuple[Catalog, Rulebook, frozenset[str]]] = []


def earning_too_little(case: Case) -> Collection[str]:
    """The ids of the offers held back by `below_margin`: of catalog and rulebook alone, and so kept."""
    for catalog, book, found in _kept:
        if catalog is case.catalog and book is case.book:
            return found
    held = (offer.offer_id for offer in case.catalog.offers.values() if below_margin(case, offer))
    found = frozenset(held)
    _kept[:] = [*_kept[-7:], (case.catalog, case.book, found)]
    return found


def below_margin(case: Case, offer: Offer) -> Reasons:
    """An accepted offer must earn so much: its margin − discount − cost. One without a margin is judged per product."""
    return () if offer.earns_by_product and case.has_products(offer) else _earned(case, offer, None)


def below_margin_of_product(case: Case, offer: Offer, product: Product) -> Reasons:
    """The same with the product's margin, where the offer names none."""
    return _earned(case, offer, product) if offer.earns_by_product else ()


def _earned(case: Case, offer: Offer, product: Product | None) -> Reasons:
    rule = case.book.below_margin
    if rule.minimum is None or offer.kind in rule.lets_through:
        return ()
    earned = round(margin_of(offer, product) - offer.value.discount - offer.value.cost, 6)
    if earned >= rule.minimum:
        return ()
    return (Reason("below_margin", "earned", earned, rule.minimum, product_id=product.product_id if product else None),)


def margin_of(offer: Offer, product: Product | None) -> float:
    """The offer's own margin; where it names none, that of the product shown."""
    return offer.value.margin or (product.margin if product is not None else None) or 0.0


def promised(case: Case, offer: Offer, product: Product) -> Reasons:
    """Another channel has shown this product with another discount, not long ago, and it was not used since."""
    shown = case.terms.get(product.product_id)
    if shown is None or shown.channel == case.facts.channel or shown.discount == offer.value.discount:
        return ()
    held = within(case, shown.at, shown.evidence, case.book.terms_conflict.days_for(offer.kind, product.category))
    if held is None:
        return ()
    observed = (
        f"{shown.discount:.2f} off by {shown.offer_id} ({shown.channel or 'channel unknown'}), {moment(shown.at)}"
    )
    limit = f"the same discount for {held.limit}"
    told = (observed, limit, held.until, shown.evidence, product.product_id)
    return (Reason("terms_conflict", "same_product", *told),)
