"""An erased customer is in no file, and the rest is as if the messages had never come."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from features import build, database, erased, erasure
from features.parity import parity
from features.workspace import open_workspace
from serving import packing, reservations
from serving.engine import Engine
from serving.erasure import Eraser
from serving.facts import Contact
from serving.log_lines import records
from serving.question import Question
from serving.replay import replay

HER, DEVICE = "Zerbinetta-7319", "device-Naxos-5521"
MARKS = (HER, DEVICE, "purple-unicorn-kettle", "case-Ariadne-88")
"""Words that nobody else's data hold."""


def track(event: str, message_id: str, user: str | None = HER, device: str | None = None, **properties: Any) -> dict:
    who = {"userId": user} if user else {}
    who |= {"anonymousId": device} if device else {}
    return {"type": "track", "event": event, "messageId": message_id, "properties": properties, **who}


def order(message_id: str, user: str, *products: str) -> dict:
    lines = [{"product_id": each, "quantity": 1, "price": 9.5, "category": "chairs"} for each in products]
    return track("Order Completed", message_id, user, order_id=f"o-{message_id}", products=lines)


def her_story() -> list[dict]:
    return [
        track("Product Viewed", "h1", None, DEVICE, product_id="purple-unicorn-kettle"),
        {"type": "identify", "messageId": "h2", "userId": HER, "anonymousId": DEVICE, "traits": {"city": MARKS[2]}},
        order("h3", HER, "purple-unicorn-kettle", "chair-oak"),
        track("Support Case Opened", "h4", case_id="case-Ariadne-88", reason="the kettle sings"),
        track("Stock Reserved", "h5", product_id="chair-oak", location_id="online", quantity=1, order_id=MARKS[3]),
        track("Order Refunded", "h6", order_id="o-h3", products=[{"product_id": "purple-unicorn-kettle"}]),
    ]


def others_story() -> list[dict]:
    return [
        track("Stock Updated", "s1", None, product_id="chair-oak", location_id="online", quantity=9),
        order("o1", "other-1", "chair-oak"),
        order("o2", "other-2", "chair-oak", "table-oak-180"),
        {"type": "identify", "messageId": "o3", "userId": "other-1", "anonymousId": "the-kitchen-tablet"},
    ]


def files_with(home: Path, word: str) -> list[str]:
    """The files under `home` with that word in their bytes, or in their cells where they are Parquet."""
    import pyarrow.parquet as pq

    found = []
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += repr(pq.read_table(path).to_pylist()).encode()
        if word.encode() in content:
            found.append(path.relative_to(home).as_posix())
    return found


@pytest.fixture
def engine(_home: Path) -> Iterator[Engine]:
    workspace = open_workspace(_home)
    opened = Engine.open(workspace)
    opened.ingest(others_story(), time.time(), None)
    yield opened
    opened.close()
    opened.store.close()
    database.connect(workspace).dispose()


def live(engine: Engine) -> str:
    """She comes, buys, is decided for and answers; the id of one of her decisions."""
    receipts = engine.ingest(her_story(), time.time(), None)
    assert [receipt.problem for receipt in receipts] == [None] * len(receipts)
    for who in (HER, "other-1", HER):
        decided = engine.decision(Question(who, "web", "home"), time.time())
    engine.decision(Question("anonymous:" + DEVICE, "web", "home", request_id="r1"), time.time())
    return str(decided["decision_id"])


def stock(engine: Engine) -> list[Any]:
    with database.reading(engine.database) as connection:
        return connection.execute(sa.select(database.stock.c.quantity, database.stock.c.reserved)).all()


def test_what_is_erased_is_in_no_file_any_more(engine: Engine) -> None:
    home = engine.workspace.home
    live(engine)
    build.build(engine.workspace, store=engine.store)
    assert all(files_with(home, word) for word in MARKS)
    shelves = stock(engine)
    receipt = engine.customers.erase(HER, time.time())
    assert receipt is not None
    assert (receipt["erased"], receipt["overwritten"]) == ("now", True)
    assert {word: files_with(home, word) for word in MARKS} == {word: [] for word in MARKS}
    assert stock(engine) == shelves
    assert receipt["counts"]["decisions"] == 3


