"""Labels: what counts as yes, when a window has closed, and that nothing heard of later is used."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.vocabulary import DAY_S
from training.labels import (
    CHURN_HORIZON_DAYS,
    RETURN_DAYS,
    SHOWN_DAYS,
    churn_cuts,
    churn_labels,
    propensity_labels,
    return_labels,
)

T = 1_790_000_000.0
START, OVER = T - 60 * DAY_S, T - 30 * DAY_S


def frame(columns: str, *rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=columns.split())


OFFERS = frame("offer_id group valid_until", ("a", "g", OVER), ("b", "g", OVER), ("alone", None, T + DAY_S))
NOT_SHOWN = frame("customer_id offer_id at known_at channel placement")
NOT_SENT = frame("customer_id group at known_at")


def sent(*rows: tuple[str, float]) -> pd.DataFrame:
    return frame("customer_id group at known_at", *((c, "g", at, at) for c, at in rows))


def accepted(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return frame("customer_id offer_id at known_at", *rows)


def labels_of(found: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(row.customer_id, row.offer_id): row.label for row in found.itertuples()}


def test_a_campaign_sent_exposes_the_customer_to_each_of_its_offers() -> None:
    answers = accepted(("c", "b", START + DAY_S, START + DAY_S))
    found = propensity_labels(sent(("c", START)), NOT_SHOWN, answers, OFFERS, T)
    assert labels_of(found) == {("c", "a"): 0.0, ("c", "b"): 1.0}
    assert set(found["as_of"]) == {START}


@pytest.mark.parametrize(
    ("at", "label"),
    [(START - 1, 0.0), (START, 1.0), (OVER, 1.0), (OVER + 1, 0.0)],
    ids=["before the exposure", "at once", "in the last second", "too late"],
)
def test_an_acceptance_counts_from_the_exposure_to_the_end_of_the_offer(at: float, label: float) -> None:
    found = propensity_labels(sent(("c", START)), NOT_SHOWN, accepted(("c", "a", at, at)), OFFERS, T)
    assert labels_of(found)["c", "a"] == label


def test_a_window_that_is_still_open_gives_no_label() -> None:
    none = propensity_labels(sent(("c", START)), NOT_SHOWN, accepted(), OFFERS, OVER - 1)
    some = propensity_labels(sent(("c", START)), NOT_SHOWN, accepted(), OFFERS, OVER)
    assert (len(none), len(some)) == (0, 2)


def test_an_acceptance_heard_of_after_as_of_is_not_known() -> None:
    late = accepted(("c", "a", OVER, T + 1))
    assert labels_of(propensity_labels(sent(("c", START)), NOT_SHOWN, late, OFFERS, T))["c", "a"] == 0.0
    assert labels_of(propensity_labels(sent(("c", START)), NOT_SHOWN, late, OFFERS, T + 1))["c", "a"] == 1.0


def test_an_offer_shown_in_a_channel_closes_after_ninety_days_and_keeps_its_place() -> None:
    at = T - SHOWN_DAYS * DAY_S
    shown = frame("customer_id offer_id at known_at channel placement", ("c", "alone", at, at, "web", "home"))
    assert not len(propensity_labels(NOT_SENT, shown, accepted(), OFFERS, T - 1))
    found = propensity_labels(NOT_SENT, shown, accepted(("c", "alone", at + 5, at + 5)), OFFERS, T)
    assert found[["channel", "placement", "label"]].to_numpy().tolist() == [["web", "home", 1.0]]


def test_of_several_exposures_to_one_offer_the_first_counts() -> None:
    found = propensity_labels(sent(("c", START + 9), ("c", START)), NOT_SHOWN, accepted(), OFFERS, T)
    assert found["as_of"].tolist() == [START, START]


def test_nobody_exposed_gives_no_rows() -> None:
    assert not len(propensity_labels(NOT_SENT, NOT_SHOWN, accepted(), OFFERS, T))


def orders(*rows: tuple[str, float]) -> pd.DataFrame:
    return frame("customer_id at known_at", *((c, at, at) for c, at in rows)).assign(void_at=math.inf)


def churned(found: pd.DataFrame) -> dict[str, float]:
    return dict(zip(found["customer_id"], found["label"], strict=True))


def test_who_orders_nothing_in_the_ninety_days_after_the_cut_has_churned() -> None:
    cut = T - CHURN_HORIZON_DAYS * DAY_S
    known = orders(("stays", cut), ("stays", cut + 1), ("goes", cut), ("late", cut), ("late", T + 1))
    assert churned(churn_labels(known, [cut], T)) == {"stays": 0.0, "goes": 1.0, "late": 1.0}


def test_a_cancelled_order_is_no_sign_of_staying_and_asks_about_nobody_once_that_is_known() -> None:
    cut = T - CHURN_HORIZON_DAYS * DAY_S
    known = orders(*((who, at) for who in ("goes", "stays", "unknown") for at in (cut, cut + 1)), ("gone", cut - 1))
    known["void_at"] = [math.inf, T, math.inf, T + 1, cut + 1, math.inf, cut]
    assert churned(churn_labels(known, [cut], T)) == {"goes": 1.0, "stays": 0.0, "unknown": 0.0}


def test_only_who_ordered_in_the_180_days_before_the_cut_is_asked_about() -> None:
    cut = T - 100 * DAY_S
    known = orders(("in", cut - 180 * DAY_S + 1), ("out", cut - 180 * DAY_S), ("after", cut + 1))
    assert churned(churn_labels(known, [cut], T)) == {"in": 1.0}


def test_a_cut_whose_ninety_days_have_not_passed_gives_no_rows() -> None:
    cut = T - 90 * DAY_S
    assert len(churn_labels(orders(("c", cut)), [cut], T)) == 1
    assert len(churn_labels(orders(("c", cut)), [cut], T - 1)) == 0


def test_cut_points_are_the_newest_that_are_known_and_have_a_past() -> None:
    cuts = churn_cuts(T - 200 * DAY_S, T)
    assert [round((T - cut) / DAY_S) for cut in cuts] == [120, 90]
    assert len(churn_cuts(T - 2000 * DAY_S, T)) == 6
    assert churn_cuts(T - 80 * DAY_S, T) == []


WINDOW_S = RETURN_DAYS * DAY_S
BOUGHT = T - WINDOW_S


def lines(*rows: tuple[str, str, float]) -> pd.DataFrame:
    made = [("c", order, product, at, at, 1.0, 2.0) for order, product, at in rows]
    return frame("customer_id order_id product_id at known_at quantity price", *made)


def returned(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return frame("customer_id order_id product_id at known_at", *rows).astype({"at": float, "known_at": float})


@pytest.mark.parametrize(
    ("at", "label"),
    [(BOUGHT - 1, 0.0), (BOUGHT, 1.0), (BOUGHT + WINDOW_S, 1.0), (BOUGHT + WINDOW_S + 1, 0.0)],
    ids=["before the purchase", "at once", "in the last second", "too late"],
)
def test_a_line_is_returned_that_comes_back_within_sixty_days_of_the_purchase(at: float, label: float) -> None:
    found = return_labels(lines(("o", "tea", BOUGHT)), returned(("c", "o", "tea", at, at)), T + 9)
    assert found[["as_of", "label"]].to_numpy().tolist() == [[BOUGHT, label]]


@pytest.mark.parametrize("of", [("d", "o", "tea"), ("c", "p", "tea"), ("c", "o", "pot")])
def test_what_comes_back_of_another_customer_order_or_product_labels_nothing(of: tuple[str, str, str]) -> None:
    assert return_labels(lines(("o", "tea", BOUGHT)), returned((*of, T, T)), T)["label"].tolist() == [0.0]


def test_a_line_whose_sixty_days_have_not_passed_has_no_label() -> None:
    back = returned(("c", "o", "tea", BOUGHT, BOUGHT))
    assert [len(return_labels(lines(("o", "tea", BOUGHT)), back, moment)) for moment in (T - 1, T)] == [0, 1]


def test_a_return_heard_of_after_as_of_is_not_known() -> None:
    late = returned(("c", "o", "tea", BOUGHT, T + 1))
    assert [return_labels(lines(("o", "tea", BOUGHT)), late, t)["label"].sum() for t in (T, T + 1)] == [0.0, 1.0]


times = st.integers(-200, 200).map(lambda day: T + day * DAY_S)
events = st.lists(st.tuples(st.sampled_from("cd"), st.sampled_from("ab"), times, times), max_size=8)


@given(events, st.lists(st.tuples(st.sampled_from("cd"), times), max_size=4))
def test_what_is_heard_of_after_as_of_changes_no_label(
    answers: list[tuple[str, str, float, float]], sends: list[tuple[str, float]]
) -> None:
    everything = accepted(*((c, o, min(at, known), max(at, known)) for c, o, at, known in answers))
    now = propensity_labels(sent(*sends), NOT_SHOWN, everything, OFFERS, T)
    known = everything[everything["known_at"] <= T]
    before = propensity_labels(sent(*(s for s in sends if s[1] <= T)), NOT_SHOWN, known, OFFERS, T)
    pd.testing.assert_frame_equal(now, before)
