"""The laws of the screen, over random customers, catalogs, rulebooks, stock and moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from itertools import product as product_of
from math import inf

import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import World
from worlds import LOCATIONS, NOW, PRODUCTS, line, worlds

from features import profiles
from features.affinity import Affinity, index_of
from features.budgets import day_of
from features.catalog import Catalog
from features.signals import Level
from features.vocabulary import DAY_S, OUTBOUND, Event, Offer, Product
from serving import rules, screen
from serving.decide import Policy, answer, decide
from serving.facts import Facts, moment
from serving.rulebook import Rulebook
from serving.rules import OFFER, PRODUCT, RULES, Case, Reason
from serving.rules.consent import allowed
from serving.rules.touched import TOUCHES, Touched
from serving.scoring import Models

Key = reference.Said


def case_of(world: World) -> Case:
    facts, personal = world.facts, allowed(world.facts, world.book, "personalisation")
    affinity = Affinity(facts.profile if personal else None, index_of(world.catalog), facts.now)
    return Case(facts, world.book, world.catalog, affinity, world.features, personal)


def screened(world: World) -> list[screen.Screened]:
    return screen.screen(case_of(world), list(world.catalog.offers.values()))


def at(world: World, now: float) -> World:
    """The same world at another time, nothing else having happened. A new day has used nothing of its budgets."""
    facts = world.facts
    used = {name: (total, today * (day_of(now) == day_of(facts.now))) for name, (total, today) in facts.used.items()}
    return replace(world, facts=replace(facts, now=now, used=used), features=profiles.derive(facts.profile, now))


def key(reason: Reason) -> Key:
    told = reason.observed, reason.limit, reason.retry_after, reason.evidence
    return reference.said(reason.code, reason.rule, *told)


def every(world: World, offer: Offer, product_id: str | None = None) -> set[Key]:
    """What all rules say of an offer, or of one of its products, each asked without further ado."""
    case = case_of(world)
    product = case.product(product_id) if product_id else None
    wanted = [rule for rule in RULES if (product is not None) is (rule.looks_at in (PRODUCT, rules.TERMS))]
    return {key(reason) for rule in wanted for reason in rules.applied_to(rule, case, offer, product)}


# ------------------------------------------------------------------------------------------------ the laws


@given(worlds())
@settings(max_examples=150)
def test_the_screen_agrees_with_a_naive_reference_on_every_reason_and_time(world: World) -> None:
    agrees(world)


@pytest.mark.prove
@given(worlds())
@settings(max_examples=10_000)
def test_ten_thousand_screens_agree_with_a_naive_reference(world: World) -> None:
    agrees(world)


def agrees(world: World) -> None:
    for came in screened(world):
        of_offer = set(reference.of_offer(world, came.offer))
        of_products = {
            product_id: set(reference.of_product(world, came.offer, world.product(product_id)))
            for product_id in world.catalog.products_of(came.offer)
        }
        if (came.offer.product_ids or came.offer.category) and not of_products:
            of_offer.add(reference.said("stock_unknown", "products", 0, 1))
        all_held = bool(of_products) and all(of_products.values())
        expected = of_offer.union(*of_products.values()) if all_held else of_offer
        assert {key(reason) for reason in came.reasons} == expected
        for product_id in of_products if all_held else ():  # told once for several products, each is named
            named = {key(r) for r in came.reasons if product_id in (r.product_ids or (r.product_id,))}
            assert named == of_products[product_id]
        assert came.retry_after == retry_after(of_offer, of_products if all_held else {})
        if came.open and of_products:
            open_ = [p for p in case_of(world).products_by_affinity(came.offer) if not of_products[p]]
            assert came.product_id == open_[0]
            sold_out = world.facts.stock[came.product_id].quantity < world.book.stock.minimum
            assert came.set_aside == (reference.shop_for(world, world.product(came.product_id)) if sold_out else None)
        for product_id, reasons in came.passed_over:
            assert {key(reason) for reason in reasons} == of_products[product_id]


def retry_after(of_offer: set[Key], of_products: Mapping[str, set[Key]]) -> float | None:
    """The latest of an offer's and of a product's reasons, the earliest over products; null if never by itself."""

    def latest(held: set[Key]) -> float:
        return max((inf if each[2] is None else each[2] for each in held), default=0.0)

    free = max(latest(of_offer), min((latest(held) for held in of_products.values()), default=0.0))
    return None if free in (0.0, inf) else free


@given(worlds())
@settings(max_examples=50)
def test_at_its_retry_after_a_reason_is_gone_and_one_second_before_it_is_there(world: World) -> None:
    def there(reason: Reason, offer: Offer, now: float) -> bool:
        later = at(world, now)
        said = every(later, offer, reason.product_id)
        return (reason.code, reason.rule, reason.evidence) in {(code, rule, proof) for code, rule, _, proof, *_ in said}

    for came in screened(world):
        for reason in came.reasons:
            if reason.retry_after is not None:
                told = datetime.fromisoformat(moment(reason.retry_after)).timestamp()
                assert not there(reason, came.offer, told)
                assert told - 1 < world.facts.now or there(reason, came.offer, told - 1)


@given(worlds())
@settings(max_examples=30)
def test_rules_that_are_not_asked_would_have_said_nothing(world: World) -> None:
    case = case_of(world)
    for came in screened(world):
        if came.offer.product_ids or came.offer.category:
            continue
        assert {key(reason) for reason in came.reasons} == every(world, came.offer)
    touched, offers = Touched(case), list(world.catalog.offers.values())
    for rule in RULES:
        if rule.looks_at == OFFER:
            about = rule.about(case)
            for offer in offers:
                needed = rule.needs is None or getattr(offer, rule.needs)
                if not needed or not rule.concerns(case) or (about is not None and offer.offer_id not in about):
                    assert list(rule.holds_back(case, offer)) == []
        elif rule.looks_at == PRODUCT:
            assert rule.concerns(case)  # what it needs says all
            for offer, product in ((o, case.product(p)) for o in offers for p in world.catalog.products_of(o)):
                if rule.needs is not None and not TOUCHES[rule.needs] & touched.by(product):
                    assert list(rule.holds_back(case, offer, product)) == []
        elif not rule.concerns(case):
            for offer in offers:
                for product_id in world.catalog.products_of(offer):
                    assert list(rules.applied_to(rule, case, offer, case.product(product_id))) == []


@given(worlds())
@settings(max_examples=40)
def test_the_products_that_a_customer_has_an_entry_of_are_the_same_whether_affinity_may_know_them_or_not(
    world: World,
) -> None:
    case, facts = case_of(world), world.facts
    index = index_of(world.catalog)
    offered = {p for offer in world.catalog.offers.values() for p in world.catalog.products_of(offer)}
    for profile in (facts.profile, None):
        asked = replace(case, affinity=Affinity(profile, index, facts.now))
        assert {p for p in offered if p in asked.met} == {p for p in offered if "p:" + p in facts.items}


@given(worlds())
@settings(max_examples=60)
def test_of_products_that_are_touched_alike_rules_say_the_same_but_for_the_product(world: World) -> None:
    case, said = case_of(world), dict[object, list[Reason]]()
    touched = Touched(case)
    for offer, product in product_of(world.catalog.offers.values(), PRODUCTS.values()):
        touches = touched.by(product)
        asked, alike = rules.table().of_product[touches]
        reasons = [r._replace(product_id=None) for rule in asked for r in rule(case, offer, product)]
        if alike:
            assert said.setdefault((offer.kind, product.category, product.replenishable, touches), reasons) == reasons


@given(worlds(), st.randoms())
@settings(max_examples=30)
def test_the_order_of_rules_never_matters(world: World, random) -> None:
    def told() -> dict:
        return {
            s.offer.offer_id: (s.product_id, frozenset(map(repr, s.reasons)), s.retry_after, s.set_aside)
            for s in screened(world)
        }

    before = told()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "RULES", tuple(random.sample(RULES, len(RULES))))
        assert told() == before


@given(worlds(), st.sampled_from(RULES))
@settings(max_examples=30)
def test_one_rule_more_never_opens_an_offer(world: World, left_out: rules.Rule) -> None:
    after = {s.offer.offer_id for s in screened(world) if s.open}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "RULES", tuple(rule for rule in RULES if rule is not left_out))
        assert after <= {s.offer.offer_id for s in screened(world) if s.open}


@given(worlds())
@settings(max_examples=30)
def test_nothing_is_shown_that_any_rule_holds_back(world: World) -> None:
    for shown in answer(decide(world.facts, Policy(world.catalog, world.book, Models())))["offers"]:
        offer = world.catalog.offers[shown["offer_id"]]
        assert every(world, offer) == set()
        if shown["product_id"] is not None:
            assert every(world, offer, shown["product_id"]) == set()


@given(worlds())
@settings(max_examples=30)
def test_consent_is_absolute(world: World) -> None:
    word = reference.word_on(world, "marketing")
    if world.facts.channel in OUTBOUND and not (word and word.body["granted"]):
        assert answer(decide(world.facts, Policy(world.catalog, world.book, Models())))["offers"] == []


@given(worlds())
@settings(max_examples=30)
def test_a_decision_says_of_every_offer_that_it_is_shown_or_why_not(world: World) -> None:
    decided = answer(decide(replace(world.facts, limit=20), Policy(world.catalog, world.book, Models())))
    shown = {offer["offer_id"] for offer in decided["offers"]}
    held = {each["offer_id"] for each in decided["suppressed"]}
    assert shown & held == set()
    assert all(each["reasons"] for each in decided["suppressed"])
    masked = set(world.catalog.offers) - shown - held
    taken = {offer["product_id"] for offer in decided["offers"]} | {
        world.product(offer["product_id"]).category for offer in decided["offers"] if offer["product_id"]
    }
    taken |= {world.catalog.offers[offer_id].category for offer_id in shown}
    for offer_id in masked:  # diversity alone: the same product, or enough of its category
        offer = world.catalog.offers[offer_id]
        about = {
            *world.catalog.products_of(offer),
            *(world.product(p).category for p in world.catalog.products_of(offer)),
        }
        assert (about | {offer.category}) & taken


def test_what_is_said_of_many_products_at_once_names_in_each_offer_its_own() -> None:
    """A category bought yesterday, nothing of it in the list of stock but `boot`; and both foods bought, one by one."""
    bought = [order(name, NOW - days * DAY_S, sku) for name, days, sku in (("a", 1, "sandal"), ("b", 2, "coffee"))]
    bought.append(order("c", NOW - DAY_S, "tea"))
    products = {**PRODUCTS, **{each: Product(each, each, "shoes") for each in ("sandal", "clog", "mule")}}
    about = {"one": ("clog", "boot", "mule"), "two": ("boot",), "three": ("clog", "table"), "foods": ("coffee", "tea")}
    offers = {name: Offer(name, "promotion", over, valid_until=NOW + 1.0) for name, over in about.items()}
    stock = {each: Level(3, NOW, "s") for each in ("boot", "table", "coffee", "tea")}
    facts = replace(quiet_day().facts, profile=profiles.fold_all(bought), stock=stock)
    world = World(facts, bought, Rulebook(), Catalog(products, LOCATIONS, offers), profiles.derive(facts.profile, NOW))
    one, two, three, foods = screened(world)
    named = [(r.code, r.product_id, r.product_ids) for r in one.reasons]
    every = [("recently_purchased", "clog", ("clog", "boot", "mule")), ("stock_unknown", "clog", ("clog", "mule"))]
    assert named == every
    assert [(r.code, r.product_id, r.product_ids) for r in two.reasons] == [("recently_purchased", "boot", ())]
    assert [(name, [r.product_id for r in held]) for name, held in three.passed_over] == [("clog", ["clog", "clog"])]
    assert {r.product_id: r.evidence for r in foods.reasons} == {"coffee": "b", "tea": "c"}


def order(name: str, at: float, product_id: str) -> Event:
    line = {"product_id": product_id, "category": "shoes", "quantity": 1, "price": 1.0}
    return Event(name, "Order Completed", at, at, "1", body={"order_id": name, "products": [line]})


def test_a_rule_that_fails_holds_its_offer_back_and_is_named() -> None:
    def broken(case, offer, product=None):
        raise KeyError("price")

    for looks_at in (OFFER, PRODUCT):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rules, "RULES", (rules.Rule("broken", broken, ("rule_error",), looks_at),))
            held = screened(quiet_day())[0].reasons
        assert {(reason.code, reason.rule, reason.observed) for reason in held} == {
            ("rule_error", "broken", "KeyError")
        }


def test_two_sizes_bought_in_one_order_are_one_reason_against_the_third() -> None:
    """The third stands once in it, however many of its sizes were bought."""
    offer = Offer("it", "promotion", ("shoe-43",), valid_until=NOW + 1.0)
    third = replace(PRODUCTS["shoe-42"], product_id="shoe-43")
    catalog = Catalog({**PRODUCTS, "shoe-43": third}, LOCATIONS, {"it": offer})
    lines = [line("shoe-41"), line("shoe-42")]
    order = Event("both", "Order Completed", NOW - 60.0, NOW, "1", body={"order_id": "o", "products": lines})
    world = quiet_day()
    facts = replace(world.facts, profile=profiles.fold_all([order]), stock={"shoe-43": Level(3, NOW, "s")})
    (held,) = screened(World(facts, [order], world.book, catalog, profiles.derive(facts.profile, NOW)))
    assert [(reason.rule, reason.product_id, reason.product_ids) for reason in held.reasons] == [
        ("same_style", "shoe-43", ()),
        ("same_category", "shoe-43", ()),
    ]


def quiet_day() -> World:
    """Nothing in the way of one offer over one product."""
    offer = Offer("it", "promotion", ("table",), valid_until=NOW + 1.0)
    catalog = Catalog(PRODUCTS, LOCATIONS, {"it": offer})
    stock = {"table": Level(3, NOW, "s")}
    feeds = {"profile": NOW, "stock": NOW}
    facts = Facts("x", NOW, "1", "web", "home", 20, "online", stock=stock, feeds=feeds)
    return World(facts, [], Rulebook(), catalog, profiles.derive(None, NOW))