def test_while_another_process_writes_online_an_erasure_waits_and_decisions_go_on(engine: Engine) -> None:
    engine.ingest(her_story(), time.time(), None)
    with closing(sqlite3.connect(engine.workspace.home / "online.db")) as another:
        another.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(2) as threads:
            erased_by_then = threads.submit(Eraser(engine.workspace, engine.store).erase, HER, time.time())
            time.sleep(0.3)
            decided = threads.submit(engine.decision, Question("other-1", "web", "home"), time.time())
            assert decided.result(timeout=5)["customer_id"] == "other-1"
            assert not erased_by_then.done()
            another.rollback()
            receipt = erased_by_then.result(timeout=30)
    assert receipt is not None
    assert receipt["erased"] == "now"


def test_packed_days_are_exported_and_erased_too(engine: Engine) -> None:
    live(engine)
    for days in (3, 5):
        for who in (HER, "other-1"):
            engine.decision(Question(who, "web", "home"), time.time() - days * 86_400)
    log, kept = engine.workspace.decisions, len(list(records(engine.workspace.decisions)))
    assert len(packing.pack_past(log, time.time())) == 2
    assert len(exported(engine, HER)["decisions"]) == 5
    assert engine.customers.erase(HER, time.time())["counts"]["decisions"] == 5
    left = b"".join(line for path in packing.files(log) for _, line in packing.lines(path))
    assert not any(word.encode() in left for word in MARKS)
    assert len(list(records(log))) == kept - 5
    assert len(packing.pack_past(log, time.time())) == 2  # as plain as they were made to erase her


def test_what_a_decision_under_way_took_goes_with_it(engine: Engine) -> None:
    def reached(step: str) -> None:
        if step == "database":
            with database.transaction(engine.database) as connection:
                reservations.take(connection, [(HER, Contact("d", "email", ("loyalty",), 1.0, 2.0))])

    live(engine)
    receipt = Eraser(engine.workspace, engine.store, reached).erase(HER, time.time())
    assert receipt is not None
    assert receipt["counts"]["reservations"] == 1
    assert files_with(engine.workspace.home, HER) == []


def test_what_a_killed_packer_left_holds_nobody_who_is_erased(engine: Engine) -> None:
    engine.decision(Question(HER, "web", "home"), time.time() - 5 * 86_400)
    (path,) = packing.files(engine.workspace.decisions)
    plain = path.read_bytes()
    packing.pack(path)
    path.write_bytes(plain)  # killed before the plain one went
    path.with_name(f".{path.name}.4711").write_bytes(plain)
    engine.customers.erase(HER, time.time())
    assert [each.name for each in path.parent.iterdir() if not each.name.endswith(".index")] == [path.name]
    assert files_with(engine.workspace.home, HER) == []


def test_both_stores_agree_and_the_log_replays_afterwards(engine: Engine) -> None:
    decision_id = live(engine)
    build.build(engine.workspace, store=engine.store)
    engine.customers.erase(HER, time.time())
    assert parity(engine.workspace, store=engine.store) == []
    hers = []
    assert [each.problem for each in replay(engine.workspace, 0.0, lambda: hers.append(1))] == [None]
    assert len(hers) == 3
    assert orjson.loads(engine.record(decision_id) or b"") == {"decision_id": decision_id, "erased": True}
    build.build(engine.workspace, store=engine.store)
    assert parity(engine.workspace, store=engine.store) == []


def held_apart_from_marks(engine: Engine) -> dict[str, Any]:
    """Our database, row by row, without what grows with every message and what remembers erasures."""
    apart = {"erasures", "erased_messages", "feeds", "touched"}
    with database.reading(engine.database) as connection:
        return {
            table.name: sorted(
                repr([value for name, value in row.items() if name not in ("seq", "online_seq", "known_at")])
                for row in connection.execute(sa.select(table)).mappings()
            )
            for table in database.metadata.sorted_tables
            if table.name not in apart
        }


def test_the_rest_is_as_if_the_messages_had_never_come(engine: Engine) -> None:
    before = held_apart_from_marks(engine)
    shelf = [
        message for message in her_story() if message["event" if "event" in message else "type"] == "Stock Reserved"
    ]
    live(engine)
    engine.customers.erase(HER, time.time())
    after = held_apart_from_marks(engine)
    (reserved,) = set(after.pop("events")) - set(before.pop("events"))
    assert shelf[0]["messageId"] in reserved
    assert {name for name in after if after[name] != before[name]} == {"stock", "stock_moves"}


def test_a_second_call_says_so_and_nobody_is_a_404(engine: Engine) -> None:
    live(engine)
    first = engine.customers.erase(HER, 1_790_000_000.0)
    again = engine.customers.erase(HER, 1_790_000_999.0)
    assert first is not None
    assert again is not None
    assert (again["erased"], again["erased_at"]) == ("already", first["erased_at"])
    assert set(again["counts"].values()) == {0}
    assert set(again) == set(first)
    assert engine.customers.erase("anonymous:" + DEVICE, 1_790_000_999.0)["erased"] == "already"
    assert engine.customers.erase("never-here", time.time()) is None
    with database.reading(engine.database) as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(database.erasures)) == 2


