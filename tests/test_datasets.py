"""Datasets: features are those of the profile as known then, and nothing known later changes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import market
import numpy as np
import pandas as pd
import pytest

from features import database, profiles
from features.affinity import affinities
from features.catalog import load_catalog
from features.events import EventLog
from features.intake import Intake
from features.store import ProfileStore
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace
from tests.homes import at_home, opened
from training import datasets
from training.datasets import NoLabels, churn_dataset, propensity_dataset
from training.tasks import CHURN, PROPENSITY

T = market.BEGIN + 225 * DAY_S
"""Three campaigns are over by then; the fourth comes later."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, ProfileStore]]:
    home = tmp_path_factory.mktemp("whole") / "home"
    with at_home(Workspace(home)), opened(market.made(home)) as both:
        yield both


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, ProfileStore]]:
    """The same market, of which nothing after T is known."""
    home = tmp_path_factory.mktemp("cut") / "home"
    with at_home(Workspace(home)), opened(market.made(home, until=T)) as both:
        yield both


def test_pairs_hold_the_features_of_the_profile_as_known_at_the_exposure(whole: tuple[Workspace, ProfileStore]) -> None:
    workspace, store = whole
    catalog = load_catalog(workspace, ended=True)
    data = propensity_dataset(workspace, store, catalog, T, PROPENSITY.columns)
    assert len(data.frame) == 3 * market.CUSTOMERS * len(market.CATEGORIES)
    assert 0 < data.label.sum() < len(data.label)
    for place in (0, 100, 700):
        row = data.frame.iloc[place]
        known = [e for e in market.history() if e.user_id == row["customer_id"] and e.known_at <= row["as_of"]]
        profile = profiles.fold_all(known)
        offer = catalog.offers[row["offer_id"]]
        values = affinities(profile, catalog, row["as_of"], [offer])[0]
        assert data.column("own_spend_90d")[place] == values[3]
        assert data.column("orders_90d")[place] == profiles.derive(profile, row["as_of"])["orders_90d"]


def test_nothing_known_after_as_of_is_in_a_dataset(
    whole: tuple[Workspace, ProfileStore], cut: tuple[Workspace, ProfileStore]
) -> None:
    pairs = [
        propensity_dataset(workspace, store, load_catalog(workspace, ended=True), T, PROPENSITY.columns)
        for workspace, store in (whole, cut)
    ]
    assert pairs[0].frame.equals(pairs[1].frame)
    assert pairs[0].rows.tobytes() == pairs[1].rows.tobytes()
    churns = [churn_dataset(workspace, store, T, CHURN.columns) for workspace, store in (whole, cut)]
    assert churns[0].frame.equals(churns[1].frame)
    assert churns[0].rows.tobytes() == churns[1].rows.tobytes()


def test_what_comes_later_moves_no_cut_and_silence_ends_with_the_last_event(workspace: Workspace) -> None:
    def heard(message_id: str, at: float) -> None:
        with database.transaction(database.connect(workspace)) as connection:
            EventLog().append(connection, Event(message_id, "Product Viewed", at, at, "c"), "c")

    assert datasets.last_heard(workspace) is None
    heard("first", T)
    asked = (T - 1, T, T + DAY_S, T + 5 * DAY_S)
    before = [datasets.last_heard(workspace, at) for at in asked]
    assert before == [None, T, T + DAY_S, T]
    heard("later", T + 6 * DAY_S)
    assert [datasets.last_heard(workspace, at) for at in asked] == before
    assert datasets.last_heard(workspace) == T + 6 * DAY_S


