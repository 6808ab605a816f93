"""Parity finds every value that differs online and offline, names it, and never stumbles over what it reads."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from features import build, columns, database, profiles
from features.events import EventLog
from features.intake import Intake
from features.parity import Difference, parity
from features.store import ProfileStore
from features.vocabulary import Event
from features.workspace import Workspace

NOON = 1_790_000_000.0
CUSTOMERS = [f"c{number}" for number in range(8)]


@pytest.fixture(scope="module")
def world(applied: tuple[Workspace, ProfileStore]) -> tuple[Workspace, ProfileStore]:
    """Eight customers and two shelves, built."""
    made, store = applied
    engine = database.connect(made)
    with database.transaction(engine) as connection:
        for number in range(40):
            customer, at = CUSTOMERS[number % 8], NOON + number * 40_000.7
            line = {"product_id": f"p{number % 7}", "quantity": 1, "price": 1.1 * number, "category": f"k{number % 3}"}
            event = Event(f"m{number}", "Order Completed", at, at, user_id=customer, body={"products": [line]})
            EventLog().append(connection, event, customer)
    intake = Intake(engine, store, SimpleNamespace(products={}, offers={}))
    for product in ("p1", "p2"):
        body = {"product_id": product, "location_id": "s1", "quantity": 5}
        intake.one({"message_id": product, "name": "Stock Updated", "occurred_at": NOON, "body": body}, NOON)
    build.build(made, store=store)
    return applied


@pytest.fixture
def online(world: tuple[Workspace, ProfileStore]) -> Iterator[sqlite3.Connection]:
    """The online store's own file; what a test does to it is undone."""
    path = world[0].home / "online.db"
    connection = sqlite3.connect(path, isolation_level=None)
    kept = sqlite3.connect(":memory:")
    connection.backup(kept)
    yield connection
    kept.backup(connection)
    kept.close()
    connection.close()


def put(online: sqlite3.Connection, table: str, customer: str, field: str, value: object) -> None:
    """Change one cell of the online store."""
    changed = online.execute(
        f"UPDATE onestory_{table} SET value = ? WHERE feature_name = ? AND instr(entity_key, ?)",
        (value, field, customer.encode()),
    )
    assert changed.rowcount == 1


def value(**kind: Any) -> bytes:
    from feast.protos.feast.types.Value_pb2 import Value

    return bytes(Value(**kind).SerializeToString())


def found(world: tuple[Workspace, ProfileStore]) -> dict[tuple[str, str], Difference]:
    return {(one.customer_id, one.feature): one for one in parity(world[0], store=world[1])}


def test_a_store_that_was_built_has_no_difference(world: tuple[Workspace, ProfileStore]) -> None:
    told: list[tuple[str, int, int]] = []
    assert parity(world[0], None, lambda *progress: told.append(progress), world[1]) == []
    assert ("customers compared", 8, 8) in told
    assert ("stock compared", 2, 2) in told


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", "text", None])
@pytest.mark.parametrize(("table", "field"), [("profile", "state"), ("profile", "seq"), ("last_seen", "items")])
def test_a_cell_of_garbage_is_named_with_its_customer_and_view(
    world: tuple[Workspace, ProfileStore], online: sqlite3.Connection, table: str, field: str, garbage: object
) -> None:
    put(online, table, "c3", field, garbage)
    differences = found(world)
    assert list(differences) == [("c3", table)]
    assert differences["c3", table].online.startswith("unreadable: ")
    assert '"' in differences["c3", table].historical


def test_a_state_that_is_off_by_one_bit_is_named_with_every_feature_it_changes(
    world: tuple[Workspace, ProfileStore], online: sqlite3.Connection
) -> None:
    now = world[1].read("c3")
    assert now is not None
    spend = now.profile.state["sums"]["spend"]
    spend[0] = math.nextafter(spend[0], math.inf)
    put(online, "profile", "c3", "state", value(bytes_val=profiles.pack(now.profile)[0]))
    differences = found(world)
    assert {("c3", "state")} <= differences.keys() <= {("c3", "state"), ("c3", "spend_7d")}
    assert "spend" in differences["c3", "state"].online


def test_another_customers_state_is_named(world: tuple[Workspace, ProfileStore], online: sqlite3.Connection) -> None:
    other = world[1].read("c4")
    assert other is not None
    put(online, "profile", "c3", "state", value(bytes_val=profiles.pack(other.profile)[0]))
    differences = found(world)
    assert {customer for customer, _ in differences} == {"c3"}
    assert {("c3", "state"), ("c3", "days_since_order"), ("c3", "spend_7d")} <= differences.keys()


def test_a_value_of_another_type_is_named(world: tuple[Workspace, ProfileStore], online: sqlite3.Connection) -> None:
    put(online, "profile", "c3", "state", value(int64_val=7))
    assert found(world)["c3", "orders"].online == "absent"
    put(online, "profile", "c3", "state", value(bytes_val=b"[1]"))
    assert found(world)["c3", "state"].online == "`[1]`"


