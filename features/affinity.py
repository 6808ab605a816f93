"""How close one customer is to each offer: the only definition of every customer × offer feature.

`affinities` reads what the customer bought from the entries of a profile and what the offer is about
from the catalog; training and serving call it alike. It is pure: no clock, no store, no model. What a
customer is like apart from any offer is `profiles.derive`; here is only what the two have in common,
and `offer_features`, what an offer is like apart from any customer.

The value of an offer never depends on which other offers are asked for in the same call: every sum
runs over the customer's entries in the order of their ids.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.profiles import (
    DECAYED_SPEND,
    DECAYED_TRIPS,
    HALF_LIVES_DAYS,
    ITEM_HALF_LIFE_DAYS,
    LAST,
    TRIPS,
    Profile,
)
from features.vocabulary import DAY_S, OFFER_KINDS, Offer, Product

if TYPE_CHECKING:
    from features.catalog import Catalog

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

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
"""Every customer × offer feature in the order of the columns of `affinities`. All are float64; NaN is never."""

OFFER_FEATURES: Mapping[str, str] = {
    "offer_products": "log(1 + number of products)",
    "offer_categories": "log(1 + number of categories)",
    "offer_group_size": "log(1 + number of offers of the same group); 0 without a group",
    "offer_price": "log(1 + mean price of the products)",
    "offer_discount": "money off / mean price",
    "offer_days": "log(1 + days of validity)",
    **{f"offer_is_{kind}": f"1 where the kind is {kind}" for kind in OFFER_KINDS},
}
"""Every feature of an offer alone, in the order of the columns of `offer_features`."""


class OfferIndex:
    """What `affinities` needs to know of a catalog, worked out once: products → offers, and groups → offers."""

    def __init__(self, catalog: Catalog):
        offers = list(catalog.offers.values())
        lists = [list(dict.fromkeys(catalog.products_of(offer))) for offer in offers]
        known = catalog.products
        named = sorted({*known, *chain.from_iterable(lists)})
        products = [known.get(product_id) or Product(product_id, product_id) for product_id in named]
        code = {product_id: position for position, product_id in enumerate(named)}
        coded = [[code[product_id] for product_id in listed] for listed in lists]

        categories, self.category_of = _grouped([p.category for p in products])
        _, self.manufacturer_of = _grouped([p.manufacturer for p in products])
        _, self.brand_of = _grouped([p.brand for p in products])
        _, self.kin_of = _grouped([(p.category, p.manufacturer) if p.manufacturer else None for p in products])

        self.row = {offer.offer_id: position for position, offer in enumerate(offers)}
        self.size = len(offers)
        self.names = named
        self.listed = lists
        self.entry_code = {f"p:{product_id}": position for product_id, position in code.items()}
        self.entry_code |= {f"c:{name}": len(named) + position for name, position in categories.items()}
        self.first_category = len(named)
        self.to_offers = _inverted(coded, len(named))
        self.by_category = _Groups(coded, self.category_of, self.size)
        self.by_manufacturer = _Groups(coded, self.manufacturer_of, self.size)
        self.by_kin = _Groups(coded, self.kin_of, self.size)
        self.by_brand = _Groups(coded, self.brand_of, self.size)
        self.static = np.array([_static(offer, listed, catalog) for offer, listed in zip(offers, lists, strict=True)])
        self.static = self.static.reshape(self.size, len(OFFER_FEATURES))

    def rows(self, offers: Sequence[Offer]) -> Codes:
        return np.fromiter((self.row[offer.offer_id] for offer in offers), np.int64, len(offers))


class Affinity:
    """One customer at one moment against the whole catalog: read once, then asked for any offers."""

    def __init__(self, profile: Profile | None, index: OfferIndex, as_of: float):
        self._index = index
        self.known = profile is not None and bool(profile.state)
        if self.known and profile is not None:
            self._read(profile, as_of)

    def _read(self, profile: Profile, as_of: float) -> None:
        index, code_of = self._index, self._index.entry_code
        found = [(code, entry) for key, entry in profile.items.items() if (code := code_of.get(key)) is not None]
        found.sort(key=_first)
        codes = np.array([code for code, _ in found], np.int64)
        last = np.array([entry[LAST] for _, entry in found], np.float64)
        weight = np.exp2(np.minimum(last - as_of, 0.0) / (ITEM_HALF_LIFE_DAYS * DAY_S))
        trips = np.array([entry[DECAYED_TRIPS] for _, entry in found], np.float64) * weight
        spend = np.array([entry[DECAYED_SPEND] for _, entry in found], np.float64) * weight
        count = np.array([entry[TRIPS] for _, entry in found], np.float64)
        cut = int(np.searchsorted(codes, index.first_category))

        self._codes, self._trips = codes[:cut], trips[:cut]
        source, target = _expand(self._codes, *index.to_offers)
        own, size = trips[source], index.size
        self._pairs = (source, target)
        own_trips = _sum(target, own, size)
        own_spend = _sum(target, spend[source], size)
        orders = _orders(profile, as_of)
        category = index.by_category
        categories = codes[cut:] - index.first_category
        category_trips = category.total(categories, trips[cut:])
        category_spend = category.total(categories, spend[cut:])
        every = float(np.cumsum(self._trips)[-1]) if cut else 0.0
        manufacturer = index.by_manufacturer.total(*_summed(index.manufacturer_of[self._codes], self._trips))
        kin = index.kin_of[self._codes]
        brand = index.by_brand.mixed(*_summed(index.brand_of[self._codes], self._trips))
        self._columns = (
            _sum(target, count[source], size),
            own_trips,
            _highest(target, own, size, 0.0),
            own_spend,
            _sum(target, (own > 0.0).astype(np.float64), size),
            _days_since(_highest(target, last[source], size, 0.0), as_of),
            _ratio(own_trips, orders),
            category_trips,
            category_spend,
            _days_since(category.latest(categories, last[cut:]), as_of),
            _ratio(category_trips, orders),
            _ratio(own_spend, category_spend),
            manufacturer,
            _ratio(manufacturer, every),
            index.by_kin.total(*_summed(kin, self._trips)),
            _days_since(index.by_kin.latest(kin, last[:cut]), as_of),
            _ratio(brand, every),
        )

    def matrix(self, offers: Sequence[Offer]) -> Floats:
        """One row an offer, one column a feature of AFFINITY_FEATURES; all NaN for an unknown customer."""
        if not self.known:
            return np.full((len(offers), len(AFFINITY_FEATURES)), np.nan)
        rows = self._index.rows(offers)
        matrix = np.empty((len(rows), len(self._columns)))
        for position, column in enumerate(self._columns):
            matrix[:, position] = column[rows]
        return matrix

    def best_products(self, offer: Offer) -> Iterator[str]:
        """The offer's products: those bought before by decayed trips, then the others as the offer lists them."""
        row = self._index.row[offer.offer_id]
        own: dict[str, float] = {}
        if self.known:
            source, target = self._pairs
            for position in source[target == row].tolist():
                if self._trips[position] > 0.0:
                    own[self._index.names[self._codes[position]]] = float(self._trips[position])
        yield from sorted(own, key=lambda product_id: (-own[product_id], product_id))
        for product_id in self._index.listed[row]:
            if product_id not in own:
                yield product_id


