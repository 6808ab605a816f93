"""The cart: small stories over devices, and what is left of it in numbers."""

from __future__ import annotations

import math
from typing import Any

from histories import HOUR_S, T0, event, lines

from features import cart
from features.profiles import derive, fold_all
from features.vocabulary import DAY_S, Event


def carried(*events: Event, now: float = T0 + DAY_S) -> dict[str, int]:
    return {line.product_id: line.quantity for line in cart.of(fold_all(events), now)}


def added(product_id: str, message_id: str = "m1", at: float = T0, **more: Any) -> Event:
    return event("Product Added", message_id, at, product_id=product_id, **more)


def test_what_was_put_in_on_the_phone_is_there_on_the_laptop_with_its_age_and_channel() -> None:
    profile = fold_all([added("a", device="phone", channel="app", quantity=2), event("$page", "m2", T0 + 60)])
    (line,) = cart.of(profile, T0 + HOUR_S)
    assert (line.product_id, line.quantity, line.age_s) == ("a", 2, HOUR_S)
    assert (line.device, line.channel, line.cart_id) == ("phone", "app", None)


def test_the_cart_is_the_union_over_devices_the_latest_first() -> None:
    events = added("a", device="phone"), added("b", "m2", T0 + 60, device="laptop")
    assert [line.product_id for line in cart.of(fold_all(events), T0 + 60)] == ["b", "a"]


def test_a_product_put_in_twice_is_one_line_of_the_device_that_spoke_last() -> None:
    profile = fold_all([added("a", device="phone"), added("a", "m2", T0 + 60, device="laptop", quantity=2)])
    (line,) = cart.of(profile, T0 + 60)
    assert (line.quantity, line.device) == (3, "laptop")


def test_a_removal_takes_so_many_wherever_they_were_put_in_and_without_quantity_all() -> None:
    put = added("a", device="phone", quantity=3)
    assert carried(put, event("Product Removed", "m2", T0 + 1, device="laptop", product_id="a", quantity=1)) == {"a": 2}
    assert carried(put, event("Product Removed", "m2", T0 + 1, device="laptop", product_id="a")) == {}
    assert carried(put, event("Product Removed", "m2", T0 + 1, product_id="never put in")) == {"a": 3}


def test_a_removal_dated_before_its_addition_takes_nothing() -> None:
    assert carried(event("Product Removed", "m2", T0 - 1, product_id="a"), added("a")) == {"a": 1}


def test_a_viewed_cart_is_what_its_device_holds_and_leaves_the_other_devices_alone() -> None:
    before = added("a", device="phone"), added("b", "m2", T0 + 1, device="laptop")
    seen = event("Cart Viewed", "m3", T0 + 2, device="laptop", products=lines("c"))
    assert carried(*before, seen) == {"a": 1, "c": 1}
    assert carried(*before, event("Cart Viewed", "m3", T0 + 2, device="laptop", products=[])) == {"a": 1}
    assert carried(*before, event("Cart Viewed", "m3", T0 + 2, device="laptop")) == {"a": 1, "b": 1}


def test_a_viewed_cart_with_an_id_is_that_cart_on_every_device() -> None:
    before = added("a", device="phone", cart_id="k"), added("b", "m2", T0 + 1, device="laptop", cart_id="other")
    seen = event("Cart Viewed", "m3", T0 + 2, device="laptop", cart_id="k", products=lines("c"))
    assert carried(*before, seen) == {"b": 1, "c": 1}


def test_a_line_that_is_only_seen_again_keeps_its_age() -> None:
    seen = event("Cart Viewed", "m2", T0 + HOUR_S, device="laptop", products=lines("a"))
    (line,) = cart.of(fold_all([added("a", device="laptop"), seen]), T0 + HOUR_S)
    assert line.added_at == T0


def test_a_checkout_puts_in_what_it_lists_and_takes_nothing_out() -> None:
    started = event("Checkout Started", "m2", T0 + 1, products=lines("b"))
    assert carried(added("a"), started) == {"a": 1, "b": 1}
    assert cart.checkout_since(fold_all([added("a"), started])) == T0 + 1


