"""A contact is spent once: by one decision, for one sending, however many callers, workers and repeats there are."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from contacting import OFFERS, agree, ask, granted, made, opened, race
from processes import serving

from features import database
from features.vocabulary import DAY_S
from features.workspace import Workspace
from serving import reservations
from serving.engine import Engine
from serving.problems import Problem
from serving.replay import replay
from serving.schemas import DecideBatchRequest, RespondRequest

NOW = 1_790_000_000.0
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        made = opened(tmp_path_factory.mktemp("contacts") / "home")
        yield made
        made.close()


@pytest.fixture
def customer(request: pytest.FixtureRequest, engine: Engine) -> str:
    """A customer of the test's own, who has agreed to be written to."""
    agree(engine, request.node.name)
    return request.node.name


def reasons(answer) -> dict[str, dict]:
    return {r["rule"]: r for each in answer["suppressed"] for r in each["reasons"] if r["code"] == "contact_limit"}


def shown(engine: Engine, answer, at: float, offer: int = 0, kind: str = "shown") -> None:
    offer_id = answer["offers"][offer]["offer_id"]
    body = {"decision_id": answer["decision_id"], "offer_id": offer_id, "kind": kind, "response_id": f"r-{at}-{kind}"}
    engine.respond(RespondRequest(**body), at)


def test_the_third_email_of_a_week_is_held_back_with_the_decisions_that_took_the_others(engine, customer) -> None:
    first, second = (engine.decision(ask(customer), NOW + hour * HOUR_S) for hour in (0, 0.5))
    assert granted(first) and granted(second)
    third = engine.decision(ask(customer), NOW + 0.6 * HOUR_S)
    assert third["offers"] == []
    (reason,) = reasons(third).values()
    assert reason["rule"] == "per_email"
    assert list(reason["evidence"]) == [first["decision_id"], second["decision_id"]]
    assert reason["retry_after"] == "2026-09-21T15:13:20Z"  # an hour after the first: not sent, it is given back


def test_what_was_sent_counts_for_a_week_from_then_and_what_was_not_is_given_back(engine, customer) -> None:
    first, second = (engine.decision(ask(customer), NOW) for _ in range(2))
    shown(engine, first, NOW + 600)
    assert granted(engine.decision(ask(customer), NOW + HOUR_S))
    shown(engine, second, NOW + 2 * HOUR_S)  # too late for its reservation, but it did go out
    third = engine.decision(ask(customer), NOW + 2.5 * HOUR_S)
    assert list(reasons(third)["per_email"]["evidence"])[-1] == second["decision_id"]
    assert not granted(engine.decision(ask(customer), NOW + 600 + 7 * DAY_S - 1))
    assert granted(engine.decision(ask(customer), NOW + 600 + 7 * DAY_S))


def test_two_responses_to_one_email_are_one_contact_at_the_first(engine, customer) -> None:
    answer = engine.decision(ask(customer, "sms"), NOW)
    shown(engine, answer, NOW + 60)
    shown(engine, answer, NOW + DAY_S, offer=1)
    assert reasons(engine.decision(ask(customer, "sms"), NOW + 2 * DAY_S))["per_sms"]["observed"] == 1
    assert granted(engine.decision(ask(customer, "sms"), NOW + 60 + 7 * DAY_S))


def test_segments_promotion_viewed_with_a_decision_id_confirms_too(engine, customer) -> None:
    answer = engine.decision(ask(customer, "sms"), NOW)
    properties = {"promotion_id": "hello", "decision_id": answer["decision_id"]}
    message = {"type": "track", "event": "Promotion Viewed", "userId": customer, "messageId": f"pv-{customer}"}
    engine.ingest([{**message, "properties": properties}], NOW + 60, None)
    assert not granted(engine.decision(ask(customer, "sms"), NOW + 2 * HOUR_S))


def test_a_repeated_request_spends_nothing_and_gives_the_same(engine, customer) -> None:
    first = engine.decision(ask(customer, "sms", request_id="r"), NOW)
    again = engine.decision(ask(customer, "sms", request_id="r"), NOW + 1)
    assert granted(first)
    assert orjson.loads(orjson.dumps(again)) == orjson.loads(orjson.dumps(first))
    with pytest.raises(Problem, match="another question"):
        engine.decision(ask(customer, "sms", request_id="r", limit=1), NOW + 1)


def test_two_callers_with_one_request_id_at_once_get_one_decision(engine, customer) -> None:
    answers: list[str] = []
    barrier = threading.Barrier(8)

    def call() -> None:
        barrier.wait()
        answers.append(engine.decision(ask(customer, "sms", request_id="r"), NOW)["decision_id"])

    threads = [threading.Thread(target=call) for _ in range(8)]
    [each.start() for each in threads]
    [each.join() for each in threads]
    assert len(answers) == 8
    assert len(set(answers)) == 1


