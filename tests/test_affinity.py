"""Customer × offer features: what they say, and that an offer's row never depends on the others asked for."""

from __future__ import annotations

import math
from typing import Any

import market
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import profiles
from features.affinity import AFFINITY_FEATURES, Affinity, affinities, best_products, index_of, offer_features
from features.catalog import Catalog
from features.offer_index import OFFER_FEATURES
from features.pairs import PAIR_COLUMNS, pair_rows
from features.profiles import FEATURES, Profile, derive
from features.vocabulary import DAY_S, Event, Offer, Product

NOON = 1_790_000_000.0
PRODUCTS = {
    product_id: Product(product_id, product_id, category, price=price, manufacturer=maker, brand=brand)
    for product_id, category, price, maker, brand in [
        ("rye", "bread", 2.0, "mill", "own"),
        ("oat", "bread", 4.0, "mill", "own"),
        ("brie", "cheese", 6.0, "dairy", "national"),
        ("soap", "home", 3.0, "dairy", "national"),
        ("odd", None, 1.0, None, None),
    ]
}
OFFERS = {
    offer.offer_id: offer
    for offer in [
        Offer("bread", "promotion", ("oat", "rye"), group="g"),
        Offer("brie", "promotion", ("brie",), group="g"),
        Offer("cheese", "cross_sell", category="cheese"),
        Offer("odd", "cross_sell", ("odd", "gone")),
        Offer("nothing", "loyalty"),
    ]
}
CATALOG = Catalog(PRODUCTS, {}, OFFERS)


def bought(*lines: tuple[str, float], spend: float = 2.0) -> Profile:
    """One order per `(product, days ago)`."""
    events = []
    for number, (product_id, days) in enumerate(lines):
        category = PRODUCTS[product_id].category if product_id in PRODUCTS else None
        line: dict[str, Any] = {"product_id": product_id, "quantity": 1, "price": spend, "category": category}
        at = NOON - days * DAY_S
        events.append(Event(f"m{number}", "Order Completed", at, at, "c", body={"products": [line]}))
    return profiles.fold_all(events)


def row(profile: Profile | None, offer_id: str, as_of: float = NOON) -> dict[str, float]:
    values = affinities(profile, CATALOG, as_of, [OFFERS[offer_id]])[0]
    return dict(zip(AFFINITY_FEATURES, values.tolist(), strict=True))


def test_own_purchases_count_by_trip_and_decay_with_ninety_days() -> None:
    found = row(bought(("rye", 90), ("rye", 0), ("oat", 90)), "bread")
    assert found["own_trips"] == 3.0
    assert found["own_trips_90d"] == pytest.approx(2.0)  # 1 + ½ for rye, ½ for oat
    assert found["own_trips_top"] == pytest.approx(1.5)
    assert found["own_spend_90d"] == pytest.approx(4.0)
    assert (found["own_products"], found["own_days_since"]) == (2.0, 0.0)
    assert found["own_share"] == pytest.approx(1.0)


def test_what_was_bought_of_the_same_category_maker_or_brand_counts_apart_from_own_products() -> None:
    found = row(bought(("soap", 9)), "brie")
    assert (found["own_trips"], found["category_trips_90d"]) == (0.0, 0.0)
    assert math.isnan(found["own_days_since"]) and math.isnan(found["category_days_since"])
    assert found["manufacturer_share"] == pytest.approx(1.0) == found["brand_fit"]
    assert found["kin_trips_90d"] == 0.0
    near = row(bought(("oat", 9), ("rye", 9)), "bread")
    assert near["kin_trips_90d"] == near["manufacturer_trips_90d"] == near["own_trips_90d"]


def test_an_offer_over_a_category_is_over_all_its_products() -> None:
    profile = bought(("brie", 3))
    own = [name for name in AFFINITY_FEATURES if name.startswith("own")]
    assert [row(profile, "cheese")[name] for name in own] == [row(profile, "brie")[name] for name in own]


def test_of_an_unknown_customer_nothing_is_known() -> None:
    assert np.isnan(affinities(None, CATALOG, NOON, list(OFFERS.values()))).all()
    assert np.isnan(affinities(profiles.empty(), CATALOG, NOON, list(OFFERS.values()))).all()


def test_a_product_that_the_catalog_does_not_know_and_an_offer_without_products_harm_nothing() -> None:
    found = row(bought(("gone", 1), ("never listed", 1), ("odd", 1)), "odd")
    assert (found["own_trips"], found["brand_fit"]) == (2.0, 0.0)
    assert row(bought(("rye", 1)), "nothing")["own_trips"] == 0.0


