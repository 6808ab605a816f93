"""The rule on what is carried on from another channel: it must not come at another discount, nor end sooner."""

from __future__ import annotations

from collections.abc import Collection

from features.vocabulary import Offer
from serving.facts import moment
from serving.rules.case import Case, Reason, Reasons


def carried(case: Case) -> Collection[str]:
    """The ids of the offers carried on."""
    return [each.offer_id for each in case.facts.carried.offers] if case.facts.carried else ()


def terms(case: Case, offer: Offer) -> Reasons:
    carried = case.facts.carried
    promised = carried.promised(offer.offer_id) if carried else None
    if carried is None or promised is None:
        return ()
    found: list[Reason] = []
    if promised.discount != offer.value.discount:
        told = (offer.value.discount, promised.discount)
        found.append(Reason("terms_conflict", "discount", *told, carried.until, carried.decision_id))
    if offer.valid_until < promised.valid_until:
        ends = (moment(offer.valid_until), moment(promised.valid_until))
        found.append(Reason("terms_conflict", "valid_until", *ends, carried.until, carried.decision_id))
    return found
