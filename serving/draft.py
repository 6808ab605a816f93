"""A decision that is made and not told yet, and what its record keeps of what it saw.

`replay.facts_of` reads back what `logged` writes. Gathering what a decision sees is the business of `desk`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from features.profile_now import ProfileNow
from serving import contact
from serving.decide import Decision
from serving.facts import Contacts
from serving.question import Ask
from serving.shelves import Shelf, Shops


@dataclass(frozen=True, slots=True)
class Draft:
    """A decision that is made and not logged yet, with what its record needs beside it."""

    ask: Ask
    decision: Decision
    stock: Shelf
    shops: Shops
    seen: ProfileNow | None

    @property
    def contacts(self) -> Contacts:
        return self.decision.facts.contacts

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the offers that it shows."""
        return tuple(each.scored.offer.kind for each in self.decision.ranking.shown)

    @property
    def weighed(self) -> list[str]:
        """The products whose return risk was asked for."""
        return [each.product_id for each in self.decision.screened if each.open and each.product_id]


class Told(dict[str, Any]):
    """An answer with its whole trace. The JSON without it, as most callers want it, is made once: told, and logged."""

    __slots__ = ("_trace", "without_trace")

    def __init__(self, shown: Mapping[str, Any], trace: Mapping[str, Any]):
        super().__init__(shown, **trace)
        self._trace = trace
        self.without_trace = orjson.dumps(shown, option=orjson.OPT_SERIALIZE_NUMPY)

    @property
    def whole(self) -> orjson.Fragment:
        """All of it, as a record keeps it."""
        trace = orjson.dumps(self._trace, option=orjson.OPT_SERIALIZE_NUMPY)
        return orjson.Fragment(self.without_trace[:-1] + b"," + trace[1:])


def logged(draft: Draft, seq: int | None, profile_at: int | None) -> dict[str, Any]:
    facts = draft.decision.facts
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
        "stock": draft.stock.logged(),
        "feeds": facts.feeds,
        "shops": draft.shops.logged(),
        "used": {offer_id: [*used] for offer_id, used in facts.used.items()},
        "contacts": contact.as_json(facts.contacts),
        "carried": facts.carried,
        "counts": facts.counts.only(draft.weighed).as_json() if facts.counts else None,
        "seed": facts.seed,
    }
