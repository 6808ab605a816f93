"""How close one customer is to each offer: the only definition of every customer × offer feature.

`affinities` reads what the customer bought from the entries of a profile and what the offer is about
from the catalog; training and serving call it alike. It is pure: no clock, no store, no model. What a
customer is like apart from any offer is `profiles.derive`; here is only what the two have in common;
what an offer is like apart from any customer is `offer_features` in `offer_index`.

The value of an offer never depends on which other offers are asked for in the same call: every sum
runs over the customer's entries in the order of their ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from features.columns import columns_of
from features.offer_index import (
    CATEGORY,
    KIN,
    OFFER_FEATURES,
    Floats,
    OfferIndex,
    expanded,
    highest,
    index_of,
    offer_features,
    summed,
)
from features.profiles import (
    DECAYED_SPEND,
    DECAYED_TRIPS,
    HALF_LIVES_DAYS,
    ITEM_HALF_LIFE_DAYS,
    LAST,
    TRIPS,
    Profile,
)
from features.vocabulary import DAY_S, Offer

if TYPE_CHECKING:
    from features.catalog import Catalog

__all__ = [
    "AFFINITY_FEATURES",
    "OFFER_FEATURES",
    "Affinity",
    "affinities",
    "best_products",
    "index_of",
    "offer_features",
]

AFFINITY_FEATURES: Mapping[str, str] = {
    "own_trips": "trips in 730 days on which a product of the offer was bought, summed over its products",
    "own_trips_90d": "the same, decayed with a half-life of 90 days",
    "own_trips_top": "the decayed trips of the offer's product bought most",
    "own_spend_90d": "decayed spend on the offer's products",
    "own_products": "how many of the offer's products were bought",
    "own_days_since": "days since one of the offer's products was last bought",
    "own_share": "own_trips_90d / orders_90d",
    "category_trips_90d": "decayed trips with the offer's categories, summed over them",
    "category_spend_90d": "decayed spend on the offer's categories",
    "category_days_since": "days since one of the offer's categories was last bought",
    "category_share": "category_trips_90d / orders_90d",
    "category_own": "own_spend_90d / category_spend_90d",
    "manufacturer_trips_90d": "decayed trips with products of the offer's manufacturers, summed over products",
    "manufacturer_share": "the same / decayed trips with any product",
    "kin_trips_90d": "decayed trips with products that share category and manufacturer with one of the offer's",
    "kin_days_since": "days since such a product was last bought",
    "brand_fit": "share of the customer's decayed trips in the offer's brands, each weighed as the offer does",
}
"""Every customer × offer feature in the order of the columns of `affinities`. All are float64; NaN days are never."""


class Affinity:
    """One customer at one moment against the whole catalog: read once, then asked for any offers."""

    def __init__(self, profile: Profile | None, index: OfferIndex, as_of: float):
        self._index, self._as_of = index, as_of
        self.known = profile is not None and bool(profile.state)
        if profile is not None and self.known:
            self._read(profile)

    def _read(self, profile: Profile) -> None:
        index = self._index
        entries = columns_of(profile.items)
        last, trips = entries.of(LAST), entries.of(DECAYED_TRIPS)
        weight = np.exp2(np.minimum(last - self._as_of, 0.0) / (ITEM_HALF_LIFE_DAYS * DAY_S))
        trips = trips * weight
        known, codes = index.known(entries.marks)
        self._every = _total(trips.take(known[codes < len(index.names)]))
        self._orders = _orders(profile, self._as_of)
        counts, target = expanded(codes, *index.reached)
        entry, size, reached = known.repeat(counts), index.size, index.size + index.groups.count
        decayed, own = trips.take(entry), (target < size).nonzero()[0]  # of hundreds few are an offer's own
        of_trips, latest = summed(target, decayed, reached), highest(target, last.take(entry), reached)
        spent = summed(target, (entries.of(DECAYED_SPEND) * weight).take(entry), reached)
        row, mine = target.take(own), decayed.take(own)
        self._own_pairs = codes.repeat(counts).take(own), row, mine
        category, manufacturer, kin, brand, spend = index.groups.sums(of_trips[size:], spent[size:])
        met = index.groups.latest(latest[size:])
        since, category_since, kin_since = self._days_since(np.array((latest[:size], met[CATEGORY], met[KIN])))
        orders, spent = of_trips[:size], spent[:size]
        features = (
            summed(row, entries.of(TRIPS).take(entry.take(own)), size),
            orders,
            highest(row, mine, size),
            spent,
            summed(row, np.sign(mine), size),
            since,
            _ratio(orders, self._orders),
            category,
            spend,
            category_since,
            _ratio(category, self._orders),
            np.divide(spent, spend, out=np.zeros(size), where=spend > 0.0),
            manufacturer,
            _ratio(manufacturer, self._every),
            kin,
            kin_since,
            _ratio(brand, self._every),
        )
        self._columns = np.concatenate(features).reshape(len(features), size)

    def matrix(self, offers: Sequence[Offer]) -> Floats:
        """One row an offer, one column a feature of AFFINITY_FEATURES; all NaN for an unknown customer."""
        if not self.known:
            return np.full((len(offers), len(AFFINITY_FEATURES)), np.nan)
        return self._columns.take(self._index.rows(offers), axis=1).T

    def _days_since(self, latest: Floats) -> Floats:
        return np.where(latest > 0.0, np.maximum(self._as_of - latest, 0.0) / DAY_S, np.nan)

    def best_products(self, offer: Offer) -> Iterable[str]:
        """The offer's products: those bought before by decayed trips, then the others as the offer lists them."""
        row = self._index.row[offer.offer_id]
        listed = self._index.listed[row]
        bought = self._own.get(row) if self.known else None
        if bought is None:
            return listed
        own = dict.fromkeys(product_id for _, product_id in sorted(bought))
        return chain(own, (product_id for product_id in listed if product_id not in own))

    @property
    def met(self) -> frozenset[str]:
        """The offers' products that a known customer's profile has an entry of, if only of a return."""
        return frozenset([product_id for product_id, _, _ in self._touched])

    @cached_property
    def _own(self) -> dict[int, list[tuple[float, str]]]:
        """Per row of the index the offer's products bought before, each with its decayed trips, negated."""
        found: dict[int, list[tuple[float, str]]] = {}
        for product_id, row, trips in self._touched:
            if trips > 0.0:
                found.setdefault(row, []).append((-trips, product_id))
        return found

    @cached_property
    def _touched(self) -> list[tuple[str, int, float]]:
        """The offers' products that there is an entry of: `(product_id, row of the offer, decayed trips)`."""
        codes, row, trips = self._own_pairs
        names = map(self._index.names.__getitem__, codes.tolist())
        return list(zip(names, row.tolist(), trips.tolist(), strict=True))


