"""One decision, from what was seen to what is answered. Pure, and the file to read first.

    candidates → screen (every rule, every reason) → score what is open → rank → answer

`Facts` is everything that a decision sees of the world: who asks, when, the profile, the stock, the age
of each feed. `Policy` is everything it decides by: catalog, rulebook, models. `decide` makes a
`Decision` of the two and nothing else, so a logged decision can be made again, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from features.affinity import Affinity, index_of
from features.catalog import Catalog
from features.profiles import derive
from serving.arbitration import Ranking, Scored, rank
from serving.facts import Facts, moment
from serving.rulebook import Rulebook
from serving.rules import Case, Reason
from serving.scoring import Models
from serving.screen import Screened, screen

ENGINE_VERSION = "1"
"""Rises when the same facts and policy may give another answer; replay compares bytes within one version."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a decision decides by; replaced as a whole when a file or a model changes."""

    catalog: Catalog
    book: Rulebook
    models: Models

    @property
    def versions(self) -> dict[str, str | None]:
        return {"rulebook": self.book.version, "catalog": self.catalog.version, **self.models.versions}


@dataclass(frozen=True, slots=True)
class Decision:
    facts: Facts
    policy: Policy
    screened: tuple[Screened, ...]
    ranking: Ranking
    churn: float | None
    fallback: str | None


def decide(facts: Facts, policy: Policy) -> Decision:
    """Screen all candidates, score the open ones, rank them. Nothing to show is a decision too."""
    affinity = Affinity(facts.profile, index_of(policy.catalog), facts.now)
    features = derive(facts.profile, facts.now)
    case = Case(facts, policy.book, policy.catalog, affinity, features)
    screened = tuple(screen(case, policy.catalog.candidates(facts.channel, facts.placement)))
    open_ = [s for s in screened if s.open]
    scores = policy.models.score(facts, policy.catalog, [s.offer for s in open_], features, affinity)
    scored = [
        Scored(
            offer=s.offer,
            product_id=s.product_id,
            category=case.product(s.product_id).category if s.product_id else s.offer.category,
            propensity=propensity,
            value=_value(case, s),
            context_weight=_context_weight(policy.book, s.offer.kind, scores.churn),
        )
        for s, propensity in zip(open_, scores.propensity, strict=True)
    ]
    carried = facts.carried.offers if facts.carried else ()
    ranking = rank(scored, policy.book.arbitration, facts.limit, facts.seed, carried)
    return Decision(facts, policy, screened, ranking, scores.churn, _fallback(facts, policy))


def _value(case: Case, screened: Screened) -> float:
    """Money earned if the customer accepts: margin − discount − cost; the product's margin where the offer has none."""
    value = screened.offer.value
    margin = value.margin
    if not margin and screened.product_id:
        margin = case.product(screened.product_id).margin or 0.0
    return margin - value.discount - value.cost


def _context_weight(book: Rulebook, kind: str, churn: float | None) -> float:
    weight = book.arbitration.context_weights.get(kind)
    return 1.0 if weight is None else weight.base + weight.churn * (churn or 0.0)


def _fallback(facts: Facts, policy: Policy) -> str | None:
    """The one thing that most limits this answer, if anything does."""
    if facts.profile_missing:
        return "no_profile"
    if not facts.known:
        return "unknown_customer"
    if policy.models.propensity is None:
        return "no_model"
    for signal, rule in policy.book.signals.items():
        age_s = facts.age_s(signal)
        if rule.on_stale == "degrade" and age_s is not None and age_s > rule.max_age_s:
            return "stale_signal"
    return None


# ------------------------------------------------------------------------------------------- answer


def answer(decision: Decision) -> dict[str, Any]:
    """The decision as the contract's JSON, with its whole trace."""
    facts, policy = decision.facts, decision.policy
    return {
        "decision_id": facts.decision_id,
        "customer_id": facts.customer_id,
        "channel": facts.channel,
        "placement": facts.placement,
        "decided_at": moment(facts.now),
        "arm": "nba",
        "fallback": decision.fallback,
        "continued_from": facts.carried.decision_id if facts.carried else None,
        "offers": [
            _shown(position + 1, r.scored, r.selection_probability, decision)
            for position, r in enumerate(decision.ranking.shown)
        ],
        "signals": {signal: _signal(facts, policy.book, signal) for signal in policy.book.signals},
        "versions": policy.versions,
        "suppressed": _suppressed(decision),
        "passed_over": [
            {"offer_id": s.offer.offer_id, "product_id": product_id, "reasons": [reason_told(r) for r in reasons]}
            for s in decision.screened
            for product_id, reasons in s.passed_over
        ],
    }


def _shown(position: int, scored: Scored, probability: float, decision: Decision) -> dict[str, Any]:
    offer = scored.offer
    treatment = dict(offer.treatments.get(decision.facts.channel, {}))
    if "title" not in treatment:
        product = decision.policy.catalog.products.get(scored.product_id or "")
        treatment["title"] = product.name if product else offer.offer_id
    return {
        "rank": position,
        "offer_id": offer.offer_id,
        "kind": offer.kind,
        "product_id": scored.product_id,
        "treatment": treatment,
        "fulfilment": None,
        "priority": scored.priority,
        "propensity": scored.propensity,
        "uplift": None,
        "value": scored.value,
        "context_weight": scored.context_weight,
        "lever": offer.lever,
        "selection_probability": probability,
        "valid_until": moment(offer.valid_until),
    }


def _signal(facts: Facts, book: Rulebook, signal: str) -> dict[str, Any]:
    age_s = facts.age_s(signal)
    rule = book.signals[signal]
    return {"age_s": None if age_s is None else round(age_s, 3), "stale": age_s is None or age_s > rule.max_age_s}


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
    }