_kept: list[tuple[Catalog, OfferIndex]] = []


def index_of(catalog: Catalog) -> OfferIndex:
    """The index of this catalog, made at first use and kept for the last few catalogs."""
    for kept, index in _kept:
        if kept is catalog:
            return index
    index = OfferIndex(catalog)
    _kept[:] = [*_kept[-3:], (catalog, index)]
    return index


def affinities(profile: Profile | None, catalog: Catalog, as_of: float, offers: Sequence[Offer]) -> Floats:
    """The customer × offer features: one row an offer, one column a feature of AFFINITY_FEATURES.

    `profile` must hold only events with `occurred_at <= as_of`; the offers must be the catalog's own.
    """
    return Affinity(profile, index_of(catalog), as_of).matrix(offers)


def offer_features(offers: Sequence[Offer], catalog: Catalog) -> Floats:
    """What the offers are like apart from any customer: one row each, the columns of OFFER_FEATURES."""
    index = index_of(catalog)
    return index.static[index.rows(offers)]


def best_products(profile: Profile | None, catalog: Catalog, offer: Offer, as_of: float) -> Iterator[str]:
    """The offer's products in order of affinity. For many offers of one customer make one `Affinity`."""
    return Affinity(profile, index_of(catalog), as_of).best_products(offer)


class _Groups:
    """Which offers hold products of which group (a category, a manufacturer, …), and with what share."""

    def __init__(self, coded: Sequence[Sequence[int]], group_of: Codes, size: int):
        self._size = size
        shares: list[dict[int, float]] = []
        for codes in coded:
            groups, counts = np.unique(group_of[np.array(codes, np.int64)], return_counts=True)
            shares.append({int(g): c / len(codes) for g, c in zip(groups, counts, strict=True) if g >= 0})
        self._to_offers = _inverted([sorted(share) for share in shares], int(group_of.max(initial=-1)) + 1)
        pointers, members = self._to_offers
        groups = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))
        self._share = np.array([shares[o][g] for o, g in zip(members.tolist(), groups.tolist(), strict=True)], float)

    def total(self, groups: Codes, amounts: Floats) -> Floats:
        """Per offer the sum of the amounts of its groups."""
        source, target = _expand(groups, *self._to_offers)
        return _sum(target, amounts[source], self._size)

    def mixed(self, groups: Codes, amounts: Floats) -> Floats:
        """Per offer the sum of the amounts of its groups, each weighed by its share of the offer's products."""
        source, target, place = _expand_with_place(groups, *self._to_offers)
        return _sum(target, amounts[source] * self._share[place], self._size)

    def latest(self, groups: Codes, times: Floats) -> Floats:
        """Per offer the latest time of its groups, 0 where there is none. A group may come more than once."""
        source, target = _expand(groups, *self._to_offers)
        return _highest(target, times[source], self._size, 0.0)


