"""What a decision sees of the world, as plain values: who asks, when, the profile, the stock, the age of each feed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from features.product_counts import ProductCounts
from features.profiles import Profile
from features.signals import Level


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact that was taken. `until` is when an unsent one is given back; None once it was handed to the sender."""

    decision_id: str
    channel: str
    kinds: tuple[str, ...]
    at: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Dismissal:
    """An offer that the customer waved away."""

    message_id: str
    at: float


@dataclass(frozen=True, slots=True)
class Contacts:
    """How often we have begun with this customer, and been waved away; read for outbound channels only."""

    made: tuple[Contact, ...] = ()
    dismissed: tuple[Dismissal, ...] = ()


@dataclass(frozen=True, slots=True)
class Promised:
    """An offer as another channel has shown it, with the terms that a customer would notice."""

    offer_id: str
    product_id: str | None
    discount: float
    valid_until: float


@dataclass(frozen=True, slots=True)
class Carried:
    """The decision that this one goes on with.

    `since` is when its offers were first decided, `until` when going on ends by itself: never where a caller names it.
    """

    decision_id: str
    since: float
    offers: tuple[Promised, ...]
    until: float | None = None

    def promised(self, offer_id: str) -> Promised | None:
        return next((each for each in self.offers if each.offer_id == offer_id), None)


@dataclass(frozen=True, slots=True)
class Shop:
    """What a shop has, and when its stock feed was last heard of."""

    heard_at: float | None
    levels: Mapping[str, Level]


@dataclass(frozen=True, slots=True)
class Facts:
    """What one decision saw.

    `profile` is None for a customer nobody knows, and where the profile store did not answer
    (`profile_missing`). `feeds` says when each signal was last heard of. `shops` has the stock of other locations,
    `used` how often each offer with a budget was accepted: in all, and today (UTC). `counts` says what became of
    products, where a model of return risk is at work.
    """

    decision_id: str
    now: float
    customer_id: str | None
    channel: str
    placement: str
    limit: int
    location_id: str | None
    market: str | None = None
    product_id: str | None = None
    cart: tuple[str, ...] = ()
    profile: Profile | None = None
    profile_missing: bool = False
    stock: Mapping[str, Level] = field(default_factory=dict)
    feeds: Mapping[str, float | None] = field(default_factory=dict)
    shops: Mapping[str, Shop] = field(default_factory=dict)
    used: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    contacts: Contacts = Contacts()
    carried: Carried | None = None
    counts: ProductCounts | None = None
    seed: str = ""

    @property
    def known(self) -> bool:
        return self.profile is not None and bool(self.profile.state)

    @property
    def items(self) -> Mapping[str, list[Any]]:
        return self.profile.items if self.profile else {}

    def age_s(self, signal: str) -> float | None:
        last_at = self.feeds.get(signal)
        return None if last_at is None else max(0.0, self.now - last_at)


@lru_cache(maxsize=16_384)
def moment(at: float) -> str:
    """An instant as RFC 3339 UTC, with a fraction only where there is one. A decision tells the same few many times."""
    at = round(at, 3)
    spec = "seconds" if at == int(at) else "milliseconds"
    return datetime.fromtimestamp(at, UTC).isoformat(timespec=spec).replace("+00:00", "Z")


def later(at: float, by_s: float) -> float:
    """The instant `by_s` seconds after `at`, to the millisecond, as which it is told: so a caller can wait for it."""
    return round(at + by_s, 3)
