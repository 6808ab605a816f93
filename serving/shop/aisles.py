"""What the demo shop sells, in order: by department, page by page, and by search. Worked out once per catalog.

Sold is what has a price and, as soon as any stock is known, a level somewhere. Best stocked comes first: in the
demo stock follows sales, so these are the best sellers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from features.catalog import Catalog
from features.vocabulary import Product

A_PAGE = 24
MOST_FOUND = 48
FEWEST = 10
"""A department of fewer products than this is no aisle of its own, unless the whole shop is small."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an aisle; numbers start at 1."""

    products: Sequence[Product]
    number: int
    pages: int


class Aisles:
    """The products of one catalog as this shop shows them."""

    def __init__(self, catalog: Catalog, stock: Mapping[str, int]):
        self.catalog, self.knows_stock = catalog, bool(stock)
        sold = [
            each for each in catalog.products.values() if each.price > 0 and (not stock or each.product_id in stock)
        ]
        sold.sort(key=lambda each: (-stock.get(each.product_id, 0), each.name, each.product_id))
        by_department: dict[str, list[Product]] = {}
        for product in sold:
            by_department.setdefault(product.department or "", []).append(product)
        fewest = FEWEST if len(sold) > 10 * FEWEST else 1
        self.departments = {
            name: found
            for name, found in sorted(by_department.items(), key=lambda each: (-len(each[1]), each[0]))
            if len(found) >= fewest
        }
        self._mixed = _in_turn(self.departments.values())
        self._texts = [(f"{p.name} {p.category or ''} {p.brand or ''}".casefold(), p) for p in sold]

    def page(self, department: str | None, number: int) -> Page:
        """A page of a department, or of all of them in turn; the last one where there are not so many."""
        found = self._mixed if department is None else self.departments.get(department, [])
        pages = max(1, ceil(len(found) / A_PAGE))
        number = min(max(number, 1), pages)
        return Page(found[(number - 1) * A_PAGE : number * A_PAGE], number, pages)

    def search(self, query: str) -> Sequence[Product]:
        """What has all the words, names that begin with them first."""
        words = query.casefold().split()
        if not words:
            return []
        found = [(text, product) for text, product in self._texts if all(word in text for word in words)]
        found.sort(key=lambda each: not each[0].startswith(words[0]))
        return [product for _, product in found[:MOST_FOUND]]


def _in_turn(aisles: Iterable[Sequence[Product]]) -> list[Product]:
    """The first of each aisle, the second of each, …"""
    ranked = [(rank, place, each) for place, aisle in enumerate(aisles) for rank, each in enumerate(aisle)]
    return [each for _, _, each in sorted(ranked, key=lambda one: one[:2])]
