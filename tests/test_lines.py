"""Return risk end to end: a small shop with a product that comes back, trained, promoted, scored; and no look ahead."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_training_cli import QUICK, run

from features import build, database
from features.events import EventLog
from features.store import ProfileStore
from features.vocabulary import CORRECTION, DAY_S, Event
from features.workspace import Workspace
from tests.homes import at_home, opened
from training import lines
from training.lines import returns_dataset
from training.tasks import RETURNS

BEGIN = 1_750_000_000.0
T = BEGIN + 200 * DAY_S
CUSTOMERS, ORDERS = 40, 12
PRODUCTS = ("shoe", "sock", "belt", "cap")
OFTEN = {"shoe": 0.5, "sock": 0.02, "belt": 0.1, "cap": 0.02}


def history() -> Iterator[Event]:
    """Shoes come back, mostly to every second customer; some orders are cancelled or corrected within the day."""
    draw = random.Random(3)
    for number in range(CUSTOMERS):
        customer = f"c{number:02}"
        for count in range(ORDERS):
            order_id, at = f"{customer}-{count}", BEGIN + round(draw.uniform(0, 320) * DAY_S, 3)
            wanted = draw.sample(PRODUCTS, 2)
            yield event("Order Completed", customer, order_id, at, wanted)
            if draw.random() < 0.03:
                yield event("Order Cancelled", customer, order_id, at + 60, wanted)
            elif draw.random() < 0.03:
                yield event("Order Refunded", customer, order_id, at + 60, wanted[:1], CORRECTION)
            else:
                returned = [p for p in wanted if draw.random() < OFTEN[p] * (1.6 if number % 2 else 0.3)]
                later = round(draw.uniform(2, 90), 3) * DAY_S
                if returned:
                    yield event("Order Refunded", customer, order_id, at + later, returned, "return")


def event(name: str, customer: str, order_id: str, at: float, products: list[str], reason: str = "") -> Event:
    sold = [{"product_id": p, "quantity": 2, "price": 5.0 + PRODUCTS.index(p)} for p in products]
    body = {"order_id": order_id, "products": sold, "reason": reason}
    return Event(f"{order_id} {name}", name, at, at, customer, channel="web", body=body)


def made(home: Path, until: float = np.inf) -> Workspace:
    workspace = Workspace(home)
    home.mkdir(parents=True)
    known = sorted((e for e in history() if e.known_at <= until), key=lambda e: e.key)
    with database.transaction(database.connect(workspace)) as connection:
        EventLog().append_many(connection, [(e, e.user_id) for e in known])
    build.build(workspace)
    return workspace


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, ProfileStore]]:
    home = tmp_path_factory.mktemp("whole") / "home"
    with at_home(Workspace(home)), opened(made(home)) as both:
        yield both


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, ProfileStore]]:
    """The same shop, of which nothing after T is known."""
    home = tmp_path_factory.mktemp("cut") / "home"
    with at_home(Workspace(home)), opened(made(home, until=T)) as both:
        yield both


def test_nothing_known_after_as_of_changes_a_label_or_a_feature(
    whole: tuple[Workspace, ProfileStore], cut: tuple[Workspace, ProfileStore]
) -> None:
    one, other = (returns_dataset(workspace, store, T, RETURNS.columns) for workspace, store in (whole, cut))
    assert one.frame.equals(other.frame) and 0 < one.label.sum() < len(one.label)
    assert one.rows.tobytes() == other.rows.tobytes()


def test_a_feature_that_looks_ahead_would_be_found_so(
    whole: tuple[Workspace, ProfileStore], cut: tuple[Workspace, ProfileStore]
) -> None:
    late = []
    for workspace, store in (whole, cut):
        asked = returns_dataset(workspace, store, T, RETURNS.columns).frame.assign(as_of=T + 10 * DAY_S)
        late.append(lines.line_features(store, list(lines.heard(workspace, np.inf)), asked, RETURNS.columns)[0])
    assert late[0].tobytes() != late[1].tobytes()


def test_a_line_is_no_part_of_its_own_history(whole: tuple[Workspace, ProfileStore]) -> None:
    workspace, store = whole
    data = returns_dataset(workspace, store, T, RETURNS.columns)
    for place in (0, 57, len(data.label) - 1):
        row = data.frame.iloc[place]
        before = [e for e in history() if e.user_id == row["customer_id"] and e.known_at < row["as_of"]]
        orders = sum(e.name == "Order Completed" for e in before) - sum(e.name == "Order Cancelled" for e in before)
        assert np.nan_to_num(data.column("orders")[place]) == orders
        assert data.column("own_lines")[place] <= orders
        assert data.column("line_value")[place] == row["quantity"] * row["price"]


def test_cancelled_orders_and_corrected_lines_are_no_lines(whole: tuple[Workspace, ProfileStore]) -> None:
    frame = returns_dataset(*whole, T, RETURNS.columns).frame
    asked = set(zip(frame["order_id"], frame["product_id"], strict=True))
    gone = {
        (e.body["order_id"], line["product_id"])
        for e in history()
        if e.known_at <= T and (e.name == "Order Cancelled" or e.body["reason"] == CORRECTION)
        for line in e.body["products"]
    }
    assert gone and not gone & asked


@pytest.fixture(scope="module")
def learnt(whole: tuple[Workspace, ProfileStore]) -> tuple[Path, Any]:
    """The shop with a first version, and what training said of it."""
    home = whole[0].home
    return home, run(home, "train", "returns", "--as-of", "2026-03-01", *QUICK, "--json")


def test_it_is_trained_promoted_scored_and_rolled_back(learnt: tuple[Path, Any], tmp_path: Path) -> None:
    home, said = learnt
    assert {"product's own rate", "rates of product and customer", "lightgbm"} <= set(said["models"])
    assert said["metrics"]["auroc"] > 0.7
    run(home, "train", "returns", *QUICK, "--param", "families=logistic", "--json")
    first = run(home, "promote", "returns", "--version", "1", "--json")
    assert run(home, "promote", "returns", "--json")["version"] == "2"
    assert run(home, "rollback", "returns", "--json") == first
    assert first["feature_service"] == "returns"

    at = pd.Timestamp(T, unit="s", tz="UTC")
    rows = [(customer, product, at) for customer in ("c01", "c02", "nobody") for product in ("shoe", "sock", "glove")]
    pairs = pd.DataFrame(rows, columns=["customer_id", "product_id", "as_of"]).assign(mine=1)
    asked, out = tmp_path / "pairs.parquet", tmp_path / "scores.parquet"
    pairs.to_parquet(asked)
    run(home, "score", "returns", "--pairs", str(asked), "--out", str(out), "--json")
    scores = pd.read_parquet(out)
    assert list(scores.columns) == ["customer_id", "product_id", "as_of", "mine", "score"]
    by_pair = scores.set_index(["customer_id", "product_id"])["score"]
    assert by_pair["c01", "shoe"] > by_pair["c01", "sock"] and by_pair.between(0, 1).all()
    pairs[::-1].assign(quantity=None, price=np.nan).to_parquet(asked)
    run(home, "score", "returns", "--pairs", str(asked), "--out", str(out), "--json")
    assert pd.read_parquet(out)["score"].to_numpy()[::-1].tobytes() == scores["score"].to_numpy().tobytes()
    pairs[:0].to_parquet(asked)
    assert run(home, "score", "returns", "--pairs", str(asked), "--out", str(out), "--json")["rows"] == 0


REFUSED = [
    (
        {"customer_id": "c", "as_of": T},
        "column `product_id` is missing; expected customer_id, product_id, as_of[, quan",
    ),
    ({"customer_id": "c", "product_id": "cap", "as_of": "noon"}, "as_of is `noon`; expected RFC 3339"),
    (
        {"customer_id": "c", "product_id": "cap", "as_of": T, "quantity": 0},
        "quantity is `0`; expected a number of at least 1",
    ),
    (
        {"customer_id": "c", "product_id": "cap", "as_of": T, "price": "dear"},
        "price is `dear`; expected a number of at least 0",
    ),
]


@pytest.mark.parametrize(("row", "sentence"), REFUSED, ids=[sentence[:20] for _, sentence in REFUSED])
def test_lines_that_cannot_be_scored_say_which_column(
    learnt: tuple[Path, Any], tmp_path: Path, row: dict[str, object], sentence: str
) -> None:
    home, asked = learnt[0], tmp_path / "pairs.parquet"
    pd.DataFrame([row]).to_parquet(asked)
    refused = run(home, "score", "returns", "--pairs", str(asked), "--out", str(tmp_path / "x"), code=2)
    assert refused.startswith(sentence)
