"""The rules on how often we may begin, and on what another channel has shown: each yields its reasons."""

from __future__ import annotations

from collections.abc import Iterable

from features.vocabulary import OUTBOUND, Offer
from serving import contact
from serving.facts import moment
from serving.rules import Case, Reason


def contact_limit(case: Case, offer: Offer) -> Iterable[Reason]:
    if case.facts.channel in OUTBOUND:
        policy, facts = case.book.contact_policy, case.facts
        for each in contact.held(policy, facts.contacts, facts.channel, offer.kind, facts.now):
            yield Reason("contact_limit", each.rule, each.observed, each.limit, each.retry_after, each.evidence)


def terms(case: Case, offer: Offer) -> Iterable[Reason]:
    """What another channel has shown must not come at another discount, nor end sooner."""
    promised = case.facts.carried and case.facts.carried.promised(offer.offer_id)
    if not case.facts.carried or not promised:
        return
    by = case.facts.carried.decision_id
    if promised.discount != offer.value.discount:
        yield Reason("terms_conflict", "discount", offer.value.discount, promised.discount, evidence=by)
    if offer.valid_until < promised.valid_until:
        until = moment(promised.valid_until)
        yield Reason("terms_conflict", "valid_until", moment(offer.valid_until), until, evidence=by)
