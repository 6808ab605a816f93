"""Among what is open: which offers, in which order, and with what probability.

priority = propensity^a × context weight × value × lever. Offers are taken rank by rank from those not
yet masked (the same product, the same exclusive group, too many of one category). With exploration ε the best is taken
with probability 1 − ε and any of the rest of the unmasked set uniformly otherwise; the draw is a hash of
the decision's seed, so the same decision draws the same. `selection_probability` is P(this offer at this
rank | the screened set, the offers above it); it is 1.0 while nothing is explored.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from features.vocabulary import Offer
from serving.facts import Promised
from serving.rulebook import Arbitration
from serving.worth import Context, Worth


@dataclass(slots=True)
class Scored:
    """An open offer and the factors of its priority. `propensity` is None without a model: then it counts as 1."""

    offer: Offer
    product_id: str | None
    category: str | None
    propensity: float | None
    worth: Worth
    context: Context
    exponent: float = 1.0
    """How much the propensity counts against the value: a in propensity^a; 0: not at all."""
    set_aside: str | None = None

    @property
    def priority(self) -> float:
        chance = 1.0 if self.propensity is None else self.propensity
        if self.exponent != 1.0:
            chance = chance**self.exponent
        return chance * self.context.weight * self.worth.value * self.offer.lever


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
    by_default: bool = False
    """Whether what is shown are the placement's fallback offers."""


def ranked(
    scored: Sequence[Scored],
    book: Arbitration,
    placement: str,
    limit: int,
    seed: str,
    carried: Sequence[Promised] = (),
) -> Ranking:
    """The ranking of all but the placement's fallback offers; of those where nothing else is shown, floor or not."""
    last_resort = [s for s in scored if placement in s.offer.fallback]
    if not last_resort:
        return rank(scored, book, limit, seed, carried=carried)
    ranking = rank([s for s in scored if placement not in s.offer.fallback], book, limit, seed, carried=carried)
    if ranking.shown:
        return ranking
    default = rank(last_resort, book, limit, seed, floor=-math.inf, carried=carried)
    return Ranking(default.shown, ranking.below_floor, default.excluded, by_default=bool(default.shown))


def rank(
    scored: Sequence[Scored],
    book: Arbitration,
    limit: int,
    seed: str,
    floor: float | None = None,
    carried: Sequence[Promised] = (),
) -> Ranking:
    """At most `limit` of `scored`: those `carried` on from another channel, then best first, ties by offer id.

    `floor` instead of the rulebook's.
    """
    floor = book.floor if floor is None else floor
    priced = sorted([(-s.priority, s.offer.offer_id, position) for position, s in enumerate(scored)])
    among = [scored[position] for negated, _, position in priced if -negated >= floor]
    below = tuple([scored[position] for negated, _, position in priced if -negated < floor])
    left, shown = list(among), list[Ranked]()
    per_category: dict[str, int] = {}
    while left and len(shown) < limit:
        position, probability = _again(left, carried) or _draw(len(left), book.exploration, f"{seed}:{len(shown)}")
        chosen = left.pop(position)
        shown.append(Ranked(chosen, probability))
        if len(shown) == limit:
            break
        if chosen.product_id is not None:
            left = [s for s in left if s.product_id != chosen.product_id]
        if group := chosen.offer.exclusive_group:
            left = [s for s in left if s.offer.exclusive_group != group]
        if chosen.category:
            per_category[chosen.category] = per_category.get(chosen.category, 0) + 1
            if per_category[chosen.category] >= book.per_category:
                left = [s for s in left if s.category != chosen.category]
    return Ranking(tuple(shown), below, _excluded(among, shown))


def _excluded(among: Sequence[Scored], shown: Sequence[Ranked]) -> tuple[tuple[Scored, str], ...]:
    """The others of the groups of what is shown, whatever else would have masked them, too."""
    groups = [(each.scored.offer.exclusive_group, each.scored.offer.offer_id) for each in shown]
    return tuple(
        (s, by)
        for group, by in groups
        if group
        for s in among
        if s.offer.exclusive_group == group and s.offer.offer_id != by
    )


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
