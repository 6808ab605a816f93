"""Going on in another channel with what one has shown: which decision is carried on, and what of it. Pure.

The offers stay the same at the same terms, unless a rule holds them back now. Where the last decision of a customer
is found is the business of `last_decisions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from features.vocabulary import Offer
from serving.facts import Carried, Promised


def promises(offers: Mapping[str, Offer], answer: Mapping[str, Any]) -> list[list[Any]]:
    """What a record keeps of the terms at which its offers were shown; `offers` are the catalog's, by id."""
    found = []
    for each in answer["offers"]:
        offer = offers[each["offer_id"]]
        found.append([offer.offer_id, each["product_id"], offer.value.discount, offer.valid_until])
    return found


def carried_by(record: Mapping[str, Any]) -> Carried:
    """What a later decision goes on with from this record's."""
    before = record["facts"].get("carried")
    kept = {each["offer_id"] for each in record["answer"]["offers"]}
    since = before["since"] if before and kept & {each["offer_id"] for each in before["offers"]} else None
    offers = tuple(Promised(*each) for each in record.get("promised", ()))
    return Carried(record["decision_id"], record["facts"]["now"] if since is None else since, offers)


def carried_first(carried: Carried | None, offer: Offer, products: Iterable[str]) -> Iterable[str]:
    """`products` of the offer, before them the one that it was shown with, if it is one of them still."""
    promised = carried.promised(offer.offer_id) if carried else None
    if promised is None or promised.product_id is None:
        return products
    listed = list(products)
    first = [promised.product_id] if promised.product_id in listed else []
    return [*first, *(product_id for product_id in listed if product_id not in first)]
