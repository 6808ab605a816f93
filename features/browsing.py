"""Browsing: what a customer has looked at and searched for lately, and wishes for. Nothing is bought here.

The latest MOST_PRODUCTS products, MOST_CATEGORIES categories and MOST_WISHES wishes are kept, each product and
category with how often it was looked at, decayed with a half-life of 30 days. No rule rests on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.decay import AT, count, keep_latest, worth
from features.profile_value import Profile
from features.vocabulary import DAY_S, Event

HALF_LIFE_DAYS = 30
MOST_PRODUCTS = 50
MOST_CATEGORIES = 20
MOST_WISHES = 100

FEATURES: Mapping[str, str] = {
    "viewed_30d": "decayed count of products looked at, half-life 30 days",
    "searches_30d": "decayed count of searches, half-life 30 days",
    "lists_30d": "decayed count of product lists looked at, half-life 30 days",
    "days_since_view": "days since a product was last looked at",
    "wishlist_products": "products on the wishlist, at most 100",
}


@dataclass(frozen=True, slots=True)
class Looked:
    """A product or category that was looked at: how often of late (decayed), and when last."""

    id: str
    views: float
    last_at: float


def products(profile: Profile | None, now: float) -> tuple[Looked, ...]:
    """The products looked at last, the latest first."""
    return _looked(profile, "products", now)


def categories(profile: Profile | None, now: float) -> tuple[Looked, ...]:
    """The categories looked at last, the latest first."""
    return _looked(profile, "categories", now)


def wishlist(profile: Profile | None) -> tuple[tuple[str, float], ...]:
    """`(product_id, since)` of what is on the wishlist, the latest first."""
    wishes = profile.state["browsing"]["wishlist"] if profile is not None and profile.state else {}
    return tuple(sorted(((key, wish[AT]) for key, wish in wishes.items()), key=lambda wish: (-wish[1], wish[0])))


def _looked(profile: Profile | None, what: str, now: float) -> tuple[Looked, ...]:
    seen = profile.state["browsing"][what] if profile is not None and profile.state else {}
    found = [Looked(key, worth(counter, now, HALF_LIFE_DAYS), counter[AT]) for key, counter in seen.items()]
    return tuple(sorted(found, key=lambda one: (-one.last_at, one.id)))


def fresh() -> dict[str, Any]:
    return {"products": {}, "categories": {}, "counts": {}, "wishlist": {}}


def derive(state: Mapping[str, Any], as_of: float) -> dict[str, float]:
    counts, wishes = state["browsing"]["counts"], state["browsing"]["wishlist"]
    views = counts.get("views")
    worth_of = {kind: worth(counter, as_of, HALF_LIFE_DAYS) for kind, counter in counts.items()}
    return {
        "viewed_30d": worth_of.get("views", 0.0),
        "searches_30d": worth_of.get("searches", 0.0),
        "lists_30d": worth_of.get("lists", 0.0),
        "days_since_view": (as_of - views[AT]) / DAY_S if views else math.nan,
        "wishlist_products": float(len(wishes)),
    }


# -------------------------------------------------------------------------------------------------- steps


def _product_viewed(state: dict[str, Any], items: Any, event: Event) -> None:
    _count(state, "counts", "views", event.occurred_at)
    _look(state, event, 1.0)


def _product_clicked(state: dict[str, Any], items: Any, event: Event) -> None:
    """It is among the latest, but counts nothing: the view of it that follows does."""
    _look(state, event, 0.0)


def _look(state: dict[str, Any], event: Event, amount: float) -> None:
    product_id = event.body.get("product_id")
    if product_id:
        _count(state, "products", product_id, event.occurred_at, amount)
        keep_latest(state["browsing"]["products"], MOST_PRODUCTS)
    _look_at_category(state, event, amount)


def _look_at_category(state: dict[str, Any], event: Event, amount: float) -> None:
    category = event.body.get("category")
    if category and isinstance(category, str):
        _count(state, "categories", category, event.occurred_at, amount)
        keep_latest(state["browsing"]["categories"], MOST_CATEGORIES)


def _list_viewed(state: dict[str, Any], items: Any, event: Event) -> None:
    """The category was looked at; the products of the list were only passed by."""
    _count(state, "counts", "lists", event.occurred_at)
    _look_at_category(state, event, 1.0)


def _searched(state: dict[str, Any], items: Any, event: Event) -> None:
    """That there was a search counts; what was typed is not kept in the profile."""
    _count(state, "counts", "searches", event.occurred_at)


def _count(state: dict[str, Any], what: str, key: str, now: float, amount: float = 1.0) -> None:
    count(state["browsing"][what], key, now, HALF_LIFE_DAYS, amount)


def _wished(state: dict[str, Any], items: Any, event: Event) -> None:
    product_id, wishes = event.body.get("product_id"), state["browsing"]["wishlist"]
    if isinstance(product_id, str) and product_id not in wishes:
        wishes[product_id] = [1.0, event.occurred_at]
        keep_latest(wishes, MOST_WISHES)


def _no_longer_wished(state: dict[str, Any], items: Any, event: Event) -> None:
    state["browsing"]["wishlist"].pop(event.body.get("product_id"), None)


def _bought(state: dict[str, Any], items: Any, event: Event) -> None:
    wishes = state["browsing"]["wishlist"]
    for line in event.body.get("products") or () if wishes else ():
        wishes.pop(line["product_id"], None)


STEPS = {
    "Product Viewed": _product_viewed,
    "Product Clicked": _product_clicked,
    "Product List Viewed": _list_viewed,
    "Products Searched": _searched,
    "Product Added to Wishlist": _wished,
    "Product Removed from Wishlist": _no_longer_wished,
    "Wishlist Product Added to Cart": _no_longer_wished,
    "Order Completed": _bought,
}
