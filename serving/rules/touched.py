"""What there is to say of a product: how this customer has touched it (bought, returned, in the cart), and its stock.

A rule on products names the one way that it `needs`; of a product that is not touched in that way it would say
nothing, so it is not asked. Categories and styles are looked up once a decision. What follows is the rules' business.
"""

from __future__ import annotations

from collections.abc import Mapping

from features.columns import columns_of
from features.profiles import LAST, RETURNED
from features.signals import Level
from features.vocabulary import DAY_S, Product
from serving.rules.case import Case

BOUGHT, STYLE_BOUGHT, CATEGORY_BOUGHT, STYLE_RETURNED, CATEGORY_RETURNED, ON_ITS_WAY_BACK, IN_CART, UNKNOWN, SHORT = (
    1 << place for place in range(9)
)
TOUCHES: Mapping[str, int] = {
    "bought": BOUGHT,
    "style_bought": STYLE_BOUGHT,
    "category_bought": CATEGORY_BOUGHT,
    "style_returned": STYLE_RETURNED,
    "category_returned": CATEGORY_RETURNED,
    "on_its_way_back": ON_ITS_WAY_BACK,
    "in_cart": IN_CART,
    "not_in_stock": UNKNOWN | SHORT,
}
"""Each way by its name. `bought`: the profile has an entry of the product, if only of a return;
`category_bought`: and of a purchase so late that the longest window over categories is not over."""

ALIKE = CATEGORY_BOUGHT | CATEGORY_RETURNED | UNKNOWN
"""Of products of one category, all replenishable or none, that are touched in nothing but the same of these ways, what
rules say differs in nothing but the product."""

ROUNDED_S = 0.001
"""The end of a window is told to the millisecond, so it may be so much later."""


class Touched:
    """The products of one decision, each with the ways in which it is touched."""

    def __init__(self, case: Case):
        self._case, self._items, self._met = case, case.facts.items, case.met
        self._entries = columns_of(case.facts.items)
        self._last = self._entries.of(LAST)
        self._since = case.facts.now - case.book.recently_purchased.same_category.longest * DAY_S - ROUNDED_S
        """What was bought later may be within a window over categories."""
        self._products: dict[str, int] = dict.fromkeys(case.in_cart, IN_CART)
        self._of_returns: dict[str, int] = {}
        """By key: the categories (`c:`) and styles (`s:`) of what came back or is on its way back."""
        for each in case.returned:
            self._note(each.style, each.category, STYLE_RETURNED, CATEGORY_RETURNED)
        for back in case.open_returns:
            for product_id in back.product_ids:
                self._products[product_id] = self._products.get(product_id, 0) | ON_ITS_WAY_BACK
                product = case.product(product_id)
                self._note(product.parent_id, product.category, ON_ITS_WAY_BACK, ON_ITS_WAY_BACK)
        self._categories: dict[str | None, int] = {None: 0, "": 0}
        self._styles: dict[str, int] = {}
        """The ways of each, looked up when first asked for."""
        stock: Mapping[str, Level] = {} if case.facts.location_id is None else case.facts.stock
        self._level, self._minimum = stock.get, case.book.stock.minimum

    def by(self, product: Product) -> int:
        """The ways of one product; 0: in none."""
        product_id, category, style = product.product_id, product.category, product.parent_id
        found = self._categories.get(category)
        if found is None:
            found = self._categories[category] = self._of_category(category or "")
        if style:
            if style not in self._styles:
                self._styles[style] = self._of_style(style)
            found |= self._styles[style]
        if product_id in self._met:
            found |= BOUGHT
        if self._products:
            found |= self._products.get(product_id, 0)
        level = self._level(product_id)
        if level is None:
            return found | UNKNOWN
        return found if level.quantity >= self._minimum else found | SHORT

    def _note(self, style: str | None, category: str | None, of_style: int, of_category: int) -> None:
        for sort, name, way in (("s:", style, of_style), ("c:", category, of_category)):
            if name:
                self._of_returns[sort + name] = self._of_returns.get(sort + name, 0) | way

    def _of_category(self, category: str) -> int:
        key = "c:" + category
        row = self._entries.row(key)
        found = CATEGORY_BOUGHT if row is not None and self._last[row] > self._since else 0
        if not self._case.returned and not self._of_returns:
            return found
        entry = self._items.get(key)
        found |= self._of_returns.get(key, 0)
        return found | CATEGORY_RETURNED if entry is not None and entry[RETURNED] and self._case.returned else found

    def _of_style(self, style: str) -> int:
        """Any size of the style counts as bought: the rules look at which."""
        bought = any("p:" + size in self._items for size in self._case.catalog.sizes_of(style))
        return self._of_returns.get("s:" + style, 0) | (STYLE_BOUGHT if bought else 0)
