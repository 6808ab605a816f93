"""Rules on how fresh our knowledge is: what is decided on a silent feed is decided on nothing."""

from __future__ import annotations

from features.vocabulary import PLACEMENTS, Offer
from serving.rules.case import Case, Reason, Reasons


def channel_of_placement(case: Case, offer: Offer) -> Reasons:
    channels = PLACEMENTS.get(case.facts.placement, frozenset())
    if case.facts.channel in channels:
        return ()
    return (Reason("wrong_placement", "channel_of_placement", case.facts.channel, sorted(channels)),)


def profile(case: Case, offer: Offer) -> Reasons:
    if case.facts.profile_missing and needs_profile(case, offer):
        return (Reason("signal_missing", "profile", "no profile store", "a profile"),)
    return _stale(case, "profile") if case.facts.known else ()


def stock(case: Case, offer: Offer) -> Reasons:
    if not case.has_products(offer) or case.facts.location_id is None:
        return ()
    if case.facts.feeds.get("stock") is None:
        return (Reason("signal_missing", "stock", "no message yet", "a stock feed", evidence=case.facts.location_id),)
    return _stale(case, "stock")


def _stale(case: Case, signal: str) -> Reasons:
    rule, age_s = case.book.signals.get(signal), case.facts.age_s(signal)
    if rule is not None and rule.on_stale == "suppress" and age_s is not None and age_s > rule.max_age_s:
        return (Reason("signal_stale", signal, f"{age_s:.0f} s old", f"{rule.max_age_s:.0f} s"),)
    return ()


def needs_profile(case: Case, offer: Offer) -> bool:
    return case.has_products(offer) or offer.eligibility is not None