def test_a_changed_number_of_an_entry_is_named_with_both_values(
    world: tuple[Workspace, ProfileStore], online: sqlite3.Connection
) -> None:
    now = world[1].read("c3")
    assert now is not None
    item = min(now.profile.items)
    entry = now.profile.items[item]
    before, entry[profiles.TRIPS] = entry[profiles.TRIPS], 99
    put(
        online,
        "last_seen",
        "c3",
        "items",
        value(bytes_val=columns.pack({**now.profile.items, item: entry}, now.profile.key[0])),
    )
    sentence = f"`c3` differs in `last_seen {item} trips`: online `99`, historical `{before}`"
    assert [str(one) for one in found(world).values()] == [sentence]


@pytest.mark.parametrize("items", [b"7", b"[]", b"{]", b"[[1,2],[3,4]]"])
def test_entries_that_are_no_entries_are_named(
    world: tuple[Workspace, ProfileStore], online: sqlite3.Connection, items: bytes
) -> None:
    put(online, "last_seen", "c3", "items", value(bytes_val=items))
    assert {customer for customer, _ in found(world)} == {"c3"}


def test_of_entries_cut_short_the_place_where_they_part_is_shown(
    world: tuple[Workspace, ProfileStore], online: sqlite3.Connection
) -> None:
    now = world[1].read("c3")
    assert now is not None
    items = columns.pack(now.profile.items, now.profile.key[0])
    put(online, "last_seen", "c3", "items", value(bytes_val=items[:-1]))
    (difference,) = found(world).values()
    assert difference.online != difference.historical


def test_an_entry_too_few_and_one_too_many_are_named(
    world: tuple[Workspace, ProfileStore], online: sqlite3.Connection
) -> None:
    now = world[1].read("c3")
    assert now is not None
    items = dict(now.profile.items)
    gone = min(items)
    items["p:new"] = items.pop(gone)
    put(online, "last_seen", "c3", "items", value(bytes_val=columns.pack(items, now.profile.key[0])))
    differences = found(world)
    assert differences.keys() == {("c3", f"last_seen {gone}"), ("c3", "last_seen p:new")}
    assert differences["c3", f"last_seen {gone}"].online == "absent"
    assert differences["c3", "last_seen p:new"].historical == "absent"


@pytest.mark.parametrize("table", ["profile", "last_seen"])
def test_a_deleted_row_is_named(world: tuple[Workspace, ProfileStore], online: sqlite3.Connection, table: str) -> None:
    online.execute(f"DELETE FROM onestory_{table} WHERE instr(entity_key, ?)", (b"c3",))
    differences = found(world)
    assert {customer for customer, _ in differences} == {"c3"}
    assert ("c3", "seq" if table == "profile" else "items_seq") in differences


def test_a_wrong_sequence_is_named(world: tuple[Workspace, ProfileStore], online: sqlite3.Connection) -> None:
    put(online, "last_seen", "c3", "items_seq", value(int64_val=1))
    assert list(found(world)) == [("c3", "items_seq")]


def test_a_wrong_stock_is_named(world: tuple[Workspace, ProfileStore], online: sqlite3.Connection) -> None:
    put(online, "stock", "p2", "quantity", value(int64_val=4))
    expected = "`p2 at s1` differs in `stock quantity`: online `4`, historical `5`"
    assert [str(one) for one in found(world).values()] == [expected]
    put(online, "stock", "p2", "quantity", b"\xff")
    assert [one.online.split(":")[0] for one in found(world).values()] == ["unreadable"]


def test_a_sample_is_the_same_customers_every_time(
    world: tuple[Workspace, ProfileStore], online: sqlite3.Connection
) -> None:
    online.execute("DELETE FROM onestory_profile")
    sampled = [{one.customer_id for one in parity(world[0], 3, store=world[1])} for _ in range(2)]
    assert len(sampled[0]) == 3
    assert sampled[0] == sampled[1]


def test_events_since_the_build_are_built_first_and_differ_in_nothing(world: tuple[Workspace, ProfileStore]) -> None:
    workspace, store = world
    intake = Intake(database.connect(workspace), store, SimpleNamespace(products={}, offers={}))
    known_at = NOON + 100 * 86_400.0
    for number, (name, body) in enumerate(
        [
            ("Order Completed", {"order_id": "live", "products": [{"product_id": "p1", "price": 3.5, "quantity": 2}]}),
            ("Order Refunded", {"order_id": "live", "products": [{"product_id": "p1", "price": 3.5, "quantity": 1}]}),
            ("Order Cancelled", {"order_id": "live"}),
            ("Offer Responded", {"offer_id": "o", "offer_kind": "promotion", "response": "shown"}),
        ]
    ):
        record = {"message_id": f"live{number}", "name": name, "occurred_at": known_at - number, "user_id": "c5"}
        intake.one({**record, "body": body}, known_at + number)
    assert parity(workspace, store=store) == []


def test_a_history_that_was_never_built_is_put_online_before_it_is_compared(workspace: Workspace) -> None:
    with database.transaction(database.connect(workspace)) as connection:
        for number in range(3):
            line = {"product_id": "a", "quantity": 1, "price": 2.0}
            body = {"order_id": f"o{number}", "products": [line]}
            event = Event(f"m{number}", "Order Completed", NOON + number, NOON + number, "1", body=body)
            EventLog().append(connection, event, "1")
    store = ProfileStore(workspace)
    assert parity(workspace, store=store) == []
    found = store.read("1")
    assert found is not None
    assert found.profile.state["orders"] == 3
    store.close()
