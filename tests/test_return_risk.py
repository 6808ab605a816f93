"""P(return) in the value: the promoted model scored at the decision, of what the record says it saw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from test_product_history import after, back, bought, event, histories
from test_swap import Worker

from features import build, product_counts
from features.product_counts import ProductCounts
from features.product_history import LINE_FEATURES, ProductHistory
from features.profiles import fold_all
from features.vocabulary import Event
from features.workspace import Workspace
from serving.engine import Engine
from serving.log_lines import records
from serving.question import Question
from serving.replay import replay
from serving.schemas import DecideBatchRequest

NOW = 1_795_000_000.0
OFFERS = """\
offers:
  - {offer_id: lamp, kind: promotion, product_ids: [lamp-pendant], value: {margin: 100, discount: 10}, %s}
  - {offer_id: tent, kind: promotion, product_ids: [tent-2p], value: {margin: 100}, %s}
  - {offer_id: hello, kind: loyalty, value: {margin: 5}, %s}
""" % (("valid_from: 2020-01-01, valid_until: 2099-01-01",) * 3)
PRODUCTS_OWN = ("product_return_rate", "product_lines", "line_quantity")


def promote(workspace: Workspace, version: str, column: str = "product_return_rate") -> None:
    """A model that says just what one column does: P = sigmoid(ln(column / (1 − column))), by four points."""
    tag, points = f"v{version}-0a1b2c3d", [0.01, 0.99]
    folder = workspace.home / "bentoml" / "models" / "onestory-returns" / tag
    folder.mkdir(parents=True)
    part = {"transform": ["none"], "impute": [0.0], "mean": [0.5], "scale": [1.0], "coef": [1.0], "intercept": 0.0}
    model = {"task": "returns", "family": "logistic", "columns": [column], "population": 0.125, "logistic": part}
    (folder / "model.json").write_text(
        json.dumps(model | {"calibration": {"kind": "isotonic", "x": points, "y": points}})
    )
    (folder / "model.yaml").write_text(f"labels: {{task: returns, version: '{version}'}}")
    workspace.champions.mkdir(parents=True, exist_ok=True)
    told = {"task": "returns", "version": version, "tag": f"onestory-returns:{tag}"}
    (workspace.champions / "returns.json").write_text(json.dumps(told))


def message(name: str, who: str, number: int, **properties: object) -> dict:
    return {
        "type": "track",
        "event": name,
        "userId": who,
        "messageId": f"{name}-{who}-{number}",
        "properties": properties,
    }


def order(who: str, number: int, product_id: str) -> dict:
    line = {"product_id": product_id, "quantity": 2, "price": 10.0}
    return message("Order Completed", who, number, order_id=f"{who}-{number}", products=[line])


def refund(who: str, number: int, product_id: str) -> dict:
    products = [{"product_id": product_id, "quantity": 2}]
    return message("Order Refunded", who, number, order_id=f"{who}-{number}", products=products)


@pytest.fixture
def home(workspace: Workspace) -> Workspace:
    """Twelve lamps and twelve tents bought by others; nine lamps came back."""
    (workspace.home / "offers.yaml").write_text(OFFERS)
    build.build(workspace)
    engine = Engine.open(workspace)
    lines = [order(f"other-{n}", n, product_id) for n in range(12) for product_id in ("lamp-pendant",)]
    lines += [order(f"another-{n}", n, "tent-2p") for n in range(12)]
    lines += [refund(f"other-{n}", n, "lamp-pendant") for n in range(9)]
    stock = {"location_id": "online", "quantity": 9}
    for product_id in ("lamp-pendant", "tent-2p"):
        body = {"type": "track", "event": "Stock Updated", "messageId": f"s-{product_id}"}
        lines.append(body | {"properties": {"product_id": product_id, **stock}})
    lines.append({"type": "identify", "userId": "ann", "messageId": "ann"})
    assert all(receipt.problem is None for receipt in engine.ingest(lines, NOW - 60, None))
    engine.close()
    build.build(workspace)
    return workspace


@pytest.fixture
def engine(home: Workspace) -> Iterator[Engine]:
    promote(home, "1")
    opened = Engine.open(home)
    yield opened
    opened.close()


def ask(engine: Engine, customer_id: str = "ann") -> dict:
    return dict(engine.decision(Question(customer_id, "web", "home", limit=5), NOW))


def risks(answer: dict) -> dict[str, float | None]:
    return {offer["offer_id"]: offer["worth"]["return_risk"] for offer in answer["offers"]}


def test_without_a_promoted_model_it_is_unknown_counts_as_nothing_and_versions_say_so(home: Workspace) -> None:
    engine = Engine.open(home)
    answer = ask(engine)
    engine.close()
    assert answer["versions"]["returns"] is None
    assert risks(answer) == {"lamp": None, "tent": None, "hello": None}
    assert {offer["offer_id"]: offer["value"] for offer in answer["offers"]}["lamp"] == 90.0


@pytest.mark.parametrize("customer_id", ["ann", "a stranger"])
def test_the_promoted_model_lowers_the_value_of_what_comes_back(engine: Engine, customer_id: str) -> None:
    answer = ask(engine, customer_id)
    found = risks(answer)
    assert answer["versions"]["returns"] == "1"
    assert found["hello"] is None and 0.0 < found["tent"] < found["lamp"] < 1.0
    for offer in answer["offers"]:
        worth = offer["worth"]
        kept = worth["margin"] * (1.0 - (worth["return_risk"] or 0.0))
        given_away = worth["discount"] * (1.0 + (worth["baseline_propensity"] or 0.0))
        assert offer["value"] == kept - given_away - worth["cost"]


def test_the_same_bits_alone_and_in_a_batch(engine: Engine) -> None:
    people = ["ann", "other-3", "another-1", "a stranger"]
    asked = DecideBatchRequest.model_validate(
        {"customers": [{"customer_id": each} for each in people], "channel": "web", "placement": "home", "limit": 5}
    )
    together = orjson.loads(engine.decide_batch(asked, NOW))["decisions"]
    assert [risks(each) for each in together] == [risks(ask(engine, each)) for each in people]


def test_a_decision_is_made_again_from_its_record_alone(engine: Engine, home: Workspace, tmp_path: Path) -> None:
    for customer_id in ("ann", "other-3", "another-1", "a stranger"):
        ask(engine, customer_id)
    product_counts.path_of(home).unlink()
    assert [each.problem for each in replay(home)] == [None] * 4
    seen = next(iter(records(home.decisions)))["facts"]["counts"]
    assert seen == {"all": [24, 48, 9], "products": {"lamp-pendant": [12, 24, 9, 10.0], "tent-2p": [12, 24, 0, 10.0]}}
    copy = Workspace(tmp_path / "copy")
    shutil.copytree(home.home, copy.home)
    for path in copy.decisions.glob("*/*.ndjson"):
        path.write_bytes(path.read_bytes().replace(b'"lamp-pendant":[12,24,9,', b'"lamp-pendant":[12,24,1,'))
    came = [each.problem for each in replay(copy)]
    assert came[0] == "`offers` came out different" and came[1] is None, "ann's lamp; the other's own came back"


def test_a_model_that_is_missing_is_named(engine: Engine, home: Workspace) -> None:
    ask(engine)
    shutil.rmtree(home.home / "bentoml")
    (found,) = replay(home)
    assert "returns model of version `1` is missing" in (found.problem or "")


def test_who_refuses_profiling_is_weighed_as_a_stranger(home: Workspace) -> None:
    promote(home, "1", "customer_line_return_rate")
    engine = Engine.open(home)
    stranger, before = risks(ask(engine, "a stranger")), risks(ask(engine, "other-3"))
    refused = message("Consent Updated", "other-3", 1, purpose="profiling", granted=False)
    engine.ingest([refused], NOW - 1, None)
    after_ = risks(ask(engine, "other-3"))
    engine.close()
    assert before["tent"] > stranger["tent"]
    assert after_["tent"] == stranger["tent"]


def test_a_promoted_model_and_new_counts_reach_a_running_worker(home: Workspace) -> None:
    worker = Worker(home)
    promote(home, "2")
    worker.looks_twice()
    assert worker.policy.versions["returns"] == "2"
    assert worker.policy.models.counts == product_counts.load(home)
    engine = Engine.open(home)
    engine.ingest([refund("another-0", 0, "tent-2p")], NOW, None)
    engine.close()
    build.build(home)
    worker.looks_twice()
    assert worker.policy.models.counts.products["tent-2p"].returned == 1
    assert [swapped for _, swapped in worker.said] == [True, True]


def test_where_nothing_was_ever_sent_back_nothing_is_counted(workspace: Workspace) -> None:
    build.build(workspace)
    engine = Engine.open(workspace)
    engine.ingest([order("ann", 1, "tent-2p")], NOW, None)
    engine.close()
    build.build(workspace)
    assert product_counts.load(workspace) is None


def test_without_counts_it_is_the_models_mean(home: Workspace) -> None:
    product_counts.path_of(home).unlink()
    promote(home, "1")
    engine = Engine.open(home)
    assert risks(ask(engine))["lamp"] == 0.125
    engine.close()


# ------------------------------------------------------------------- the columns are those of training


def served(history: ProductHistory, events: list[Event], product_id: str, quantity: float | None) -> tuple[float, ...]:
    """The columns as serving makes them: the counts of all, and what the customer's own profile says."""
    counts = ProductCounts.from_json(orjson.loads(orjson.dumps(_counts(history).as_json())))
    profile = fold_all(events)
    own = product_counts.of_pair(profile, product_id)
    return counts.only([product_id]).line(product_id, product_counts.of_customer(profile), own, quantity)


