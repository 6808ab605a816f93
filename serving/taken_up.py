"""Which offers of a decision an order takes up, by what was bought and which coupons it names. Pure.

Bought is what a decision showed, another size of it, or another product of its offer: terms are the offer's, whichever
product stood for it. Who said so, and whether the decision was theirs, is the business of `responses`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from features.catalog import Catalog

Offered = Mapping[str, Any]
Line = Mapping[str, Any]


def decisions_of(order: Mapping[str, Any]) -> list[str]:
    """The decisions that an order names: its own, and those of single lines."""
    named = [order.get("decision_id"), *(_of_its_own(line) for line in order.get("products") or ())]
    return list(dict.fromkeys(each for each in named if isinstance(each, str) and each))


def taken_up(
    offers: Sequence[Offered], decision_id: str, order: Mapping[str, Any], catalog: Catalog
) -> list[tuple[Offered, str | None]]:
    """The offers of that decision that the order takes up, each with the product that was bought of it."""
    lines = order.get("products") or ()
    bought = [line for line in lines if (_of_its_own(line) or order.get("decision_id")) == decision_id]
    found: dict[str, tuple[Offered, str | None]] = {}
    for line in bought:
        for offer in _meant(offers, line, catalog):
            found.setdefault(offer["offer_id"], (offer, line["product_id"]))
    for offer in offers:
        if offer["offer_id"] == order.get("coupon"):
            found.setdefault(offer["offer_id"], (offer, offer["product_id"]))
    if not found and len(offers) == 1 and (offers[0]["product_id"] is None or not lines):
        return [(offers[0], offers[0]["product_id"])]  # nothing else can have been meant
    return list(found.values())


def _of_its_own(line: Line) -> str | None:
    """The decision that a line names itself."""
    return line.get("decision_id") or None


def _meant(offers: Iterable[Offered], line: Line, catalog: Catalog) -> list[Offered]:
    """The offers that a line takes up: those that it names or that showed its product, else the first that it is of."""
    product_id = line["product_id"]
    found = [each for each in offers if product_id == each["product_id"] or each["offer_id"] == line.get("coupon")]
    if found:
        return found
    style = _style(product_id, catalog)
    sizes = [each for each in offers if style and _style(each["product_id"], catalog) == style]
    over = set(catalog.offers_of(product_id))
    return (sizes or [each for each in offers if each["offer_id"] in over])[:1]


def _style(product_id: str | None, catalog: Catalog) -> str | None:
    product = catalog.products.get(product_id or "")
    return product.parent_id if product else None