def test_a_wish_put_in_the_cart_is_in_the_cart() -> None:
    assert carried(event("Wishlist Product Added to Cart", product_id="a", quantity=2)) == {"a": 2}


def test_an_order_takes_out_what_was_bought_whatever_the_channel() -> None:
    bought = event("Order Completed", "m3", T0 + 2, channel="store", order_id="o", products=lines("a"))
    before = added("a", device="phone"), added("b", "m2", T0 + 1, device="phone")
    assert carried(*before, bought) == {"b": 1}


def test_an_order_of_a_cart_takes_out_all_of_that_cart() -> None:
    bought = event("Order Completed", "m3", T0 + 2, order_id="o", cart_id="k", products=lines("a"))
    before = added("a", cart_id="k"), added("b", "m2", T0 + 1, cart_id="k"), added("c", "m0", cart_id="other")
    assert carried(*before, bought) == {"c": 1}


def test_an_order_that_names_neither_products_nor_cart_empties_its_devices() -> None:
    bought = event("Order Completed", "m3", T0 + 2, device="phone", order_id="o")
    assert carried(added("a", device="phone"), added("b", "m2", device="laptop"), bought) == {"b": 1}


def test_a_cancelled_or_corrected_order_refills_nothing() -> None:
    bought = event("Order Completed", "m2", T0 + 1, order_id="o", products=lines("a", "b"))
    before = added("a"), added("b", "m0", T0 - 1), added("c", "m00", T0 - 1), bought
    assert carried(*before, event("Order Cancelled", "m3", T0 + 2, order_id="o")) == {"c": 1}
    for gone in (lines("a"), lines("a", "b"), None):
        fewer = event("Order Refunded", "m3", T0 + 2, order_id="o", reason="correction", products=gone)
        assert carried(*before, fewer) == {"c": 1}


def test_a_cart_is_told_in_products_units_and_hours_and_an_empty_one_has_no_age() -> None:
    started = event("Checkout Started", "m3", T0 + 2 * HOUR_S)
    values = derive(fold_all([added("a", quantity=2), added("b", "m2", T0 + HOUR_S), started]), T0 + 3 * HOUR_S)
    names = ("cart_products", "cart_units", "cart_age_hours", "checkout_age_hours")
    assert [values[name] for name in names] == [2.0, 3.0, 1.0, 1.0]
    bought = event("Order Completed", "m4", T0 + 2.5 * HOUR_S, order_id="o", products=lines("a", "b"))
    after = derive(fold_all([added("a"), added("b", "m2", T0 + 1), started, bought]), T0 + 3 * HOUR_S)
    assert (after["cart_products"], after["cart_units"]) == (0.0, 0.0)
    assert math.isnan(after["cart_age_hours"]) and math.isnan(after["checkout_age_hours"])


def test_a_line_is_forgotten_after_730_days() -> None:
    profile = fold_all([added("a")])
    assert len(cart.of(profile, T0 + 730 * DAY_S)) == 1
    assert cart.of(profile, T0 + 731 * DAY_S) == ()
    assert derive(profile, T0 + 731 * DAY_S)["cart_products"] == 0.0
    assert list(fold_all([added("a"), added("b", "m2", T0 + 731 * DAY_S)]).state["cart"]["lines"]) == ["b"]


def test_of_a_crawlers_cart_the_oldest_lines_go() -> None:
    events = [added(f"p{number}", f"m{number}", T0 + number) for number in range(cart.MOST_LINES + 5)]
    held = cart.of(fold_all(events), T0 + HOUR_S)
    assert len(held) == cart.MOST_LINES
    assert held[-1].product_id == "p5"


def test_of_a_customer_nobody_knows_there_is_no_cart() -> None:
    assert cart.of(None, T0) == ()
    assert cart.checkout_since(None) is None
