"""A catalog as customer × offer features need it: which offers each product, and each group of products, is in.

Worked out once per catalog, kept for the last few. What a customer has in common with an offer is
`affinity`; here is what needs no customer, `offer_features` among it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from features.columns import Marks, mark_of
from features.vocabulary import DAY_S, OFFER_KINDS, Offer, Product

if TYPE_CHECKING:
    from features.catalog import Catalog

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

OFFER_FEATURES: Mapping[str, str] = {
    "offer_products": "log(1 + number of products)",
    "offer_categories": "log(1 + number of categories)",
    "offer_group_size": "log(1 + number of offers of the same group), itself included",
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
        names = sorted({*known, *chain.from_iterable(lists)})
        products = [known.get(product_id) or Product(product_id, product_id) for product_id in names]
        code = {product_id: position for position, product_id in enumerate(names)}
        coded = [np.array([code[product_id] for product_id in listed], np.int64) for listed in lists]

        self.row = {offer.offer_id: position for position, offer in enumerate(offers)}
        self.size = len(offers)
        self.names = names
        self.listed = lists
        self.groups = Groups(products, coded)
        self.reached = self._reached(coded)
        categories = self.groups.categories
        self._marks, self._codes = _marked([*(f"p:{each}" for each in names), *(f"c:{each}" for each in categories)])
        sizes = Counter(offer.group for offer in offers if offer.group)
        static = [_static(offer, listed, known, sizes) for offer, listed in zip(offers, lists, strict=True)]
        self.static = np.array(static, np.float64).reshape(self.size, len(OFFER_FEATURES))

    def _reached(self, coded: Sequence[Codes]) -> tuple[Codes, Codes, Codes]:
        """What each entry of a profile counts for: a product for its offers and its groups, a category for its group.

        Offers come first, groups after them; by the codes of entries, see `_inverted`.
        """
        products, groups = len(self.names), self.groups
        known = groups.of_product >= 0
        owners = [np.repeat(np.arange(self.size), [len(each) for each in coded]), self.size + groups.of_product[known]]
        owners.append(self.size + np.arange(len(groups.categories)))
        entries = [*coded, np.nonzero(known)[1], products + np.arange(len(groups.categories))]
        return _inverted(
            np.concatenate([np.empty(0, np.int64), *entries]), np.concatenate(owners), products + groups.count
        )

    def known(self, marks: Marks) -> tuple[Codes, Codes]:
        """Which of the entries of these marks the catalog knows, and their codes: products, then categories."""
        place = self._marks.searchsorted(marks)
        known = (self._marks.take(place, mode="clip") == marks).nonzero()[0]
        return known, self._codes.take(place.take(known))

    def rows(self, offers: Sequence[Offer]) -> Codes:
        return np.fromiter((self.row[offer.offer_id] for offer in offers), np.int64, len(offers))


_kept: list[tuple[Catalog, OfferIndex]] = []


def index_of(catalog: Catalog) -> OfferIndex:
    """The index of this catalog, made at first use and kept for the last few catalogs."""
    for kept, index in _kept:
        if kept is catalog:
            return index
    index = OfferIndex(catalog)
    _kept[:] = [*_kept[-3:], (catalog, index)]
    return index


def offer_features(offers: Sequence[Offer], catalog: Catalog) -> Floats:
    """What the offers are like apart from any customer: one row each, the columns of OFFER_FEATURES."""
    index = index_of(catalog)
    return index.static[index.rows(offers)]


CATEGORY, MANUFACTURER, KIN, BRAND = range(4)
"""What products have in common: the groups through which a customer is near to an offer of things not bought yet."""


class Groups:
    """Which offers hold products of which group, for all four kinds of group at once; only groups that any offer has.

    A group's code says its kind too; a slot is a kind and an offer: kind × offers + offer. An offer's groups come in
    the order of their codes, and so are added up.
    """

    def __init__(self, products: Sequence[Product], coded: Sequence[Codes]):
        keys: list[list[tuple[str, ...] | None]] = [
            [("category", p.category) if p.category else None for p in products],
            [("manufacturer", p.manufacturer) if p.manufacturer else None for p in products],
            [("kin", p.category, p.manufacturer) if p.category and p.manufacturer else None for p in products],
            [("brand", p.brand) if p.brand else None for p in products],
        ]
        offered = np.unique(np.concatenate([np.empty(0, np.int64), *coded])).tolist()
        code: dict[tuple[str, ...], int] = {}
        for kind in keys:
            for key in sorted({key for position in offered if (key := kind[position]) is not None}):
                code[key] = len(code)
        self.count, self._offers = len(code), len(coded)
        self.categories = {key[1]: group for key, group in code.items() if key[0] == "category"}
        of_product = np.array(
            [[-1 if key is None else code.get(key, -1) for key in kind] for kind in keys], np.int64
        ).reshape(4, -1)
        self.of_product = of_product[1:]  # of categories there are entries of their own
        held: list[tuple[int, int, float]] = []
        for offer, codes in enumerate(coded):
            for number, group_of in enumerate(of_product):
                groups, counts = np.unique(group_of[codes], return_counts=True)
                for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
                    if group >= 0:
                        share = count / len(codes) if number == BRAND else 1.0
                        held.append((number * len(coded) + offer, group, share))
        self._slots = np.array([slot for slot, _, _ in sorted(held)], np.int64)
        self._groups = np.array([group for _, group, _ in sorted(held)], np.int64)
        self._shares = np.array([share for *_, share in sorted(held)], np.float64)
        of_category = np.flatnonzero(self._slots < len(coded))  # the first kind
        self._categories = self._groups[of_category]
        self._summed = np.concatenate([self._slots, 4 * len(coded) + self._slots[of_category]])

    def sums(self, trips: Floats, spend: Floats) -> Floats:
        """Per kind of group and offer the trips of the offer's groups, brands weighed as the offer has them; and in a
        last row the spend on its categories."""
        amounts = np.concatenate((trips.take(self._groups) * self._shares, spend.take(self._categories)))
        return summed(self._summed, amounts, 5 * self._offers).reshape(5, self._offers)

    def latest(self, of_groups: Floats) -> Floats:
        """Per kind of group and offer: the latest of the offer's groups, 0 for never."""
        return highest(self._slots, of_groups.take(self._groups), 4 * self._offers).reshape(4, self._offers)


