"""When a condition that is not met will be, if nothing happens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from features import profiles
from features.motion import MOVING, met_at
from features.profiles import FEATURES, derive, fold_all
from features.vocabulary import DAY_S, Event

T = 1_795_000_000.0


def event(name: str, days: float, **body: Any) -> Event:
    at = T - days * DAY_S
    return Event(f"{name}-{days}", name, at, at, "c", body=body)


def order(days: float) -> Event:
    line = {"product_id": "tea", "category": "food", "quantity": 2, "price": 10.0, "discount": 1.0}
    return event("Order Completed", days, order_id=f"o{days}", products=[line], coupon="x")


HISTORY = [
    *(order(days) for days in (200, 100, 70, 10)),
    event(
        "Order Refunded",
        5,
        order_id="o70",
        products=[{"product_id": "tea", "category": "food", "quantity": 1, "price": 9.0}],
    ),
    event("Product Viewed", 3, product_id="tea"),
    event("Product Added", 2, product_id="pot", quantity=1),
    event("Products Searched", 2, query="tea"),
    event("Product List Viewed", 2, category="food"),
    event("Checkout Started", 1),
    event("Checkout Failed", 1, reason="card"),
    event("Support Case Opened", 9, case_id="c", reason="x"),
    event("Promise Made", 4, promise_id="p", text="x", due=datetime.fromtimestamp(T + 6 * DAY_S, UTC).isoformat()),
    *(
        event("Offer Responded", days, offer_id="o", offer_kind=kind, response=response)
        for kind in ("promotion", "cross_sell")
        for days, response in ((8, "sent"), (7, "shown"), (6, "clicked"), (5, "accepted"), (4, "dismissed"))
    ),
]


def of(field: str, operator: str, value: float) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


def free(condition: Any, events: list[Event] = HISTORY) -> float | None:
    profile = fold_all(events)
    return met_at(condition, profile, derive(profile, T), T)


@pytest.mark.parametrize(
    ("condition", "days"),
    [
        (of("days_since_order", ">=", 30), 20.0),
        (of("promises_overdue", ">=", 1), 6.0),
        ({"all": [of("days_since_order", ">=", 30), of("days_since_order", "<", 40)]}, 20.0),
        ({"all": [of("days_since_order", ">=", 30), of("days_since_order", "<", 5)]}, None),
        ({"any": [of("orders", ">=", 9), of("days_since_view", ">=", 13)]}, 10.0),
        ({"not": of("checkout_failed_hours", "<", 48)}, 1.0),
    ],
)
def test_days_go_by_and_promises_fall_due(condition: Any, days: float | None) -> None:
    assert free(condition) == (None if days is None else pytest.approx(T + days * DAY_S, abs=0.0011))


def test_a_whole_day_is_told_as_it_is() -> None:
    assert free(of("days_since_order", ">=", 30)) == T + 20 * DAY_S
    assert free(of("days_since_order", ">", 30)) == T + 20 * DAY_S + 0.001


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_every_feature_is_told_when_it_moves_and_not_when_it_stands_still(name: str) -> None:
    """A limit that the feature will have passed in 50 days is met when it says, and not a millisecond before."""
    profile = fold_all(HISTORY)
    now, later = derive(profile, T)[name], derive(profile, T + 50 * DAY_S)[name]
    if name not in MOVING:
        assert now != now or later == pytest.approx(now), "it moves, and nobody is told"
        return
    assert now == now and later != now, "it is not moved by this history"
    limit = now + (later - now) * 0.9
    found = free(of(name, ">=" if later > now else "<=", limit))
    assert found is not None and T < found <= T + 50 * DAY_S
    rising = later > now
    for at, reached in ((found, True), (found - 0.001, False)):
        value = derive(profile, at)[name]
        assert (value >= limit if rising else value <= limit) is reached


@pytest.mark.parametrize(
    "condition",
    [
        of("orders", ">=", 99),
        of("days_since_order", "<", 5),
        of("orders_30d", ">", 9),
        of("orders_30d", "<", 0),
        of("loyalty_tier", ">=", 3),
        {"field": "loyalty_tier", "operator": "known"},
        of("days_since_order", ">=", 40_000),
        of("promotion_accept_rate", ">", 0.99),
        of("expected_orders_90d", "<", 0),
    ],
)
def test_what_only_an_event_can_change_has_no_time(condition: Any) -> None:
    assert free(condition) is None


def test_of_a_stranger_nothing_is_told() -> None:
    assert met_at(of("days_since_order", ">=", 1), None, profiles.derive(None, T), T) is None


def test_what_stands_at_its_limit_is_beyond_it_a_millisecond_later() -> None:
    just_now = [order(0)]
    assert derive(fold_all(just_now), T)["silence_chance_90d"] == 0.5
    assert free({"not": of("silence_chance_90d", "<=", 0.5)}, just_now) == T + 0.001
    assert free(of("silence_chance_90d", "<", 0.5), just_now) is None