def test_an_erased_message_sent_again_is_a_duplicate_and_a_new_one_begins_a_new_story(engine: Engine) -> None:
    live(engine)
    engine.customers.erase(HER, time.time())
    again = engine.ingest(her_story(), time.time(), None)
    assert [(receipt.stored, receipt.duplicate) for receipt in again] == [(False, True)] * len(again)
    assert engine.store.read(HER) is None
    engine.ingest([order("new-1", HER, "table-oak-180")], time.time(), None)
    profile = engine.store.read(HER)
    assert profile is not None
    assert [key for key in profile.profile.items if key.startswith("p:")] == ["p:table-oak-180"]
    assert profile.profile.state["open_returns"] == {}
    assert engine.customers.erase(HER, time.time())["counts"]["events"] == 1


def test_a_history_loaded_again_does_not_bring_an_erased_customer_back(engine: Engine) -> None:
    from features.sources import segment

    path = engine.workspace.home / "history.ndjson"
    path.write_bytes(b"\n".join(orjson.dumps({**m, "timestamp": "2026-01-01T00:00:00Z"}) for m in her_story()))
    segment.ingest(engine.workspace, path, time.time())
    engine.customers.erase(HER, time.time())
    summary = segment.ingest(engine.workspace, path, time.time())
    assert (summary["stored"], summary["duplicates"]) == (0, len(her_story()))


def test_a_device_that_others_use_is_theirs_afterwards(engine: Engine) -> None:
    her_login = {"type": "identify", "messageId": "t1", "userId": HER, "anonymousId": "tablet"}
    his_login = {"type": "identify", "messageId": "t2", "userId": "him", "anonymousId": "tablet"}
    engine.ingest([her_login], time.time(), None)
    engine.ingest([his_login], time.time(), None)
    engine.customers.erase(HER, time.time())
    (receipt,) = engine.ingest([track("Product Viewed", "t3", None, "tablet", product_id="x")], time.time(), None)
    assert receipt.customer_id == "him"
    assert parity(engine.workspace, store=engine.store) == []


def test_who_was_parted_from_her_is_left_and_does_not_name_her(engine: Engine) -> None:
    key = {"traits": {"loyalty_number": "L-1"}}
    for number, who in enumerate((HER, "sister")):
        engine.ingest([{"type": "identify", "messageId": f"k{number}", "userId": who, **key}], time.time(), None)
    assert exported(engine, "sister")["customer_id"] == HER
    engine.intake.undo("sister", time.time())
    engine.ingest([order("k3", "sister", "chair-oak")], time.time(), None)
    engine.customers.erase(HER, time.time())
    assert exported(engine, "sister")["customer_id"] == "sister"
    assert files_with(engine.workspace.home, HER) == []
    assert parity(engine.workspace, store=engine.store) == []


def test_who_shares_a_crowded_key_with_her_may_be_one_customer_afterwards(engine: Engine) -> None:
    key = {"traits": {"loyalty_number": "L-1"}}
    for number, who in enumerate((HER, "a", "b", "c")):
        engine.ingest([{"type": "identify", "messageId": f"k{number}", "userId": who, **key}], time.time(), None)
        engine.ingest([order(f"n{number}", who, "chair-oak")], time.time(), None)
    assert exported(engine, "c")["customer_id"] == "c"
    engine.customers.erase(HER, time.time())
    assert len(exported(engine, "c")["events"]) == 6
    profile = engine.store.read("a")
    assert profile is not None
    assert profile.profile.state["orders"] == 3
    assert parity(engine.workspace, store=engine.store) == []


def test_an_anonymous_customer_is_erased_too(engine: Engine) -> None:
    engine.ingest([track("Product Viewed", "a1", None, "walk-in", product_id="chair-oak")], time.time(), None)
    engine.decision(Question("anonymous:walk-in", "web", "home"), time.time())
    receipt = engine.customers.erase("anonymous:walk-in", time.time())
    assert receipt is not None
    assert (receipt["counts"]["events"], receipt["counts"]["decisions"]) == (1, 1)
    assert files_with(engine.workspace.home, "walk-in") == []


