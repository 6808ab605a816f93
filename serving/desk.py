"""Where a decision is made: gathers what `decide` needs, calls it, and logs what came out.

Making (`draft`) and telling (`told`) are apart, so that a contact can be granted between the two (`outbound`). No rule
stands here.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from features import profiles
from features.identity import Resolver
from features.profile_now import ProfileNow, StoreDown
from features.signals import Signals
from features.store import ProfileStore
from features.vocabulary import ONLINE
from serving import counters, repeats
from serving.brief import brief
from serving.continuity import carried_by, promises, since
from serving.decide import ENGINE_VERSION, Decision, Policy, decide, shown, trace
from serving.decision_log import DecisionLog
from serving.draft import Draft, Told, logged
from serving.facts import Carried, Contacts, Facts, later
from serving.last_decisions import Last, LastDecisions
from serving.problems import bad_input
from serving.problems import shown as said
from serving.question import Ask
from serving.shelves import Shelf, Shops

_NO_CONTACTS = Contacts()


class Desk:
    """One worker's desk. `policy` may be replaced at any time: a decision ends with the one it began with."""

    def __init__(
        self,
        resolver: Resolver,
        store: ProfileStore,
        signals: Signals,
        log: DecisionLog,
        last: LastDecisions,
        policy: Policy,
    ):
        self.resolver, self.store, self.signals = resolver, store, signals
        self.log, self.last, self.policy = log, last, policy

    def draft(
        self, ask: Ask, customer_id: str, now: float, contacts: Contacts = _NO_CONTACTS, again: Carried | None = None
    ) -> Draft:
        """Decide, over everything that is known now; nothing is logged, and nobody is told yet.

        `again`: a decision that is looked at again, with the products that it was made with.
        """
        policy = self.policy
        carried = again or self._carried(ask, customer_id, now, policy.book.continuity.minutes * 60)
        seen, missing = self._profile(customer_id)
        location_id = ask.location_id or (None if ask.channel == "store" else ONLINE)
        location = policy.catalog.locations.get(location_id or "")
        stock = Shelf(self.signals.stock_at(location_id) if location_id else {})
        shops = Shops(self.signals)
        facts = Facts(
            decision_id="",
            now=now,
            customer_id=customer_id,
            channel=ask.channel,
            placement=ask.placement,
            limit=ask.limit,
            location_id=location_id,
            market=location.market if location else None,
            product_id=ask.product_id,
            cart=tuple(ask.cart),
            profile=seen.profile if seen else None,
            profile_missing=missing,
            stock=stock,
            feeds=self.signals.heard(policy.feeds, location_id),
            contacts=contacts,
            carried=carried,
            shops=shops,
            counts=policy.models.counts,
            used={offer_id: self.signals.used(offer_id, now) for offer_id in policy.catalog.budgeted},
            seed=secrets.token_hex(8),
        )
        return Draft(ask, decide(facts, policy, again is not None), stock, shops, seen)

    def told(self, draft: Draft) -> Told:
        """The answer of a decision, which is logged by then."""
        decision, seen = draft.decision, draft.seen
        facts, policy = decision.facts, decision.policy
        profile = None
        if seen is not None:
            profile = (facts.customer_id or "", seen.seq, lambda: profiles.logged(seen.state, seen.items))
        with self.log.slot(facts.now, profile) as slot:
            decided = Told(shown(decision, slot.decision_id), self.traced(decision))
            slot.write(
                {
                    "decision_id": slot.decision_id,
                    "engine": ENGINE_VERSION,
                    "versions": policy.versions,
                    "request": repeats.asked(draft.ask),
                    "facts": logged(draft, seen.seq if seen else None, slot.profile_at),
                    "promised": promises(policy.catalog.offers, decided),
                    "answer": decided.whole,
                }
            )
            if not draft.ask.preview:
                slot.note(facts.customer_id or "", brief(decided))
        if decided["offers"] and not draft.ask.preview:
            last = Last(slot.decision_id, facts.channel, facts.now, since(facts, decided))
            self.last.note(facts.customer_id or "", last)
        _count(decided)
        return decided

    def traced(self, decision: Decision) -> dict[str, Any]:
        """What is told and logged of that which is not shown."""
        return trace(decision)

    def _carried(self, ask: Ask, customer_id: str, now: float, within_s: float) -> Carried | None:
        """What this decision goes on with: what the caller names, else what another channel has just shown."""
        if ask.continue_from is not None:
            record = self.log.find(ask.continue_from)
            owner = record["answer"]["customer_id"] if record else ""
            if record is None or customer_id not in (owner, self.resolver.customer(owner)):
                wrong = f"{said(ask.continue_from)} is no decision of this customer; expected the `decision_id` of one"
                raise bad_input("continue_from", wrong)
            return carried_by(record, now)
        last = self.last.elsewhere(customer_id, ask.channel, now, within_s) if within_s else None
        record = self.log.find(last.decision_id) if last else None
        return None if last is None or record is None else carried_by(record, last.since, later(last.since, within_s))

    def _profile(self, customer_id: str) -> tuple[ProfileNow | None, bool]:
        try:
            return self.store.read(customer_id), False
        except StoreDown:
            return None, True


def _count(decided: Mapping[str, Any]) -> None:
    reasons: dict[str, int] = {}
    for each in decided["suppressed"]:
        for reason in each["reasons"]:
            reasons[reason["code"]] = reasons.get(reason["code"], 0) + 1
    counters.decided(decided["channel"], decided["fallback"], reasons)
