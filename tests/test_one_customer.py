"""Whatever id of a customer is asked about, the decision is for the one customer; a page learns no login by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest

from features.workspace import Workspace
from serving.audience import decide_audience
from serving.engine import Engine
from serving.question import Question
from serving.schemas import DecideRequest

NOW = 1_790_000_000.0
SITE: dict[str, Any] = {"channel": "web", "placement": "home"}


@pytest.fixture
def engine(workspace: Workspace) -> Iterator[Engine]:
    """Login 1 with browser a, and login 2, who turns out to be the same."""
    opened = Engine.open(workspace)
    bought = {"order_id": "o1", "products": [{"product_id": "chair-oak", "quantity": 1}]}
    order = {"event": "Order Completed", "properties": bought}
    jo = {"type": "identify", "traits": {"email": "jo@example.com"}}
    sent = [
        {"userId": "2", "messageId": "m1", **order},
        {"userId": "1", "anonymousId": "a", "messageId": "m2", **jo},
        {"userId": "2", "messageId": "m3", **jo},
    ]
    for number, message in enumerate(sent):
        (receipt,) = opened.ingest([message], NOW + number, None)
        assert receipt.stored
    assert receipt.customer_id == "1"
    yield opened
    opened.close()
    opened.store.close()


def ask(engine: Engine, **who: Any) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads(engine.decide(DecideRequest(**who, **SITE, explain=True), NOW + 10))
    return answer


def test_every_id_of_a_customer_is_decided_for_as_the_one_customer(engine: Engine) -> None:
    answers = [ask(engine, customer_id="1"), ask(engine, customer_id="2"), ask(engine, anonymous_id="a")]
    answers.append(ask(engine, customer_id="anonymous:a"))
    assert [answer["customer_id"] for answer in answers] == ["1", "1", "1", "1"]
    assert [answer["fallback"] for answer in answers] == ["no_model"] * 4
    assert [answer["suppressed"] for answer in answers[1:]] == [answers[0]["suppressed"]] * 3
    assert any(reason["evidence"] == "m1" for offer in answers[0]["suppressed"] for reason in offer["reasons"])


def test_after_an_undo_each_is_decided_for_alone(engine: Engine) -> None:
    engine.intake.undo("2", NOW + 5)
    assert [ask(engine, customer_id=id_)["customer_id"] for id_ in "12"] == ["1", "2"]


def test_a_page_that_asks_by_an_anonymous_id_hears_of_no_login(engine: Engine) -> None:
    asked = DecideRequest(anonymous_id="a", **SITE).asked_by_a_page()
    answer = orjson.loads(engine.decide(asked, NOW + 10))
    assert answer["customer_id"] == "anonymous:a"
    record = orjson.loads(engine.record(answer["decision_id"]) or b"")
    assert record["answer"]["customer_id"] == "1"
    assert ask(engine, anonymous_id="a")["customer_id"] == "1"


def test_an_order_under_another_id_of_the_customer_takes_up_the_decisions_offer(engine: Engine) -> None:
    level = {"product_id": "table-oak-180", "location_id": "online", "quantity": 5}
    engine.ingest([{"event": "Stock Updated", "messageId": "s1", "properties": level}], NOW + 5, None)
    answer = ask(engine, customer_id="1")
    offer = next(each for each in answer["offers"] if each["product_id"])
    lines = [{"product_id": offer["product_id"], "quantity": 1}]
    order = {"order_id": "o2", "decision_id": answer["decision_id"], "products": lines}
    message = {"userId": "2", "event": "Order Completed", "messageId": "m4", "properties": order}
    (receipt,) = engine.ingest([message], NOW + 20, None)
    assert receipt.stored
    seen = engine.store.read("1")
    assert seen is not None
    assert seen.profile.state["responses"][offer["kind"]]["accepted"] == [1.0, NOW + 20]


def test_an_audience_that_names_one_customer_twice_reaches_them_once(engine: Engine, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    summary = decide_audience(
        engine.decisions,
        ["2", "1", "7", "7"],
        lambda customer_id: Question(customer_id, **SITE),
        lambda: NOW + 10,
        out,
        lambda count: None,
        engine.resolver.customer,
    )
    rows = pd.read_parquet(out)
    assert summary.errors == 2
    assert set(rows[rows["offer_id"].notna()]["customer_id"]) == {"2", "7"}
    error = "customer_id: is the same customer as `2` above; expected each once"
    assert rows[rows["customer_id"] == "1"]["error"].tolist() == [error]
    assert rows[rows["customer_id"] == "7"]["error"].dropna().tolist() == [error.replace("`2`", "`7`")]
    assert rows[(rows["customer_id"] == "7") & rows["offer_id"].notna()]["decision_id"].nunique() == 1


def test_a_page_is_not_told_what_was_seen_of_whoever_its_id_belongs_to(engine: Engine) -> None:
    ask = DecideRequest(anonymous_id="a", **SITE, explain=True).asked_by_a_page()
    answer = orjson.loads(engine.decide(ask, NOW + 10))
    held = [reason for offer in answer["suppressed"] for reason in offer["reasons"]]
    assert "recently_purchased" in [reason["code"] for reason in held]
    assert {(reason["observed"], reason["evidence"]) for reason in held} == {(None, None)}
    assert b'"m1"' not in orjson.dumps(answer)


def test_a_question_asked_again_after_a_login_is_the_same_question(engine: Engine) -> None:
    ask = DecideRequest(anonymous_id="b", **SITE, request_id="r1")
    first = orjson.loads(engine.decide(ask, NOW + 10))
    (receipt,) = engine.ingest(
        [{"type": "identify", "userId": "9", "anonymousId": "b", "messageId": "m9"}], NOW + 11, None
    )
    assert receipt.stored
    again = orjson.loads(engine.decide(ask, NOW + 12))
    assert again["decision_id"] == first["decision_id"]
