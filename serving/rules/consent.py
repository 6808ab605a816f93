"""Rules on what the customer has agreed to. They are absolute: no offer, kind or setting gets past a refusal.

Marketing: by e-mail, sms and push only with a granted consent. Personalisation: who refuses it gets no offer that
is there because of them (the personal kinds, and what has conditions over the profile); the rest is chosen as for a
stranger (`decide`). Profiling: who refuses it is not scored (`decide`); no offer is held back for that, but what
scores have chosen before is not sent any more (`confirm`).
"""

from __future__ import annotations

from features import consent
from features.vocabulary import OUTBOUND, Offer
from serving.facts import Facts, moment
from serving.rulebook import Rulebook
from serving.rules.case import Case, Reason, Reasons


def marketing(case: Case, offer: Offer) -> Reasons:
    if case.facts.channel not in OUTBOUND:
        return ()
    word = case.consent("marketing")
    if word is None:
        return (Reason("no_consent", "marketing", "not granted", "granted"),)
    if not word.granted:
        return (Reason("no_consent", "marketing", f"refused {moment(word.since)}", "granted", None, word.evidence),)
    return ()


def personalisation(case: Case, offer: Offer) -> Reasons:
    if case.personal or not is_personal(case, offer):
        return ()
    return (_denial(case.facts, case.book, "personalisation"),)


def is_personal(case: Case, offer: Offer) -> bool:
    """Whether an offer is only there because of what is known of the customer."""
    return offer.eligibility is not None or offer.kind in case.book.consent.personal_kinds


def allowed(facts: Facts, book: Rulebook, purpose: str) -> bool:
    """Whether the profile may be used for `purpose`: personalisation or profiling."""
    granted = consent.granted(facts.profile, purpose, facts.channel)
    return bool(getattr(book.consent, purpose) == "until_refused") if granted is None else granted


def denials(facts: Facts, book: Rulebook, since: float) -> Reasons:
    """What the customer has refused since then that scores are made of: for what these have chosen before."""
    words = {purpose: consent.of(facts.profile, purpose, facts.channel) for purpose in ("personalisation", "profiling")}
    return tuple(
        _denial(facts, book, purpose)
        for purpose, word in words.items()
        if word is not None and not word.granted and word.since >= since
    )


def _denial(facts: Facts, book: Rulebook, purpose: str) -> Reason:
    word, setting = consent.of(facts.profile, purpose, facts.channel), getattr(book.consent, purpose)
    if word is None:
        return Reason("no_consent", purpose, "not granted", setting)
    return Reason("no_consent", purpose, f"refused {moment(word.since)}", setting, None, word.evidence)
