"""An event comes in: stored once, in the right customer's profile, visible online, whatever the order."""

import random
import threading

import pytest
import sqlalchemy as sa

from features import database, identity, profiles
from features.catalog import load_catalog
from features.events import EventLog, check
from features.intake import Intake
from features.signals import Signals

NOW = 1_790_000_000.0


class FakeStore:
    """An online store in memory; `broken` makes it fail, as after a crash."""

    def __init__(self):
        self.rows, self.stock, self.broken = {}, {}, False

    apart = False

    def write(self, rows, at_once=False):
        if self.broken:
            raise OSError("online store is down")
        for customer_id, seq, _known_at, state, items in rows:
            self.rows[customer_id] = (seq, profiles.unpack(state, items))

    def write_stock(self, rows, at_once=False):
        for product_id, location_id, quantity, _at in rows:
            self.stock[product_id, location_id] = quantity


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
def intake(workspace, store):
    return Intake(database.connect(workspace), store, load_catalog(workspace))


def order(message_id, at=NOW - 100, product="chair-oak", user="1", **more):
    body = {"order_id": f"o-{message_id}", "products": [{"product_id": product, "quantity": 1}]}
    return {
        "message_id": message_id,
        "name": "Order Completed",
        "occurred_at": at,
        "user_id": user,
        "channel": "web",
        "body": body,
    } | more


def stock(message_id, quantity, at=NOW - 50, name="Stock Updated"):
    body = {"product_id": "chair-oak", "location_id": "online", "quantity": quantity}
    return {"message_id": message_id, "name": name, "occurred_at": at, "body": body}


def test_what_was_answered_as_stored_is_online(intake, store):
    receipt = intake.one(order("m1"), NOW)
    assert receipt.stored
    assert receipt.customer_id == "1"
    assert store.rows["1"][1].items["p:chair-oak"][profiles.LAST_ID] == "m1"


def test_who_is_only_in_the_log_so_far_has_all_of_it_in_the_first_live_profile(intake, store, workspace):
    past = check(order("before", product="table-oak-180"), NOW - 50)
    with database.transaction(database.connect(workspace)) as connection:
        EventLog().append(connection, past, "1")  # as from a file that is not built yet
    intake.one(order("m1"), NOW)
    assert {"p:table-oak-180", "p:chair-oak"} <= set(store.rows["1"][1].items)


def test_the_catalog_fills_in_category_and_price(intake, store):
    intake.one(order("m1"), NOW)
    assert store.rows["1"][1].items["c:dining chairs"][profiles.DECAYED_SPEND] == 149.0


def test_a_duplicate_changes_nothing_and_is_said_to_be_one(intake, store):
    intake.one(order("m1"), NOW)
    before = profiles.pack(store.rows["1"][1])
    receipt = intake.one(order("m1", product="lamp-pendant"), NOW + 5)
    assert receipt.duplicate
    assert not receipt.stored
    assert profiles.pack(store.rows["1"][1]) == before


def test_of_one_message_id_twice_in_a_batch_the_first_counts_whoever_the_second_is_about(intake, store, workspace):
    other = {"anonymous_id": "phone", "name": "$identify", "body": {"traits": {}}}
    receipts = intake.many([order("m1"), order("m1", user="2") | other], NOW)
    assert [(one.stored, one.duplicate) for one in receipts] == [(True, False), (False, True)]
    assert store.rows.keys() == {"1"}
    assert store.rows["1"][1].state["orders"] == 1
    with database.reading(database.connect(workspace)) as connection:
        assert identity.customer_of(connection, None, "phone") == "anonymous:phone"


def test_a_bad_message_spoils_no_other(intake):
    receipts = intake.many([order("m1"), order("m2", at=NOW + 10_000), {"message_id": "m3"}, order("m4")], NOW)
    assert [r.stored for r in receipts] == [True, False, False, True]
    assert "is in the future" in str(receipts[1].problem) or "lies in the future" in str(receipts[1].problem)
    assert receipts[2].problem.field == "timestamp"


@pytest.mark.parametrize("products", [["p1"], [{"sku": "p1"}], 1.5, "p1"])
def test_what_an_event_does_not_need_may_be_anything(intake, products):
    body = {"query": "chairs", "products": products}
    assert intake.one({**order("m1"), "name": "Products Searched", "body": body}, NOW).stored


def test_the_product_and_discount_of_a_response_are_checked_as_everywhere(intake, workspace):
    def responded(number, **more):
        body = {"offer_id": "o", "offer_kind": "promotion", "response": "accepted", **more}
        return {**order(f"r{number}", user=f"u{number}"), "name": "Offer Responded", "body": body}

    assert intake.one(responded(1, product_id=899624, discount=5), NOW).stored
    for number, wrong in enumerate(
        ({"product_id": ["p"]}, {"discount": "10%"}, {"discount": -1}, {"discount": True}), 2
    ):
        assert intake.one(responded(number, **wrong), NOW).problem is not None
    for number in (7, 8):  # what is no id of a decision tells nothing apart
        intake.one(responded(number, decision_id="none"), NOW)
    with database.reading(database.connect(workspace)) as connection:
        assert connection.scalar(sa.select(sa.func.sum(database.offer_uses.c.uses))) == 3


