"""The laws of the screen, over random customers, stock and moments on the shipped catalog."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import profiles
from features.affinity import Affinity, index_of
from features.catalog import load_catalog
from features.signals import Level
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace
from serving import rulebook, rules, screen
from serving.decide import Policy, answer, decide
from serving.facts import Facts
from serving.rules import Case
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
        return {s.offer.offer_id: (s.product_id, frozenset(s.reasons), s.retry_after) for s in screened(facts)}

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


@given(seen())
@settings(max_examples=60)
def test_at_its_retry_after_a_reason_is_gone_and_one_second_before_it_is_there(facts: Facts) -> None:
    def codes(at: float) -> dict[str, set]:
        moved = replace(facts, now=at)
        told = answer(decide(moved, POLICY))
        held = told["suppressed"] + told["passed_over"]
        return {(e["offer_id"], r["code"], r["rule"], r["evidence"]) for e in held for r in e["reasons"]}

    told = answer(decide(facts, POLICY))
    for each in told["suppressed"]:
        for reason in each["reasons"]:
            if reason["retry_after"] is not None:
                at = datetime.fromisoformat(reason["retry_after"]).timestamp()
                mine = (each["offer_id"], reason["code"], reason["rule"], reason["evidence"])
                assert mine not in codes(at)
                if at - 1 >= facts.now:
                    assert mine in codes(at - 1)


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
