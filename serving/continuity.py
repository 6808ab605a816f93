"""Going on in another channel with what one has shown: which decision is carried on, and what of it. Pure.

The offers stay the same at the same terms, unless a rule holds them back now. Where the last decision of a customer
is found is the business of `last_decisions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from features.vocabulary import Offer
from serving.facts import Carried, Facts, Promised


def promises(offers: Mapping[str, Offer], answer: Mapping[str, Any]) -> list[list[Any]]:
    """What a record keeps of the terms at which its offers were shown; `offers` are the catalog's, by id."""
    found = []
    for each in answer["offers"]:
        offer = offers[each["offer_id"]]
        found.append([offer.offer_id, each["product_id"], offer.value.discount, offer.valid_until])
    return found


def carried_by(record: Mapping[str, Any], since: float, until: float | None = None) -> Carried:
    """What a later decision goes on with from this record's, whose offers count as decided at `since`."""
    return Carried(record["decision_id"], since, tuple(Promised(*each) for each in record.get("promised", ())), until)


def since(facts: Facts, answer: Mapping[str, Any]) -> float:
    """When the offers of an answer were first decided: with those that it goes on with, if it shows any of them."""
    carried = facts.carried if answer["continued_from"] else None
    if carried is None or not any(carried.promised(offer["offer_id"]) for offer in answer["offers"]):
        return facts.now
    return carried.since


def carried_first(carried: Iterable[Promised], offer: Offer, products: Iterable[str]) -> Iterable[str]:
    """`products` of the offer, before them the one that it was shown with, if it is one of them still."""
    promised = next((each for each in carried if each.offer_id == offer.offer_id), None)
    if promised is None or promised.product_id is None:
        return products
    listed = list(products)
    first = [promised.product_id] if promised.product_id in listed else []
    return [*first, *(product_id for product_id in listed if product_id not in first)]
