"""Random worlds for the laws of the screen: catalogs, rulebooks, histories, stock and moments, all small and unfair."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from reference import World

from features import profiles
from features.catalog import Catalog
from features.signals import Level
from features.vocabulary import DAY_S, OFFER_KINDS, Budget, Event, Location, Offer, Product, Value
from serving.facts import Facts, Shop
from serving.rulebook import Rulebook

NOW = 1_795_000_000.0
LOCATIONS = {
    each.location_id: each
    for each in (
        Location("online", "online", "Web"),
        Location("berlin", "shop", "Berlin", "de", 52.52, 13.41, "Europe/Berlin"),
        Location("potsdam", "shop", "Potsdam", "de", 52.39, 13.06, None),
        Location("sydney", "shop", "Sydney", "au", -33.87, 151.21, "Australia/Sydney"),
        Location("depot", "warehouse", "Depot", "de", 52.52, 13.40, "Europe/Berlin"),
    )
}
PRODUCTS = {
    each.product_id: each
    for each in (
        Product("shoe-41", "Shoe 41", "shoes", margin=20.0, parent_id="shoe"),
        Product("shoe-42", "Shoe 42", "shoes", margin=20.0, parent_id="shoe"),
        Product("boot", "Boot", "shoes", margin=0.5),
        Product("table", "Table", "tables", margin=100.0),
        Product("coffee", "Coffee", "food", margin=2.0, replenishable=True),
        Product("tea", "Tea", "food", replenishable=True),
    )
}
REASONS = ["quality", "wrong size", "a gift", "", "size too small"]
PLACES = [
    *[("web", "home")] * 6,
    ("email", "newsletter"),
    ("app", "cart"),
    ("email", "newsletter"),
    ("push", "message"),
    ("web", "agent"),
]
PLACES += [("call_centre", "agent"), ("store", "agent")]

products = st.sampled_from(sorted(PRODUCTS))
kinds = st.lists(st.sampled_from(OFFER_KINDS), max_size=3, unique=True)
windows = st.sampled_from([0, 0.5, 7, 30, 60])


def window(draw: st.DrawFn) -> dict[str, Any]:
    some = st.dictionaries(st.sampled_from(OFFER_KINDS[:3]), windows, max_size=2)
    own = st.dictionaries(st.sampled_from(["shoes", "food"]), windows, max_size=1)
    return {"days": draw(windows), "kinds": draw(some), "categories": draw(own)}


def three(draw: st.DrawFn) -> dict[str, Any]:
    return {name: window(draw) for name in ("same_product", "same_style", "same_category")}


def feed(draw: st.DrawFn, max_age_s: float) -> dict[str, Any]:
    return {"max_age_s": max_age_s, "on_stale": draw(st.sampled_from(["suppress", "allow", "degrade"]))}


CLOCK = st.sampled_from(["0:00", "6:00", "8:30", "13:00", "21:00", "23:59"])
WHEN = st.sampled_from(["until_refused", "when_granted"])
DAYS_OFF = st.lists(st.sampled_from(["thursday", "friday", "saturday"]), max_size=2)
SECTIONS: dict[str, Callable[[st.DrawFn], Any]] = {
    "timezone": lambda draw: draw(st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"])),
    "consent": lambda draw: {"personalisation": draw(WHEN), "profiling": draw(WHEN), "personal_kinds": draw(kinds)},
    "quiet_hours": lambda draw: {"start": draw(CLOCK), "end": draw(CLOCK), "rest_days": draw(DAYS_OFF)},
    "open_case": lambda draw: {"lets_through": draw(kinds)},
    "promise_broken": lambda draw: {"lets_through": draw(kinds)},
    "checkout_failed": lambda draw: {"hours": draw(st.sampled_from([0, 24, 700])), "lets_through": draw(kinds)},
    "recently_purchased": three,
    "replenishment": lambda draw: {"usual_trips": draw(st.integers(2, 3)), "unknown_interval_days": draw(windows)},
    "recently_returned": lambda draw: {
        **three(draw),
        "by_reason": {"size": {f"same_{name}": draw(windows) for name in ("product", "style", "category")}},
    },
    "open_return": lambda draw: {f"same_{name}": draw(st.booleans()) for name in ("product", "style", "category")},
    "too_many_returns": lambda draw: {"share": draw(st.sampled_from([0.1, 0.5])), "orders": draw(st.integers(1, 3))},
    "recently_dismissed": window,
    "already_redeemed": lambda draw: {"kinds": draw(kinds)},
    "stock": lambda draw: {"minimum": draw(st.integers(1, 2))},
    "in_cart": lambda draw: {"lets_through": draw(kinds)},
    "reserve_in_store": lambda draw: {
        "max_km": draw(st.sampled_from([0, 10, 100])),
        "minimum": draw(st.integers(1, 2)),
    },
    "terms_conflict": window,
    "below_margin": lambda draw: {"minimum": draw(st.sampled_from([None, 0, 5])), "lets_through": draw(kinds)},
    "signals": lambda draw: {
        "profile": feed(draw, 100),
        "stock": feed(draw, 900),
        **{name: feed(draw, 3_600) for name in draw(st.lists(st.sampled_from(["cases", "consent"]), unique=True))},
    },
}
"""What may stand in each section of a rulebook."""


@st.composite
def books(draw: st.DrawFn) -> Rulebook:
    """Some sections as they may be, the others as they are where nothing is said."""
    changed = draw(st.lists(st.sampled_from(sorted(SECTIONS)), max_size=7, unique=True))
    return Rulebook.model_validate({name: SECTIONS[name](draw) for name in changed})


LIMITS: dict[str, list[float]] = {
    "orders": [0, 1],
    "days_since_order": [20, 60.5],
    "days_since_contact": [0.001, 7],
    "checkout_failed_hours": [24, 5_000],
    "orders_30d": [0.1, 0.5],
    "spend_365d": [0, 15],
    "gaps_overdue": [1, 2.5],
    "promotion_accept_rate": [0.09, 0.11, 0.3],
    "expected_orders_90d": [0.25, 1],
    "silence_chance_90d": [0.5, 0.9],
    "promises_overdue": [0, 1],
    "return_rate": [0.21],
}


@st.composite
def condition(draw: st.DrawFn, parts: int = 2) -> dict[str, Any]:
    """A condition over features that time alone may change, and over some that it does not."""
    kind = draw(st.sampled_from(["one", "one", "all", "any", "not"])) if parts else "one"
    if kind == "not":
        return {"not": draw(condition(0))}
    if kind != "one":
        return {kind: [draw(condition(0)) for _ in range(parts)]}
    name = draw(st.sampled_from(sorted(LIMITS)))
    sign = draw(st.sampled_from(["<", "<=", ">", ">="]))
    return {"field": name, "operator": sign, "value": draw(st.sampled_from(LIMITS[name]))}


@st.composite
def offers(draw: st.DrawFn, number: int) -> Offer:
    over = draw(st.sampled_from(["none", "products", "category"]))
    conditions = [None, None, None, None, {"field": "orders", "operator": ">=", "value": 1}]
    conditions += [{"not": {"field": "days_since_order", "operator": ">=", "value": 20}}]
    conditions += [draw(condition()) for _ in range(2)]
    pick = st.sampled_from
    return Offer(
        offer_id=f"offer-{number}",
        kind=draw(pick(OFFER_KINDS)),
        product_ids=tuple(draw(st.lists(products, min_size=1, max_size=3, unique=True))) if over == "products" else (),
        category=draw(pick(["shoes", "tables", "food", "none of ours"])) if over == "category" else None,
        channels=draw(pick([(), (), (), (), ("web", "app", "email"), ("store",)])),
        placements=draw(pick([(), (), (), (), (), ("home", "newsletter", "message"), ("cart",)])),
        markets=draw(pick([(), (), (), (), (), (), ("de",)])),
        valid_from=draw(pick([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, NOW, NOW + 5.0])),
        valid_until=draw(pick([*[NOW + 99 * DAY_S] * 7, NOW + 5.0])),
        eligibility=draw(pick(conditions)),
        value=Value(draw(pick([0.0, 10.0])), draw(pick([0.0, 1.0])), draw(pick([0.0, 5.0, 9.0]))),
        budget=draw(pick([*[None] * 8, Budget(5, 2), Budget(None, 1)])),
    )


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    made = [draw(offers(number)) for number in range(draw(st.integers(1, 6)))]
    return Catalog(PRODUCTS, LOCATIONS, {offer.offer_id: offer for offer in made})


def line(product_id: str, quantity: int = 1) -> dict[str, Any]:
    return {"product_id": product_id, "category": PRODUCTS[product_id].category, "quantity": quantity, "price": 10.0}


def order(draw: st.DrawFn, number: int, catalog: Catalog) -> dict[str, Any]:
    some = draw(st.lists(products, min_size=1, max_size=2))
    return {"order_id": f"o{number}", "products": [line(each, draw(st.integers(1, 2))) for each in some]}


def back(draw: st.DrawFn, number: int, catalog: Catalog) -> dict[str, Any]:
    reason, order_id = draw(st.sampled_from(REASONS)), draw(st.sampled_from(["r1", "r2"]))
    return {**order(draw, number, catalog), "order_id": order_id, "reason": reason}


def promise(draw: st.DrawFn, number: int, catalog: Catalog) -> dict[str, Any]:
    due = datetime.fromtimestamp(NOW + draw(st.sampled_from([-5.0, 0.0, 5.0])), UTC).isoformat()
    return {"promise_id": draw(st.sampled_from(["p1", "p2"])), "text": "x", "due": due}


def response(draw: st.DrawFn, number: int, catalog: Catalog) -> dict[str, Any]:
    offer = catalog.offers[draw(st.sampled_from(sorted(catalog.offers)))]
    said = {"response": draw(st.sampled_from(RESPONSES)), "discount": draw(st.sampled_from([0, 5]))}
    return {"offer_id": offer.offer_id, "offer_kind": offer.kind, "product_id": draw(products), **said}


def one_of(**values: list[str]) -> Callable[..., dict[str, Any]]:
    return lambda draw, *_: {name: draw(st.sampled_from(some)) for name, some in values.items()}


EVENTS: tuple[tuple[str, Callable[..., dict[str, Any]]], ...] = (
    ("Order Completed", order),
    ("Order Completed", order),
    ("Order Refunded", back),
    ("Return Requested", back),
    ("Support Case Opened", one_of(case_id=["c1", "c2"], reason=["x"])),
    ("Support Case Resolved", one_of(case_id=["c1", "c2"])),
    ("Promise Made", promise),
    ("Promise Kept", one_of(promise_id=["p1", "p2"])),
    ("Checkout Failed", one_of(reason=["x"])),
    ("Consent Updated", lambda draw, *_: {**draw(st.sampled_from(PURPOSES)), "granted": draw(st.booleans())}),
    ("Consent Updated", lambda *_: {"purpose": "marketing", "granted": True}),
    ("Product Added", lambda draw, *_: {"product_id": draw(products), "quantity": 1}),
    ("$identify", lambda draw, *_: {"traits": {"store_id": "berlin"}}),
    ("$identify", lambda draw, *_: {"traits": {"store_id": draw(st.sampled_from(HOMES))}}),
    ("Offer Responded", response),
    ("Offer Responded", response),
)
HOMES = ["berlin", "berlin", "sydney", "depot", "nowhere"]


@st.composite
def histories(draw: st.DrawFn, catalog: Catalog) -> list[Event]:
    """Anything that may happen to a customer in the last 120 days. Every order has an id of its own."""
    found = []
    if draw(st.booleans()):  # a shop of their own, and nothing else in the way as often as not
        found.append(Event("home", "$identify", NOW - 99 * DAY_S, NOW, "1", body={"traits": {"store_id": "berlin"}}))
    for number in range(draw(st.sampled_from([0, 0, 1, 2, 3, 5, 7, 9]))):
        days = draw(st.one_of(st.floats(0, 120), st.sampled_from([7, 30, 0.5, 0])))
        name, body = draw(st.sampled_from(EVENTS))
        channel = draw(st.sampled_from(["web", "email", "store"]))
        at = round(NOW - days * DAY_S, 3)
        found.append(Event(f"m{number}", name, at, NOW, "1", None, channel, None, body(draw, number, catalog)))
    return found


PURPOSES: list[dict[str, Any]] = [
    {"purpose": purpose, **where}
    for purpose in ("marketing", "personalisation", "profiling")
    for where in ({}, {"channel": "email"}, {"channel": "web"})
]
RESPONSES = ["shown", "clicked", "dismissed", "accepted"]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A customer, a shop and its rules, at the moment of a question."""
    catalog, book = draw(catalogs()), draw(books())
    events = draw(histories(catalog))
    now = NOW + draw(st.sampled_from([0.0, 0.5, 3_600.0 * 7, 3_600.0 * 14]))
    profile = profiles.fold_all(events) if events else None
    channel, placement = draw(st.sampled_from(PLACES))
    location_id = draw(st.sampled_from([None, "berlin"])) if channel == "store" else "online"
    location = LOCATIONS.get(location_id or "")
    ages = st.sampled_from([0.0, 0.0, 0.0, 50.0, 50.0, 900.0, 901.0, None])
    shops = {place: Shop(_heard(now, draw(ages)), shelf(draw, place, now)) for place in ("berlin", "potsdam", "depot")}
    facts = Facts(
        decision_id="law",
        now=now,
        customer_id="1",
        channel=channel,
        placement=placement,
        limit=20,
        location_id=location_id,
        market=location.market if location else None,
        product_id=draw(st.sampled_from([None, "boot"])),
        cart=tuple(draw(st.lists(products, max_size=1))),
        profile=profile,
        stock=shelf(draw, "here", now) if location_id else {},
        feeds={
            "profile": now - draw(st.sampled_from([0.0, 101.0])),
            "stock": _heard(now, draw(ages)),
            **{name: _heard(now, draw(st.sampled_from([0.0, 0.0, 3_601.0, None]))) for name in ("cases", "consent")},
        },
        shops=shops,
        used={offer_id: (draw(st.integers(0, 6)), draw(st.integers(0, 2))) for offer_id in catalog.budgeted},
    )
    return World(facts, events, book, catalog, profiles.derive(profile, now))


def _heard(now: float, age: float | None) -> float | None:
    return None if age is None else now - age


def shelf(draw: st.DrawFn, place: str, now: float) -> dict[str, Level]:
    return {p: Level(draw(st.integers(0, 3)), now, f"{place}-{p}") for p in PRODUCTS if draw(st.integers(0, 8))}
