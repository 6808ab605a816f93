"""A decision that is made and not told yet, and what its record keeps of what it saw.

`replay.facts_of` reads back what `logged` writes. Gathering what a decision sees is the business of `engine`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from features.signals import Level
from features.store import ProfileNow
from serving import contact
from serving.decide import Decision
from serving.facts import Contacts, Facts
from serving.question import Ask


@dataclass(frozen=True, slots=True)
class Draft:
    """A decision that is made and not logged yet, with what its record needs beside it."""

    ask: Ask
    decision: Decision
    stock: Mapping[str, Level | None]
    seen: ProfileNow | None

    @property
    def contacts(self) -> Contacts:
        return self.decision.facts.contacts

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the offers that it shows."""
        return tuple(each.scored.offer.kind for each in self.decision.ranking.shown)


@dataclass(slots=True)
class Read(Mapping[str, Level]):
    """Stock levels that remember which of them were looked at, for the record."""

    _levels: Mapping[str, Level]
    read: dict[str, Level | None]

    def __init__(self, levels: Mapping[str, Level]):
        self._levels, self.read = levels, {}

    def get(self, product_id: str, default: Any = None) -> Any:
        level = self.read[product_id] = self._levels.get(product_id)
        return default if level is None else level

    def __getitem__(self, product_id: str) -> Level:
        return self._levels[product_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._levels)

    def __len__(self) -> int:
        return len(self._levels)


def logged(facts: Facts, stock: Mapping[str, Level | None], seq: int | None, profile_at: int | None) -> dict[str, Any]:
    return {
        "now": facts.now,
        "customer_id": facts.customer_id,
        "channel": facts.channel,
        "placement": facts.placement,
        "limit": facts.limit,
        "location_id": facts.location_id,
        "market": facts.market,
        "product_id": facts.product_id,
        "cart": facts.cart,
        "profile_seq": seq,
        "profile_at": profile_at,
        "profile_missing": facts.profile_missing,
        "stock": {p: None if s is None else [s.quantity, s.occurred_at, s.message_id] for p, s in stock.items()},
        "feeds": facts.feeds,
        "contacts": contact.as_json(facts.contacts),
        "carried": facts.carried,
        "seed": facts.seed,
    }