def test_a_preview_and_a_decision_without_offers_take_nothing(engine, customer) -> None:
    assert granted(engine.decision(ask(customer, "sms", preview=True), NOW))
    assert engine.decision(ask(customer, "sms", limit=1), NOW)["offers"]
    for _ in range(3):
        assert not granted(engine.decision(ask(customer, "sms"), NOW))
    with database.reading(engine.database) as connection:
        assert len(reservations.contacts_of(connection, [customer], NOW, 7)[customer].made) == 1


def test_inbound_channels_take_no_contact_and_see_none(engine, customer) -> None:
    for _ in range(5):
        assert granted(engine.decision(ask(customer, "web"), NOW))
    assert granted(engine.decision(ask(customer, "sms"), NOW))
    assert granted(engine.decision(ask(customer, "web"), NOW))


def test_contacts_of_an_anonymous_id_are_the_customers_after_login(engine, customer) -> None:
    agree(engine, f"anonymous:{customer}")
    before = engine.decision(ask(f"anonymous:{customer}", "push"), NOW)
    assert granted(before)
    assert granted(engine.decision(ask(customer, "push"), NOW))
    identify = {"type": "identify", "userId": customer, "anonymousId": customer, "messageId": f"id-{customer}"}
    engine.ingest([identify], NOW + 1, None)
    assert granted(engine.decision(ask(customer, "push"), NOW + 2))
    held = reasons(engine.decision(ask(customer, "push"), NOW + 2))
    assert before["decision_id"] in held["per_push"]["evidence"]


def test_three_dismissals_anywhere_are_14_days_of_quiet(engine, customer) -> None:
    for day in range(3):
        shown(
            engine, engine.decision(ask(customer, "web"), NOW + day * DAY_S), NOW + day * DAY_S + 60, kind="dismissed"
        )
    assert reasons(engine.decision(ask(customer), NOW + 3 * DAY_S)).keys() == {"dismissals"}
    assert granted(engine.decision(ask(customer), NOW + 2 * DAY_S + 60 + 14 * DAY_S))


def test_a_batch_grants_as_single_questions_do_even_for_the_same_customer_twice(engine, customer) -> None:
    names = [f"{customer}-{number}" for number in range(250)]
    agree(engine, *names)
    asked = [{"customer_id": name} for name in [*names, *names, *names]]
    body = DecideBatchRequest(customers=[*asked, {"nobody": 1}], channel="email", placement="newsletter")
    *decisions, refused = orjson.loads(engine.decide_batch(body, NOW))["decisions"]
    assert refused["error"]["status"] == 400
    assert [granted(each) for each in decisions] == [True] * 500 + [False] * 250
    assert Counter(each["customer_id"] for each in decisions if granted(each)) == dict.fromkeys(names, 2)


def test_what_is_forgotten_counts_no_more(engine, customer) -> None:
    answer = engine.decision(ask(customer, "sms"), NOW)
    shown(engine, answer, NOW, kind="dismissed")
    counts = engine.customers.erase(customer, NOW)["counts"]
    assert (counts["reservations"], counts["dismissals"], counts["last_decisions"]) == (1, 1, 1)
    agree(engine, customer, anew="anew-")
    assert granted(engine.decision(ask(customer, "sms"), NOW))


def test_what_no_limit_asks_for_is_pruned(engine, customer) -> None:
    shown(engine, engine.decision(ask(customer, "sms"), NOW), NOW)
    engine.decision(ask(customer, "email"), NOW)
    later = NOW + 100 * DAY_S
    with database.transaction(engine.database) as connection:
        assert reservations.prune(connection, later) > 0
        assert reservations.prune(connection, later) == 0
        assert len(reservations.contacts_of(connection, [customer], NOW, 7)[customer].made) == 1


def test_decisions_with_contacts_replay_to_the_same_bytes(engine) -> None:
    found = list(replay(engine.workspace))
    assert len(found) > 100
    assert [each for each in found if each.problem] == []


# ----------------------------------------------------------------------------------------- confirm


def test_a_prepared_decision_is_still_right_and_asking_twice_changes_nothing(engine, customer) -> None:
    answer = engine.decision(ask(customer, "sms"), NOW)
    for at in (NOW + 60, NOW + 120, NOW + 3 * HOUR_S):  # the last one long after the reservation was given back
        assert engine.confirm(answer["decision_id"], at) == {"valid": True}
        assert not granted(engine.decision(ask(customer, "sms"), at + 59 * 60))


def test_one_whose_contact_was_given_back_and_spent_by_another_is_not(engine, customer) -> None:
    first = engine.decision(ask(customer, "sms"), NOW)
    second = engine.decision(ask(customer, "sms"), NOW + 2 * HOUR_S)
    confirmed = engine.confirm(first["decision_id"], NOW + 2.1 * HOUR_S)
    assert confirmed["valid"] is False
    assert {(r["code"], tuple(r["evidence"])) for r in confirmed["reasons"]} == {
        ("contact_limit", (second["decision_id"],))
    }
    assert {r["offer_id"] for r in confirmed["reasons"]} == {"hello", "sale", "gift"}
    assert engine.confirm(second["decision_id"], NOW + 2.1 * HOUR_S) == {"valid": True}


