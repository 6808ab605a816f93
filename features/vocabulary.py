"""The nouns of the project, as plain values: one word per thing (see docs/glossary.md).

Only names, closed lists and frozen records live here; no behaviour beyond reading a field, and
nothing but the standard library. Times are seconds since the epoch, UTC, as floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

DAY_S = 86_400.0
KEEP_DAYS = 730
"""How far back the profile remembers purchases and returns: the longest window a rulebook may ask for."""

CHANNELS = ("web", "app", "email", "sms", "push", "call_centre", "store")
OUTBOUND = frozenset({"email", "sms", "push"})
ONLINE = "online"
"""The location of every channel that names none; only `store` must name one."""

ANONYMOUS = "anonymous:"
"""What begins the customer id of somebody who has not logged in."""

PLACEMENTS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "home": frozenset({"web", "app"}),
        "product": frozenset({"web", "app"}),
        "cart": frozenset({"web", "app"}),
        "newsletter": frozenset({"email"}),
        "message": frozenset({"sms", "push"}),
        "agent": frozenset({"call_centre", "store"}),
    }
)
"""The shipped placements and the channels each belongs to."""

CORRECTION = "correction"
"""The `reason` of an `Order Refunded` whose goods never went out: it un-buys them, nothing was returned."""

OFFER_KINDS = (
    "promotion",
    "cross_sell",
    "replenishment",
    "cart_recovery",
    "win_back",
    "loyalty",
    "service_recovery",
    "reserve_in_store",
)
RESPONSES = ("shown", "clicked", "accepted", "dismissed")
FALLBACKS = ("unknown_customer", "no_model", "no_profile", "stale_signal", "placement_default")
SIGNALS = ("profile", "stock", "cases", "consent", "contacts")
REASONS = (
    "outside_validity",
    "wrong_channel",
    "wrong_placement",
    "wrong_market",
    "not_eligible",
    "recently_purchased",
    "too_soon_to_replenish",
    "recently_returned",
    "open_return",
    "too_many_returns",
    "out_of_stock",
    "stock_unknown",
    "signal_stale",
    "signal_missing",
    "open_case",
    "promise_broken",
    "checkout_failed",
    "no_consent",
    "contact_limit",
    "quiet_hours",
    "recently_dismissed",
    "in_cart",
    "already_redeemed",
    "offer_budget_spent",
    "below_margin",
    "below_floor",
    "mutually_exclusive",
    "terms_conflict",
    "control_arm",
    "rule_error",
)


@dataclass(frozen=True, slots=True)
class Product:
    """A thing that can be sold. `price` and `margin` are money per unit; `parent_id` is the style of a size."""

    product_id: str
    name: str
    category: str | None = None
    department: str | None = None
    price: float = 0.0
    margin: float | None = None
    replenishable: bool = False
    parent_id: str | None = None
    image_url: str | None = None
    url: str | None = None
    brand: str | None = None
    manufacturer: str | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """A shop, a warehouse, or `online`."""

    location_id: str
    kind: str
    name: str
    market: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """What an accepted offer is worth: money earned, spent on contacting, and given away."""

    margin: float = 0.0
    cost: float = 0.0
    discount: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """How often an offer may be accepted by all customers together: ever, and on one day (UTC). None: any number."""

    total: int | None = None
    daily: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """Any next best action we may take; `kind` says which. `product_ids` are in order of popularity.

    `fallback` are the placements in which it is shown only when nothing else is.
    """

    offer_id: str
    kind: str
    product_ids: tuple[str, ...] = ()
    category: str | None = None
    group: str | None = None
    channels: tuple[str, ...] = ()
    placements: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    valid_from: float = 0.0
    valid_until: float = 0.0
    eligibility: Any = None
    exclusive_group: str | None = None
    value: Value = field(default_factory=Value)
    lever: float = 1.0
    budget: Budget | None = None
    fallback: frozenset[str] = frozenset()
    treatments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def earns_by_product(self) -> bool:
        """Whether it names no margin, and so earns what the product shown does."""
        return self.value.margin == 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """One checked thing that happened. `occurred_at` is when, `known_at` is when we received it.

    `customer_id` is who it is about as far as the message itself says (a login id, or
    `anonymous:<id>`); which ids are the same customer is the business of `identity`.
    `body` is plain JSON: the message's properties, checked and enriched (see `events.check`).
    """

    message_id: str
    name: str
    occurred_at: float
    known_at: float
    user_id: str | None = None
    anonymous_id: str | None = None
    channel: str | None = None
    location_id: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[float, str]:
        """The order in which a profile folds its events, whatever the order of arrival."""
        return (self.occurred_at, self.message_id)


class EventProblem(ValueError):
    """What is wrong with one event: its `field`, and the `problem` in one sentence."""

    def __init__(self, field: str, problem: str):
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem
