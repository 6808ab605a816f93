"""How a product is drawn without a photo: a silhouette, a hue and a shade, always the same for the same product. Pure.

Names and categories are read for words such as `bottle` or `chair`; what has none of them is a plain box. The
silhouettes themselves are in `web/shapes.html`, the colours in `web/shop.css`.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

from features.vocabulary import Product

HUES, SHADES = 12, 3
_WORDS = (
    ("chair", "chair stool bench seat"),
    ("table", "table desk"),
    ("lamp", "lamp light bulb lighting"),
    ("shoe", "shoe shoes boot boots"),
    ("sock", "sock socks hosiery"),
    ("tent", "tent tents"),
    ("stove", "stove grill cooker"),
    ("fish", "seafood fish salmon shrimp tuna crab lobster sushi"),
    ("wedge", "cheese cheeses"),
    ("egg", "egg eggs"),
    ("loaf", "bread breads bakery pastry bun buns rolls bagels cake cakes pie pies muffin muffins donuts cookies"),
    ("carton", "milk cream creamer yogurt juice dairy buttermilk"),
    ("can", "can cans canned soup soups beans cat dog cartridge gas beer beers ale ales tomatoes"),
    ("bottle", "bottle water wine wines liquor vodka whiskey soda drink drinks drnk pop beverage beverages tea oil "
     "dressing vinegar syrup detergent shampoo cleaner cleaners lotion"),
    ("jar", "jar sauce sauces jam jelly spread butter honey salsa pickle pickles mayonnaise mustard spices baby"),
    ("flower", "floral flower flowers rose roses plant plants bouquet garden"),
    ("tube", "cosmetics makeup make-up toothpaste tooth oral hair skin facial hand body lip mascara vitamin vitamins"),
    ("root", "potato potatoes onion onions carrots mushrooms"),
    ("banana", "banana bananas"),
    ("berry", "berries grapes strawberries blueberries cherries raspberries"),
    ("leaf", "lettuce salad salads spinach cabbage broccoli herbs celery"),
    ("fruit", "produce fruit fruits vegetables vegetable potato potatoes apple apples banana bananas berries grapes "
     "citrus oranges onions peppers carrots lettuce salad tropical melons mushrooms avocado squash corn stone"),
    ("meat", "meat beef pork chicken turkey ham sausage bacon lamb deli frankfurters lunchmeat steak veal hot"),
    ("bag", "chips snack snacks candy candies flour sugar nuts coffee rice popcorn pretzels frozen vegetables bag "
     "pasta litter charcoal ice filters"),
)  # fmt: skip
SHAPES = (*(shape for shape, _ in _WORDS), "box")
_SHAPE_OF = {word: shape for shape, words in reversed(_WORDS) for word in words.split()}
_WORD = re.compile(r"[a-z-]+")

LABELS = {
    "DRUG GM": "Household and health",
    "MEAT-PCKGD": "Packaged meat",
    "SEAFOOD-PCKGD": "Packaged seafood",
    "PASTRY": "Bakery",
    "NUTRITION": "Natural foods",
    "MISCELLANEOUS": "This and that",
    "SPIRITS": "Wine and spirits",
}
"""Departments of the demo's data that do not read well as they are."""


_HUES = {
    "fruit": (3, 0, 1, 11, 4),
    "root": (1, 0),
    "banana": (2,),
    "berry": (9, 10, 11),
    "leaf": (4, 3),
    "meat": (11, 0),
    "fish": (6, 7),
    "loaf": (1, 2),
    "wedge": (2, 1),
    "egg": (1,),
    "flower": (10, 9, 11),
    "carton": (6, 7, 5),
}
"""Silhouettes whose colour people know."""


class Look(NamedTuple):
    """The names of the silhouette and of the style's classes."""

    shape: str
    hue: str
    shade: str


def look_of(product: Product) -> Look:
    """The hue is the category's, among those that the silhouette may have; the shade is the product's own."""
    shape, own = _shape(product), crc32(product.product_id.encode())
    known = _HUES.get(shape) or tuple(range(HUES))
    hue = known[crc32((product.category or product.department or "").encode()) % len(known)]
    return Look(shape, f"h{hue}", f"v{own % SHADES}")


def _shape(product: Product) -> str:
    """Of the first telling word: of the name, else of the category, else of the department."""
    for text in (product.name, product.category, product.department):
        for word in _WORD.findall((text or "").lower()):
            if word in _SHAPE_OF:
                return _SHAPE_OF[word]
    return "box"


def label_of(department: str | None) -> str:
    """A department as a heading."""
    name = department or "Everything else"
    return LABELS.get(name) or (name.capitalize() if name.isupper() else name[:1].upper() + name[1:])