def affinities(profile: Profile | None, catalog: Catalog, as_of: float, offers: Sequence[Offer]) -> Floats:
    """The customer × offer features: one row an offer, one column a feature of AFFINITY_FEATURES.

    `profile` must hold only events with `occurred_at <= as_of`; the offers must be the catalog's own.
    """
    return Affinity(profile, index_of(catalog), as_of).matrix(offers)


def best_products(profile: Profile | None, catalog: Catalog, offer: Offer, as_of: float) -> Iterable[str]:
    """The offer's products in order of affinity. For many offers of one customer make one `Affinity`."""
    return Affinity(profile, index_of(catalog), as_of).best_products(offer)


def _total(amounts: Floats) -> float:
    """Their sum, added in their order."""
    return float(amounts.cumsum()[-1]) if len(amounts) else 0.0


def _ratio(part: Floats, whole: float) -> Floats:
    """part / whole, 0 where there is no whole."""
    return part / whole if whole > 0.0 else np.zeros(len(part))


def _orders(profile: Profile, as_of: float) -> float:
    """The customer's decayed orders at `as_of`, with the half-life of the entries."""
    at = profile.state["sums_at"]
    value = profile.state["sums"]["orders"][HALF_LIVES_DAYS.index(ITEM_HALF_LIFE_DAYS)]
    return float(value * math.exp2(-max(0.0, as_of - at) / (ITEM_HALF_LIFE_DAYS * DAY_S))) if at else 0.0
