"""The pages in front of the counter: list, product, search, cart, checkout, orders, account. Values only.

The first three hold nothing about anybody: what they offer is asked for by the widget in the reader's browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from features import cart
from features.vocabulary import ONLINE, Product
from serving.problems import not_found, shown
from serving.shop import orders
from serving.shop.backroom import Knowledge
from serving.shop.counter import order_of
from serving.shop.look import label_of
from serving.shop.visit import Visit
from serving.shop.window import device_of

DEMO_CUSTOMER = "2375"
"""Whom `make demo` knows a year about."""
Tile = tuple[Product, int | None]


def _tiles(visit: Visit, products: Sequence[Product]) -> list[Tile]:
    levels = visit.engine.signals.stock_at(ONLINE)
    return [
        (each, max(0, levels[each.product_id].quantity) if each.product_id in levels else None) for each in products
    ]


def listing(visit: Visit) -> dict[str, Any]:
    aisles = visit.backroom.aisles(visit.engine)
    department = visit.query.get("department")
    if department is not None and department not in aisles.departments:
        raise not_found(f"there is no department {shown(department)} in this shop")
    number = visit.query.get("page", "1")
    found = aisles.page(department, int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 1)
    seen = {"list_id": department or "all", "category": department}
    return {
        "departments": [(name, label_of(name), len(each)) for name, each in aisles.departments.items()],
        "department": department,
        "heading": label_of(department) if department is not None else None,
        "tiles": _tiles(visit, found.products),
        "page": found,
        "views": [visit.tell("Product List Viewed", seen)] if department is not None else [],
    }


def search(visit: Visit) -> dict[str, Any]:
    query = visit.query.get("q", "").strip()[:100]
    found = visit.backroom.aisles(visit.engine).search(query)
    views = [visit.tell("Products Searched", {"query": query})] if query else []
    return {"query": query, "tiles": _tiles(visit, found), "views": views}


def product(visit: Visit, product_id: str) -> dict[str, Any]:
    found = visit.catalog.products.get(product_id)
    if found is None:
        raise not_found(f"there is no product {shown(product_id)} in this shop")
    visit.engine.signals.refresh()
    # Nothing about the visitor: these are the two best stocked stores, not theirs.
    known = Knowledge(visit.engine, visit.window, visit.now)
    home = known.home(known.profile()) if visit.staff else None
    return {
        "product": found,
        "online": known.stock(product_id),
        "stores": [(each, known.stock(product_id, each.location_id)) for each in known.stores(home)],
        "views": [visit.tell("Product Viewed", visit.line(product_id))],
        "add": visit.tell("Product Added", visit.line(product_id)),
    }


def basket(visit: Visit) -> dict[str, Any]:
    """The customer's one cart, whichever device things were put in on."""
    known = visit.known()
    profile = known.profile()
    found = cart.of(profile, visit.now)
    stores = known.stores(known.home(profile))
    rows: list[dict[str, Any]] = []
    for line in found:
        item = visit.catalog.products.get(line.product_id) or Product(line.product_id, line.product_id)
        near = [(each, known.stock(line.product_id, each.location_id) or 0) for each in stores]
        rows.append(
            {
                "line": line,
                "product": item,
                "online": known.stock(line.product_id),
                "near": next(((place, left) for place, left in near if left), None),
                "where": None if line.device == visit.window.anonymous_id else device_of(line.device) or line.channel,
            }
        )
    return {
        "known": known,
        "rows": rows,
        "total": sum(row["product"].price * row["line"].quantity for row in rows),
        "units": sum(line.quantity for line in found),
        "views": [visit.tell("Cart Viewed", {})],
    }


def checkout(visit: Visit) -> dict[str, Any]:
    values = basket(visit)
    cart = [(row["line"].product_id, row["line"].quantity, row["line"].added_at) for row in values["rows"]]
    new = order_of(values["known"].customer_id, cart)
    lines = [visit.line(row["product"].product_id, row["line"].quantity) for row in values["rows"]]
    bought = {"order_id": new, "total": values["total"], "products": lines}
    placed = visit.tell("Order Completed", bought, messageId=new)
    leaves = [visit.taken(each["product_id"], ONLINE, each["quantity"], new) for each in lines]
    begun = visit.tell("Checkout Started", {"products": lines})
    return {
        **values,
        "order_id": new,
        "buy": [placed, *leaves],
        "failed": visit.tell("Checkout Failed", {"order_id": new, "reason": "card declined"}),
        "views": [begun] if lines else [],
    }


def history(visit: Visit) -> dict[str, Any]:
    """Orders, and what of them is on its way back."""
    known = visit.known()
    return {"known": known, "sales": known.sales()[:20], "reasons": orders.REASONS}


def account(visit: Visit) -> dict[str, Any]:
    known = visit.known()
    home = known.home(known.profile())
    suggested = DEMO_CUSTOMER if visit.engine.store.read(DEMO_CUSTOMER) else "ann"
    return {"known": known, "home": home, "stores": known.stores(home), "suggested": suggested}