def test_an_order_is_told_with_when_we_heard_that_nothing_is_left_of_it(workspace: Workspace) -> None:
    lines = [{"product_id": "p", "quantity": 2}, {"product_id": "q", "quantity": 1}]
    part = {"products": lines[:1], "reason": "correction"}
    told: list[tuple[str, str, dict[str, Any], float]] = [
        *(("Order Completed", order_id, {"products": lines}, 0.0) for order_id in ("a", "b", "c", "d", "e")),
        ("Order Cancelled", "a", {}, 2.0),
        ("Order Refunded", "b", {}, 2.0),  # came back: it was bought
        ("Order Refunded", "c", part, 3.0),
        ("Order Refunded", "c", {**part, "products": lines[1:]}, 4.0),
        ("Order Refunded", "d", part, 3.0),
        ("Order Cancelled", "e", {}, 9.0),
    ]
    with database.transaction(database.connect(workspace)) as connection:
        for number, (name, order_id, more, days) in enumerate(told):
            at = T + days * DAY_S
            event = Event(f"m{number}", name, at, at, "c", body={"order_id": order_id, **more})
            EventLog().append(connection, event, "c")
        cancelled_for_another = Event("other", "Order Cancelled", T, T, "x", body={"order_id": "b"})
        EventLog().append(connection, cancelled_for_another, "x")
    void = [(at - T) / DAY_S for at in datasets.orders(workspace, T + 5 * DAY_S)["void_at"]]
    assert void == [2.0, np.inf, 4.0, np.inf, np.inf]
    assert np.isinf(datasets.orders(workspace, T + DAY_S)["void_at"]).all()


def test_two_customers_who_turn_out_to_be_one_later_are_still_two_at_that_moment(tmp_path: Path) -> None:
    with opened(market.made(tmp_path / "home")) as (workspace, store):
        one, other = datasets.customers(workspace, T)[:2]
        before = (datasets.customers(workspace, T), datasets.orders(workspace, T), datasets.responses(workspace, T))
        alias = {"message_id": "later", "name": "$alias", "occurred_at": T + 1, "user_id": one}
        intake = Intake(database.connect(workspace), store, load_catalog(workspace))
        assert intake.one({**alias, "body": {"previous_id": other}}, T + DAY_S).stored
        assert datasets.customers(workspace, T) == before[0]
        pd.testing.assert_frame_equal(datasets.orders(workspace, T), before[1])
        for now, then in zip(datasets.responses(workspace, T), before[2], strict=True):
            pd.testing.assert_frame_equal(now, then)
        merged = datasets.customers(workspace, T + 2 * DAY_S)
        assert {one, other} & set(merged) == {one}


def test_a_feature_that_looks_ahead_would_be_found_so(
    whole: tuple[Workspace, ProfileStore], cut: tuple[Workspace, ProfileStore]
) -> None:
    """The test above compares what a leak would change: the same features, looked up ten days too late."""
    late = []
    for workspace, store in (whole, cut):
        data = churn_dataset(workspace, store, T, CHURN.columns)
        ahead = data.frame.assign(as_of=T + 10 * DAY_S)
        late.append(datasets.customer_features(store, ahead, CHURN.columns, "churn"))
    assert late[0].tobytes() != late[1].tobytes()


def test_churn_rows_hold_the_features_as_known_at_each_cut(whole: tuple[Workspace, ProfileStore]) -> None:
    workspace, store = whole
    data = churn_dataset(workspace, store, T, CHURN.columns)
    assert data.frame["as_of"].nunique() > 1
    assert set(data.frame["segment"]) <= {"new", "loyal", "lapsed"}
    for place in (0, len(data.frame) - 1):
        row = data.frame.iloc[place]
        known = [e for e in market.history() if e.user_id == row["customer_id"] and e.known_at <= row["as_of"]]
        values = profiles.derive(profiles.fold_all(known), row["as_of"])
        np.testing.assert_array_equal(data.rows[place], [values[name] for name in CHURN.columns])


def test_without_anything_to_learn_from_it_says_what_is_lacking(whole: tuple[Workspace, ProfileStore]) -> None:
    workspace, store = whole
    with pytest.raises(NoLabels, match="found 0 customers at 0 cut points"):
        churn_dataset(workspace, store, market.BEGIN + 50 * DAY_S, CHURN.columns)
    with pytest.raises(NoLabels, match="found 0 exposures"):
        propensity_dataset(workspace, store, load_catalog(workspace), market.BEGIN + 90 * DAY_S, PROPENSITY.columns)


@pytest.mark.parametrize(
    ("orders", "days", "segment"),
    [(4.0, 1.0, "new"), (5.0, 60.0, "loyal"), (5.0, 61.0, "lapsed"), (float("nan"), float("nan"), "new")],
)
def test_segments(orders: float, days: float, segment: str) -> None:
    assert datasets.segment_of(orders, days) == segment
