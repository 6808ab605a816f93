"""Random histories of one customer over every kind of event, and single events for small stories."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from features.commerce import ORDER_STATUSES, PURPOSES, checked_body
from features.habits import ACTS
from features.steps import STEPS
from features.vocabulary import CHANNELS, DAY_S, Event

T0 = 1_700_000_000.0
HOUR_S = 3600.0

PRODUCTS = ("a", "b", "c")
ORDERS = ("o1", "o2", "o3")
NAMES = sorted({*STEPS, "Order Cancelled", "$alias", "Product Shared", "Nobody Knows This"} - {"Order Void"})


def event(
    name: str,
    message_id: str = "m1",
    at: float = T0,
    *,
    device: str | None = None,
    channel: str | None = "web",
    location: str | None = None,
    known_at: float | None = None,
    **body: Any,
) -> Event:
    """One event of customer 1, its properties checked as live ones are."""
    return Event(message_id, name, at, known_at or at, "1", device, channel, location, checked_body(name, body))


def lines(*product_ids: str, category: str = "x") -> list[dict[str, Any]]:
    return [
        {"product_id": product_id, "category": category, "price": 10.0, "quantity": 1} for product_id in product_ids
    ]


@st.composite
def histories(draw: st.DrawFn, most: int = 14) -> list[Event]:
    """Few products, orders, cases, devices: so that events meet; many at one instant, some known late."""
    found = []
    for number in range(draw(st.integers(0, most))):
        name = draw(st.sampled_from(NAMES))
        at = T0 + draw(st.one_of(st.integers(0, 3).map(lambda hour: hour * HOUR_S), st.integers(0, 900).map(_days)))
        late = draw(st.sampled_from([0.0, 5 * DAY_S]))
        one = Event(
            f"m{number}",
            name,
            at,
            at + late,
            "1",
            draw(st.sampled_from([None, "phone", "laptop"])),
            draw(st.sampled_from([None, *CHANNELS])),
            draw(st.sampled_from([None, "online", "berlin", "bonn"])),
            checked_body(name, draw(bodies(name))),
        )
        found.append(one)
    return found


def _days(count: int) -> float:
    return count * DAY_S


@st.composite
def bodies(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """Properties that the checks take, for any name: what an event does not read does no harm."""
    line = st.fixed_dictionaries(
        {"product_id": st.sampled_from(PRODUCTS), "quantity": st.integers(1, 4), "price": st.floats(0, 50)},
        optional={"category": st.sampled_from(["x", "y"]), "discount": st.floats(0, 5)},
    )
    body: dict[str, Any] = {
        "order_id": draw(st.sampled_from(ORDERS)),
        "case_id": draw(st.sampled_from(["c1", "c2"])),
        "promise_id": draw(st.sampled_from(["p1", "p2"])),
        "text": "we call you",
        "due": draw(st.sampled_from(["2023-11-15T00:00:00Z", "2025-01-01T00:00:00Z"])),
        "purpose": draw(st.sampled_from(PURPOSES)),
        "granted": draw(st.booleans()),
        "group": "spring",
        "offer_id": "x",
        "offer_kind": "promotion",
        "response": draw(st.sampled_from(["shown", "clicked", "accepted"])),
        "traits": {"tier": draw(st.sampled_from(["gold", "7", "odd", None])), "store_id": "berlin"},
        **draw(line),
    }
    if name == "Product Removed" and draw(st.booleans()):
        del body["quantity"]
    if draw(st.booleans()):
        body["cart_id"] = draw(st.sampled_from(["k1", "k2"]))
    if draw(st.booleans()):
        body["products"] = draw(st.lists(line, max_size=3))
    if draw(st.booleans()):
        body["status"] = draw(st.sampled_from(ORDER_STATUSES))
    reasons = ["return", "correction"] if name == "Order Refunded" else ["delay"]
    body["reason"] = draw(st.sampled_from(reasons))
    if draw(st.booleans()):
        body["channel"] = draw(st.sampled_from(CHANNELS))
    return body


assert set(ACTS) <= set(NAMES) | {"Order Void"}
