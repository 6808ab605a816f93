"""The rule on the cart: what lies in it need not be offered, unless the offer is to bring it up again."""

from __future__ import annotations

from features.vocabulary import Offer, Product
from serving.rules.case import Case, Reason, Reasons


def in_cart(case: Case, offer: Offer, product: Product) -> Reasons:
    """In the cart that the caller names, or the customer's own on any device."""
    if product.product_id not in case.in_cart or offer.kind in case.book.in_cart.lets_through:
        return ()
    return (Reason("in_cart", "cart", product.product_id, "not in the cart", product_id=product.product_id),)