def _counts(history: ProductHistory) -> ProductCounts:
    return ProductCounts(history.all, history.products, history.prices)


def test_the_columns_are_those_that_training_sees() -> None:
    events = [bought(0, "o", ("tea", 2), ("pot", 1)), bought(3, "p", ("tea", 4)), back(5, "o", ("tea", 2))]
    others = [bought(1, "x", ("tea", 1)), back(2, "x", ("tea", 1)), event("Order Cancelled", 3, "y")]
    history = after(*events)
    for each in others:
        history.add(each, "another")
    for product_id in ("tea", "pot", "cup"):
        mine, theirs = served(history, events, product_id, 3.0), history.line("c", product_id, 3.0)
        assert str(dict(zip(LINE_FEATURES, mine, strict=True))) == str(dict(zip(LINE_FEATURES, theirs, strict=True)))


@given(histories)
def test_of_the_product_they_are_always_the_same(events: list[Event]) -> None:
    """Of the customer they may differ: a profile does not count how often one product came back."""
    history = after(*events)
    mine = dict(zip(LINE_FEATURES, served(history, events, "tea", 1.0), strict=True))
    theirs = dict(zip(LINE_FEATURES, history.line("c", "tea", 1.0), strict=True))
    assert [mine[name] for name in PRODUCTS_OWN] == [theirs[name] for name in PRODUCTS_OWN]