def _first(pair: tuple[int, Any]) -> int:
    return pair[0]


def _grouped(values: Sequence[Hashable]) -> tuple[dict[Any, int], Codes]:
    """A code per distinct value, and the code of each; -1 for None."""
    codes: dict[Any, int] = {value: i for i, value in enumerate(sorted({v for v in values if v is not None}, key=str))}
    return codes, np.array([-1 if value is None else codes[value] for value in values], np.int64)


def _inverted(lists: Sequence[Sequence[int]], size: int) -> tuple[Codes, Codes]:
    """From lists of codes to `(pointers, members)`: the lists that hold code c are members[pointers[c]:pointers[c+1]]."""
    codes = np.fromiter(chain.from_iterable(lists), np.int64)
    owners = np.repeat(np.arange(len(lists)), [len(codes_of_one) for codes_of_one in lists])
    order = np.argsort(codes, kind="stable")
    pointers = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=size))])
    return pointers.astype(np.int64), owners[order].astype(np.int64)


def _expand_with_place(codes: Codes, pointers: Codes, members: Codes) -> tuple[Codes, Codes, Codes]:
    """Every pair of a position in `codes` and a member of its list, in order; codes of -1 have none."""
    held = np.flatnonzero(codes >= 0)
    starts, ends = pointers[codes[held]], pointers[codes[held] + 1]
    counts = ends - starts
    source = np.repeat(held, counts)
    place = np.arange(len(source)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
    return source, members[place], place


def _expand(codes: Codes, pointers: Codes, members: Codes) -> tuple[Codes, Codes]:
    source, target, _ = _expand_with_place(codes, pointers, members)
    return source, target


def _summed(groups: Codes, amounts: Floats) -> tuple[Codes, Floats]:
    """The distinct groups, ascending, and the sum of the amounts of each."""
    present = groups >= 0
    total = np.bincount(groups[present], amounts[present])
    distinct = np.flatnonzero(np.bincount(groups[present]))
    return distinct, total[distinct]


def _highest(target: Codes, values: Floats, size: int, floor: float) -> Floats:
    highest = np.full(size, floor)
    np.maximum.at(highest, target, values)
    return highest


def _sum(target: Codes, amounts: Floats, size: int) -> Floats:
    """Per target the sum of its amounts, added in their order."""
    return np.bincount(target, amounts, size) if len(target) else np.zeros(size)


def _days_since(latest: Floats, as_of: float) -> Floats:
    return np.where(latest > 0.0, np.maximum(as_of - latest, 0.0) / DAY_S, np.nan)


def _ratio(part: Floats, whole: Floats | float) -> Floats:
    """part / whole, 0 where there is no whole."""
    whole = np.broadcast_to(np.asarray(whole, np.float64), part.shape)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0.0)


def _orders(profile: Profile, as_of: float) -> float:
    """The customer's decayed orders at `as_of`, with the half-life of the entries."""
    at = profile.state["sums_at"]
    value = profile.state["sums"]["orders"][HALF_LIVES_DAYS.index(ITEM_HALF_LIFE_DAYS)]
    return float(value * math.exp2(-max(0.0, as_of - at) / (ITEM_HALF_LIFE_DAYS * DAY_S))) if at else 0.0


def _static(offer: Offer, listed: Sequence[str], catalog: Catalog) -> list[float]:
    products = [catalog.products[product_id] for product_id in listed if product_id in catalog.products]
    price = math.fsum(product.price for product in products) / len(products) if products else 0.0
    categories = {product.category for product in products if product.category} or {offer.category} - {None}
    group = sum(1 for other in catalog.offers.values() if other.group == offer.group) if offer.group else 0
    days = max(0.0, offer.valid_until - offer.valid_from) / DAY_S
    return [
        math.log1p(len(listed)),
        math.log1p(len(categories)),
        math.log1p(group),
        math.log1p(max(0.0, price)),
        offer.value.discount / price if price > 0.0 else 0.0,
        math.log1p(days),
        *(1.0 if offer.kind == kind else 0.0 for kind in OFFER_KINDS),
    ]
