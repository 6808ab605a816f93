"""The event log replayed: offline rows as known at each moment, and the online store brought level."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from types import SimpleNamespace
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from features import arrears, build, database, last_seen, offline, profiles
from features.events import EventLog
from features.history import Span, micros, replay
from features.intake import Intake
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace

NOON = 1_790_000_000.0
NOTHING_SOLD = SimpleNamespace(products={}, offers={})
Row = tuple[str, int, float, bytes, bytes]


class RememberedStore:
    """Stands in for ProfileStore: remembers what was written, by key."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.stock: dict[tuple[str, str], int] = {}
        self.applied = self.recorded = 0

    def apply(self) -> None:
        self.applied += 1

    apart = False

    def write(self, rows: Iterable[Row], at_once: bool = False) -> None:
        self.rows.update((row[0], row) for row in rows)

    def read_many(self, customer_ids: Iterable[str]) -> dict[str, Row]:
        return {customer_id: self.rows[customer_id] for customer_id in customer_ids if customer_id in self.rows}

    def write_stock(self, rows: Iterable[tuple[str, str, int, int]], at_once: bool = False) -> None:
        self.stock.update(((product_id, location_id), quantity) for product_id, location_id, quantity, _ in rows)

    def record_materialisation(self) -> None:
        self.recorded += 1


_numbers = count()


def order(customer: str | None, at: float, *products: str, known_at: float | None = None, **more: Any) -> Event:
    lines = [{"product_id": product, "quantity": 1, "price": 2.5, "category": f"of {product}"} for product in products]
    message_id = more.pop("message_id", f"m{next(_numbers):05}")
    body = {"order_id": f"order of {message_id}", "products": lines}
    known = at if known_at is None else known_at
    return Event(message_id, "Order Completed", at, known, user_id=customer, body=body, **more)


def append(workspace: Workspace, *events: Event) -> None:
    with database.transaction(database.connect(workspace)) as connection:
        for event in events:
            EventLog().append(connection, event, event.user_id)


def rows_of(workspace: Workspace, view: str) -> list[dict[str, Any]]:
    table = pq.read_table(workspace.offline / f"{view}.parquet")
    names = table.schema.names
    stamps = table["event_timestamp"].cast("int64")
    rows = table.set_column(names.index("event_timestamp"), "moment", stamps).to_pylist()
    return sorted(rows, key=lambda row: (row.get("customer_id", ""), row["moment"]))


def packed(events: Iterable[Event]) -> tuple[bytes, bytes]:
    return profiles.pack(profiles.fold_all(events))


# ------------------------------------------------------------------------------------------- replay


moments = st.integers(0, 6).map(lambda day: NOON + day * 200 * DAY_S)  # 730 days lie between some of them
lines = st.lists(
    st.fixed_dictionaries(
        {
            "product_id": st.sampled_from("ab"),
            "quantity": st.integers(1, 3),
            "price": st.sampled_from([0.1, 2.5]),
            "category": st.sampled_from(["x", None]),
        }
    ),
    max_size=3,
)


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    """A history in any order of arrival, with returns, cancellations, and events that are taken away again."""
    found = []
    for number in range(draw(st.integers(0, 7))):
        occurred, known = sorted(draw(st.tuples(moments, moments)))
        name = draw(st.sampled_from(["Order Completed", "Order Completed", "Order Refunded", "Order Cancelled"]))
        body = {"order_id": draw(st.sampled_from("12")), "products": draw(lines)}
        event = Event(f"m{number}", name, occurred, known, user_id="c", body=body)
        until = draw(st.none() | moments.filter(lambda until, known=known: until > known))
        found.append(Span(event, (micros(known), number), None if until is None else (micros(until), 100 + number)))
    return draw(st.permutations(found))


