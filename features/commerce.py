"""What the properties of a commerce event must be, and what the catalog adds to them.

`checked_body` takes the properties of one named event and returns them checked: ids as texts, quantities
whole, money finite, closed lists kept closed. Properties that we do not know are kept as they came, and
an event that we do not know is not looked into. `completed` fills in from the catalog what the sender
left out. Which fields a message has around its properties is the business of `segment` and `events`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Protocol

from features.vocabulary import CHANNELS, OFFER_KINDS, RESPONSES, SIGNALS, EventProblem, Offer, Product

__all__ = ["ORDER_STATUSES", "PURPOSES", "TIMES", "checked_body", "completed", "moment_of"]

LONGEST_ID = 255
CONTROL, _ZERO = re.compile(r"[\x00-\x1f\x7f]"), re.compile("\x00")
LARGEST = 1_000_000_000
"""Above it a quantity or an amount of money is taken for a mistake of the sender."""
_DUE_FROM, _DUE_UNTIL = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (1990, 2200))
TIMES: Mapping[str, tuple[str, ...]] = {"Promise Made": ("due",)}
"""The properties that are read as times, by event; all others are texts to us."""
PURPOSES = ("marketing", "personalisation", "profiling")
ORDER_STATUSES = ("placed", "packed", "shipped", "delayed", "delivered")

Body = dict[str, Any]


class _Catalog(Protocol):
    @property
    def products(self) -> Mapping[str, Product]: ...

    @property
    def offers(self) -> Mapping[str, Offer]: ...


def checked_body(name: str, body: Mapping[str, Any], at: str = "properties") -> Body:
    """The properties of event `name`, checked and in our types. Raises EventProblem for the first that is wrong."""
    checked = dict(body)
    checks = _CHECKS.get(name)
    if checks is not None:
        for check in checks:
            check(checked, at)
    return checked


def completed(name: str, body: Body, catalog: _Catalog) -> Body:
    """`body` with what the catalog knows of its products or its offer and the message does not say."""
    offer = catalog.offers.get(body["offer_id"]) if name == "Offer Responded" else None
    if offer is not None:
        body["offer_kind"] = body.get("offer_kind") or offer.kind
        body.setdefault("discount", offer.value.discount)
    for line in body.get("products") or () if name in _WITH_PRODUCTS else ():
        _complete(line, catalog, priced=True)
    if name in _OF_A_PRODUCT:
        _complete(body, catalog, priced=False)
    return body


def _complete(line: Body, catalog: _Catalog, priced: bool) -> None:
    product = catalog.products.get(line["product_id"])
    if product is None:
        return
    if priced:
        line.setdefault("price", product.price)
    if product.category and not line.get("category"):
        line["category"] = product.category


def moment_of(value: Any, field: str) -> float:
    """The time that a text says, in epoch seconds; a text without a zone means UTC."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip().upper())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    raise EventProblem(field, f"is `{_short(value)}`; expected a time in RFC 3339 such as 2026-11-20T10:00:00Z")


# --------------------------------------------------------------------------------- one property each


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else text[:40] + "…"


def _text(body: Body, key: str, at: str, required: bool = False, longest: int = LONGEST_ID) -> None:
    """A text of at least one character; whole numbers are ids that somebody did not quote."""
    value = body.get(key)
    if type(value) is int:
        value = body[key] = str(value)
    if value is None or value == "":
        if required:
            raise EventProblem(f"{at}.{key}", f"is missing; expected a text of 1 to {longest} characters")
        body.pop(key, None)
    elif not isinstance(value, str):
        raise EventProblem(f"{at}.{key}", f"is `{_short(value)}`; expected a text of 1 to {longest} characters")
    elif len(value) > longest:
        raise EventProblem(
            f"{at}.{key}", f"is `{_short(value)}` with {len(value)} characters; expected at most {longest}"
        )
    elif found := (CONTROL if key.endswith("_id") else _ZERO).search(value):
        place = f"character U+{ord(found[0]):04X} at position {found.start()}"
        raise EventProblem(f"{at}.{key}", f"holds the control {place}; expected a text without control characters")


