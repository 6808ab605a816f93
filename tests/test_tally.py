"""What responses count for contacts: the customer's own, that were stored, once, and none before its decision."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from contacting import agree, ask, granted, opened

from features import database
from features.vocabulary import DAY_S
from serving import reservations
from serving.engine import Engine
from serving.facts import Contacts, moment
from serving.schemas import RespondRequest

NOW = 1_790_000_000.0
numbers = count(1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        made = opened(tmp_path_factory.mktemp("tally") / "home")
        yield made
        made.close()


@pytest.fixture
def customer(request: pytest.FixtureRequest, engine: Engine) -> str:
    """A customer of the test's own, who has agreed to be written to."""
    agree(engine, request.node.name)
    return str(request.node.name)


def says(response: str, decision: Any = None, offer: str = "hello", at: float | None = None, **who: Any) -> dict:
    """A message of a response, of an id of its own."""
    of = {} if decision is None else {"decision_id": decision["decision_id"]}
    body = {"offer_id": offer, "response": response, **of}
    said = {"type": "track", "event": "Offer Responded", "messageId": f"tally-{next(numbers)}", "properties": body}
    return {**said, **who, **({} if at is None else {"timestamp": moment(at)})}


def dismisses(engine: Engine, messages: list[dict], at: float) -> list[bool]:
    return [receipt.stored for receipt in engine.ingest(messages, at, None)]


def contacts(engine: Engine, customer: str, now: float = NOW + 1800) -> Contacts:
    with database.reading(engine.database) as connection:
        return reservations.contacts_of(connection, [customer], now, 400)[customer]


# --------------------------------------------------------------------------------------- whose it is


def test_what_somebody_else_waves_away_leaves_the_customer_alone_and_counts_for_them(engine, customer) -> None:
    web = engine.decision(ask(customer, "web"), NOW)
    messages = [says("dismissed", web, offer, anonymousId=f"stranger-of-{customer}") for offer in ("hello", "sale")]
    assert dismisses(engine, messages, NOW + 1) == [True, True]
    assert contacts(engine, customer).dismissed == ()
    assert len(contacts(engine, f"anonymous:stranger-of-{customer}").dismissed) == 2


def test_what_somebody_else_says_was_shown_leaves_a_prepared_mail_as_it_is(engine, customer) -> None:
    mail = engine.decision(ask(customer), NOW)
    engine.ingest([says("shown", mail, userId=f"other-than-{customer}")], NOW + 1, None)
    assert [each.until for each in contacts(engine, customer).made] == [NOW + 3600]
    assert engine.confirm(mail["decision_id"], NOW + 2) == {"valid": True}


def test_another_id_of_the_same_customer_may_say_it(engine, customer) -> None:
    mail = engine.decision(ask(customer), NOW)
    joined = {"type": "identify", "userId": customer, "anonymousId": customer, "messageId": f"joins-{customer}"}
    engine.ingest([joined, says("shown", mail, anonymousId=customer)], NOW + 1, None)
    assert [each.until for each in contacts(engine, customer).made] == [None]


def test_what_respond_tells_is_of_who_it_was_decided_for_also_before_a_login(engine, customer) -> None:
    agree(engine, f"anonymous:{customer}")
    mail = engine.decision(ask(f"anonymous:{customer}"), NOW)
    said = {"decision_id": mail["decision_id"], "offer_id": "hello", "kind": "shown", "response_id": "r"}
    engine.respond(RespondRequest(**said), NOW + 1)
    assert [each.until for each in contacts(engine, f"anonymous:{customer}").made] == [None]


# ---------------------------------------------------------------------------------- what was stored


def test_refused_messages_count_nothing(engine, customer) -> None:
    web = engine.decision(ask(customer, "web"), NOW)
    ahead = [says("dismissed", web, offer, NOW + 3600, userId=customer) for offer in ("hello", "sale", "gift")]
    wrong = {**says("dismissed", web, userId=customer), "messageId": ["x"]}
    assert dismisses(engine, [*ahead, wrong, says("clicked", web, userId=customer)], NOW + 1) == [False] * 4 + [True]
    assert contacts(engine, customer).dismissed == ()


