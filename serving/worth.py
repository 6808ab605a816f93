"""What an open offer is worth: its value if accepted, and what the moment adds. Every factor is kept, for the answer.

value = margin × (1 − P(return)) − discount × (1 + P(would have bought anyway)) − cost

The discount is paid by all who accept; with the baseline propensity the customer would have bought without it, and
then it bought nothing: so it is counted once more, that often. Where there is no discount, or the customer refuses
personalisation, the baseline is not asked.
What is done with these numbers is in `arbitration`. One of each is made for every open offer, and asked several times:
in slots that costs a third of what a named tuple does, and frozen twice as much again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from features.profiles import DECAYED_TRIPS, ITEM_HALF_LIFE_DAYS, LAST
from features.vocabulary import DAY_S, Offer, Product
from serving.rulebook import Rulebook
from serving.rules.case import Case
from serving.rules.terms import margin_of


@dataclass(slots=True)
class Worth:
    """The parts of the value. `return_risk` is None where no model knows it; it then counts as 0."""

    margin: float
    return_risk: float | None
    discount: float
    baseline_propensity: float | None
    cost: float

    @property
    def value(self) -> float:
        kept = self.margin * (1.0 - (self.return_risk or 0.0))
        return kept - self.discount * (1.0 + (self.baseline_propensity or 0.0)) - self.cost


@dataclass(slots=True)
class Context:
    """The parts of the context weight, which is their sum."""

    base: float
    churn: float = 0.0
    cart: float = 0.0
    in_view: float = 0.0

    @property
    def weight(self) -> float:
        return self.base + self.churn + self.cart + self.in_view


ORDINARY = Context(1.0)


def worth_of(case: Case, offer: Offer, product: Product | None, return_risk: float | None) -> Worth:
    value = offer.value
    asked = value.discount > 0.0 and case.personal
    baseline = _baseline(case, product.product_id if product else None) if asked else None
    return Worth(margin_of(offer, product), return_risk, value.discount, baseline, value.cost)


def _baseline(case: Case, product_id: str | None) -> float:
    """P(the customer buys this product, or without one anything, within `baseline_days` of their own accord).

    From their own pace: decayed purchases of the product, or the orders to expect, as a Poisson process.
    """
    days = case.book.arbitration.baseline_days
    if product_id is None:
        expected = case.features["expected_orders_90d"]
        return 0.0 if expected != expected else 1.0 - math.exp(-expected * days / 90.0)
    entry = case.facts.items.get("p:" + product_id) if product_id in case.met else None
    if entry is None or not entry[LAST]:
        return 0.0
    age_days = max(0.0, case.facts.now - entry[LAST]) / DAY_S
    purchases = entry[DECAYED_TRIPS] * math.exp2(-age_days / ITEM_HALF_LIFE_DAYS)
    return 1.0 - math.exp2(-purchases * days / ITEM_HALF_LIFE_DAYS)


def context_of(case: Case, kind: str, category: str | None, churn: float | None) -> Context:
    """Alike for all offers of a kind; but for what is about the category of the product that is looked at."""
    key = ("context", kind, category is not None and category == case.category_in_view, churn)
    found: Context | None = case.shared.get(key)
    if found is None:
        found = case.shared[key] = _context(case, *key[1:])
    return found


def _context(case: Case, kind: str, in_view: bool, churn: float | None) -> Context:
    weight = case.book.arbitration.context_weights.get(kind)
    if weight is None:
        return ORDINARY
    return Context(
        base=weight.base,
        churn=weight.churn * (churn or 0.0),
        cart=weight.cart * case.cart_freshness if weight.cart else 0.0,
        in_view=weight.in_view if in_view else 0.0,
    )


def weighs_churn(book: Rulebook, offers: Sequence[Offer]) -> bool:
    """Whether the churn risk counts for any of these offers."""
    weights = book.arbitration.context_weights
    return any(weights[kind].churn != 0.0 for kind in {offer.kind for offer in offers} & weights.keys())
