"""Among open offers: a list sorted by priority, looked through anew for each rank; the seed's hash draws at random."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reference import World, allowed

from features.vocabulary import Offer


@dataclass(eq=False)
class Open:
    """An offer that no rule holds back, and what it is worth; ids and numbers as they are answered."""

    offer: Offer
    product_id: str | None
    set_aside: str | None
    propensity: float | None = None
    worth: dict[str, Any] = field(default_factory=dict)
    context: dict[str, float] = field(default_factory=dict)
    value: float = 0.0
    weight: float = 0.0
    priority: float = 0.0


def best_first(several: Sequence[Open]) -> list[Open]:
    return sorted(several, key=lambda each: (-each.priority, each.offer.offer_id))


def ranked(
    world: World, among: Sequence[Open], floor: float
) -> tuple[list[tuple[Open, float]], list[tuple[Open, Open]]]:
    """What is shown, with its chance; and what is not, as another offer of its group is."""
    shown: list[tuple[Open, float]] = []
    excluded: list[tuple[Open, Open]] = []
    while len(shown) < world.facts.limit:
        so_far = [each for each, _ in shown]
        left = [e for e in best_first(among) if e.priority >= floor and not _is_masked(world, e, so_far)]
        if not left:
            break
        chosen, chance = _drawn(world, left, len(shown))
        shown.append((chosen, chance))
    for chosen, _ in shown:
        for each in best_first(among):
            alike = each.offer.exclusive_group and each.offer.exclusive_group == chosen.offer.exclusive_group
            if alike and each is not chosen and each.priority >= floor:
                excluded.append((each, chosen))
    return shown, excluded


def _is_masked(world: World, each: Open, shown: Sequence[Open]) -> bool:
    category, group = _category(world, each), each.offer.exclusive_group
    alike = [s for s in shown if category and _category(world, s) == category]
    return (
        each in shown
        or any(each.product_id is not None and s.product_id == each.product_id for s in shown)
        or any(group and s.offer.exclusive_group == group for s in shown)
        or len(alike) >= world.book.arbitration.per_category
    )


def _category(world: World, each: Open) -> str | None:
    return world.product(each.product_id).category if each.product_id else each.offer.category


def _drawn(world: World, left: Sequence[Open], rank: int) -> tuple[Open, float]:
    """One that another channel has shown; else the best, or now and then any of the others."""
    scored = allowed(world, "personalisation") and allowed(world, "profiling")
    for carried in world.facts.carried.offers if world.facts.carried and scored else ():
        for each in left:
            if (each.offer.offer_id, each.product_id) == (carried.offer_id, carried.product_id):
                return each, 1.0
    share, others = world.book.arbitration.exploration, len(left) - 1
    if not share or not others:
        return left[0], 1.0
    digest = hashlib.sha256(f"{world.facts.seed}:{rank}".encode()).digest()
    number = int.from_bytes(digest[:8], "big") / 2**64
    if number >= share:
        return left[0], 1.0 - share
    return left[1 + int(number / share * others)], share / others