@given(spans())
def test_after_every_moment_the_profile_is_the_fold_of_what_was_known_then(history: list[Span]) -> None:
    entries: dict[str, list[Any]] = {}
    for change in replay(history):
        known = [
            span.event
            for span in history
            if span.since[0] <= change.moment and (span.until is None or span.until[0] > change.moment)
        ]
        assert profiles.pack(change.profile) == packed(known)
        for item, entry in change.entries.items():
            if entry is None:
                del entries[item]
            else:
                entries[item] = list(entry)
        assert entries == change.profile.items


@given(spans())
def test_the_narrow_rows_give_back_the_packed_entries_of_every_moment(history: list[Span]) -> None:
    rows, wanted = [], []
    for change in replay(history):
        rows += [last_seen.row_of("c", item, change.moment, entry)[1:] for item, entry in change.entries.items()]
        state, items = profiles.pack(change.profile)
        wanted.append((change.moment, state, items))
    asked = [(moment, state) for moment, state, _ in wanted]
    assert list(last_seen.items_as_of(rows, asked)) == [items for *_, items in wanted]


# ------------------------------------------------------------------------------------- offline files


def test_each_moment_of_a_customer_is_one_row_with_the_state_after_it(workspace: Workspace) -> None:
    events = [order("ann", NOON, "a"), order("ann", NOON, "b"), order("ann", NOON + 60, "a"), order("bob", NOON, "a")]
    append(workspace, *events)
    build.build_lacking(workspace)
    rows = rows_of(workspace, "profile")
    assert [(row["customer_id"], row["moment"], row["seq"]) for row in rows] == [
        ("ann", micros(NOON), 2),
        ("ann", micros(NOON + 60), 3),
        ("bob", micros(NOON), 4),
    ]
    assert rows[0]["state"] == packed(events[:2])[0]
    assert rows[1]["state"] == packed(events[:3])[0]
    snapshot = {row["customer_id"]: row["items"] for row in rows_of(workspace, "last_seen")}
    assert snapshot == {"ann": packed(events[:3])[1], "bob": packed(events[3:])[1]}


def test_an_event_that_came_late_changes_nothing_before_it_was_known(workspace: Workspace) -> None:
    early, late = order("ann", NOON + 60, "a"), order("ann", NOON, "b", known_at=NOON + 120)
    append(workspace, early, late)
    build.build_lacking(workspace)
    first, second = rows_of(workspace, "profile")
    assert first["state"] == packed([early])[0]
    assert (second["moment"], second["state"]) == (micros(NOON + 120), packed([early, late])[0])


def test_an_entry_that_a_cancellation_removes_is_marked_as_gone(workspace: Workspace) -> None:
    bought = order("ann", NOON, "a")
    cancelled = Event(
        "x", "Order Cancelled", NOON + 9, NOON + 9, user_id="ann", body={"order_id": bought.body["order_id"]}
    )
    append(workspace, bought, cancelled)
    build.build_lacking(workspace)
    rows = [(row["item"], row["present"], row["last_at"]) for row in rows_of(workspace, "last_seen_history")]
    assert rows == [("c:of a", True, NOON), ("p:a", True, NOON), ("c:of a", False, None), ("p:a", False, None)]


def test_what_an_anonymous_customer_did_is_the_logins_from_the_moment_they_were_joined(workspace: Workspace) -> None:
    intake = Intake(database.connect(workspace), RememberedStore(), NOTHING_SOLD)
    browsed = {"message_id": "1", "name": "Order Completed", "occurred_at": NOON, "anonymous_id": "dev"}
    browsed["body"] = {"order_id": "1", "products": [{"product_id": "a", "price": 1.5}]}
    joined = {"message_id": "2", "name": "$identify", "occurred_at": NOON + 60, "anonymous_id": "dev", "user_id": "ann"}
    earlier = {"message_id": "3", "name": "$identify", "occurred_at": NOON + 1, "anonymous_id": "dev", "user_id": "bob"}
    for known_at, record in ((NOON, browsed), (NOON + 60, joined), (NOON + 90, earlier)):
        intake.one(record, known_at)
    build.build_lacking(workspace)
    assert [
        (row["customer_id"], row["moment"], orjson.loads(row["state"]).get("orders"))
        for row in rows_of(workspace, "profile")
    ] == [
        ("ann", micros(NOON + 60), 1),
        ("ann", micros(NOON + 90), 0),  # bob turns out to have been there before
        ("anonymous:dev", micros(NOON), 1),
        ("anonymous:dev", micros(NOON + 60), None),
        ("bob", micros(NOON + 90), 1),
    ]


