"""Rules on the offer itself: when and where it is meant to be, for whom, and whether it is used up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from features.eligibility import meets
from features.motion import met_at
from features.vocabulary import DAY_S, Offer
from serving.facts import moment
from serving.rules.case import Case, Reason, Reasons, within


def maybe_over(case: Case) -> Collection[str] | None:
    """None, for any of them, unless all are valid now."""
    last_begins, first_ends = case.catalog.valid
    return () if last_begins <= case.facts.now < first_ends else None


def foreign(case: Case) -> Collection[str]:
    return case.catalog.foreign_to(case.facts.channel, case.facts.placement, case.facts.market)


def conditional(case: Case) -> Collection[str]:
    return case.catalog.having("eligibility")


def budgeted(case: Case) -> Collection[str]:
    return case.catalog.budgeted


def validity(case: Case, offer: Offer) -> Reasons:
    now = case.facts.now
    if now < offer.valid_from:
        return (Reason("outside_validity", "valid_from", moment(now), moment(offer.valid_from), offer.valid_from),)
    if now >= offer.valid_until:
        return (Reason("outside_validity", "valid_until", moment(now), moment(offer.valid_until)),)
    return ()


def channel(case: Case, offer: Offer) -> Reasons:
    if offer.channels and case.facts.channel not in offer.channels:
        return (Reason("wrong_channel", "channel", case.facts.channel, list(offer.channels)),)
    return ()


def placement(case: Case, offer: Offer) -> Reasons:
    if offer.placements and case.facts.placement not in offer.placements:
        return (Reason("wrong_placement", "placement", case.facts.placement, list(offer.placements)),)
    return ()


def market(case: Case, offer: Offer) -> Reasons:
    if offer.markets and case.facts.market not in offer.markets:
        return (Reason("wrong_market", "market", case.facts.market, list(offer.markets)),)
    return ()


def eligibility(case: Case, offer: Offer) -> Reasons:
    """A customer nobody knows meets no condition over the profile. Time alone may yet make one eligible."""
    if offer.eligibility is None or meets(offer.eligibility, case.features):
        return ()
    key = ("eligibility", repr(offer.eligibility))  # offers for the same people share it
    if key not in case.shared:
        met = met_at(offer.eligibility, case.facts.profile, case.features, case.facts.now)
        case.shared[key] = (_observed(offer.eligibility, case.features), met)
    observed, met = case.shared[key]
    return (Reason("not_eligible", "eligibility", observed, offer.eligibility, met),)


def _observed(condition: Any, features: Mapping[str, float]) -> dict[str, float | None]:
    """The values of the fields that a condition names."""
    if "field" in condition:
        value = features[condition["field"]]
        return {condition["field"]: value if value == value else None}
    parts = [condition["not"]] if "not" in condition else next(iter(condition.values()))
    return {name: value for part in parts for name, value in _observed(part, features).items()}


def budget(case: Case, offer: Offer) -> Reasons:
    """What has been given as often as was meant: on this day, it is free again tomorrow; altogether, never."""
    if offer.budget is None:
        return ()
    total, today = case.facts.used.get(offer.offer_id, (0, 0))
    found: list[Reason] = []
    if offer.budget.total is not None and total >= offer.budget.total:
        found.append(Reason("offer_budget_spent", "total", total, offer.budget.total))
    if offer.budget.daily is not None and today >= offer.budget.daily:
        tomorrow = (case.facts.now // DAY_S + 1) * DAY_S
        found.append(Reason("offer_budget_spent", "daily", today, offer.budget.daily, tomorrow))
    return found


def dismissed(case: Case, offer: Offer) -> Reasons:
    at, evidence = case.dismissed.get(offer.offer_id, (0.0, ""))
    held = within(case, at, evidence, case.book.recently_dismissed.days_for(offer.kind, offer.category))
    if held is None:
        return ()
    return (Reason("recently_dismissed", "same_offer", held.observed, held.limit, held.until, evidence),)


def redeemed(case: Case, offer: Offer) -> Reasons:
    taken = case.accepted.get(offer.offer_id) if offer.kind in case.book.already_redeemed.kinds else None
    if taken is None:
        return ()
    return (Reason("already_redeemed", "same_offer", moment(taken[0]), "once", None, taken[1]),)
