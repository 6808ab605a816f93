"""The laws of the screen, over random customers, stock and moments on the shipped catalog."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import profiles
from features.affinity import Affinity, index_of
from features.catalog import load_catalog
from features.signals import Level
from features.vocabulary import DAY_S, Event, Offer
from features.workspace import Workspace
from serving import rulebook, rules, screen
from serving.decide import Policy, answer, decide
from serving.facts import Facts, moment
from serving.rules import Case, Reason
from serving.scoring import Models

NOW = 1_795_000_000.0
SHIPPED = Workspace(Path("no-such-workspace"))
CATALOG = load_catalog(SHIPPED)
BOOK = rulebook.load(SHIPPED.file("rulebook.yaml"))
POLICY = Policy(CATALOG, BOOK, Models())
PRODUCTS = sorted(CATALOG.products)


@st.composite
def seen(draw: st.DrawFn) -> Facts:
    """Anything that a decision may see: purchases and returns at any time, any stock, any channel, stale feeds."""
    events = []
    for number in range(draw(st.integers(0, 6))):
        name = draw(st.sampled_from(["Order Completed", "Order Completed", "Order Refunded", "Return Requested"]))
        product = CATALOG.products[draw(st.sampled_from(PRODUCTS))]
        line = {"product_id": product.product_id, "category": product.category, "quantity": 1, "price": product.price}
        at = NOW - draw(st.floats(0, 120)) * DAY_S
        body = {"order_id": draw(st.sampled_from(["o1", "o2"])), "products": [line]}
        events.append(Event(f"m{number}", name, round(at, 3), NOW, "1", None, "web", None, body))
    levels = {p: Level(draw(st.integers(0, 2)), NOW, f"s-{p}") for p in PRODUCTS if draw(st.integers(0, 5))}
    channel, placement = draw(
        st.sampled_from([("web", "home"), ("app", "cart"), ("email", "newsletter"), ("web", "agent")])
    )
    return Facts(
        decision_id="law",
        now=NOW,
        customer_id="1",
        channel=channel,
        placement=placement,
        limit=20,
        location_id="online",
        cart=tuple(draw(st.lists(st.sampled_from(PRODUCTS), max_size=2))),
        profile=profiles.fold_all(events) if events else None,
        stock=levels,
        feeds={"profile": NOW, "stock": draw(st.sampled_from([None, NOW, NOW - 901]))},
    )


def case_of(facts: Facts) -> Case:
    affinity = Affinity(facts.profile, index_of(CATALOG), facts.now)
    return Case(facts, BOOK, CATALOG, affinity, profiles.derive(facts.profile, facts.now))


def screened(facts: Facts) -> list[screen.Screened]:
    return screen.screen(case_of(facts), CATALOG.candidates(facts.channel, facts.placement))


@given(seen())
def test_rules_that_are_not_asked_would_have_said_nothing(facts: Facts) -> None:
    case = case_of(facts)
    for offer in CATALOG.offers.values():
        for product_id in CATALOG.products_of(offer):
            product = case.product(product_id)
            every = {reason for rule in rules.PRODUCT_RULES for reason in rule(case, offer, product)}
            asked = {reason for rule in rules.rules_for(case, product) for reason in rule(case, offer, product)}
            assert asked == every
        for field, rule in rules.OFFER_RULES:
            if field is not None and not getattr(offer, field):
                assert list(rule(case, offer)) == []


@given(seen(), st.randoms())
def test_the_order_of_rules_never_matters(facts: Facts, random) -> None:
    def told() -> dict:
        return {
            s.offer.offer_id: (s.product_id, frozenset(map(repr, s.reasons)), s.retry_after) for s in screened(facts)
        }

    before = told()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OFFER_RULES", "MOMENT_RULES", "IF_HELD", "IF_CATEGORY_HELD"):
            patch.setattr(rules, name, tuple(random.sample(getattr(rules, name), len(getattr(rules, name)))))
        assert told() == before


@given(seen())
def test_one_more_rule_never_opens_an_offer(facts: Facts) -> None:
    def never(case, offer):
        yield rules.Reason("not_eligible", "never", None, None)

    before = {s.offer.offer_id for s in screened(facts) if s.open}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "MOMENT_RULES", (*rules.MOMENT_RULES, never))
        assert {s.offer.offer_id for s in screened(facts) if s.open} <= before


@given(seen())
def test_nothing_is_shown_that_any_rule_holds_back(facts: Facts) -> None:
    case = case_of(facts)
    for shown in answer(decide(facts, POLICY))["offers"]:
        offer = CATALOG.offers[shown["offer_id"]]
        applied = [rule for _, rule in rules.OFFER_RULES] + list(rules.MOMENT_RULES)
        assert [reason for rule in applied for reason in rule(case, offer)] == []
        if shown["product_id"] is not None:
            product = CATALOG.products[shown["product_id"]]
            assert [reason for rule in rules.PRODUCT_RULES for reason in rule(case, offer, product)] == []


def plainly(facts: Facts, offer: Offer) -> tuple[list[Reason], dict[str, list[Reason]]]:
    """The reference: every rule asked of the offer, and of every one of its products."""
    case = case_of(facts)
    of_offer = [
        r for rule in [rule for _, rule in rules.OFFER_RULES] + list(rules.MOMENT_RULES) for r in rule(case, offer)
    ]
    products = [case.product(product_id) for product_id in CATALOG.products_of(offer)]
    of_products = {p.product_id: [r for rule in rules.PRODUCT_RULES for r in rule(case, offer, p)] for p in products}
    return of_offer, of_products


def latest(reasons: list[Reason]) -> float:
    return max(inf if reason.retry_after is None else reason.retry_after for reason in reasons)


def kind_of(reason: Reason) -> tuple:
    return (reason.code, reason.rule, str(reason.observed), reason.retry_after, reason.evidence)


@given(seen())
def test_the_screen_agrees_with_a_plain_reference_on_every_reason_and_time(facts: Facts) -> None:
    for came in screened(facts):
        of_offer, of_products = plainly(facts, came.offer)
        all_held = bool(of_products) and all(of_products.values())
        assert came.open == (not of_offer and not all_held)
        expected = [*of_offer, *(r for held in of_products.values() for r in held if all_held)]
        assert {kind_of(r) for r in came.reasons} == {kind_of(r) for r in expected}
        if expected:
            parts = [latest(of_offer)] if of_offer else []
            parts += [min(latest(held) for held in of_products.values())] if all_held else []
            assert came.retry_after == (None if max(parts) == inf else max(parts))
        assert all(
            list(reasons) == of_products[product_id]
            or set(map(kind_of, reasons)) == set(map(kind_of, of_products[product_id]))
            for product_id, reasons in came.passed_over
        )


@given(seen())
@settings(max_examples=60)
def test_at_its_retry_after_a_reason_is_gone_and_one_second_before_it_is_there(facts: Facts) -> None:
    def there(reason: Reason, offer: Offer, at: float) -> bool:
        of_offer, of_products = plainly(replace(facts, now=at), offer)
        now = [*of_offer, *of_products.get(reason.product_id or "", ())]
        return (reason.code, reason.rule, reason.evidence) in {(r.code, r.rule, r.evidence) for r in now}

    for came in screened(facts):
        for reason in came.reasons:
            if reason.retry_after is not None:
                told = datetime.fromisoformat(moment(reason.retry_after)).timestamp()
                assert not there(reason, came.offer, told)
                assert told - 1 < facts.now or there(reason, came.offer, told - 1)


def test_a_rule_that_fails_holds_its_offer_back_and_is_named() -> None:
    def broken(case, offer, product):
        raise KeyError("price")

    facts = Facts("x", NOW, "1", "web", "home", 20, "online", feeds={"profile": NOW, "stock": NOW})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "ALWAYS", (broken,))
        held = {s.offer.offer_id: s.reasons for s in screened(facts)}
    assert {reason.code for reason in held["coffee-again"]} == {"rule_error"}
    assert held["coffee-again"][0].rule == "broken"
    assert held["join-the-club"] == ()
