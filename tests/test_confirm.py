"""A prepared mail just before it is sent: what is refused by now, however dated, and the products it was made with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from contacting import OFFERS, agree, ask

from features import build
from features.profiles import Profile
from features.vocabulary import DAY_S
from features.workspace import open_workspace
from serving.engine import Engine
from serving.facts import Facts, moment
from serving.packing import pack_past
from serving.rulebook import Rulebook
from serving.rules.consent import denials

NOW = 1_790_000_000.0
VALID = "valid_from: 2020-01-01, valid_until: 2099-01-01"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = open_workspace(home := tmp_path_factory.mktemp("confirm") / "home")
        of_two = f"  - {{offer_id: two, kind: promotion, product_ids: [p, q], {VALID}, value: {{margin: 3}}}}\n"
        (home / "offers.yaml").write_text(OFFERS + of_two)
        (home / "products.csv").write_text("product_id,name,price\np,p,1\nq,q,1\n")
        build.build(workspace)
        made = Engine.open(workspace)
        for product_id in "pq":
            says(made, "Stock Updated", None, NOW, f"stock-{product_id}", product_id=product_id, quantity=9)
        yield made
        made.close()


@pytest.fixture
def customer(request: pytest.FixtureRequest, engine: Engine) -> str:
    """A customer of the test's own, who has agreed to be written to."""
    agree(engine, request.node.name)
    return str(request.node.name)


def says(
    engine: Engine, event: str, who: str | None, at: float, name: str, dated: float | None = None, **body: Any
) -> None:
    said = {"type": "track", "event": event, "messageId": name, "properties": body, **({"userId": who} if who else {})}
    (receipt,) = engine.ingest([{**said, **({} if dated is None else {"timestamp": moment(dated)})}], at, None)
    assert receipt.stored


def refuses(engine: Engine, who: str, purpose: str, at: float, dated: float | None = None, word: bool = False) -> None:
    says(engine, "Consent Updated", who, at, f"{who}-{purpose}-{word}", dated, purpose=purpose, granted=word)


@pytest.mark.parametrize("purpose", ["profiling", "personalisation"])
@pytest.mark.parametrize("dated", [NOW - 10, NOW, NOW + 10])
def test_a_refusal_that_we_hear_of_after_the_decision_holds_back_however_it_is_dated(
    engine, customer, purpose, dated
) -> None:
    mail = engine.decision(ask(customer), NOW)
    assert engine.confirm(mail["decision_id"], NOW + 20) == {"valid": True}
    refuses(engine, customer, purpose, NOW + 40, dated)
    confirmed = engine.confirm(mail["decision_id"], NOW + 50)
    assert confirmed["valid"] is False
    assert {(each["code"], each["rule"]) for each in confirmed["reasons"]} == {("no_consent", purpose)}


def test_what_was_decided_under_the_refusal_may_be_sent_and_what_is_refused_besides_counts(engine, customer) -> None:
    refuses(engine, customer, "profiling", NOW)
    mail = engine.decision(ask(customer), NOW + 10)
    assert engine.confirm(mail["decision_id"], NOW + 20) == {"valid": True}
    refuses(engine, customer, "personalisation", NOW + 30, NOW - 5)
    assert {each["rule"] for each in engine.confirm(mail["decision_id"], NOW + 40)["reasons"]} == {"personalisation"}


def test_what_a_decision_saw_is_read_from_a_packed_day_too(engine, customer) -> None:
    refuses(engine, customer, "profiling", NOW)
    mail = engine.decision(ask(customer), NOW + 10)
    seen = engine.log.profile_of(engine.log.find(mail["decision_id"]))
    assert pack_past(engine.workspace.decisions, NOW + 3 * DAY_S)
    assert engine.log.profile_of(engine.log.find(mail["decision_id"])) == seen
    assert engine.confirm(mail["decision_id"], NOW + 20) == {"valid": True}
    unseen = engine.decision(ask("nobody-we-know", "web"), NOW + DAY_S)
    assert engine.log.profile_of(engine.log.find(unseen["decision_id"])) is None


def test_a_refusal_taken_back_holds_nothing_back(engine, customer) -> None:
    mail = engine.decision(ask(customer), NOW)
    refuses(engine, customer, "profiling", NOW + 10)
    refuses(engine, customer, "profiling", NOW + 20, word=True)
    assert engine.confirm(mail["decision_id"], NOW + 30) == {"valid": True}


@pytest.mark.parametrize("purpose", ["profiling", "personalisation", None])
def test_the_products_it_was_decided_with_are_asked_about_whoever_the_customer_is(engine, customer, purpose) -> None:
    if purpose:
        refuses(engine, customer, purpose, NOW)
    mail = engine.decision(ask(customer, limit=5), NOW + 10)
    assert {each["offer_id"]: each["product_id"] for each in mail["offers"]}["two"] == "p"
    bought = [{"product_id": "q", "quantity": 1}]  # so long ago that nothing holds it back, and now liked better
    long_ago = NOW - 200 * DAY_S
    says(engine, "Order Completed", customer, NOW + 20, f"{customer}-o", long_ago, order_id=customer, products=bought)
    assert engine.confirm(mail["decision_id"], NOW + 30) == {"valid": True}
    bought = [{"product_id": "p", "quantity": 1}]
    says(engine, "Order Completed", customer, NOW + 40, f"{customer}-p", order_id=f"{customer}-p", products=bought)
    reasons = engine.confirm(mail["decision_id"], NOW + 50)["reasons"]
    assert {(each["offer_id"], each["code"], each["product_id"]) for each in reasons} == {
        ("two", "recently_purchased", "p")
    }


# ------------------------------------------------------------------------------------------ the rule alone

GRANTED = Rulebook().consent.model_copy(update={"profiling": "when_granted", "personalisation": "when_granted"})


def profile(**words: bool) -> Profile:
    return Profile({"consent": {purpose: {"*": [word, NOW, "m"]} for purpose, word in words.items()}}, {})


@pytest.mark.parametrize(
    ("chosen_with", "asks_first", "same_book", "held"),
    [
        ({}, False, True, ["profiling"]),
        ({"profiling": True}, True, True, []),  # without a word on personalisation nothing was chosen by scores
        ({"profiling": True, "personalisation": True}, True, True, ["profiling"]),
        ({"profiling": False}, False, False, []),
        ({"personalisation": False}, False, True, []),
        ({}, True, True, []),
        ({}, True, False, ["profiling"]),  # another rulebook: nobody knows whether it asked first
    ],
)
def test_what_was_not_chosen_by_scores_is_not_held_back_by_a_refusal_of_them(
    chosen_with, asks_first, same_book, held
) -> None:
    book = Rulebook(consent=GRANTED) if asks_first else Rulebook()
    facts = Facts("", NOW, "c", "email", "newsletter", 3, None, profile=profile(profiling=False))
    found = denials(facts, book, profile(**chosen_with), same_book)
    assert [each.rule for each in found] == held
    assert denials(replace(facts, profile=profile(profiling=True)), book, profile(**chosen_with), same_book) == ()
