"""Another channel goes on with what one has shown: the same offers, products and order, unless a rule is against it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contacting import agree, ask, opened

from serving.engine import Engine
from serving.facts import moment
from serving.last_decisions import Last, LastDecisions, forget
from serving.problems import Problem
from serving.replay import replay

NOW = 1_790_000_000.0
MINUTE_S = 60.0
OFFERS = """\
offers:
  - {offer_id: a, kind: loyalty, exclusive_group: one, valid_from: 2020-01-01, valid_until: 2099-01-01,
     value: {margin: 5}}
  - {offer_id: b, kind: loyalty, exclusive_group: one, valid_from: 2020-01-01, valid_until: 2099-01-01,
     value: {margin: 3}}
  - {offer_id: c, kind: loyalty, valid_from: 2020-01-01, valid_until: 2026-09-21T14:30:00Z, value: {margin: 1}}
"""
# 14:13:20 is NOW. By itself every channel shows a and c; b comes only where a does not.


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        made = opened(tmp_path_factory.mktemp("continuity") / "home", OFFERS)
        yield made
        made.close()


@pytest.fixture
def customer(request: pytest.FixtureRequest) -> str:
    return request.node.name


def offers(answer) -> list[str]:
    return [offer["offer_id"] for offer in answer["offers"]]


def decided(engine: Engine, customer: str, channel: str = "web", at: float = NOW, **more) -> dict:
    return dict(engine.decision(ask(customer, channel, limit=3, **more), at))


def test_the_first_decision_goes_on_with_nothing(engine, customer) -> None:
    answer = decided(engine, customer)
    assert (offers(answer), answer["continued_from"]) == (["a", "c"], None)


def test_another_channel_shows_the_same_within_the_time_and_says_from_where(engine, customer) -> None:
    web = engine.decision(ask(customer, "web", limit=1), NOW)
    app = engine.decision(ask(customer, "app", limit=3), NOW + 10 * MINUTE_S)
    assert app["continued_from"] == web["decision_id"]
    assert offers(app) == ["a", "c"]
    assert app["offers"][0]["selection_probability"] == 1.0


def test_the_same_channel_decides_anew(engine, customer) -> None:
    decided(engine, customer)
    assert decided(engine, customer, at=NOW + MINUTE_S)["continued_from"] is None


def test_the_time_is_counted_from_the_first_showing_however_often_it_is_carried_on(engine, customer) -> None:
    web = decided(engine, customer)
    app = decided(engine, customer, "app", NOW + 20 * MINUTE_S)
    assert app["continued_from"] == web["decision_id"]
    assert decided(engine, customer, "web", NOW + 30 * MINUTE_S - 1)["continued_from"] == app["decision_id"]
    assert decided(engine, customer, "app", NOW + 30 * MINUTE_S)["continued_from"] is None


def test_what_is_held_back_now_is_not_shown_and_says_why(engine, customer) -> None:
    web = decided(engine, customer)
    assert offers(web) == ["a", "c"]
    app = decided(engine, customer, "app", NOW + 20 * MINUTE_S)  # c has ended by then
    assert (app["continued_from"], offers(app)) == (web["decision_id"], ["a"])
    codes = {each["offer_id"]: {r["code"] for r in each["reasons"]} for each in app["suppressed"]}
    assert "outside_validity" in codes["c"]


def test_what_was_shown_comes_before_what_would_rank_higher(engine, customer) -> None:
    agree(engine, customer)
    elsewhere = engine.decision(ask(customer, "email", limit=3, preview=True), NOW)
    assert offers(elsewhere)[0] == "a"
    record = engine.log.find(elsewhere["decision_id"])
    record["answer"]["offers"] = [{**record["answer"]["offers"][0], "offer_id": "b"}]
    with engine.log.slot(NOW, None) as slot:
        slot.write({**record, "decision_id": slot.decision_id, "promised": [["b", None, 0.0, 4_070_908_800.0]]})
    app = engine.decision(ask(customer, "app", limit=3, continue_from=slot.decision_id), NOW)
    assert offers(app) == ["b", "c"]
    assert {r["code"] for each in app["suppressed"] if each["offer_id"] == "a" for r in each["reasons"]} == {
        "mutually_exclusive"
    }


def test_terms_that_got_worse_since_are_a_conflict(engine, customer) -> None:
    web = decided(engine, customer)
    record = engine.log.find(web["decision_id"])
    with engine.log.slot(NOW, None) as slot:
        promised = [["a", None, 2.0, 4_070_908_800.0], ["c", None, 0.0, 4_070_908_800.0]]
        slot.write({**record, "decision_id": slot.decision_id, "promised": promised})
    app = engine.decision(ask(customer, "app", continue_from=slot.decision_id), NOW)
    held = {
        each["offer_id"]: [(r["code"], r["rule"], r["evidence"]) for r in each["reasons"]] for each in app["suppressed"]
    }
    assert held["a"] == [("terms_conflict", "discount", slot.decision_id)]
    assert held["c"] == [("terms_conflict", "valid_until", slot.decision_id)]


def test_other_terms_are_a_conflict_until_going_on_ends_by_itself_and_as_long_as_a_caller_names_them(
    engine, customer
) -> None:
    record = engine.log.find(decided(engine, customer)["decision_id"])
    with engine.log.slot(NOW, None) as slot:
        slot.write({**record, "decision_id": slot.decision_id, "promised": [["a", None, 2.0, 4_070_908_800.0]]})
    begun = NOW + 0.123
    engine.last.note(customer, Last(slot.decision_id, "web", NOW + MINUTE_S, begun))

    def conflict(at: float, **more) -> list[Any]:
        answer = engine.decision(ask(customer, "app", limit=3, preview=True, **more), at)
        held = [reason for each in answer["suppressed"] for reason in each["reasons"]]
        return [each["retry_after"] for each in held if each["code"] == "terms_conflict"]

    over = begun + 30 * MINUTE_S
    assert conflict(NOW + 2 * MINUTE_S) == conflict(over - 1) == [moment(over)]
    assert conflict(over) == []
    assert conflict(over, continue_from=slot.decision_id) == [None]


def test_a_preview_goes_on_but_nothing_goes_on_from_it(engine, customer) -> None:
    decided(engine, customer, preview=True)
    web = decided(engine, customer, "app", NOW + MINUTE_S)
    assert web["continued_from"] is None
    look = decided(engine, customer, "web", NOW + 2 * MINUTE_S, preview=True)
    assert look["continued_from"] == web["decision_id"]


# --------------------------------------------------------------------------------------- continue_from


def test_a_caller_may_name_what_to_go_on_with_whatever_the_time_and_channel(engine, customer) -> None:
    web = decided(engine, customer)
    later = decided(engine, customer, "web", NOW + 5 * 86_400, continue_from=web["decision_id"])
    assert later["continued_from"] == web["decision_id"]


def test_somebody_elses_decision_is_refused_as_one_that_does_not_exist_is(engine, customer) -> None:
    theirs = decided(engine, f"{customer}-other")["decision_id"]
    said = []
    for name in (theirs, "20260921-00000000-0-00000000"):
        with pytest.raises(Problem, match="is no decision of this customer") as told:
            decided(engine, customer, continue_from=name)
        assert (told.value.status, told.value.errors[0]["field"]) == (400, "continue_from")
        said.append(told.value.detail.replace(name[:40], "x"))
    assert said[0] == said[1]


def test_what_was_shown_before_login_goes_on_after_it(engine, customer) -> None:
    before = decided(engine, f"anonymous:{customer}")["decision_id"]
    with pytest.raises(Problem):
        decided(engine, customer, "app", continue_from=before)
    identify = {"type": "identify", "userId": customer, "anonymousId": customer, "messageId": f"id-{customer}"}
    engine.ingest([identify], NOW, None)
    assert decided(engine, customer, "app", continue_from=before)["continued_from"] == before


def logs_in(engine: Engine, customer: str, at: float = NOW) -> None:
    body = {"type": "identify", "userId": customer, "anonymousId": customer, "messageId": f"login-{customer}"}
    engine.ingest([body], at, None)


def test_what_a_visitor_was_shown_goes_on_by_itself_in_another_channel_after_the_login(engine, customer) -> None:
    before = engine.decision(ask(f"anonymous:{customer}", "web", limit=1), NOW)
    logs_in(engine, customer, NOW + MINUTE_S)
    after = decided(engine, customer, "app", NOW + 2 * MINUTE_S)
    assert after["continued_from"] == before["decision_id"]
    shown, again = before["offers"][0], after["offers"][0]
    assert [again[name] for name in ("offer_id", "product_id", "valid_until", "treatment")] == [
        shown[name] for name in ("offer_id", "product_id", "valid_until", "treatment")
    ]
    assert decided(engine, customer, "app", NOW + 30 * MINUTE_S)["continued_from"] is None, "the time goes on"


def test_two_logins_that_prove_to_be_one_customer_go_on_with_each_other(engine, customer) -> None:
    first = decided(engine, f"{customer}-work")["decision_id"]
    traits = {"email": f"{customer}@example.org"}
    for name in (customer, f"{customer}-work"):
        body = {"type": "identify", "userId": name, "messageId": f"mail-{name}", "traits": traits}
        engine.ingest([body], NOW + 1, None)
    assert decided(engine, customer, "app", NOW + 2)["continued_from"] == first


def test_of_a_visitor_and_a_customer_the_later_word_in_a_channel_counts(engine, customer) -> None:
    mine = decided(engine, customer, "web", NOW + 5)["decision_id"]
    decided(engine, f"anonymous:{customer}", "web", NOW)
    logs_in(engine, customer, NOW + 6)
    assert decided(engine, customer, "app", NOW + 7)["continued_from"] == mine


def test_who_is_not_known_to_be_the_same_goes_on_with_nothing(engine, customer) -> None:
    decided(engine, f"anonymous:{customer}")
    assert decided(engine, customer, "app", NOW + 1)["continued_from"] is None


def test_a_request_id_does_not_stand_for_another_continuation(engine, customer) -> None:
    web = decided(engine, customer)["decision_id"]
    decided(engine, customer, "app", request_id="r", continue_from=web)
    with pytest.raises(Problem, match="another question"):
        decided(engine, customer, "app", request_id="r")


def test_decisions_that_go_on_replay_to_the_same_bytes(engine, customer) -> None:
    decided(engine, customer)
    assert decided(engine, customer, "app", NOW + 1)["continued_from"]
    made_up = 3  # records that tests above have altered
    assert len([each for each in replay(engine.workspace) if each.problem]) <= made_up


@pytest.mark.parametrize(("purpose", "best"), [("profiling", ["a"]), ("personalisation", [])])
def test_who_refuses_to_be_scored_is_not_shown_first_what_scores_have_chosen(engine, customer, purpose, best) -> None:
    """All that these offers are is personal: who refuses that is shown none."""
    record = engine.log.find(decided(engine, customer)["decision_id"])
    with engine.log.slot(NOW, None) as slot:
        slot.write({**record, "decision_id": slot.decision_id, "promised": [["b", None, 0.0, 4_070_908_800.0]]})
    going_on = ask(customer, "app", limit=3, continue_from=slot.decision_id)
    before = engine.decision(going_on, NOW)
    assert (offers(before)[0], before["continued_from"]) == ("b", slot.decision_id)
    no = {"type": "track", "userId": customer, "messageId": f"no-{customer}", "event": "Consent Updated"}
    assert engine.ingest([{**no, "properties": {"purpose": purpose, "granted": False}}], NOW, None)[0].stored
    after = engine.decision(going_on, NOW)
    assert (offers(after)[:1], after["continued_from"]) == (best, None)
    assert engine.decision(ask(customer, "web", limit=3), NOW + 1)["continued_from"] is None


# ------------------------------------------------------------------------------- between the workers


def last(name: str, channel: str = "web", at: float = NOW) -> Last:
    return Last(name, channel, at, at)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[LastDecisions]]:
    made = [LastDecisions(tmp_path, b"key") for _ in range(3)]
    yield made
    for each in made:
        each.close()


def test_every_worker_knows_at_once_what_another_has_shown(workers) -> None:
    for number, each in enumerate(workers):
        each.note("c", last(f"d{number}", at=NOW + number))
        for other in workers:
            assert other.elsewhere("c", "app", NOW + 3, 1800).decision_id == f"d{number}"
            assert other.elsewhere("c", "web", NOW + 3, 1800) is None
            assert other.elsewhere("nobody", "app", NOW + 3, 1800) is None


@pytest.mark.parametrize("cut_back", [True, False])
def test_what_is_noted_after_a_disk_was_full_every_worker_knows(workers, monkeypatch, cut_back: bool) -> None:
    wrote, cut = os.write, os.ftruncate

    def full(file: int, data: bytes) -> int:
        monkeypatch.setattr("serving.appending.os.write", lambda *_: wrote(-1, b""))
        return wrote(file, data[:30])

    workers[0].note("c", last("before"))
    monkeypatch.setattr("serving.appending.os.write", full)
    if not cut_back:
        monkeypatch.setattr("serving.appending.os.ftruncate", lambda file, size: cut(-1, size))
    with pytest.raises(OSError, match="Bad file descriptor"):
        workers[0].note("d", last("torn"))
    monkeypatch.undo()
    workers[0].note("e", last("after"))
    workers[0].note("f", last("later"))
    known = [workers[1].elsewhere(name, "app", NOW + 1, 1800) for name in "cdef"]
    assert known == [last("before"), None, last("after"), last("later")]


def test_every_worker_knows_whose_an_id_has_become(workers) -> None:
    workers[0].note("anonymous:a", last("one"))
    workers[1].joined("anonymous:a", "ann")
    for worker in workers:
        assert worker.elsewhere("ann", "app", NOW + 1, 1_800.0) == last("one")
    workers[1].joined("ann", "ann")


def test_one_that_starts_later_knows_it_too(workers, tmp_path: Path) -> None:
    workers[0].note("c", last("d"))
    late = LastDecisions(tmp_path, b"key")
    assert late.elsewhere("c", "app", NOW, 1800).decision_id == "d"
    late.close()


def test_the_file_of_a_worker_that_is_gone_is_read_once_and_let_go(workers, tmp_path: Path) -> None:
    for number, each in enumerate(workers):
        each.note("c", last(f"d{number}", at=NOW + number))
    workers[2].close()
    late = LastDecisions(tmp_path, b"key")
    for worker in (*workers[:2], late):
        assert worker.elsewhere("c", "app", NOW + 3, 1800).decision_id == "d2"
    late.note("c", last("d3", at=NOW + 3))
    assert workers[0].elsewhere("c", "app", NOW + 4, 1800).decision_id == "d3"
    workers[1].note("c", last("d4", at=NOW + 4))
    assert workers[0].elsewhere("c", "app", NOW + 5, 1800).decision_id == "d4"
    assert (len(workers[0]._others), len(late._others)) == (2, 2)
    late.close()


def test_a_worker_that_was_silent_for_hours_knows_what_another_has_just_shown(workers) -> None:
    workers[1].elsewhere("c", "app", NOW, 1_800.0)
    for place, worker in enumerate((workers[0], workers[1])):  # another, and itself without having looked
        later = NOW + (place + 1) * 10_000
        worker.note("c", last(f"d{place}", at=later))
        assert workers[1].elsewhere("c", "app", later + 60, 1_800.0) == last(f"d{place}", at=later)
    assert workers[1].elsewhere("c", "app", later + 1_800, 1_800.0) is None


def test_files_stay_small_and_name_nobody(workers, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("serving.last_decisions.FULL_BYTES", 1_000)
    for number in range(200):
        workers[0].note(f"customer-{number % 7}", last(f"d{number}", at=NOW + number))
    assert len(list(tmp_path.iterdir())) <= 2
    assert all(b"customer" not in path.read_bytes() for path in tmp_path.iterdir())
    assert workers[1].elsewhere("customer-3", "app", NOW + 200, 1800).decision_id == "d199"


def test_who_is_erased_is_blanked_out_and_the_others_are_read_on(workers, tmp_path: Path) -> None:
    for number, name in enumerate(("c", "d", "anonymous:c", "c")):
        workers[number % 2].note(name, last(f"of-{name}", at=NOW + number))
    assert forget(tmp_path, b"key", ["c", "anonymous:c"]) == 3
    assert forget(tmp_path, b"key", ["c", "anonymous:c"]) == 0
    assert b"of-c" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert workers[2].elsewhere("c", "app", NOW + 9, 1800) is None
    workers[0].note("e", last("of-e"))
    found = [workers[2].elsewhere(name, "app", NOW + 9, 1800) for name in ("d", "e")]
    assert [each.decision_id for each in found if each] == ["of-d", "of-e"]


def test_what_is_past_its_time_is_forgotten(workers) -> None:
    for number in range(1_000):
        workers[0].note(f"c{number}", last("d", at=NOW + number))
        assert workers[0].elsewhere(f"c{number}", "app", NOW + number, 10).decision_id == "d"
    assert len(workers[0]._recent) + len(workers[0]._older) <= 21


def test_looking_and_noting_cost_microseconds(workers) -> None:
    began = time.process_time()
    for number in range(2_000):
        workers[0].note("c", last("d", at=NOW + number))
        workers[1].elsewhere("c", "app", NOW + number, 1800)
    assert (time.process_time() - began) / 2_000 < 0.000_5
