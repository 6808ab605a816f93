"""Rules on what the customer has agreed to. They are absolute: no offer, kind or setting gets past a refusal.

Marketing: by e-mail, sms and push only with a granted consent. Personalisation: who refuses it gets no offer that
is there because of them (the personal kinds, and what has conditions over the profile); the rest is chosen as for a
stranger (`decide`). Profiling: who refuses it is not scored (`decide`); no offer is held back for that, but what
scores have chosen before is not sent any more (`confirm`).
"""

from __future__ import annotations

from features import consent
from features.profile_value import Profile
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


def denials(facts: Facts, book: Rulebook, chosen_with: Profile | None, same_book: bool) -> Reasons:
    """What the customer refuses now, of that by which offers were chosen before, over the profile `chosen_with`.

    However a refusal is dated: one that came late was not heeded either. What was chosen under it already stays right.
    `same_book`: by this rulebook, so that it says, too, what was allowed to whom had said nothing.
    """
    by_profile = _was_allowed(facts, book, "personalisation", chosen_with, same_book)
    by_scores = by_profile and _was_allowed(facts, book, "profiling", chosen_with, same_book)
    used = {"personalisation": by_profile, "profiling": by_scores}
    return tuple(
        _denial(facts, book, purpose)
        for purpose in used
        if used[purpose] and consent.granted(facts.profile, purpose, facts.channel) is False
    )


def _was_allowed(facts: Facts, book: Rulebook, purpose: str, chosen_with: Profile | None, same_book: bool) -> bool:
    said = consent.granted(chosen_with, purpose, facts.channel)
    return not same_book or bool(getattr(book.consent, purpose) == "until_refused") if said is None else said


def _denial(facts: Facts, book: Rulebook, purpose: str) -> Reason:
    word, setting = consent.of(facts.profile, purpose, facts.channel), getattr(book.consent, purpose)
    if word is None:
        return Reason("no_consent", purpose, "not granted", setting)
    return Reason("no_consent", purpose, f"refused {moment(word.since)}", setting, None, word.evidence)
