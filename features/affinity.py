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
from itertools import chain, repeat
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

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
        index, as_of, code_of = self._index, self._as_of, self._index.entry_code
        entries = list(profile.items.values())
        codes = np.fromiter(map(code_of.get, profile.items, repeat(-1)), np.int64, len(entries))
        order = np.argsort(codes, kind="stable")
        order = order[np.searchsorted(codes[order], 0) :]  # an entry that the catalog does not know has code -1
        codes = codes[order]
        last, count, trips, spend = (
            np.fromiter(map(itemgetter(position), entries), np.float64, len(entries))[order]
            for position in (LAST, TRIPS, DECAYED_TRIPS, DECAYED_SPEND)
        )
        weight = np.exp2(np.minimum(last - as_of, 0.0) / (ITEM_HALF_LIFE_DAYS * DAY_S))
        trips, spend = trips * weight, spend * weight
        cut = int(np.searchsorted(codes, len(index.names)))
        bought = codes[:cut]
        source, target, _ = expanded(bought, *index.to_offers)
        own, size = trips[source], index.size
        self._bought, self._trips, self._pairs = bought, trips[:cut], (source, target)
        self._orders = _orders(profile, as_of)
        self._every = float(np.cumsum(trips[:cut])[-1]) if cut else 0.0
        totals, spent, latest = index.groups.read(bought, codes[cut:] - len(index.names), trips, spend, last, size)
        self._raw = np.stack(
            [
                summed(target, count[source], size),
                summed(target, own, size),
                highest(target, own, size),
                summed(target, spend[source], size),
                summed(target, (own > 0.0).astype(np.float64), size),
                highest(target, last[source], size),
                *totals,
                spent[CATEGORY],
                latest[CATEGORY],
                latest[KIN],
            ]
        )

    def matrix(self, offers: Sequence[Offer]) -> Floats:
        """One row an offer, one column a feature of AFFINITY_FEATURES; all NaN for an unknown customer."""
        matrix = np.full((len(offers), len(AFFINITY_FEATURES)), np.nan)
        if not self.known:
            return matrix
        raw = self._raw[:, self._index.rows(offers)]
        count, own, top, own_spend, products, own_last, category, manufacturer, kin, brand = raw[:10]
        category_spend, category_last, kin_last = raw[10:]
        columns = (
            count,
            own,
            top,
            own_spend,
            products,
            self._days_since(own_last),
            _ratio(own, self._orders),
            category,
            category_spend,
            self._days_since(category_last),
            _ratio(category, self._orders),
            np.divide(own_spend, category_spend, out=np.zeros(len(offers)), where=category_spend > 0.0),
            manufacturer,
            _ratio(manufacturer, self._every),
            kin,
            self._days_since(kin_last),
            _ratio(brand, self._every),
        )
        for position, column in enumerate(columns):
            matrix[:, position] = column
        return matrix

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

    @cached_property
    def _own(self) -> dict[int, list[tuple[float, str]]]:
        """Per row of the index the offer's products bought before, each with its decayed trips, negated."""
        source, target = self._pairs
        found: dict[int, list[tuple[float, str]]] = {}
        names, bought, trips = self._index.names, self._bought.tolist(), self._trips.tolist()
        for position, row in zip(source.tolist(), target.tolist(), strict=True):
            if trips[position] > 0.0:
                found.setdefault(row, []).append((-trips[position], names[bought[position]]))
        return found


def affinities(profile: Profile | None, catalog: Catalog, as_of: float, offers: Sequence[Offer]) -> Floats:
    """The customer × offer features: one row an offer, one column a feature of AFFINITY_FEATURES.

    `profile` must hold only events with `occurred_at <= as_of`; the offers must be the catalog's own.
    """
    return Affinity(profile, index_of(catalog), as_of).matrix(offers)


def best_products(profile: Profile | None, catalog: Catalog, offer: Offer, as_of: float) -> Iterable[str]:
    """The offer's products in order of affinity. For many offers of one customer make one `Affinity`."""
    return Affinity(profile, index_of(catalog), as_of).best_products(offer)


def _ratio(part: Floats, whole: float) -> Floats:
    """part / whole, 0 where there is no whole."""
    return part / whole if whole > 0.0 else np.zeros(len(part))


def _orders(profile: Profile, as_of: float) -> float:
    """The customer's decayed orders at `as_of`, with the half-life of the entries."""
    at = profile.state["sums_at"]
    value = profile.state["sums"]["orders"][HALF_LIVES_DAYS.index(ITEM_HALF_LIFE_DAYS)]
    return float(value * math.exp2(-max(0.0, as_of - at) / (ITEM_HALF_LIFE_DAYS * DAY_S))) if at else 0.0
