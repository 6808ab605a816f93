"""Which of the open offers are shown, in which order, and with what probability."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.vocabulary import Offer
from serving.arbitration import Scored, rank, ranked
from serving.rulebook import Arbitration
from serving.worth import ORDINARY, Context, Worth


def worth(value):
    return Worth(margin=value, return_risk=None, discount=0.0, baseline_propensity=None, cost=0.0)


def scored(offer_id, propensity=0.1, value=1.0, category=None, lever=1.0, group=None, fallback=(), exponent=1.0):
    offer = Offer(offer_id, "promotion", lever=lever, exclusive_group=group, fallback=frozenset(fallback))
    return Scored(offer, f"product-of-{offer_id}", category, propensity, worth(value), ORDINARY, exponent)


def shown(ranking):
    return [ranked.scored.offer.offer_id for ranked in ranking.shown]


def test_priority_is_the_product_of_its_factors():
    one = Scored(Offer("a", "promotion", lever=1.5), None, None, 0.2, worth(10.0), Context(1.5, churn=0.5))
    assert one.priority == pytest.approx(6.0)


def test_the_exponent_says_how_much_the_propensity_counts():
    assert scored("a", 0.2, 10.0, exponent=2.0).priority == pytest.approx(0.4)
    assert scored("a", 0.2, 10.0, exponent=0.0).priority == pytest.approx(10.0)


def test_the_value_is_what_is_left_after_returns_discounts_and_costs():
    one = Worth(margin=100.0, return_risk=0.25, discount=10.0, baseline_propensity=0.5, cost=1.0)
    assert one.value == pytest.approx(100 * 0.75 - 10 * 1.5 - 1)


@given(st.floats(0, 100), st.floats(0, 1), st.floats(0, 100), st.floats(0, 1), st.floats(0, 1))
def test_the_value_never_rises_with_returns_discounts_or_those_who_would_have_bought_anyway(
    margin, risk, discount, baseline, more
):
    one = Worth(margin, risk, discount, baseline, 0.0)
    for other in (
        Worth(margin, min(1.0, risk + more), discount, baseline, 0.0),
        Worth(margin, risk, discount + more, baseline, 0.0),
        Worth(margin, risk, discount, min(1.0, baseline + more), 0.0),
    ):
        assert other.value <= one.value + 1e-9


def test_a_fallback_offer_is_shown_only_where_nothing_else_is():
    plain, default = scored("a", value=0.01), scored("z", value=9.0, fallback=["home"])
    assert shown(ranked([plain, default], Arbitration(), "home", 3, "s")) == ["a"]
    assert shown(ranked([plain, default], Arbitration(), "cart", 3, "s")) == ["z", "a"]
    below = ranked([plain, default], Arbitration(floor=5.0), "home", 3, "s")
    assert (shown(below), below.by_default) == (["z"], True)
    assert [s.offer.offer_id for s in below.below_floor] == ["a"]


def test_the_floor_does_not_hold_for_a_fallback_offer():
    poor = ranked([scored("z", value=0.1, fallback=["home"])], Arbitration(floor=5.0), "home", 3, "s")
    assert (shown(poor), poor.below_floor, poor.by_default) == (["z"], (), True)


def test_without_a_model_value_alone_orders():
    assert shown(rank([scored("a", None, 1.0), scored("b", None, 2.0)], Arbitration(), 3, "s")) == ["b", "a"]


def test_ties_are_broken_by_id():
    assert shown(rank([scored("b"), scored("a"), scored("c")], Arbitration(), 2, "s")) == ["a", "b"]


def test_what_lies_below_the_floor_is_not_shown_and_named():
    ranking = rank([scored("a", value=0.5), scored("b", value=5.0)], Arbitration(floor=0.1), 3, "s")
    assert shown(ranking) == ["b"]
    assert [s.offer.offer_id for s in ranking.below_floor] == ["a"]


def test_of_an_exclusive_group_one_is_shown_and_the_others_name_it():
    ranking = rank([scored("a", group="g"), scored("b", value=2.0, group="g"), scored("c")], Arbitration(), 3, "s")
    assert shown(ranking) == ["b", "c"]
    assert [(s.offer.offer_id, by) for s, by in ranking.excluded] == [("a", "b")]


def test_the_others_of_a_group_are_named_whatever_else_would_have_masked_them():
    among = [
        scored("a", value=3.0, group="g"),
        replace(scored("b", value=2.0, group="g"), product_id="product-of-a"),
        scored("c", value=1.0, category="x", group="g"),
        scored("z", value=9.0, category="x"),
    ]
    ranking = rank(among, Arbitration(per_category=1), 2, "s")
    assert shown(ranking) == ["z", "a"]
    assert [(s.offer.offer_id, by) for s, by in ranking.excluded] == [("b", "a"), ("c", "a")]


def test_a_category_fills_at_most_its_share():
    many = [scored(name, category="yogurt") for name in "abcd"]
    assert shown(rank([*many, scored("z", value=0.1)], Arbitration(per_category=2), 5, "s")) == ["a", "b", "z"]


def test_a_product_is_shown_once_however_many_offers_it_has():
    twice = [
        Scored(Offer(name, "promotion"), "milk", None, 0.1, worth(value), ORDINARY)
        for name, value in (("a", 1.0), ("b", 2.0))
    ]
    assert shown(rank([*twice, scored("c", value=0.5)], Arbitration(), 3, "s")) == ["b", "c"]


def test_nothing_explored_means_certainty():
    ranking = rank([scored("a"), scored("b")], Arbitration(), 2, "s")
    assert [r.selection_probability for r in ranking.shown] == [1.0, 1.0]


@given(st.integers(2, 6), st.floats(0.05, 1.0))
def test_the_share_of_choices_is_the_logged_probability(count, exploration):
    offers = [scored(f"offer-{number}", value=10.0 - number) for number in range(count)]
    book = Arbitration(exploration=exploration)
    tries = 400
    firsts = [rank(offers, book, 1, f"seed-{number}").shown[0] for number in range(tries)]
    for offer in offers:
        mine = [r for r in firsts if r.scored.offer is offer.offer]
        if mine:
            probability = mine[0].selection_probability
            assert {r.selection_probability for r in mine} == {probability}
            assert len(mine) / tries == pytest.approx(probability, abs=0.13)


def test_the_same_seed_draws_the_same():
    offers = [scored(name) for name in "abcdef"]
    book = Arbitration(exploration=0.9)
    assert shown(rank(offers, book, 3, "seed")) == shown(rank(offers[::-1], book, 3, "seed"))
