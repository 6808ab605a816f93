"""How orders stand, and returns under way: updates in any order, cancellations, refunds in part and whole."""

from __future__ import annotations

from typing import Any

import pytest
from histories import T0, event, lines

from features import orders, returns
from features.profiles import RETURN_REASON, derive, fold_all
from features.vocabulary import Event


def placed(order_id: str = "o", message_id: str = "m1", at: float = T0, *products: str, **more: Any) -> Event:
    return event(
        "Order Completed", message_id, at, order_id=order_id, products=lines(*(products or ("a", "b"))), **more
    )


def updated(status: str, message_id: str, at: float, order_id: str = "o") -> Event:
    return event("Order Updated", message_id, at, order_id=order_id, status=status)


def last(*events: Event) -> orders.Order:
    order = orders.last(fold_all(events))
    assert order is not None
    return order


def test_the_last_order_is_told_with_its_status_and_products() -> None:
    order = last(placed("old", "m0", T0 - 60, "c"), placed(location="berlin"), updated("shipped", "m2", T0 + 60))
    assert (order.order_id, order.placed_at, order.status, order.status_at) == ("o", T0, "shipped", T0 + 60)
    assert (order.channel, order.location_id, order.units, order.product_ids) == ("web", "berlin", 2, ("a", "b"))


def test_of_several_updates_the_latest_in_time_counts() -> None:
    assert last(placed(), updated("delivered", "m3", T0 + 120), updated("shipped", "m2", T0 + 60)).status == "delivered"


def test_an_update_before_its_order_is_not_lost() -> None:
    early = updated("packed", "m2", T0 - 60)
    assert last(early).placed_at is None
    order = last(early, placed())
    assert (order.status, order.placed_at) == ("packed", T0)


def test_a_cancelled_order_stays_cancelled_and_was_never_bought() -> None:
    cancelled = event("Order Cancelled", "m3", T0 + 60, order_id="o")
    order = last(placed(), cancelled, updated("shipped", "m4", T0 + 120))
    assert (order.status, order.status_at) == ("cancelled", T0 + 60)
    assert "p:a" not in fold_all([placed(), cancelled]).items


def test_an_order_corrected_to_nothing_counts_as_cancelled_and_one_with_something_left_stands() -> None:
    def corrected(*products: str) -> Event:
        return event("Order Refunded", "m2", T0 + 60, order_id="o", reason="correction", products=lines(*products))

    assert last(placed(), corrected("a", "b")).status == "cancelled"
    order = last(placed(), corrected("a"))
    assert (order.status, order.units, order.product_ids) == ("placed", 1, ("b",))


@pytest.mark.parametrize(("products", "units"), [(lines("a"), 1), (None, 2)])
def test_a_refund_in_part_or_whole_is_told_beside_the_status(products: Any, units: int) -> None:
    refund = event("Order Refunded", "m2", T0 + 60, order_id="o", products=products)
    order = last(placed(), refund)
    assert (order.status, order.units, order.refunded_units) == ("placed", 2, units)


def test_orders_on_the_way_are_kept_before_the_others() -> None:
    history = [placed("sent", "m0", T0 - 1), updated("shipped", "m00", T0, "sent")]
    history += [placed(f"o{number}", f"n{number}", T0 + number) for number in range(20)]
    kept = [order.order_id for order in orders.latest(fold_all(history))]
    assert kept == ["o19", "o18", "o17", "o16", "sent"]
    assert derive(fold_all(history), T0 + 60)["orders_under_way"] == 1.0


def test_a_delayed_order_is_counted_until_it_is_delivered() -> None:
    late = [placed(), updated("delayed", "m2", T0 + 1)]
    assert derive(fold_all(late), T0 + 2)["orders_delayed"] == 1.0
    assert derive(fold_all([*late, updated("delivered", "m3", T0 + 2)]), T0 + 3)["orders_delayed"] == 0.0


# ------------------------------------------------------------------------------------------------ returns


def asked(*products: str, message_id: str = "m2", at: float = T0 + 60, reason: str | None = None) -> Event:
    return event("Return Requested", message_id, at, order_id="o", products=lines(*products) or None, reason=reason)


def under_way(*events: Event) -> list[tuple[str, tuple[str, ...], str | None]]:
    return [(one.order_id, one.product_ids, one.reason) for one in returns.under_way(fold_all(events))]


