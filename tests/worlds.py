"""Random worlds for the laws of the screen: catalogs, rulebooks, histories, stock and moments, all small and unfair."""

from __future__ import annotations

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
PLACES = [("web", "home"), ("app", "cart"), ("email", "newsletter"), ("push", "message"), ("web", "agent")]
PLACES += [("call_centre", "agent"), ("store", "agent")]

products = st.sampled_from(sorted(PRODUCTS))
kinds = st.lists(st.sampled_from(OFFER_KINDS), max_size=3, unique=True)
windows = st.sampled_from([0, 0.5, 7, 30, 60])


def window(draw: st.DrawFn) -> dict[str, Any]:
    some = st.dictionaries(st.sampled_from(OFFER_KINDS[:3]), windows, max_size=2)
    own = st.dictionaries(st.sampled_from(["shoes", "food"]), windows, max_size=1)
    return {"days": draw(windows), "kinds": draw(some), "categories": draw(own)}


@st.composite
def books(draw: st.DrawFn) -> Rulebook:
    three = ("same_product", "same_style", "same_category")
    scopes = {name: draw(windows) for name in three}
    on_stale = st.sampled_from(["suppress", "allow", "degrade"])
    clock = st.sampled_from([0, 6 * 60, 8 * 60 + 30, 13 * 60, 21 * 60, 23 * 60 + 59])
    when = st.sampled_from(["until_refused", "when_granted"])
    return Rulebook.model_validate(
        {
            "timezone": draw(st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"])),
            "consent": {"personalisation": draw(when), "profiling": draw(when), "personal_kinds": draw(kinds)},
            "quiet_hours": {
                "start": draw(clock),
                "end": draw(clock),
                "rest_days": draw(st.lists(st.sampled_from(["thursday", "friday", "saturday"]), max_size=2)),
            },
            "open_case": {"lets_through": draw(kinds)},
            "promise_broken": {"lets_through": draw(kinds)},
            "checkout_failed": {"hours": draw(st.sampled_from([0, 24, 700])), "lets_through": draw(kinds)},
            "recently_purchased": {name: window(draw) for name in three},
            "replenishment": {"usual_trips": draw(st.integers(2, 3)), "unknown_interval_days": draw(windows)},
            "recently_returned": {**{name: window(draw) for name in three}, "by_reason": {"size": scopes}},
            "open_return": {name: draw(st.booleans()) for name in three},
            "too_many_returns": {"share": draw(st.sampled_from([0.1, 0.5])), "orders": 1, "lets_through": draw(kinds)},
            "recently_dismissed": window(draw),
            "already_redeemed": {"kinds": draw(kinds)},
            "stock": {"minimum": draw(st.integers(1, 2))},
            "reserve_in_store": {"max_km": draw(st.sampled_from([0, 10, 100])), "minimum": draw(st.integers(1, 2))},
            "terms_conflict": window(draw),
            "below_margin": {"minimum": draw(st.sampled_from([None, 0, 5])), "lets_through": draw(kinds)},
            "signals": {
                "profile": {"max_age_s": 100, "on_stale": draw(on_stale)},
                "stock": {"max_age_s": 900, "on_stale": draw(on_stale)},
            },
        }
    )


@st.composite
def offers(draw: st.DrawFn, number: int) -> Offer:
    over = draw(st.sampled_from(["none", "products", "category"]))
    conditions = [None, None, {"field": "orders", "operator": ">=", "value": 1}]
    conditions += [{"not": {"field": "days_since_order", "operator": ">=", "value": 20}}]
    pick = st.sampled_from
    return Offer(
        offer_id=f"offer-{number}",
        kind=draw(pick(OFFER_KINDS)),
        product_ids=tuple(draw(st.lists(products, min_size=1, max_size=3, unique=True))) if over == "products" else (),
        category=draw(pick(["shoes", "tables", "food", "none of ours"])) if over == "category" else None,
        channels=draw(pick([(), ("web", "app", "email"), ("store",)])),
        placements=draw(pick([(), (), ("home", "newsletter", "message")])),
        markets=draw(pick([(), (), (), ("de",)])),
        valid_from=draw(pick([0.0, 0.0, NOW, NOW + 5.0])),
        valid_until=draw(pick([NOW, NOW + 99 * DAY_S, NOW + 99 * DAY_S])),
        eligibility=draw(pick(conditions)),
        value=Value(draw(pick([0.0, 10.0])), draw(pick([0.0, 1.0])), draw(pick([0.0, 5.0, 9.0]))),
        budget=draw(pick([None, None, Budget(5, 2), Budget(None, 1)])),
    )


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    made = [draw(offers(number)) for number in range(draw(st.integers(1, 6)))]
    return Catalog(PRODUCTS, LOCATIONS, {offer.offer_id: offer for offer in made})


def line(product_id: str, quantity: int = 1) -> dict[str, Any]:
    return {"product_id": product_id, "category": PRODUCTS[product_id].category, "quantity": quantity, "price": 10.0}


@st.composite
def histories(draw: st.DrawFn, catalog: Catalog) -> list[Event]:
    """Anything that may happen to a customer in the last 120 days. Every order has an id of its own."""
    found, pick = [], st.sampled_from
    for number in range(draw(st.integers(0, 9))):
        at = round(NOW - draw(st.one_of(st.floats(0, 120), st.sampled_from([7, 30, 0.5, 0]))) * DAY_S, 3)
        some = [line(each, draw(st.integers(1, 2))) for each in draw(st.lists(products, min_size=1, max_size=2))]
        one = draw(products)
        due = datetime.fromtimestamp(NOW + draw(pick([-5.0, 0.0, 5.0])), UTC).isoformat()
        offer_id = draw(pick(sorted(catalog.offers)))
        returned = {"order_id": draw(pick(["r1", "r2"])), "products": some, "reason": draw(pick(REASONS))}
        response = {"offer_id": offer_id, "offer_kind": catalog.offers[offer_id].kind, "product_id": one}
        name, body = draw(
            pick(
                [
                    ("Order Completed", {"order_id": f"o{number}", "products": some}),
                    ("Order Completed", {"order_id": f"o{number}", "products": some}),
                    ("Order Refunded", returned),
                    ("Return Requested", returned),
                    ("Support Case Opened", {"case_id": draw(pick(["c1", "c2"])), "reason": "x"}),
                    ("Support Case Resolved", {"case_id": draw(pick(["c1", "c2"]))}),
                    ("Promise Made", {"promise_id": draw(pick(["p1", "p2"])), "text": "x", "due": due}),
                    ("Promise Kept", {"promise_id": draw(pick(["p1", "p2"]))}),
                    ("Checkout Failed", {"reason": "x"}),
                    ("Consent Updated", {**draw(pick(PURPOSES)), "granted": draw(st.booleans())}),
                    ("Consent Updated", {"purpose": "marketing", "granted": True}),
                    ("Product Added", {"product_id": one, "quantity": 1}),
                    ("$identify", {"traits": {"store_id": draw(pick(["berlin", "sydney", "depot", "nowhere"]))}}),
                    (
                        "Offer Responded",
                        {**response, "response": draw(pick(RESPONSES)), "discount": draw(pick([0, 5]))},
                    ),
                ]
            )
        )
        channel = draw(pick(["web", "email", "store"]))
        found.append(Event(f"m{number}", name, at, NOW, "1", None, channel, None, body))
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
    ages = st.sampled_from([0.0, 0.0, 50.0, 901.0, None])
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
        feeds={"profile": now - draw(st.sampled_from([0.0, 101.0])), "stock": _heard(now, draw(ages))},
        shops=shops,
        used={offer_id: (draw(st.integers(0, 6)), draw(st.integers(0, 2))) for offer_id in catalog.budgeted},
    )
    return World(facts, events, book, catalog, profiles.derive(profile, now))


def _heard(now: float, age: float | None) -> float | None:
    return None if age is None else now - age


def shelf(draw: st.DrawFn, place: str, now: float) -> dict[str, Level]:
    return {p: Level(draw(st.integers(0, 2)), now, f"{place}-{p}") for p in PRODUCTS if draw(st.integers(0, 4))}
