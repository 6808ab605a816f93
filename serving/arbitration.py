"""Among what is open: which offers, in which order, and with what probability.

priority = propensity × context weight × value × lever. Offers are taken rank by rank from those not
yet masked (the same product, the same exclusive group, too many of one category). With exploration ε the best is taken
with probability 1 − ε and any of the rest of the unmasked set uniformly otherwise; the draw is a hash of
the decision's seed, so the same decision draws the same. `selection_probability` is P(this offer at this
rank | the screened set, the offers above it); it is 1.0 while nothing is explored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from features.vocabulary import Offer
from serving.facts import Promised
from serving.rulebook import Arbitration


@dataclass(frozen=True, slots=True)
class Scored:
    """An open offer and the factors of its priority. `propensity` is None without a model: then it counts as 1."""

    offer: Offer
    product_id: str | None
    category: str | None
    propensity: float | None
    value: float
    context_weight: float

    @property
    def priority(self) -> float:
        chance = 1.0 if self.propensity is None else self.propensity
        return chance * self.context_weight * self.value * self.offer.lever


@dataclass(frozen=True, slots=True)
class Ranked:
    scored: Scored
    selection_probability: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """What is shown, in order, and what arbitration itself held back: below the floor, or by an exclusive group."""

    shown: tuple[Ranked, ...]
    below_floor: tuple[Scored, ...]
    excluded: tuple[tuple[Scored, str], ...]
    """Each with the id of the shown offer that excludes it."""


def rank(
    scored: Sequence[Scored], book: Arbitration, limit: int, seed: str, carried: Sequence[Promised] = ()
) -> Ranking:
    """At most `limit` of `scored`: those `carried` on from another channel, then best first, ties by offer id."""
    priced = sorted((-s.priority, s.offer.offer_id, position) for position, s in enumerate(scored))
    left = [scored[position] for negated, _, position in priced if -negated >= book.floor]
    below = tuple(scored[position] for negated, _, position in priced if -negated < book.floor)
    shown: list[Ranked] = []
    excluded: list[tuple[Scored, str]] = []
    per_category: dict[str, int] = {}
    while left and len(shown) < limit:
        position, probability = _again(left, carried) or _draw(len(left), book.exploration, f"{seed}:{len(shown)}")
        chosen = left.pop(position)
        shown.append(Ranked(chosen, probability))
        if chosen.product_id is not None:
            left = [s for s in left if s.product_id != chosen.product_id]
        group = chosen.offer.exclusive_group
        if group:
            excluded += [(s, chosen.offer.offer_id) for s in left if s.offer.exclusive_group == group]
            left = [s for s in left if s.offer.exclusive_group != group]
        if chosen.category:
            per_category[chosen.category] = per_category.get(chosen.category, 0) + 1
            if per_category[chosen.category] >= book.per_category:
                left = [s for s in left if s.category != chosen.category]
    return Ranking(tuple(shown), below, tuple(excluded))


def _again(left: Sequence[Scored], carried: Sequence[Promised]) -> tuple[int, float] | None:
    """The position of the first offer carried on that is left with the product it was shown with; that is certain."""
    for each in carried:
        for position, scored in enumerate(left):
            if (scored.offer.offer_id, scored.product_id) == (each.offer_id, each.product_id):
                return position, 1.0
    return None


def _draw(count: int, exploration: float, seed: str) -> tuple[int, float]:
    """The position taken among `count` in order of priority, and its probability."""
    if exploration == 0.0 or count == 1:
        return 0, 1.0
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") / 2**64
    if number >= exploration:
        return 0, 1.0 - exploration
    return 1 + int(number / exploration * (count - 1)), exploration / (count - 1)
