"""What a rule may look at, and what it says: a `Case` goes in, `Reason`s come out.

What several rules ask of the customer is read once per decision here. Nothing here knows a clock, a store or a file.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from features import care, cart, consent, habits, reactions
from features.affinity import Affinity
from features.catalog import Catalog
from features.columns import columns_of
from features.profiles import RETURN_ID, RETURN_REASON, RETURNED
from features.reactions import Terms
from features.returns import OpenReturn, under_way
from features.vocabulary import DAY_S, OUTBOUND, Location, Offer, Product
from serving.continuity import carried_first
from serving.facts import Facts, Promised, later, moment
from serving.rulebook import Rulebook


class Reason(NamedTuple):
    """Why one offer, or one of its products, is held back.

    `retry_after`: the moment (epoch seconds) at which this reason is gone; None when only an event can
    lift it. `product_id` is None for a reason that concerns the whole offer. Where several products of an offer share
    a reason, it is told once, with all of them in `product_ids`.
    """

    code: str
    rule: str
    observed: Any
    limit: Any
    retry_after: float | None = None
    evidence: str | tuple[str, ...] | None = None
    product_id: str | None = None
    product_ids: tuple[str, ...] = ()


Reasons = Sequence[Reason]


class Returned(NamedTuple):
    """A product that came back: when, why (lower case), and the message that said so."""

    product_id: str
    style: str | None
    category: str | None
    at: float
    reason: str
    evidence: str


@dataclass(frozen=True, eq=False)
class Case:
    """The facts of this decision, the rulebook's numbers and the catalog.

    `affinity` (the customer against the catalog) and `features` are worked out once for screen and scores.
    `personal`: whether the profile may be used to choose, not only to hold back. `carried`: the offers of another
    channel that come first, with the products that they were shown with.
    """

    facts: Facts
    book: Rulebook
    catalog: Catalog
    affinity: Affinity
    features: Mapping[str, float]
    personal: bool = True
    carried: Sequence[Promised] = ()

    @property
    def outbound(self) -> bool:
        """Whether it is us who begin."""
        return self.facts.channel in OUTBOUND

    def has_products(self, offer: Offer) -> bool:
        return bool(offer.product_ids or offer.category)

    def product(self, product_id: str) -> Product:
        """The product of that id; one that the catalog does not know has an id and nothing else."""
        return self.catalog.products.get(product_id) or Product(product_id, product_id)

    def siblings(self, product: Product) -> Sequence[str]:
        """All sizes of the product's style, itself among them."""
        return self.catalog.sizes_of(product.parent_id or "")

    def products_by_affinity(self, offer: Offer) -> Iterable[str]:
        """The offer's products, best first; before them the one that another channel has shown it with."""
        return carried_first(self.carried, offer, self.affinity.best_products(offer))

    # ------------------------------------------------------------------------------ of the customer, once

    def demands(self, signal: str) -> bool:
        """Whether the rulebook holds back what depends on that signal while its feed is silent."""
        rule = self.book.signals.get(signal)
        return rule is not None and rule.on_stale == "suppress"

    def consent(self, purpose: str) -> consent.Consent | None:
        """The customer's word on that purpose in this channel; None where they have said nothing."""
        return consent.of(self.facts.profile, purpose, self.facts.channel)

    @cached_property
    def open_cases(self) -> tuple[care.Case, ...]:
        return care.open_cases(self.facts.profile)

    @cached_property
    def broken_promises(self) -> tuple[care.Promise, ...]:
        return tuple(each for each in care.promises(self.facts.profile) if each.is_overdue(self.facts.now))

    @cached_property
    def failed_checkout(self) -> care.CheckoutFailure | None:
        return care.failed_checkout(self.facts.profile)

    @cached_property
    def dismissed(self) -> Mapping[str, tuple[float, str]]:
        return reactions.dismissed(self.facts.profile)

    @cached_property
    def accepted(self) -> Mapping[str, tuple[float, str]]:
        return reactions.accepted(self.facts.profile)

    @cached_property
    def terms(self) -> Mapping[str, Terms]:
        return reactions.terms(self.facts.profile)

    @cached_property
    def met(self) -> Collection[str]:
        """The products that the profile has an entry of, if only of a return; of those in an offer, at the least."""
        if self.affinity.known:
            return self.affinity.met
        return frozenset(key[2:] for key in self.facts.items if key.startswith("p:"))

    @cached_property
    def in_cart(self) -> frozenset[str]:
        """The cart that the caller names, and the one that we know of from any device."""
        return frozenset((*self.facts.cart, *(line.product_id for line in cart.of(self.facts.profile, self.facts.now))))

    @cached_property
    def home(self) -> Location | None:
        """The customer's shop, if the catalog knows it."""
        found = habits.home(self.facts.profile, self.facts.now)
        return self.catalog.locations.get(found.location_id) if found else None

    @cached_property
    def category_in_view(self) -> str | None:
        """That of the product that the customer is looking at."""
        return self.product(self.facts.product_id).category if self.facts.product_id else None

    @cached_property
    def cart_freshness(self) -> float:
        """1 while the cart is being filled, half after the rulebook's half-life; 0 without a cart."""
        hours = self.features["cart_age_hours"] if self.personal else math.nan
        if hours != hours:
            return 1.0 if self.facts.cart else 0.0
        return math.exp2(-max(0.0, hours) / self.book.arbitration.cart_half_life_hours)

    @cached_property
    def open_returns(self) -> tuple[OpenReturn, ...]:
        return under_way(self.facts.profile)

    @cached_property
    def timezone(self) -> str:
        """Where the customer is: the home location's time zone, else the workspace's."""
        return (self.home.timezone if self.home else None) or self.book.timezone

    @cached_property
    def returned(self) -> tuple[Returned, ...]:
        """Everything that came back, whatever the window."""
        found = []
        entries = columns_of(self.facts.items)
        for row in entries.of(RETURNED).nonzero()[0].tolist():
            key, entry = entries.keys[row], entries.entry(row)
            if key.startswith("p:"):
                known = self.catalog.products.get(key[2:])
                style, category = (known.parent_id, known.category) if known else (None, None)
                reason = entry[RETURN_REASON].lower()
                found.append(Returned(key[2:], style, category, entry[RETURNED], reason, entry[RETURN_ID]))
        return tuple(found)

    @cached_property
    def set_aside(self) -> dict[str, str | None]:
        """Of each product that the stock rule found sold out: the shop where it can be set aside for the customer."""
        return {}

    @cached_property
    def shared(self) -> dict[Any, Any]:
        """What rules keep for the next offer of this decision."""
        return {}


class Held(NamedTuple):
    """That something of the past still holds back, without the product: what is shared by all that it concerns."""

    observed: str
    limit: str
    until: float
    evidence: str


def within(case: Case, at: float, evidence: str, days: float) -> Held | None:
    """What happened at `at`, if it holds back for so many days and they are not over."""
    until = later(at, days * DAY_S)
    if not at or case.facts.now >= until:
        return None
    return Held(moment(at), f"{days:g} days", until, evidence)


def reason(code: str, rule: str, held: Held | None, product: Product) -> Reasons:
    """The reason that `held` is for one product."""
    if held is None:
        return ()
    return (Reason(code, rule, held.observed, held.limit, held.until, held.evidence, product.product_id),)