def test_killed_before_it_was_counted_it_counts_when_it_is_sent_again(engine, customer, monkeypatch) -> None:
    mail, message = engine.decision(ask(customer), NOW), says("dismissed", userId=customer)
    sent = [message, says("shown", mail, userId=customer)]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine.tally, "count", killed)
        with pytest.raises(KeyboardInterrupt):
            engine.ingest(sent, NOW + 1, None)
    assert contacts(engine, customer).dismissed == ()
    for at in (NOW + 5, NOW + 60):
        assert [each.duplicate for each in engine.ingest(sent, at, None)] == [True, True]
        assert [(each.message_id, each.at) for each in contacts(engine, customer).dismissed] == [
            (message["messageId"], NOW + 0.999)  # the batch's last is of NOW + 1
        ]
        assert [(each.at, each.until) for each in contacts(engine, customer).made] == [(NOW + 1, None)]


def test_of_a_message_that_comes_again_with_another_content_the_stored_one_counts(engine, customer) -> None:
    web, mail = engine.decision(ask(customer, "web"), NOW), engine.decision(ask(customer), NOW)
    first = says("clicked", web, userId=customer)
    engine.ingest([first], NOW + 1, None)
    for other in (says("dismissed", web, userId=customer), says("shown", mail, userId=customer)):
        assert engine.ingest([{**other, "messageId": first["messageId"]}], NOW + 2, None)[0].duplicate
    assert contacts(engine, customer).dismissed == ()
    assert [each.until for each in contacts(engine, customer).made] == [NOW + 3600]


def test_what_comes_again_after_an_erasure_counts_nothing(engine, customer) -> None:
    message = says("dismissed", userId=customer)
    assert dismisses(engine, [message], NOW) == [True]
    engine.customers.erase(customer, NOW + 1)
    assert engine.ingest([message], NOW + 2, None)[0].duplicate
    assert contacts(engine, customer).dismissed == ()


# ------------------------------------------------------------------------------------ when and how often


@pytest.mark.parametrize("days", [300, 0.01])
def test_nothing_was_shown_or_waved_away_before_its_decision(engine, customer, days) -> None:
    mail, before = engine.decision(ask(customer), NOW), NOW - days * DAY_S
    messages = [says(response, mail, at=before, userId=customer) for response in ("shown", "dismissed")]
    engine.ingest(messages, NOW + 60, None)
    found = contacts(engine, customer)
    assert [(each.at, each.until) for each in found.made] == [(NOW, None)]
    assert [each.at for each in found.dismissed] == [NOW]


def test_three_dismissals_without_a_decision_are_14_days_of_quiet_too(engine, customer) -> None:
    messages = [says("dismissed", at=NOW - 60, userId=customer) for _ in range(3)]
    dismisses(engine, [*messages, *messages], NOW)
    assert len(contacts(engine, customer).dismissed) == 3
    assert not granted(engine.decision(ask(customer), NOW + 1))
    assert granted(engine.decision(ask(customer), NOW - 60 + 14 * DAY_S))


def test_one_dismissal_of_a_decision_told_in_two_ways_counts_once(engine, customer) -> None:
    web = engine.decision(ask(customer, "web"), NOW)
    body = {"decision_id": web["decision_id"], "offer_id": "hello", "kind": "dismissed", "response_id": "r"}
    engine.respond(RespondRequest(**body), NOW + 1)
    told_too = says("dismissed", web, userId=customer)
    dismisses(engine, [told_too], NOW + 2)
    dismisses(engine, [told_too], NOW + 3)
    assert [each.at for each in contacts(engine, customer).dismissed] == [NOW + 1]
    dismisses(engine, [says("dismissed", web, "sale", userId=customer)], NOW + 4)
    assert len(contacts(engine, customer).dismissed) == 2


def test_however_much_one_customer_waves_away_what_was_before_is_looked_up_once(engine, customer) -> None:
    web = engine.decision(ask(customer, "web"), NOW)
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    sa.event.listen(engine.database, "before_cursor_execute", note)
    dismisses(engine, [says("dismissed", web, f"offer {number}", userId=customer) for number in range(40)], NOW + 1)
    sa.event.remove(engine.database, "before_cursor_execute", note)
    assert len(contacts(engine, customer).dismissed) == 40
    assert sum("FROM events JOIN dismissals" in statement for statement in asked) == 1
