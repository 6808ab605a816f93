"""A history from a file after the first build: whoever the log is ahead of is brought level, whatever came between."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from features import arrears, build, database, profiles
from features.events import EventLog
from features.intake import Intake
from features.parity import parity
from features.sources.bulk import append_history
from features.store import ProfileStore
from features.vocabulary import Event
from features.workspace import Workspace
from tests.people import NOTHING_SOLD

NOON = 1_790_000_000.0
World = tuple[Workspace, ProfileStore]


def order(message_id: str, customer: str | None, at: float, anonymous: str | None = None) -> Event:
    lines = [{"product_id": f"p{len(message_id)}", "quantity": 1, "price": 2.5}]
    body = {"order_id": f"of {message_id}", "products": lines}
    moment = NOON + at
    return Event(message_id, "Order Completed", moment, moment, customer, anonymous, body=body)


def login(message_id: str, customer: str, anonymous: str, at: float) -> Event:
    return Event(message_id, "$identify", NOON + at, NOON + at, customer, anonymous, body={})


def ingest(workspace: Workspace, *events: Event) -> None:
    append_history(database.connect(workspace), events)


def live(world: World, message_id: str, customer: str, at: float) -> None:
    event = order(message_id, customer, at)
    names = ("message_id", "name", "occurred_at", "user_id", "body")
    intake = Intake(database.connect(world[0]), world[1], NOTHING_SOLD)
    intake.one({name: getattr(event, name) for name in names}, NOON + at)
    intake.close()


def waiting(workspace: Workspace) -> set[str]:
    with database.reading(database.connect(workspace)) as connection:
        return set(connection.scalars(sa.select(database.arrears.c.customer_id)))


def owed(workspace: Workspace, store: ProfileStore) -> dict[str, tuple[Any, Any]]:
    """By customer what the online store has, and what it should have, of those where these differ."""
    with database.reading(database.connect(workspace)) as connection:
        ids = connection.scalars(sa.select(database.profiles.c.customer_id)).all()
        ids = sorted({*ids, *connection.scalars(sa.select(database.events.c.customer_id).distinct())})
        right = {each: profiles.fold_all(EventLog().of_customer(connection, each)) for each in ids}
    found = store.read_many(ids)
    here = {each: profiles.pack(found[each].profile) if each in found else None for each in ids}
    there = {each: profiles.pack(profile) for each, profile in right.items()}
    return {each: (here[each], there[each]) for each in ids if here[each] != there[each]}


@pytest.fixture
def world(workspace: Workspace) -> Iterator[World]:
    """Three customers and a visitor, built."""
    store = ProfileStore(workspace)
    ingest(workspace, *(order(f"m{who}", who, 0) for who in "abc"), order("visit", None, 50, anonymous="v"))
    build.build(workspace, store=store)
    yield workspace, store
    store.close()


def test_parity_after_a_file_brings_level_whom_it_added_to(world: World) -> None:
    ingest(world[0], order("late", "a", 10), order("new", "d", 10))
    assert waiting(world[0]) == {"a", "d"}
    assert parity(world[0], store=world[1]) == []
    assert waiting(world[0]) == set()
    assert owed(*world) == {}
    assert build.build(world[0], store=world[1]).customers == 0


def test_a_difference_in_another_row_is_found_all_the_same(world: World) -> None:
    ingest(world[0], order("late", "a", 10))
    with closing(sqlite3.connect(world[0].home / "online.db", isolation_level=None)) as online:
        online.execute("DELETE FROM onestory_profile WHERE instr(entity_key, ?)", (b"b",))
    assert {one.customer_id for one in parity(world[0], store=world[1])} == {"b"}


def test_a_build_brings_level_whom_the_offline_files_know_already(world: World) -> None:
    ingest(world[0], order("late", "a", 10))
    build.build_lacking(world[0])
    assert owed(*world).keys() == {"a"}
    assert build.build(world[0], store=world[1]).customers == 1
    assert owed(*world) == {}


def test_a_profile_older_than_an_event_is_behind_even_where_nobody_noted_it(world: World) -> None:
    ingest(world[0], order("late", "a", 10))
    build.build_lacking(world[0])
    with database.transaction(database.connect(world[0])) as connection:
        connection.execute(sa.delete(database.arrears))
    assert build.build(world[0], store=world[1]).customers == 1
    assert owed(*world) == {}


def test_a_live_event_after_the_file_hides_nothing(world: World) -> None:
    ingest(world[0], order("late", "a", 10))
    build.build_lacking(world[0])
    live(world, "now", "a", 100)
    build.build_lacking(world[0])
    assert parity(world[0], store=world[1]) == []
    assert owed(*world) == {}


def test_a_visitor_whom_a_file_knows_as_somebody_is_nobody_any_more(world: World) -> None:
    ingest(world[0], login("in", "a", "v", 10))  # before the visit was known: it always was a's
    assert {"a", "anonymous:v"} <= waiting(world[0])
    assert parity(world[0], store=world[1]) == []
    assert owed(*world) == {}


def test_who_was_added_to_out_of_order_is_brought_level_once(world: World) -> None:
    ingest(world[0], order("second", "a", 20), order("first", "a", 10))
    assert build.build(world[0], store=world[1]).customers == 1
    assert build.build(world[0], store=world[1]).customers == 0


def test_the_file_again_leaves_nobody_waiting(world: World) -> None:
    ingest(world[0], order("ma", "a", 0))
    assert waiting(world[0]) == set()


class Killed(BaseException):
    pass


@contextmanager
def killed_at(store: ProfileStore, step: int) -> Iterator[None]:
    """The process dies at the `step`-th write online: just before it, or (every other step) just after it."""
    true, steps = store.write, 0

    def write(rows: Iterable[Any], at_once: bool = False) -> None:
        nonlocal steps
        for after in (False, True):
            steps += 1
            if after:
                true(rows, at_once)
            if steps == step:
                raise Killed

    store.write = write
    try:
        yield
    except Killed:
        pass
    finally:
        store.write = true


@pytest.mark.parametrize("first", ["build", "parity"])
def test_whatever_step_it_dies_at_the_next_build_or_parity_mends_it(world: World, first: str) -> None:
    workspace, store = world
    for step in range(1, 9):
        at = 1_000.0 * step
        ingest(workspace, *(order(f"s{step}{who}", who, at) for who in "abc"))
        live(world, f"l{step}", "b", at + 500)
        with killed_at(store, step):
            build.build(workspace, store=store) if first == "build" else parity(workspace, store=store)
        if step % 2:
            build.build(workspace, store=store)
        assert parity(workspace, store=store) == []
        assert owed(workspace, store) == {}


class Rows:
    """An online store that is a dictionary."""

    apart = False

    def __init__(self) -> None:
        self.rows: dict[str, tuple[bytes, bytes]] = {}

    def apply(self) -> None: ...

    def record_materialisation(self) -> None: ...

    def write(self, rows: Iterable[tuple[str, int, float, bytes, bytes]], at_once: bool = False) -> None:
        self.rows.update((row[0], (row[3], row[4])) for row in rows)

    def write_stock(self, rows: Iterable[Any], at_once: bool = False) -> None: ...

    def read_many(self, customer_ids: Iterable[str]) -> list[str]:
        return [each for each in customer_ids if each in self.rows]


turns = st.lists(
    st.one_of(
        st.tuples(st.just("file"), st.lists(st.tuples(st.sampled_from("abv"), st.integers(0, 99)), min_size=1)),
        st.tuples(st.just("login"), st.integers(0, 99)),
        st.tuples(st.just("live"), st.sampled_from("ab")),
        st.tuples(st.just("offline"), st.none()),
        st.tuples(st.just("settle"), st.none()),
    ),
    max_size=7,
)


@settings(max_examples=12)
@given(turns=turns)
def test_after_files_merges_live_events_and_offline_builds_in_any_order_a_build_brings_all_level(
    turns: list[tuple[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    workspace, store = Workspace(tmp_path_factory.mktemp("home")), Rows()
    build.build(workspace, store=store)
    for number, (what, more) in enumerate(turns):
        if what == "file":
            events = [
                order(f"{number}-{each}", None if who == "v" else who, at, "v" if who == "v" else None)
                for each, (who, at) in enumerate(more)
            ]
            ingest(workspace, *events)
        elif what == "login":
            ingest(workspace, login(f"{number}", "a", "v", more))
        elif what == "live":
            live((workspace, store), f"{number}", more, 1_000 + number)
        elif what == "offline":
            build.build_lacking(workspace)
        else:
            arrears.settle(workspace, store)
    build.build(workspace, store=store)
    engine = database.connect(workspace)
    with database.reading(engine) as connection:
        kept = {row.customer_id: (row.state, row.items) for row in connection.execute(sa.select(database.profiles))}
        right = {each: profiles.pack(profiles.fold_all(EventLog().of_customer(connection, each))) for each in kept}
        known = set(connection.scalars(sa.select(database.events.c.customer_id).distinct()))
    assert known <= kept.keys()
    assert kept == right == {each: store.rows[each] for each in kept}
    assert waiting(workspace) == set()
    engine.dispose()
