"""One decision, from what was seen to what is answered. Pure, and the file to read first.

    candidates → screen (every rule, every reason) → score what is open → rank → answer

`Facts` is everything that a decision sees of the world: who asks, when, the profile, the stock, the age
of each feed. `Policy` is everything it decides by: catalog, rulebook, models. `decide` makes a
`Decision` of the two and nothing else, so a logged decision can be made again, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from features import habits
from features.affinity import Affinity, index_of
from features.catalog import Catalog
from features.profiles import derive
from serving.arbitration import Ranking, Scored, ranked
from serving.facts import Facts, moment
from serving.rulebook import Rulebook
from serving.rules.case import Case, Reason
from serving.rules.consent import allowed
from serving.scoring import Models
from serving.screen import Screened, screen
from serving.treatments import treatment_of
from serving.worth import context_of, weighs_churn, worth_of

ENGINE_VERSION = "7"
"""Rises when the same facts and policy may give another answer; replay compares bytes within one version."""

MOST_TREATED = 16_384


@dataclass(frozen=True)
class Policy:
    """What a decision decides by; replaced as a whole when a file or a model changes. What follows from it is kept."""

    catalog: Catalog
    book: Rulebook
    models: Models

    @cached_property
    def versions(self) -> Mapping[str, str | None]:
        return {"rulebook": self.book.version, "catalog": self.catalog.version, **self.models.versions}

    @cached_property
    def feeds(self) -> tuple[str, ...]:
        """Those that a decision looks at: the rulebook's, and whether anything is known of customers at all."""
        return tuple(dict.fromkeys((*self.book.signals, "profile")))

    @cached_property
    def treated(self) -> dict[tuple[str | None, ...], dict[str, str]]:
        """Texts that were filled in, by offer, product, place, tier and channel; at most `MOST_TREATED`."""
        return {}


@dataclass(frozen=True, slots=True)
class Decision:
    facts: Facts
    policy: Policy
    screened: tuple[Screened, ...]
    ranking: Ranking
    churn: float | None
    """The customer's churn risk; None, too, where no offer that is open is weighed by it."""
    goes_on_with: str | None
    """The id of the decision whose offers come first here; None, too, for who may not be scored."""
    fallback: str | None


def decide(facts: Facts, policy: Policy, again: bool = False) -> Decision:
    """Screen all candidates, score the open ones, rank them. Nothing to show is a decision too.

    `again`: what is carried on is this very decision, looked at again (`confirm`): with the products that it was made
    with, whoever the customer is.
    """
    personal, profiled = allowed(facts, policy.book, "personalisation"), _profiled(facts, policy.book)
    affinity = Affinity(facts.profile if personal else None, index_of(policy.catalog), facts.now)
    features = derive(facts.profile, facts.now)
    carried = facts.carried.offers if facts.carried and (profiled or again) else ()
    case = Case(facts, policy.book, policy.catalog, affinity, features, personal, carried)
    screened = tuple(screen(case, policy.catalog.candidates(facts.channel, facts.placement)))
    open_ = [s for s in screened if not s.reasons]
    offers = [s.offer for s in open_]
    chances = policy.models.propensities(facts, policy.catalog, offers, features, affinity, profiled)
    risks = policy.models.return_risks(facts, [s.product_id for s in open_], features, profiled)
    weighed = facts.known and profiled and weighs_churn(policy.book, offers)
    churn = policy.models.churn_risk(features) if weighed else None
    told = zip(open_, chances, risks, strict=True)
    scored = [_scored(case, s, chance, risk, churn) for s, chance, risk in told]
    ranking = ranked(scored, policy.book.arbitration, facts.placement, facts.limit, facts.seed, carried)
    goes_on_with = facts.carried.decision_id if facts.carried and profiled else None
    return Decision(facts, policy, screened, ranking, churn, goes_on_with, _fallback(facts, policy, ranking, profiled))


def churn_of(decision: Decision) -> float | None:
    """The customer's churn risk, whether or not an offer was weighed by it; None for who may not be scored."""
    facts, policy = decision.facts, decision.policy
    if decision.churn is not None or not (facts.known and _profiled(facts, policy.book)):
        return decision.churn
    return policy.models.churn_risk(derive(facts.profile, facts.now))


def _profiled(facts: Facts, book: Rulebook) -> bool:
    """Whether the customer may be scored."""
    return allowed(facts, book, "personalisation") and allowed(facts, book, "profiling")


def _scored(
    case: Case, screened: Screened, propensity: float | None, return_risk: float | None, churn: float | None
) -> Scored:
    offer, product_id = screened.offer, screened.product_id
    product = case.product(product_id) if product_id else None
    category = product.category if product else offer.category
    worth, context = worth_of(case, offer, product, return_risk), context_of(case, offer.kind, category, churn)
    exponent = case.book.arbitration.propensity_exponent
    return Scored(offer, product_id, category, propensity, worth, context, exponent, screened.set_aside)


def _fallback(facts: Facts, policy: Policy, ranking: Ranking, profiled: bool) -> str | None:
    """The one thing that most limits this answer, if anything does."""
    if ranking.by_default:
        return "placement_default"
    if facts.profile_missing:
        return "no_profile"
    degraded = _degraded(facts, policy.book)
    if degraded and degraded != ["profile"]:
        return "stale_signal"
    if not (facts.known and profiled):
        return "unknown_customer"
    if policy.models.propensity is None:
        return "no_model"
    return "stale_signal" if degraded else None


