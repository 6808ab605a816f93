"""What properties of an event are taken, and what the catalog adds."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from features.commerce import checked_body, completed
from features.vocabulary import EventProblem, Product

REFUSED = [
    ("Support Case Opened", {}, "properties.case_id: is missing; expected a text of 1 to 255 characters"),
    ("Support Case Resolved", {"case_id": []}, "properties.case_id: is `[]`; expected a text of 1 to 255 characters"),
    (
        "Promise Made",
        {"promise_id": "p", "text": "t", "due": "soon"},
        "properties.due: is `soon`; expected a time in RFC 3339 such as 2026-11-20T10:00:00Z",
    ),
    ("Promise Kept", {}, "properties.promise_id: is missing; expected a text of 1 to 255 characters"),
    (
        "Order Updated",
        {"order_id": "o", "status": "shiped"},
        "properties.status: is `shiped`; expected one of placed, packed, shipped, delayed, delivered; "
        "did you mean `shipped`?",
    ),
    (
        "Consent Updated",
        {"purpose": "marketing", "granted": "yes"},
        "properties.granted: is `yes`; expected true or false",
    ),
    (
        "Consent Updated",
        {"purpose": "adverts", "granted": True},
        "properties.purpose: is `adverts`; expected one of marketing, personalisation, profiling",
    ),
    ("Checkout Failed", {"order_id": "o"}, "properties.reason: is missing; expected a text of 1 to 2000 characters"),
    ("Order Completed", {"order_id": "o", "cart_id": {}}, "properties.cart_id: is `{}`; expected a text"),
    ("Product Removed", {"product_id": "p", "quantity": 0}, "properties.quantity: is `0`; expected a whole number"),
    ("Product Added to Wishlist", {}, "properties.product_id: is missing; expected a text"),
    ("Products Searched", {"query": ["a"]}, "properties.query: is `['a']`; expected a text"),
]


@pytest.mark.parametrize(("name", "body", "sentence"), REFUSED)
def test_what_is_wrong_is_told_by_field_in_one_sentence(name: str, body: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(EventProblem) as refused:
        checked_body(name, body)
    assert str(refused.value).startswith(sentence)


def test_only_what_is_taken_out_of_a_cart_may_have_no_quantity() -> None:
    assert checked_body("Product Added", {"product_id": "p"}) == {"product_id": "p", "quantity": 1}
    for none in ({}, {"quantity": None}):
        assert checked_body("Product Removed", {"product_id": "p", **none}) == {"product_id": "p"}
    assert checked_body("Product Removed", {"product_id": "p", "quantity": 2.0})["quantity"] == 2


def test_the_catalog_tells_the_category_of_a_product_that_was_looked_at_and_keeps_the_senders() -> None:
    catalog = SimpleNamespace(products={"p": Product("p", "table", "tables", price=9.0)}, offers={})
    for name in ("Product Viewed", "Product Removed", "Wishlist Product Added to Cart"):
        assert completed(name, {"product_id": "p"}, catalog) == {"product_id": "p", "category": "tables"}
    assert completed("Product Viewed", {"product_id": "p", "category": "own"}, catalog)["category"] == "own"
    assert completed("Stock Updated", {"product_id": "p"}, catalog) == {"product_id": "p"}
    assert completed("Product Viewed", {"product_id": "q"}, catalog) == {"product_id": "q"}