def test_one_that_was_handed_over_is_not_sent_again(engine, customer) -> None:
    answer = engine.decision(ask(customer, "sms"), NOW)
    shown(engine, answer, NOW + 60)
    confirmed = engine.confirm(answer["decision_id"], NOW + 120)
    assert {(r["code"], r["rule"]) for r in confirmed["reasons"]} == {("contact_limit", "handed_over")}


@pytest.mark.parametrize("purpose", ["profiling", "personalisation"])
def test_what_scores_chose_is_not_sent_to_who_refuses_them_meanwhile(engine, customer, purpose) -> None:
    answer = engine.decision(ask(customer, "sms"), NOW)
    refusal = {"type": "track", "event": "Consent Updated", "properties": {"purpose": purpose, "granted": False}}
    engine.ingest([{**refusal, "userId": customer, "messageId": f"{customer}-refusal"}], NOW + 60, None)
    confirmed = engine.confirm(answer["decision_id"], NOW + 120)
    assert confirmed["valid"] is False
    wrong = [r for r in confirmed["reasons"] if r["rule"] == purpose]
    assert [r["offer_id"] for r in wrong] == [offer["offer_id"] for offer in answer["offers"]]
    assert {(r["code"], r["observed"]) for r in wrong} == {("no_consent", "refused 2026-09-21T14:14:20Z")}
    chosen_without = engine.decision(ask(customer, "sms"), NOW + 180)
    assert granted(chosen_without)  # the contact of the first is free again
    assert engine.confirm(chosen_without["decision_id"], NOW + 240) == {"valid": True}


@pytest.mark.parametrize(
    ("channel", "more", "status", "said"),
    [
        ("web", {}, 400, "was decided for `web`"),
        ("sms", {"preview": True}, 400, "is a preview"),
    ],
)
def test_what_cannot_be_confirmed_is_told(engine, customer, channel, more, status, said) -> None:
    decision_id = engine.decision(ask(customer, channel, **more), NOW)["decision_id"]
    with pytest.raises(Problem, match=said) as told:
        engine.confirm(decision_id, NOW)
    assert told.value.status == status


def test_no_such_decision_and_one_without_offers_are_told(engine, customer) -> None:
    with pytest.raises(Problem) as told:
        engine.confirm("20260101-00000000-0-00000000", NOW)
    assert told.value.status == 404
    engine.decision(ask(customer, "sms"), NOW)
    empty = engine.decision(ask(customer, "sms"), NOW)
    with pytest.raises(Problem, match="nothing to send"):
        engine.confirm(empty["decision_id"], NOW)


# ------------------------------------------------------------------------------------- many at once


def test_16_callers_over_4_processes_are_granted_two_contacts_every_time(tmp_path: Path) -> None:
    assert race(tmp_path / "home", 4, 500) == {"2": 500}


@pytest.mark.prove
def test_proof_contacts(tmp_path: Path) -> None:
    assert race(tmp_path / "home", 4, 10_000) == {"2": 10_000}


def test_two_workers_over_http_grant_two_confirm_them_and_know_what_was_sent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made(home)
    # Whatever the hour is where this runs: quiet hours are none of this test's business.
    (home / "rulebook.yaml").write_text("quiet_hours: {start: '00:00', end: '00:00'}\n")
    with serving(home, workers=2) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        consent = {"purpose": "marketing", "granted": True}
        body = {"userId": "c", "event": "Consent Updated", "messageId": "m", "properties": consent}
        assert client.post("/v1/track", json=body).json() == {"success": True}
        answers: list[dict] = []

        def call() -> None:  # a connection each, so that both workers are asked
            email = {"customer_id": "c", "channel": "email", "placement": "newsletter"}
            answers.append(httpx.post(f"{server.url}/decide", json=email, timeout=60).json())

        threads = [threading.Thread(target=call) for _ in range(16)]
        [each.start() for each in threads]
        [each.join() for each in threads]
        first, second = (each for each in answers if granted(each))
        assert len(answers) == 16
        for _ in range(4):
            confirmed = httpx.post(f"{server.url}/decisions/{first['decision_id']}/confirm")
            assert (confirmed.status_code, confirmed.json()) == (200, {"valid": True})
        sent = {"decision_id": second["decision_id"], "offer_id": second["offers"][0]["offer_id"], "response_id": "r"}
        assert client.post("/respond", json={**sent, "kind": "shown"}).json()["recorded"]
        again = httpx.post(f"{server.url}/decisions/{second['decision_id']}/confirm").json()
        assert {reason["rule"] for reason in again["reasons"]} == {"handed_over"}


def test_a_crash_between_the_record_and_the_commit_leaves_the_contact_unspent(tmp_path, monkeypatch) -> None:
    engine = opened(tmp_path / "home", OFFERS)
    agree(engine, "c")
    real = reservations.take

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reservations, "take", killed)
    with pytest.raises(KeyboardInterrupt):
        engine.decision(ask("c", "sms", request_id="r"), NOW)
    monkeypatch.setattr(reservations, "take", real)
    assert granted(engine.decision(ask("c", "sms", request_id="r"), NOW))
    engine.close()
    assert isinstance(engine.workspace, Workspace)