def test_a_return_may_be_asked_for_before_we_know_of_its_order() -> None:
    assert under_way(asked(reason="too small")) == [("o", (), "too small")]
    assert under_way(asked(reason="too small"), placed()) == [("o", ("a", "b"), "too small")]


def test_a_refund_closes_the_return_product_by_product() -> None:
    back = event("Order Refunded", "m3", T0 + 120, order_id="o", products=lines("a"))
    assert under_way(placed(), asked("a", "b"), back) == [("o", ("b",), None)]
    again = event("Order Refunded", "m4", T0 + 180, order_id="o", products=lines("b"))
    assert under_way(placed(), asked("a", "b"), back, again) == []


def test_a_refund_of_the_whole_order_a_cancellation_and_a_correction_close_its_return() -> None:
    for name, reason in (("Order Refunded", None), ("Order Cancelled", None), ("Order Refunded", "correction")):
        assert under_way(placed(), asked("a"), event(name, "m3", T0 + 120, order_id="o", reason=reason)) == []


def test_a_refund_of_other_products_or_another_order_closes_nothing() -> None:
    for order_id, product in (("o", "b"), ("other", "a")):
        other = event("Order Refunded", "m3", T0 + 120, order_id=order_id, products=lines(product))
        assert under_way(placed(), asked("a"), other) == [("o", ("a",), None)]


def test_a_second_request_for_an_order_adds_to_the_first() -> None:
    more = asked("b", message_id="m3", at=T0 + 120, reason="broken")
    (one,) = returns.under_way(fold_all([placed(), asked("a"), more]))
    assert (one.product_ids, one.reason, one.since, one.evidence) == (("a", "b"), "broken", T0 + 60, "m2")


def test_each_product_goes_back_for_the_reason_it_came_with() -> None:
    shoe = asked("b", message_id="m3", at=T0 + 120, reason="wrong size")
    both = [placed(), asked("a", reason="quality"), shoe]
    assert under_way(*both) == [("o", ("a",), "quality"), ("o", ("b",), "wrong size")]
    assert [one.evidence for one in returns.under_way(fold_all(both))] == ["m2", "m3"]
    corrected = asked("a", message_id="m4", at=T0 + 180, reason="was a gift")
    assert under_way(*both, corrected) == [("o", ("a",), "was a gift"), ("o", ("b",), "wrong size")]


def test_a_refund_without_a_reason_has_that_of_the_request_and_its_own_goes_first() -> None:
    def why(reason: str | None) -> str:
        refund = event("Order Refunded", "m3", T0 + 120, order_id="o", products=lines("a"), reason=reason)
        return fold_all([placed(), asked("a", reason="wrong size"), refund]).items["p:a"][RETURN_REASON]

    assert (why(None), why("quality")) == ("wrong size", "quality")
    line = {"product_id": "a", "reason": "was a gift"}
    own = event("Order Refunded", "m3", T0 + 120, order_id="o", products=[line], reason="quality")
    assert fold_all([placed(), own]).items["p:a"][RETURN_REASON] == "was a gift"


def test_a_line_that_never_went_out_does_not_come_back() -> None:
    corrected = event("Order Refunded", "m2", T0 + 60, order_id="o", products=lines("a"), reason="correction")
    refund = event("Order Refunded", "m3", T0 + 120, order_id="o", products=lines("a"))
    profile = fold_all([placed(), corrected, refund])
    assert ("p:a" in profile.items, returns.share(profile)) == (False, 0.0)
    assert derive(profile, T0 + 180)["returned_units_365d"] == 0.0


def test_a_return_logged_when_it_had_one_reason_for_all_is_still_read() -> None:
    profile = fold_all([placed(), asked("a", "b", reason="too big")])
    for name in ("reasons", "sinces", "ids"):
        del profile.state["open_returns"]["o"][name]
    (one,) = returns.under_way(profile)
    assert (one.product_ids, one.reason, one.since, one.evidence) == (("a", "b"), "too big", T0 + 60, "m2")


def test_an_order_only_heard_of_is_not_the_last_one_unless_there_is_no_other() -> None:
    heard = updated("shipped", "m2", T0 + 100, "b")
    assert [one.order_id for one in orders.latest(fold_all([placed("a"), heard]))] == ["a", "b"]
    only = orders.last(fold_all([heard]))
    assert only is not None
    assert (only.order_id, only.placed_at) == ("b", None)