def test_any_order_of_arrival_gives_the_same_profile(intake, store, workspace):
    records = [
        order(f"m{i}", NOW - 1000 + 10 * i, random.Random(i).choice(["chair-oak", "lamp-pendant"])) for i in range(12)
    ]
    records.append(
        {
            "message_id": "r1",
            "name": "Order Refunded",
            "occurred_at": NOW - 500,
            "user_id": "1",
            "body": {"order_id": "o-m2"},
        }
    )
    random.Random(7).shuffle(records)
    for record in records:
        intake.one(record, NOW)
    with database.reading(database.connect(workspace)) as connection:
        expected = profiles.fold_all(EventLog().of_customer(connection, "1"))
    assert profiles.pack(store.rows["1"][1]) == profiles.pack(expected)
    assert derived(store)["orders"] == 12.0


def derived(store, customer_id="1"):
    return profiles.derive(store.rows[customer_id][1], NOW)


def test_anonymous_history_becomes_the_customers_at_login(intake, store):
    intake.one(order("m1", user=None, anonymous_id="a1"), NOW)
    assert derived(store, "anonymous:a1")["orders"] == 1.0
    login = {"message_id": "m2", "name": "$identify", "occurred_at": NOW - 10, "user_id": "1", "anonymous_id": "a1"}
    intake.one(login, NOW)
    assert derived(store)["orders"] == 1.0
    assert store.rows["anonymous:a1"][1].state == {}


def test_a_second_login_on_the_device_takes_nothing_from_the_first(intake, store):
    intake.one(order("m1", user=None, anonymous_id="a1"), NOW)
    for user, at in (("2", NOW - 5), ("1", NOW - 10)):
        name = f"login-{user}"
        intake.one(
            {"message_id": name, "name": "$identify", "occurred_at": at, "user_id": user, "anonymous_id": "a1"}, NOW
        )
    assert derived(store, "1")["orders"] == 1.0
    assert derived(store, "2")["orders"] == 0.0


def test_a_customer_id_cannot_pass_for_an_anonymous_one(intake):
    receipt = intake.one(order("m1", user="anonymous:a1"), NOW)
    assert receipt.problem.field == "userId"


def test_stock_is_the_newest_message_not_the_last_to_arrive(intake, store, workspace):
    intake.one(stock("s2", 0, NOW - 10), NOW)
    intake.one(stock("s1", 9, NOW - 20), NOW)
    signals = Signals(database.connect(workspace))
    assert signals.stock_at("online")["chair-oak"].quantity == 0
    assert store.stock["chair-oak", "online"] == 0
    assert signals.last_at("stock", "online") == NOW - 10
    signals.close()


def test_what_is_reserved_is_not_sellable_until_the_next_count(intake, workspace):
    signals = Signals(database.connect(workspace))
    intake.one(stock("s1", 5, NOW - 20), NOW)
    intake.one(stock("s2", 3, NOW - 10, "Stock Reserved"), NOW)
    signals.refresh()
    assert signals.stock_at("online")["chair-oak"].quantity == 2
    intake.one(stock("s3", 4, NOW - 5), NOW)
    signals.refresh()
    assert signals.stock_at("online")["chair-oak"].quantity == 4
    signals.close()


def test_after_a_crash_between_the_two_stores_the_online_store_is_brought_level(intake, store):
    store.broken = True
    with pytest.raises(OSError, match="online store is down"):
        intake.one(order("m1"), NOW)
    store.broken = False
    assert intake.level_all() == 1
    assert derived(store)["orders"] == 1.0
    assert intake.level_all() == 0


def test_a_repeat_of_a_message_whose_answer_was_lost_levels_the_online_store(intake, store):
    store.broken = True
    with pytest.raises(OSError, match="online store is down"):
        intake.one(order("m1"), NOW)
    store.broken = False
    assert intake.one(order("m1"), NOW).duplicate
    assert derived(store)["orders"] == 1.0


def test_callers_at_once_on_one_customer_lose_nothing(workspace, store):
    catalog, engine = load_catalog(workspace), database.connect(workspace)

    def write(start):
        mine = Intake(engine, store, catalog)
        for number in range(start, 60, 3):
            mine.one(order(f"m{number}", NOW - 1000 + number), NOW)

    threads = [threading.Thread(target=write, args=(start,)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert derived(store)["orders"] == 60.0
    with database.reading(database.connect(workspace)) as connection:
        row = connection.execute(sa.select(database.profiles)).one()
    assert row.online_seq == row.seq == store.rows["1"][0]
