"""The rule on how often we may begin; what counts is said by `contact`."""

from __future__ import annotations

from features.vocabulary import Offer
from serving import contact
from serving.rules.case import Case, Reason, Reasons


def contact_limit(case: Case, offer: Offer) -> Reasons:
    facts = case.facts
    over = contact.held(case.book.contact_policy, facts.contacts, facts.channel, offer.kind, facts.now)
    return [Reason("contact_limit", o.rule, o.observed, o.limit, o.retry_after, o.evidence) for o in over]
