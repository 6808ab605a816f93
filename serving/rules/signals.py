"""Rules on how fresh our knowledge is: what is decided on a silent feed is decided on nothing."""

from __future__ import annotations

from features.vocabulary import PLACEMENTS, Offer
from serving.rules.case import Case, Reason, Reasons
from serving.rules.consent import is_personal


def misplaced(case: Case) -> bool:
    """Whether the placement is none of the channel's."""
    return case.facts.channel not in PLACEMENTS.get(case.facts.placement, frozenset())


def profile_silent(case: Case) -> bool:
    return case.facts.profile_missing or is_stale(case, "profile")


def stock_silent(case: Case) -> bool:
    return case.demands("stock") and (case.facts.feeds.get("stock") is None or is_stale(case, "stock"))


def channel_of_placement(case: Case, offer: Offer) -> Reasons:
    if not misplaced(case):
        return ()
    channels = sorted(PLACEMENTS.get(case.facts.placement, ()))
    return (Reason("wrong_placement", "channel_of_placement", case.facts.channel, channels),)


def profile(case: Case, offer: Offer) -> Reasons:
    if not needs_profile(case, offer):
        return ()
    if case.facts.profile_missing:
        return (Reason("signal_missing", "profile", "no profile store", "a profile"),)
    return _stale(case, "profile") if case.facts.known else ()


def stock(case: Case, offer: Offer) -> Reasons:
    if not case.has_products(offer) or case.facts.location_id is None or not stock_silent(case):
        return ()
    if case.facts.feeds.get("stock") is None:
        return (Reason("signal_missing", "stock", "no message yet", "a stock feed", evidence=case.facts.location_id),)
    return _stale(case, "stock")


def cases(case: Case, offer: Offer) -> Reasons:
    """Who may have a case that we have not heard of is not sold to; making good is let through."""
    return () if offer.kind in case.book.open_case.lets_through else _silent(case, "cases")


def consent(case: Case, offer: Offer) -> Reasons:
    """A refusal may have come that we have not heard of."""
    return _silent(case, "consent") if case.outbound or is_personal(case, offer) else ()


def _silent(case: Case, signal: str) -> Reasons:
    if not case.demands(signal):
        return ()
    if case.facts.feeds.get(signal) is None:
        return (Reason("signal_missing", signal, "no message yet", f"a feed of {signal}"),)
    return _stale(case, signal)


def is_stale(case: Case, signal: str) -> bool:
    """Whether a feed that holds back while it is silent has been so for too long."""
    rule, age_s = case.book.signals.get(signal), case.facts.age_s(signal)
    return rule is not None and rule.on_stale == "suppress" and age_s is not None and age_s > rule.max_age_s


def _stale(case: Case, signal: str) -> Reasons:
    if not is_stale(case, signal):
        return ()
    old = (f"{case.facts.age_s(signal):.0f} s old", f"{case.book.signals[signal].max_age_s:.0f} s")
    return (Reason("signal_stale", signal, *old),)


def needs_profile(case: Case, offer: Offer) -> bool:
    return case.has_products(offer) or offer.eligibility is not None