def test_a_return_before_any_purchase_is_no_trip() -> None:
    refund = Event("r", "Order Refunded", NOON - 5, NOON - 5, "c", body={"products": [{"product_id": "rye"}]})
    found = row(profiles.fold_all([refund]), "bread")
    assert (found["own_trips"], found["own_products"]) == (0.0, 0.0)
    assert math.isnan(found["own_days_since"])


def test_products_come_in_the_order_of_affinity_then_as_the_offer_lists_them() -> None:
    assert list(best_products(bought(("rye", 1)), CATALOG, OFFERS["bread"], NOON)) == ["rye", "oat"]
    assert list(best_products(None, CATALOG, OFFERS["bread"], NOON)) == ["oat", "rye"]
    assert list(best_products(bought(("rye", 9), ("oat", 1)), CATALOG, OFFERS["bread"], NOON)) == ["oat", "rye"]
    assert list(best_products(None, CATALOG, OFFERS["nothing"], NOON)) == []


def test_what_an_offer_is_like_needs_no_customer() -> None:
    found = dict(zip(OFFER_FEATURES, offer_features([OFFERS["bread"]], CATALOG)[0].tolist(), strict=True))
    assert found["offer_products"] == math.log1p(2) == found["offer_group_size"]
    assert found["offer_price"] == pytest.approx(math.log1p(3.0))
    assert (found["offer_is_promotion"], found["offer_is_cross_sell"]) == (1.0, 0.0)


def test_a_row_of_pairs_is_customer_both_offer_and_moment() -> None:
    profile, index = bought(("rye", 1)), index_of(CATALOG)
    customer = derive(profile, NOON)
    rows = pair_rows(customer.values(), Affinity(profile, index, NOON), index, [OFFERS["bread"]], "web", "home")
    found = dict(zip(PAIR_COLUMNS, rows[0].tolist(), strict=True))
    assert found["orders"] == customer["orders"] and list(found)[: len(FEATURES)] == list(FEATURES)
    assert found["own_trips"] == 1.0
    assert (found["channel_web"], found["channel_app"], found["placement_home"]) == (1.0, 0.0, 1.0)


MARKET = market.catalog()
EVENTS = list(market.history())
BY_CUSTOMER = {f"c{n:03}": [e for e in EVENTS if e.user_id == f"c{n:03}"] for n in range(5)}


@given(
    st.sampled_from(sorted(BY_CUSTOMER)),
    st.lists(st.sampled_from(sorted(MARKET.offers)), max_size=6),
    st.floats(0, 400),
)
def test_a_row_has_the_same_bits_whichever_offers_are_asked_for(customer: str, names: list[str], later: float) -> None:
    profile = profiles.fold_all(BY_CUSTOMER[customer])
    as_of = market.END + later * DAY_S
    every = dict(zip(MARKET.offers, affinities(profile, MARKET, as_of, list(MARKET.offers.values())), strict=True))
    some = affinities(profile, MARKET, as_of, [MARKET.offers[name] for name in names])
    for name, values in zip(names, some, strict=True):
        assert values.tobytes() == every[name].tobytes()


@given(st.sampled_from(sorted(BY_CUSTOMER)), st.randoms(use_true_random=False))
def test_a_row_has_the_same_bits_whatever_the_order_of_the_entries(customer: str, random: Any) -> None:
    profile = profiles.fold_all(BY_CUSTOMER[customer])
    shuffled = list(profile.items.items())
    random.shuffle(shuffled)
    other = Profile(profile.state, dict(shuffled))
    every = list(MARKET.offers.values())
    assert (
        affinities(profile, MARKET, market.END, every).tobytes()
        == affinities(other, MARKET, market.END, every).tobytes()
    )


def test_a_row_has_the_same_bits_whatever_else_is_in_the_catalog() -> None:
    profile = profiles.fold_all(BY_CUSTOMER["c001"])
    name, offer = next(iter(MARKET.offers.items()))
    group = {key: each for key, each in MARKET.offers.items() if each.group == offer.group}
    alone = affinities(profile, Catalog(market.PRODUCTS, {}, group), market.END, [offer])
    assert alone.tobytes() == affinities(profile, MARKET, market.END, [MARKET.offers[name]]).tobytes()