def test_only_the_part_of_a_customer_with_news_is_made_again(workspace: Workspace) -> None:
    append(workspace, order("ann", NOON, "a"), order("bob", NOON, "a"))
    assert build.build_lacking(workspace).parts == offline.PARTS + 1  # and stock
    assert build.build_lacking(workspace).parts == 0
    append(workspace, order("ann", NOON + 60, "b"))
    summary = build.build_lacking(workspace)
    assert (summary.parts, summary.moments) == (1, 2)


def test_a_part_that_fails_half_way_leaves_the_old_one(workspace: Workspace) -> None:
    append(workspace, order("ann", NOON, "a"))
    build.build_lacking(workspace)
    number = offline.part_of("ann")

    def half() -> None:
        with offline.Part(workspace, "profile", number, b"other") as part:
            part.add(("ann", micros(NOON), b"{}", 1))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        half()
    assert orjson.loads(rows_of(workspace, "profile")[0]["state"])["orders"] == 1
    assert [path.name for path in workspace.offline.iterdir() if path.is_file()] == [".lock"]


# --------------------------------------------------------------------------------------------- online


def test_a_build_writes_every_profile_online_and_into_our_database(workspace: Workspace) -> None:
    events = [order("ann", NOON, "a"), order("ann", NOON + 60, "b")]
    append(workspace, *events)
    store, told = RememberedStore(), []
    build.build(workspace, lambda *progress: told.append(progress), store)
    assert store.rows == {"ann": ("ann", 2, NOON + 60, *packed(events))}
    with database.reading(database.connect(workspace)) as connection:
        row = connection.execute(sa.select(database.profiles)).one()
    assert tuple(row) == ("ann", 2, 2, NOON + 60, *packed(events))
    assert told[-1] == ("profiles", 1, 1)
    assert (store.applied, store.recorded) == (1, 1)


def test_what_live_intake_took_in_during_a_build_is_not_put_back(workspace: Workspace) -> None:
    """The log of a part is read as one snapshot; news of its last customer comes when its first ones are done."""
    engine, store = database.connect(workspace), RememberedStore()
    intake = Intake(engine, store, NOTHING_SOLD)
    alike = [name for name in map(str, range(5_000)) if offline.part_of(name) == 0][: arrears.AT_ONCE + 1]
    append(workspace, *(order(customer, NOON, "a") for customer in alike))
    last = max(alike)
    news = {"message_id": "news", "name": "Order Completed", "occurred_at": NOON + 60, "user_id": last}
    news["body"] = {"order_id": "2", "products": [{"product_id": "b", "price": 1.5}]}

    def live(what: str, done: int, total: int) -> None:
        intake.one(news, NOON + 60)

    build.build(workspace, live, store)
    with database.reading(engine) as connection:
        known = EventLog().of_customer(connection, last)
        row = connection.execute(sa.select(database.profiles).where(database.profiles.c.customer_id == last)).one()
    assert len(known) == 2
    assert store.rows[last] == (last, row.seq, NOON + 60, *packed(known))
    assert (row.online_seq, row.state, row.items) == (row.seq, *packed(known))
    assert build.build_lacking(workspace).parts == 1