def test_who_was_only_decided_for_is_erased_too(engine: Engine) -> None:
    engine.decision(Question("window-shopper", "web", "home"), time.time())
    receipt = engine.customers.erase("window-shopper", time.time())
    assert receipt is not None
    assert receipt["counts"] == dict.fromkeys(receipt["counts"], 0) | {"decisions": 1, "last_decisions": 1}


def test_an_erased_decision_takes_no_response_and_repeats_no_answer(engine: Engine) -> None:
    from serving.problems import Problem
    from serving.schemas import RespondRequest

    decision_id = live(engine)
    engine.customers.erase(HER, time.time())
    asked = {"decision_id": decision_id, "offer_id": "x", "kind": "clicked", "response_id": "r"}
    with pytest.raises(Problem, match="no decision"):
        engine.respond(RespondRequest.model_validate(asked), time.time())
    anew = engine.decision(Question("anonymous:" + DEVICE, "web", "home", request_id="r1"), time.time())
    assert anew["fallback"] == "unknown_customer"


class Killed(BaseException):
    """Ends a call as a crash would: nothing below catches it."""


@pytest.mark.parametrize("step", ["database", "online", "decisions", "offline", "leftovers"])
def test_whoever_was_killed_halfway_is_finished_at_the_next_start(engine: Engine, step: str) -> None:
    def reached(name: str) -> None:
        if name == step:
            raise Killed

    live(engine)
    build.build(engine.workspace, store=engine.store)
    with pytest.raises(Killed):
        Eraser(engine.workspace, engine.store, reached).erase(HER, time.time())
    with database.reading(engine.database) as connection:
        assert erased.at(connection, HER) is None
        assert erasure.unfinished(connection) == [HER]
    assert engine.customers.go_on(time.time()) == 1
    assert {word: files_with(engine.workspace.home, word) for word in MARKS} == {word: [] for word in MARKS}
    again = engine.customers.erase("anonymous:" + DEVICE, time.time())
    assert again is not None
    assert again["erased"] == "already"
    assert parity(engine.workspace, store=engine.store) == []


def test_asked_again_after_a_crash_the_receipt_counts_what_went_before(engine: Engine) -> None:
    def reached(name: str) -> None:
        raise Killed

    live(engine)
    with pytest.raises(Killed):
        Eraser(engine.workspace, engine.store, reached).erase(HER, time.time())
    receipt = engine.customers.erase("anonymous:" + DEVICE, time.time())  # she by her other id, which is unlearnt
    assert receipt is not None
    assert (receipt["erased"], receipt["counts"]["events"]) == ("now", 5)
    assert engine.customers.erase(HER, time.time())["erased"] == "already"


# ------------------------------------------------------------------------------------------- export


def exported(engine: Engine, customer_id: str) -> dict[str, Any]:
    pieces = engine.customers.export(customer_id, time.time())
    assert pieces is not None
    return orjson.loads(b"".join(pieces))


def test_an_export_holds_everything_and_nobody_elses(engine: Engine) -> None:
    decision_id = live(engine)
    found = exported(engine, "anonymous:" + DEVICE)
    assert found["customer_id"] == HER
    assert {each["id"]: each["kind"] for each in found["ids"]} == {HER: "login", DEVICE: "anonymous"}
    assert [each["message_id"] for each in found["events"]] == [each["messageId"] for each in her_story()]
    assert [(each["id"], each["after"]) for each in found["merges"]] == [("anonymous:" + DEVICE, HER)]
    assert found["events"][3]["properties"]["reason"] == "the kettle sings"
    assert decision_id in [each["decision_id"] for each in found["decisions"]]
    assert all(each["answer"]["customer_id"] in (HER, "anonymous:" + DEVICE) for each in found["decisions"])
    assert "other-" not in orjson.dumps(found).decode()
    assert {each["seq"] for each in found["profiles_seen"]} >= {found["decisions"][0]["facts"]["profile_seq"]}
    assert "p:purple-unicorn-kettle" in found["profile"]["items"]
    assert {each["name"]: each["value"] for each in found["profile"]["features"]}["orders"] == 1.0


def test_what_an_export_holds_is_what_a_receipt_counts(engine: Engine) -> None:
    live(engine)
    found = exported(engine, HER)
    counts = engine.customers.erase(HER, time.time())["counts"]
    assert len(found["events"]) == counts["events"] + counts["stock_messages"]
    for part in ("responses", "decisions", "requests", "reservations", "dismissals"):
        assert len(found[part]) == counts[part]
    assert len(found["profiles_seen"]) == counts["decision_profiles"]
    assert engine.customers.export(HER, time.time()) is None
