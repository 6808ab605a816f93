"""Random histories of one customer over every kind of event, and single events for small stories."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from features.commerce import ORDER_STATUSES, PURPOSES, checked_body
from features.corrections import CORRECTED, LEFT_CART, NOT_TAKEN, UNASKED, VOID
from features.habits import ACTS
from features.steps import STEPS
from features.vocabulary import DAY_S, Event

T0 = 1_700_000_000.0
HOUR_S = 3600.0

PRODUCTS = ("a", "b", "c")
ORDERS = ("o1", "o2", "o3")
NAMES = sorted(
    {*STEPS, "Order Cancelled", "$alias", "Product Shared", "Nobody Knows This"}
    - {VOID, CORRECTED, LEFT_CART, UNASKED, NOT_TAKEN}
)
OF_ORDERS = ["Order Completed", "Order Cancelled", "Order Refunded", "Return Requested", "Offer Responded"]


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


_LINE = st.fixed_dictionaries(
    {"product_id": st.sampled_from(PRODUCTS), "quantity": st.integers(1, 4), "price": st.floats(0, 50)},
    optional={"category": st.sampled_from(["x", "y"]), "discount": st.floats(0, 5)},
)
_ORDERED = {"order_id": st.sampled_from(ORDERS)}
_PROMISED = {"promise_id": st.sampled_from(["p1", "p2"])}


def _bodies(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Properties of such an event that the checks take."""
    cart = {"cart_id": st.sampled_from(["k1", "k2"])}
    listed = {"products": st.lists(_LINE, max_size=3)}
    reason = {"reason": st.sampled_from(["return", "correction"])}
    each: dict[str, st.SearchStrategy[Any]] = {}
    if (name.startswith("Product ") and "List" not in name) or name.startswith("Wishlist"):
        product = {"product_id": st.sampled_from(PRODUCTS)}
        return st.fixed_dictionaries(
            product, optional={"quantity": st.integers(1, 4), "category": st.just("x"), **cart}
        )
    if name.startswith("Support"):
        return st.fixed_dictionaries({"case_id": st.sampled_from(["c1", "c2"])}, optional=reason)
    if name.startswith("Promise"):
        due = st.sampled_from(["2023-11-15T00:00:00Z", "2025-01-01T00:00:00Z"])
        return st.fixed_dictionaries({**_PROMISED, "text": st.just("we call you"), "due": due})
    if name == "Consent Updated":
        each = {"purpose": st.sampled_from(PURPOSES[:2]), "granted": st.booleans()}
        return st.fixed_dictionaries(each, optional={"channel": st.sampled_from(["email", "sms"])})
    if name == "Offer Responded":
        response = st.sampled_from(["shown", "dismissed", "accepted", "accepted"])
        return st.fixed_dictionaries(
            {"offer_id": st.just("x"), "offer_kind": st.just("promotion"), "response": response},
            optional={"decision_id": st.sampled_from(["d1", "d2"]), **_ORDERED},
        )
    if name == "$identify":
        tier = st.sampled_from(["gold", "7", "odd", None])
        return st.fixed_dictionaries({"traits": st.fixed_dictionaries({}, optional={"tier": tier, "store_id": tier})})
    if name.startswith(("Order", "Return")):
        more = {**listed, **cart, **reason, "status": st.sampled_from(ORDER_STATUSES)}
        return st.fixed_dictionaries(_ORDERED, optional=more)
    return st.fixed_dictionaries(
        {"reason": st.just("card refused"), "group": st.just("spring")}, optional={**_ORDERED, **cart, **listed}
    )


_DAYS = st.integers(0, 900).map(lambda day: day * DAY_S)
_HOURS = st.integers(0, 3).map(lambda hour: hour * HOUR_S)
_BODIES = {name: _bodies(name) for name in NAMES}


def _event(names: list[str]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.sampled_from(names).flatmap(
        lambda name: st.tuples(
            st.just(name),
            st.one_of(_HOURS, _DAYS),
            st.sampled_from([0.0, 5 * DAY_S]),
            st.sampled_from([None, "phone", "laptop"]),
            st.sampled_from([None, "web", "store", "email"]),
            st.sampled_from([None, "online", "berlin"]),
            _BODIES[name],
        )
    )


def histories(most: int = 12, names: list[str] = NAMES) -> st.SearchStrategy[list[Event]]:
    """Few products, orders, cases, devices: so that events meet; many at one instant, some known late."""
    return st.lists(_event(names), max_size=most).map(
        lambda drawn: [
            Event(f"m{number}", name, T0 + at, T0 + at + late, "1", device, *where, checked_body(name, body))
            for number, (name, at, late, device, *where, body) in enumerate(drawn)
        ]
    )


assert set(ACTS) <= set(NAMES) | {VOID, UNASKED}
