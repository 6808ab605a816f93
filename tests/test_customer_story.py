"""The story of a customer: all that an agent needs, with times, and nothing that another had."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from features import database
from features.vocabulary import OFFER_KINDS
from features.workspace import open_workspace
from serving.engine import Engine
from serving.facts import moment
from serving.question import Question
from serving.rulebook import Weight
from serving.schemas import RespondRequest
from serving.story_answers import Story

NOW = time.time()
HER = "1042"


def track(event: str, number: int, minutes_ago: float, via: str = "web", device: str | None = None, **more: Any):
    who = {"anonymousId": device} if device else {}
    return {
        "type": "track",
        "event": event,
        "messageId": f"m{number}",
        "userId": more.pop("user", HER),
        "timestamp": at(minutes_ago),
        "context": {"channel": via},
        "properties": more,
        **who,
    }


def at(minutes_ago: float) -> str:
    return (datetime.fromtimestamp(NOW, UTC) - timedelta(minutes=minutes_ago)).isoformat(timespec="seconds")


def line(product_id: str) -> dict[str, Any]:
    return {"product_id": product_id, "quantity": 1, "price": 20.0}


HISTORY = [
    track("Order Completed", 1, 3_000, order_id="o-1", products=[line("table-oak-180"), line("chair-oak")]),
    track("Order Updated", 2, 2_000, order_id="o-1", status="delivered"),
    track("Return Requested", 3, 1_500, order_id="o-1", products=[line("chair-oak")], reason="wobbles"),
    track("Order Completed", 4, 1_000, "store", order_id="o-2", products=[line("coffee-beans-1kg")]),
    track("Order Updated", 5, 900, order_id="o-2", status="shipped"),
    track("Support Case Opened", 6, 800, case_id="k-1", reason="where is it?", channel="call_centre", order_id="o-2"),
    track("Promise Made", 7, 700, promise_id="p-1", text="a call back", due=at(60)),
    track("Promise Made", 8, 700, promise_id="p-2", text="a voucher", due=at(-600)),
    track("Product Viewed", 9, 300, "app", "phone", product_id="trail-shoe-42"),
    track("Product Added", 10, 200, "app", "phone", product_id="trail-shoe-42"),
    track("Consent Updated", 11, 100, purpose="marketing", channel="email", granted=True),
    track("Product Added", 12, 90, user="other", product_id="chair-woven"),
]


@pytest.fixture
def engine(_home: Path) -> Iterator[Engine]:
    workspace = open_workspace(_home)
    opened = Engine.open(workspace)
    stock = [{"product_id": each, "location_id": "online", "quantity": 5} for each in opened.policy.catalog.products]
    levels = [
        {"type": "track", "event": "Stock Updated", "messageId": f"s{n}", "properties": one}
        for n, one in enumerate(stock)
    ]
    assert [each.problem for each in opened.ingest(levels + HISTORY, NOW, None) if each.problem] == []
    yield opened
    opened.close()
    opened.store.close()
    database.connect(workspace).dispose()


def told(engine: Engine, customer_id: str = HER, channel: str = "call_centre") -> dict[str, Any]:
    found = engine.customers.story(customer_id, NOW + 1, channel, None)
    assert found is not None
    content: dict[str, Any] = orjson.loads(found)
    Story.model_validate(content, strict=True)
    return content


class _Fixed:
    """A model that always says the same, and counts how often it was asked."""

    version = "1"

    def __init__(self) -> None:
        self.asked = 0

    def predict(self, rows: Any) -> list[float]:
        self.asked += len(rows)
        return [0.25] * len(rows)


@pytest.fixture
def churn(engine: Engine) -> _Fixed:
    model = _Fixed()
    engine.desk.policy = replace(engine.policy, models=replace(engine.policy.models, churn=model))
    return model


def test_the_story_tells_the_churn_risk_but_not_of_who_refuses_profiling(engine: Engine, churn: _Fixed) -> None:
    assert told(engine)["churn_risk"] == 0.25
    refused = track("Consent Updated", 13, 0, purpose="profiling", granted=False)
    assert [each.problem for each in engine.ingest([refused], NOW, None)] == [None]
    assert told(engine)["churn_risk"] is None


@pytest.mark.parametrize(("weight", "times"), [(0.0, 0), (1.0, 1)])
def test_a_decision_asks_for_the_churn_risk_only_where_an_open_offer_is_weighed_by_it(
    engine: Engine, churn: _Fixed, weight: float, times: int
) -> None:
    weights = dict.fromkeys(OFFER_KINDS, Weight(base=1.0, churn=weight))
    arbitration = engine.policy.book.arbitration.model_copy(update={"context_weights": weights})
    book = engine.policy.book.model_copy(update={"arbitration": arbitration})
    engine.desk.policy = replace(engine.policy, book=book)
    decided = engine.decision(Question("other", "web", "home"), NOW + 1)
    assert {each["context"]["churn"] for each in decided["offers"]} == {0.25 * weight}
    assert churn.asked == times


def test_the_story_says_how_everything_stands(engine: Engine) -> None:
    story = told(engine)
    assert (story["last_order"]["order_id"], story["last_order"]["status"]) == ("o-2", "shipped")
    assert [order["order_id"] for order in story["orders"]] == ["o-2", "o-1"]
    assert story["last_order"]["products"] == [{"product_id": "coffee-beans-1kg", "name": name(engine)}]
    (back,) = story["open_returns"]
    assert (back["order_id"], back["reason"], back["products"][0]["product_id"]) == ("o-1", "wobbles", "chair-oak")
    (case,) = story["open_cases"]
    assert (case["case_id"], case["reason"], case["order_id"]) == ("k-1", "where is it?", "o-2")
    assert {each["promise_id"]: each["overdue"] for each in story["promises"]} == {"p-1": True, "p-2": False}
    (item,) = story["cart"]["lines"]
    assert (item["product_id"], item["device"], item["channel"]) == ("trail-shoe-42", "phone", "app")
    assert item["age_s"] == pytest.approx(200 * 60, abs=3)
    assert [each["product_id"] for each in story["looked_at"]] == ["trail-shoe-42"]
    (word,) = story["consent"]
    assert (word["purpose"], word["channel"], word["granted"]) == ("marketing", "email", True)
    assert story["contacts"]["last"]["reason"] == "where is it?"
    assert {each["id"]: each["kind"] for each in story["ids"]} == {HER: "login", "phone": "anonymous"}
    assert story["churn_risk"] is None
    assert "chair-woven" not in orjson.dumps({**story, "next_best_offers": []}).decode()


def name(engine: Engine) -> str:
    return engine.policy.catalog.products["coffee-beans-1kg"].name


def test_the_offers_are_those_of_a_decision_for_an_agent_which_nobody_was_shown(engine: Engine) -> None:
    story = told(engine, "other")  # her own open case lets nothing be advertised
    decided = engine.decision(Question("other", "call_centre", "agent", preview=True), NOW + 1)
    assert story["next_best_offers"]
    assert [each["offer_id"] for each in story["next_best_offers"]] == [each["offer_id"] for each in decided["offers"]]
    record = orjson.loads(engine.record(story["preview_id"]) or b"")
    assert (record["request"]["preview"], record["answer"]["placement"]) == (True, "agent")
    assert story["recent_decisions"] == told(engine, "other")["recent_decisions"] == []
    assert told(engine)["next_best_offers"] == []


def test_a_look_at_the_offers_takes_no_contact_and_is_not_gone_on_with(engine: Engine) -> None:
    assert told(engine, "other")["next_best_offers"]
    assert engine.decision(Question("other", "web", "home"), NOW + 2)["continued_from"] is None
    agreed = track("Consent Updated", 40, 1, user="other", purpose="marketing", granted=True)
    engine.ingest([agreed], NOW, None)
    engine.decision(Question("other", "email", "newsletter", preview=True), NOW + 3)
    with database.reading(engine.database) as connection:
        assert connection.execute(sa.select(database.reservations)).all() == []


def test_the_latest_decisions_come_first_whoever_made_them(engine: Engine) -> None:
    other = Engine.open(engine.workspace)
    made = []
    for number in range(8):
        worker = (engine, other)[number % 2]
        made.append(worker.decision(Question(HER, "web", "home"), NOW + number)["decision_id"])
        worker.decision(Question("other", "web", "home"), NOW + number)
    other.close()
    assert [each["decision_id"] for each in told(engine)["recent_decisions"]] == made[:-6:-1]
    assert told(engine)["recent_decisions"][0]["decided_at"] == moment(NOW + 7)


def test_what_an_anonymous_id_was_told_is_in_the_story_after_the_login(engine: Engine) -> None:
    engine.ingest(
        [track("Product Viewed", 20, 5, device="tablet", product_id="chair-oak") | {"userId": None}], NOW, None
    )
    decided = engine.decision(Question("anonymous:tablet", "web", "home"), NOW)["decision_id"]
    engine.ingest([{"type": "identify", "messageId": "i1", "userId": HER, "anonymousId": "tablet"}], NOW, None)
    assert [each["decision_id"] for each in told(engine)["recent_decisions"]] == [decided]
    assert told(engine, "anonymous:tablet")["customer_id"] == HER


def test_responses_are_told(engine: Engine) -> None:
    decided = engine.decision(Question("other", "web", "home"), NOW)
    for kind in ("shown", "dismissed"):
        asked = {"decision_id": decided["decision_id"], "kind": kind, "response_id": kind}
        engine.respond(RespondRequest(offer_id=decided["offers"][0]["offer_id"], **asked), NOW + 1)
    assert {each["response"] for each in told(engine, "other")["contacts"]["responses"]} == {"shown", "dismissed"}


def test_nobody_has_no_story_and_an_erased_one_neither(engine: Engine) -> None:
    assert engine.customers.story("never-here", NOW, "call_centre", None) is None
    engine.decision(Question(HER, "web", "home"), NOW)
    engine.customers.erase(HER, NOW)
    assert engine.customers.story(HER, NOW, "call_centre", None) is None
    engine.ingest([track("Product Viewed", 30, 1, product_id="chair-oak")], NOW, None)
    story = told(engine)
    assert (story["orders"], story["open_cases"], story["recent_decisions"]) == ([], [], [])
    assert [each["product_id"] for each in story["looked_at"]] == ["chair-oak"]


def test_an_event_of_a_name_that_nobody_knows_is_kept_and_changes_no_decision(engine: Engine) -> None:
    def decided(customer_id: str) -> dict[str, Any]:
        answer = engine.decision(Question(customer_id, "web", "home", 3, explain=True, preview=True), NOW + 1)
        return {name: part for name, part in answer.items() if name not in ("decision_id", "signals")}

    before = {each: decided(each) for each in (HER, "stranger")}
    said = [track("Gizmo Frobbed", 30 + n, 1, user=each, product_id="chair-oak") for n, each in enumerate(before)]
    assert all(receipt.stored for receipt in engine.ingest(said, NOW, None))
    assert {each: decided(each) for each in before} == before
    assert before["stranger"]["fallback"] == "unknown_customer"
    assert b"Gizmo Frobbed" in b"".join(engine.customers.export("stranger", NOW + 1) or ())