def test_a_build_writes_everybody_again_into_an_online_store_that_was_lost(workspace: Workspace) -> None:
    append(workspace, order("ann", NOON, "a"), order("bob", NOON, "a"))
    build.build(workspace, store=RememberedStore())
    kept, lost = RememberedStore(), RememberedStore()
    kept.rows = {customer: (customer, 0, 0.0, b"", b"") for customer in ("ann", "bob")}
    assert build.build(workspace, store=kept).customers == 0
    assert kept.rows["ann"][3] == b""
    build.build(workspace, store=lost)
    assert lost.rows.keys() == {"ann", "bob"}
    assert build.build(workspace, store=kept, whole=True).customers == 2
    assert kept.rows == lost.rows


# ---------------------------------------------------------------------------------------------- stock


def stock(name: str, at: float, quantity: int, known_at: float | None = None) -> dict[str, Any]:
    body = {"product_id": "a", "location_id": "s1", "quantity": quantity}
    return {"message_id": f"s{next(_numbers)}", "name": name, "occurred_at": at, "body": body}


def test_stock_offline_goes_the_way_that_live_stock_went(workspace: Workspace) -> None:
    store = RememberedStore()
    intake = Intake(database.connect(workspace), store, NOTHING_SOLD)
    shown: list[tuple[int, int]] = []
    for known_at, record in (
        (NOON, stock("Stock Reserved", NOON, 1)),  # of a shelf that was never counted
        (NOON + 1, stock("Stock Updated", NOON + 1, 9)),
        (NOON + 2, stock("Stock Reserved", NOON + 2, 4)),
        (NOON + 3, stock("Stock Updated", NOON, 7)),  # an older count
        (NOON + 4, stock("Stock Released", NOON + 4, 1)),
        (NOON + 5, stock("Stock Updated", NOON + 5, 3)),
    ):
        before = dict(store.stock)
        intake.one(record, known_at)
        if store.stock != before:
            shown.append((micros(known_at), store.stock["a", "s1"]))
    build.build_lacking(workspace)
    assert [(row["moment"], row["quantity"]) for row in rows_of(workspace, "stock")] == shown
    assert [quantity for _, quantity in shown] == [9, 5, 6, 3]


def test_a_build_puts_stock_online_that_was_taken_in_in_bulk(workspace: Workspace) -> None:
    store = RememberedStore()
    row = {"product_id": "a", "location_id": "s1", "quantity": 9, "reserved": 2, "occurred_at": NOON}
    with database.transaction(database.connect(workspace)) as connection:
        connection.execute(sa.insert(database.stock).values(**row, message_id="1", seq=5, online_seq=0))
    build.build(workspace, store=store)
    assert store.stock == {("a", "s1"): 7}
    with database.reading(database.connect(workspace)) as connection:
        assert connection.scalars(sa.select(database.stock.c.online_seq)).all() == [5]


def test_an_empty_workspace_builds_empty_files(workspace: Workspace) -> None:
    build.build(workspace, store=RememberedStore())
    assert [rows_of(workspace, view) for view in offline.SCHEMAS] == [[], [], [], []]


def test_a_profile_of_another_version_is_folded_anew_even_where_the_offline_rows_are_of_today(
    workspace: Workspace,
) -> None:
    append(workspace, order("ann", NOON, "a"), order("bob", NOON, "b"))
    store = RememberedStore()
    build.build(workspace, store=store)
    engine, table = database.connect(workspace), database.profiles
    (_, _, _, state, items) = store.rows["ann"]
    old = orjson.dumps({**orjson.loads(state), "v": 3})
    with database.transaction(engine) as connection:
        connection.execute(sa.update(table).where(table.c.customer_id == "ann").values(state=old, items=b"{}"))
    build.build_lacking(workspace)
    assert build.build(workspace, store=store).customers == 1
    with database.reading(engine) as connection:
        row = connection.execute(sa.select(table).where(table.c.customer_id == "ann")).one()
    assert (row.state, row.items) == (state, items)
    assert build.build(workspace, store=store).customers == 0