def _whole(body: Body, key: str, at: str, least: int, required: bool = False) -> None:
    value = body.get(key)
    if value is None:
        if required:
            raise EventProblem(f"{at}.{key}", f"is missing; expected a whole number of at least {least}")
        body.pop(key, None)
        return
    if type(value) is float and value.is_integer():
        value = body[key] = int(value)
    if type(value) is not int or not least <= value <= LARGEST:
        ceiling = f" and at most {LARGEST}" if type(value) is int and value > LARGEST else ""
        raise EventProblem(f"{at}.{key}", f"is `{_short(value)}`; expected a whole number of at least {least}{ceiling}")


def _money(body: Body, key: str, at: str) -> None:
    value = body.get(key)
    if value is None:
        body.pop(key, None)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise EventProblem(f"{at}.{key}", f"is `{_short(value)}`; expected an amount of money of at least 0")


def _one_of(body: Body, key: str, at: str, known: Collection[str], required: bool = False) -> None:
    value = body.get(key)
    if value is None or value == "":
        if required:
            raise EventProblem(f"{at}.{key}", f"is missing; expected one of {', '.join(known)}")
        body.pop(key, None)
    elif not isinstance(value, str) or value not in known:
        near = get_close_matches(str(value), known, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise EventProblem(f"{at}.{key}", f"is `{_short(value)}`; expected one of {', '.join(known)}{hint}")


# ------------------------------------------------------------------------------------- lines of orders


def _product(line: Body, at: str) -> None:
    """One product with how many of it, at which price, and the money taken off the line."""
    if type(line.get("product_id")) is not str:
        for key in ("product_id", "sku"):  # Segment allows either
            _text(line, key, at)
        if "product_id" not in line:
            if "sku" not in line:
                raise EventProblem(f"{at}.product_id", f"is missing; expected a text of 1 to {LONGEST_ID} characters")
            line["product_id"] = line["sku"]
    _text(line, "product_id", at, required=True)
    quantity = line.setdefault("quantity", 1)
    if type(quantity) is not int or not 1 <= quantity <= LARGEST:
        _whole(line, "quantity", at, 1)
        line.setdefault("quantity", 1)
    for key in ("price", "discount"):
        if key in line:
            _money(line, key, at)
    for key, longest in (("category", LONGEST_ID), ("reason", 2_000)):
        if key in line:
            _text(line, key, at, longest=longest)
    if "coupon" in line:
        _coupon(line, at)


def _product_out(body: Body, at: str) -> None:
    """A product that is taken out of the cart: without `quantity` all of it, so none is made up."""
    counted = body.get("quantity") is not None
    _product(body, at)
    if not counted:
        del body["quantity"]


def _coupon(body: Body, at: str) -> None:
    value = body.get("coupon")
    if not value:
        body.pop("coupon", None)
    elif value is not True:
        _text(body, "coupon", at)


def _products(body: Body, at: str) -> None:
    lines = body.get("products")
    if lines is None:
        body.pop("products", None)
        return
    if not isinstance(lines, list):
        raise EventProblem(f"{at}.products", f"is `{_short(lines)}`; expected a list of products")
    checked = body["products"] = []
    for number, line in enumerate(lines):
        where = f"{at}.products[{number}]"
        if not isinstance(line, Mapping):
            raise EventProblem(where, f"is `{_short(line)}`; expected an object with a product_id")
        line = dict(line)
        _product(line, where)
        checked.append(line)


def _discount(body: Body, at: str) -> None:
    _money(body, "discount", at)


def _due(body: Body, at: str) -> None:
    due = moment_of(body.get("due"), f"{at}.due")
    if not _DUE_FROM <= due < _DUE_UNTIL:
        raise EventProblem(f"{at}.due", f"is `{_short(body['due'])}`; expected a time from 1990 to 2199")


def _granted(body: Body, at: str) -> None:
    if not isinstance(body.get("granted"), bool):
        raise EventProblem(f"{at}.granted", f"is `{_short(body.get('granted'))}`; expected true or false")


# ------------------------------------------------------------------------------------- event by event

Check = Callable[[Body, str], None]


def _texts(*keys: str, required: bool = False, longest: int = LONGEST_ID) -> Check:
    def check(body: Body, at: str) -> None:
        for key in keys:
            _text(body, key, at, required, longest)

    return check


def _counted(least: int) -> Check:
    return lambda body, at: _whole(body, "quantity", at, least, required=True)


def _listed(key: str, known: Collection[str], required: bool = False) -> Check:
    return lambda body, at: _one_of(body, key, at, known, required)


_DECISION = _texts("decision_id")
_ORDER: tuple[Check, ...] = (_texts("order_id", required=True), _products, _coupon, _DECISION)
_SHELF = (_texts("product_id", required=True), _texts("location_id", "order_id"))
_BASKET: tuple[Check, ...] = (_texts("cart_id", "order_id"), _products, _DECISION)
_CHECKOUT_STEP = (_texts("checkout_id", "cart_id"),)
_CASE = (_texts("case_id", required=True), _texts("order_id", "channel"), _texts("reason", longest=2_000))

_CHECKS: Mapping[str, tuple[Check, ...]] = {
    "Order Completed": (*_ORDER, _texts("cart_id")),
    "Order Refunded": (*_ORDER, _texts("reason", longest=2_000)),
    "Order Cancelled": (*_ORDER, _texts("reason", longest=2_000)),
    "Order Updated": (*_ORDER, _listed("status", ORDER_STATUSES)),
    "Return Requested": (*_ORDER, _texts("reason", longest=2_000)),
    "Product Viewed": (_product, _DECISION),
    "Product Clicked": (_product, _DECISION),
    "Products Searched": (_texts("query", longest=2_000),),
    "Product List Viewed": (_products, _texts("list_id", "category")),
    "Product Added": (_texts("cart_id"), _product, _DECISION),
    "Product Removed": (_texts("cart_id"), _product_out, _DECISION),
    "Cart Viewed": _BASKET,
    "Checkout Started": _BASKET,
    "Checkout Step Viewed": _CHECKOUT_STEP,
    "Checkout Step Completed": _CHECKOUT_STEP,
    "Payment Info Entered": _CHECKOUT_STEP,
    "Checkout Failed": (_texts("reason", required=True, longest=2_000), _texts("order_id", "cart_id")),
    "Product Added to Wishlist": (_texts("wishlist_id"), _product),
    "Product Removed from Wishlist": (_texts("wishlist_id"), _product),
    "Wishlist Product Added to Cart": (_texts("wishlist_id", "cart_id"), _product),
    "Coupon Applied": (_texts("coupon_id", "promotion_id", "order_id", "cart_id"), _DECISION),
    "Campaign Sent": (_texts("group", required=True),),
    "Offer Responded": (
        _texts("offer_id", required=True),
        _listed("response", RESPONSES, required=True),
        _listed("offer_kind", OFFER_KINDS),
        _texts("product_id", "order_id"),
        _discount,
        _DECISION,
    ),
    "Stock Updated": (*_SHELF, _counted(0)),
    "Stock Reserved": (*_SHELF, _counted(1)),
    "Stock Released": (*_SHELF, _counted(1)),
    "Feed Alive": (_listed("signal", SIGNALS, required=True), _texts("location_id")),
    "Support Case Opened": _CASE,
    "Support Case Resolved": _CASE,
    "Promise Made": (
        _texts("promise_id", required=True),
        _texts("text", required=True, longest=2_000),
        _due,
        _texts("order_id"),
    ),
    "Promise Kept": (_texts("promise_id", required=True),),
    "Consent Updated": (_listed("purpose", PURPOSES, required=True), _listed("channel", CHANNELS), _granted),
}
_WITH_PRODUCTS = frozenset(name for name, checks in _CHECKS.items() if _products in checks)
"""The events whose products are checked, line by line."""
_OF_A_PRODUCT = frozenset(name for name, checks in _CHECKS.items() if {_product, _product_out} & set(checks))
"""The events whose properties are themselves those of a product."""
