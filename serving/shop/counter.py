"""The pages behind the counter: stores, e-mail preview, call centre, and the drawer that every page has. Values only.

Each function makes the values of one template out of what is known; none of them writes anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from features import browsing, care, cart, consent
from features.vocabulary import ONLINE, Location, Product
from serving.problems import not_found, shown
from serving.shop.backroom import PLACES, Knowledge
from serving.shop.lines import lines
from serving.shop.visit import Visit

MOST_ON_THE_COUNTER = 12
MOST_IN_THE_STORY = 30
MOST_SHELVED = 60
MOST_BEST = 6


def drawer(visit: Visit) -> dict[str, Any] | None:
    """What is known, offered and held back now; None where nothing has changed since `seen`."""
    known = visit.known()
    stamp = known.stamp()
    if visit.query.get("seen") == stamp:
        return None
    profile = known.profile()
    home = known.home(profile)
    stores = known.stores(home)
    here = stores[0].location_id if stores else None
    told = [known.decision(each, here if each == "store" else None) for each in PLACES]
    product = visit.catalog.products.get(visit.query.get("product", ""))
    return {
        "known": known,
        "stamp": stamp,
        "home": home,
        "here": stores[0] if stores else None,
        "told": told,
        "lines": lines(known.events(40), visit.catalog)[:8],
        "cases": care.open_cases(profile),
        "marketing": consent.of(profile, "marketing", "email"),
        "product": product,
        "shelves": _shelves(known, product.product_id, stores) if product else [],
        "unstocked": _unstocked(visit, stores),
        "case_id": f"shop-{secrets.token_hex(3)}",
    }


def _shelves(known: Knowledge, product_id: str, stores: Any) -> list[tuple[str, str, int | None]]:
    """Where the product is, and how much: online and in the two stores."""
    places = [(ONLINE, "online"), *((each.location_id, each.name) for each in stores)]
    return [(place, name, known.stock(product_id, place)) for place, name in places]


def _unstocked(visit: Visit, stores: Any) -> list[dict[str, Any]]:
    """Where nobody has said a word about stock: the messages that would fill the shelves of a small shop."""
    aisles = visit.backroom.aisles(visit.engine)
    if aisles.knows_stock:
        return []
    products = aisles.page(None, 1).products[:MOST_SHELVED]
    places = [ONLINE, *(each.location_id for each in stores)]
    return [visit.shelf(each.product_id, place, 12) for each in products for place in places]


def stores(visit: Visit) -> dict[str, Any]:
    known = visit.known()
    home = known.home(known.profile())
    return {
        "known": known,
        "home": home,
        "stores": [(each, *_best_kept(visit, each.location_id)) for each in known.stores(home)],
    }


def _best_kept(visit: Visit, location_id: str) -> tuple[int, list[tuple[Product, int]]]:
    """How many products a store keeps, and those of which it has most."""
    levels = dict(visit.engine.signals.stock_at(location_id))
    best = sorted(levels, key=lambda each: (-levels[each].quantity, each))[:MOST_BEST]
    found = visit.catalog.products
    return len(levels), [(found[each], max(0, levels[each].quantity)) for each in best if each in found]


def counter(visit: Visit, location_id: str) -> dict[str, Any]:
    """A store's counter: who stands there, what to offer, and what is on the shelves."""
    place = visit.place(location_id)
    if place is None or place.kind != "shop":
        raise not_found(f"there is no store {shown(location_id)}; expected one of the catalog's shops")
    known = visit.known()
    profile = known.profile()
    query = visit.query.get("q", "").strip()
    told = known.decision("store", location_id)
    if query:
        found = list(visit.backroom.aisles(visit.engine).search(query))
    else:
        wanted = [line.product_id for line in cart.of(profile, visit.now)]
        wanted += [each.product.product_id for each in told.shown if each.product]
        wanted += [each.id for each in browsing.products(profile, visit.now)]
        found = [visit.catalog.products[each] for each in dict.fromkeys(wanted) if each in visit.catalog.products]
    on_shelf = [(each, known.stock(each.product_id, location_id)) for each in found]
    return {
        "known": known,
        "place": place,
        "told": told,
        "query": query,
        "products": on_shelf[:MOST_ON_THE_COUNTER],
        "order_id": order_id(),
    }


def email(visit: Visit) -> dict[str, Any]:
    """What tonight's newsletter would show, and what it would not."""
    known = visit.known()
    profile = known.profile()
    return {
        "known": known,
        "told": known.decision("email"),
        "marketing": consent.of(profile, "marketing", "email"),
    }


def agent(visit: Visit) -> dict[str, Any]:
    """The customer's story, and the offer for the call."""
    known = visit.known()
    story = known.story()
    told = known.decision("call_centre")
    events = lines(known.events(120), visit.catalog)[:MOST_IN_THE_STORY]
    return {"known": known, "story": story, "told": told, "lines": events, "sales": known.sales()[:5]}


def place_name(places: Mapping[str, Location], location_id: str | None) -> str | None:
    """What a location is called; its id where the catalog does not know it."""
    return (places[location_id].name if location_id in places else location_id) if location_id else None


def order_of(customer_id: str, cart: list[tuple[str, int, float]]) -> str:
    """The order of that cart: the same one in every window, so that a cart is bought once."""
    return f"shop-{blake2b(repr((customer_id, sorted(cart))).encode(), digest_size=6).hexdigest()}"


def order_id() -> str:
    """A new order's id."""
    return f"shop-{secrets.token_hex(4)}"