def _degraded(facts: Facts, book: Rulebook) -> list[str]:
    """The signals on which the rulebook says to go on, and to say so, whose feed is too old or never spoke."""
    found = []
    for signal, rule in book.signals.items():
        if rule.on_stale == "degrade":
            age_s = facts.age_s(signal)
            silent = signal != "profile" if age_s is None else age_s > rule.max_age_s
            found += [signal] if silent else []
    return found


# ------------------------------------------------------------------------------------------- answer


def answer(decision: Decision, decision_id: str | None = None) -> dict[str, Any]:
    """The decision as the contract's JSON, with its whole trace; by that id, where its facts have none yet."""
    return {**shown(decision, decision_id), **trace(decision)}


def shown(decision: Decision, decision_id: str | None = None) -> dict[str, Any]:
    """What is offered, and under which conditions."""
    facts, policy = decision.facts, decision.policy
    tier = habits.loyalty_tier(facts.profile) if allowed(facts, policy.book, "personalisation") else None
    return {
        "decision_id": facts.decision_id if decision_id is None else decision_id,
        "customer_id": facts.customer_id,
        "channel": facts.channel,
        "placement": facts.placement,
        "decided_at": moment(facts.now),
        "arm": "nba",
        "fallback": decision.fallback,
        "continued_from": decision.goes_on_with,
        "offers": [
            _shown(position, r.scored, r.selection_probability, decision, tier)
            for position, r in enumerate(decision.ranking.shown, 1)
        ],
        "signals": _signals(facts, policy.book),
        "versions": policy.versions,
    }


def trace(decision: Decision) -> dict[str, Any]:
    """Every candidate and product that is not offered, with every reason."""
    return {
        "suppressed": _suppressed(decision),
        "passed_over": [
            {"offer_id": s.offer.offer_id, "product_id": product_id, "reasons": [reason_told(r) for r in reasons]}
            for s in decision.screened
            for product_id, reasons in s.passed_over
        ],
    }


def _shown(position: int, scored: Scored, probability: float, decision: Decision, tier: str | None) -> dict[str, Any]:
    offer, worth, context = scored.offer, scored.worth, scored.context
    return {
        "rank": position,
        "offer_id": offer.offer_id,
        "kind": offer.kind,
        "product_id": scored.product_id,
        "treatment": _treatment(scored, decision, tier),
        "fulfilment": {"kind": "reserve_in_store", "location_id": scored.set_aside} if scored.set_aside else None,
        "priority": scored.priority,
        "propensity": scored.propensity,
        "uplift": None,
        "value": worth.value,
        "worth": {
            "margin": worth.margin,
            "return_risk": worth.return_risk,
            "discount": worth.discount,
            "baseline_propensity": worth.baseline_propensity,
            "cost": worth.cost,
        },
        "context_weight": context.weight,
        "context": {
            "base": context.base,
            "churn": context.churn,
            "cart": context.cart,
            "in_view": context.in_view,
        },
        "lever": offer.lever,
        "selection_probability": probability,
        "valid_until": moment(offer.valid_until),
    }


def _treatment(scored: Scored, decision: Decision, tier: str | None) -> dict[str, str]:
    offer, facts, policy = scored.offer, decision.facts, decision.policy
    place = policy.catalog.locations.get(scored.set_aside or facts.location_id or "")
    key = (offer.offer_id, scored.product_id, place.location_id if place else None, tier, facts.channel)
    found = policy.treated.get(key)
    if found is None:
        product = policy.catalog.products.get(scored.product_id or "")
        found = treatment_of(offer, product, place, tier, facts.channel)
        if len(policy.treated) < MOST_TREATED:
            policy.treated[key] = found
    return found


def _signals(facts: Facts, book: Rulebook) -> dict[str, dict[str, Any]]:
    """How old each feed is; of one that was never heard of and is not asked for (`allow`) there is nothing to say."""
    told: dict[str, dict[str, Any]] = {}
    for signal, rule in book.signals.items():
        age_s = facts.age_s(signal)
        if age_s is not None:
            told[signal] = {"age_s": round(age_s, 3), "stale": age_s > rule.max_age_s}
        elif rule.on_stale != "allow":
            told[signal] = {"age_s": None, "stale": True}
    return told


def _suppressed(decision: Decision) -> list[dict[str, Any]]:
    held = [
        {
            "offer_id": s.offer.offer_id,
            "retry_after": None if s.retry_after is None else moment(s.retry_after),
            "reasons": [reason_told(reason) for reason in s.reasons],
        }
        for s in decision.screened
        if s.reasons
    ]
    floor = decision.policy.book.arbitration.floor
    held += [
        _held_by_ranking(s, Reason("below_floor", "floor", round(s.priority, 6), floor))
        for s in decision.ranking.below_floor
    ]
    held += [
        _held_by_ranking(s, Reason("mutually_exclusive", "exclusive_group", by, s.offer.exclusive_group))
        for s, by in decision.ranking.excluded
    ]
    return held


def _held_by_ranking(scored: Scored, reason: Reason) -> dict[str, Any]:
    return {"offer_id": scored.offer.offer_id, "retry_after": None, "reasons": [reason_told(reason)]}


def reason_told(reason: Reason) -> dict[str, Any]:
    return {
        "code": reason.code,
        "rule": reason.rule,
        "observed": reason.observed,
        "limit": reason.limit,
        "retry_after": None if reason.retry_after is None else moment(reason.retry_after),
        "evidence": reason.evidence,
        "product_id": reason.product_id,
        "product_ids": reason.product_ids or None,
    }
