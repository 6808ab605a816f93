"""Feeds of the help desk and of consent: told once heard of, and holding back where the rulebook insists on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from contacting import ask, opened

from features import database, signals
from features.workspace import PROJECT, Workspace
from serving.engine import Engine
from serving.replay import replay

NOW = 1_790_000_000.0
OFFERS = """\
offers:
  - {offer_id: a, kind: loyalty, valid_from: 2020-01-01, valid_until: 2099-01-01, value: {margin: 5}}
"""
BOOK = (PROJECT / "serving/rulebook.yaml").read_text()


@pytest.fixture
def engine(workspace, tmp_path: Path) -> Iterator[Engine]:
    made = opened(workspace.home, OFFERS)
    yield made
    made.close()


def told(engine: Engine, at: float = NOW) -> dict:
    return dict(engine.decision(ask("ann", "web", limit=3), at))


def heard(engine: Engine, event: str, number: int, at: float, **properties: object) -> None:
    who = {} if event == "Feed Alive" else {"userId": "ann"}
    body = {"type": "track", "event": event, "messageId": f"{event}-{number}", "properties": properties, **who}
    (receipt,) = engine.ingest([body], at, None)
    assert receipt.problem is None


def test_a_feed_that_never_spoke_is_not_told_and_holds_nothing_back(engine: Engine) -> None:
    answer = told(engine)
    assert not {"cases", "consent"} & set(answer["signals"])
    assert [offer["offer_id"] for offer in answer["offers"]] == ["a"]


def test_a_feed_is_heard_by_its_events_and_by_its_own_word_from_wherever(engine: Engine) -> None:
    heard(engine, "Feed Alive", 1, NOW - 7.0, signal="cases", location_id="berlin-mitte")
    heard(engine, "Consent Updated", 1, NOW - 3.0, purpose="profiling", granted=True)
    signals = told(engine)["signals"]
    assert (signals["cases"]["age_s"], signals["consent"]["age_s"]) == (7.0, 3.0)
    heard(engine, "Support Case Opened", 2, NOW - 1.0, case_id="c", reason="x")
    assert told(engine)["signals"]["cases"] == {"age_s": 1.0, "stale": False}
    assert told(engine, NOW + 3_700.0)["signals"]["cases"]["stale"] is True


def test_where_the_rulebook_insists_a_silent_feed_holds_back_until_it_speaks(workspace) -> None:
    (workspace.home / "rulebook.yaml").write_text(BOOK.replace("3600, on_stale: allow", "3600, on_stale: suppress"))
    engine = opened(workspace.home, OFFERS)
    (held,) = told(engine)["suppressed"]
    assert [(reason["code"], reason["rule"]) for reason in held["reasons"]] == [("signal_missing", "cases")]
    heard(engine, "Feed Alive", 1, NOW, signal="cases")
    assert [offer["offer_id"] for offer in told(engine, NOW + 3_600.0)["offers"]] == ["a"]
    (held,) = told(engine, NOW + 3_601.0)["suppressed"]
    assert [(reason["code"], reason["observed"]) for reason in held["reasons"]] == [("signal_stale", "3601 s old")]
    engine.close()
    assert [each.problem for each in replay(workspace)] == [None] * 3


def test_every_places_feed_is_heard_of_whichever_was_heard_last(workspace: Workspace) -> None:
    engine = database.connect(workspace)
    known = signals.Signals(engine)
    for place, at in (("berlin", 100.0), ("hamburg", 500.0), ("berlin", 200.0), ("", 150.0), ("hamburg", 500.001)):
        with database.transaction(engine) as connection:
            signals.heard(connection, {("stock", place): at})
        known.refresh()
        assert known.last_at("stock", place) == at
    assert known.last_at("stock", "berlin") == 200.0
    known.close()