def _marked(keys: Sequence[str]) -> tuple[Marks, Codes]:
    """The marks of these keys in their order, and the place of the key of each."""
    marks = np.array([mark_of.__wrapped__(key) for key in keys], np.uint64)
    order = np.argsort(marks)
    return marks[order], order.astype(np.int64)


def _inverted(codes: Codes, owners: Codes, size: int) -> tuple[Codes, Codes, Codes]:
    """From pairs to `(starts, counts, members)`: code c belongs to as many members as it counts, from its start on."""
    counts = np.bincount(codes, minlength=size).astype(np.int64)
    return counts.cumsum() - counts, counts, owners[np.argsort(codes, kind="stable")].astype(np.int64)


def expanded(codes: Codes, starts: Codes, counts: Codes, members: Codes) -> tuple[Codes, Codes]:
    """How many members each of `codes` has, and the members of them all in order."""
    many = counts.take(codes)
    before: Codes = many.cumsum() - many
    places = (starts.take(codes) - before).repeat(many)
    places += np.arange(len(places))
    return many, members.take(places)


def summed(target: Codes, amounts: Floats, size: int) -> Floats:
    """Per target the sum of its amounts, added in their order."""
    return np.bincount(target, amounts, size).astype(np.float64, copy=False)


def highest(target: Codes, values: Floats, size: int) -> Floats:
    highest = np.zeros(size)
    np.maximum.at(highest, target, values)
    return highest


def _static(offer: Offer, listed: Sequence[str], known: Mapping[str, Product], sizes: Mapping[str, int]) -> list[float]:
    products = [known[product_id] for product_id in listed if product_id in known]
    price = math.fsum(product.price for product in products) / len(products) if products else 0.0
    categories = {product.category for product in products if product.category} or {offer.category} - {None}
    days = max(0.0, offer.valid_until - offer.valid_from) / DAY_S
    return [
        math.log1p(len(listed)),
        math.log1p(len(categories)),
        math.log1p(sizes[offer.group] if offer.group else 1),
        math.log1p(max(0.0, price)),
        offer.value.discount / price if price > 0.0 else 0.0,
        math.log1p(days),
        *(1.0 if offer.kind == kind else 0.0 for kind in OFFER_KINDS),
    ]
