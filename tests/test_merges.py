"""Merges over time: what was known when, online and offline alike, and two processes that write at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from people import NOTHING_SOLD, NOW, Online, Record, World, alias, expected, identify, logged, message, order, records

from features import build, database, profiles
from features.events import event_of
from features.history import History, micros, owners_at, replay
from features.intake import Intake
from features.links import owned_by
from features.parity import parity
from features.sources.bulk import append_history
from features.store import ProfileStore
from features.vocabulary import Event
from features.workspace import Workspace


def events_of(sent: list[Record]) -> Iterator[Event]:
    """As a history: known when it happened."""
    for record in sent:
        ids = {key: record.get(key) for key in ("user_id", "anonymous_id")}
        at = record["occurred_at"]
        yield Event(record["message_id"], record["name"], at, at, body=record["body"], **ids)


def replayed(world: World) -> dict[str, list[tuple[int, bytes]]]:
    """Per customer ever, what was known from which moment on."""
    with database.reading(world.engine) as connection:
        past = History(connection)
        spans = past.spans(past.customers())
        found: dict[str, list[tuple[int, bytes]]] = {}
        for customer_id, theirs in spans.items():
            for change in replay(theirs):
                found.setdefault(customer_id, []).append((change.moment, b"".join(profiles.pack(change.profile))))
        return found


def check_every_moment(world: World) -> None:
    """At each moment, everybody is what the messages known then say, all at once and in no order."""
    known = sorted(logged(world), key=lambda event: event.known_at)
    found = replayed(world)
    so_far: list[Event] = []
    for at, news in groupby(known, key=lambda event: event.known_at):
        so_far += news
        then = {c: [state for moment, state in rows if moment <= micros(at)] for c, rows in found.items()}
        now = {c: states[-1] for c, states in then.items() if states and not states[-1].startswith(b"{}")}
        owners, packed = expected(so_far)
        assert now == packed
        with database.reading(world.engine) as connection:
            known_then = owners_at(connection, at)
        assert {node: known_then.get(node, owned_by(node)) for node in owners} == owners


@settings(max_examples=40)
@given(records())
def test_what_was_known_at_a_moment_are_the_customers_of_that_moment(sent: list[Record]) -> None:
    world = World()
    world.take(*sent)
    check_every_moment(world)
    world.close()


@settings(max_examples=40)
@given(records())
def test_of_a_history_in_any_order_as_well(sent: list[Record]) -> None:
    world = World()
    world.take(*sent[:4])
    append_history(world.engine, events_of(sent[4:]), at_once=3)
    check_every_moment(world)
    world.close()


def test_before_a_merge_was_known_there_were_two_customers_and_after_it_one(workspace: Workspace) -> None:
    intake = Intake(database.connect(workspace), Online(), NOTHING_SOLD)
    sent = [
        order(user_id="1"),
        order(1, user_id="2"),
        identify(2, "jo@x", user_id="1"),
        identify(3, "jo@x", user_id="2"),
    ]
    for number, record in enumerate(sent):
        intake.one(record, NOW + 10 + number)
    intake.undo("2", NOW + 20)
    with database.reading(database.connect(workspace)) as connection:
        spans = History(connection).spans(["1", "2"])
    states = {
        customer: [(change.moment, change.profile.state.get("orders")) for change in replay(theirs)]
        for customer, theirs in spans.items()
    }
    merged, parted = micros(NOW + 13), micros(NOW + 20)
    assert states["1"] == [(micros(NOW + 10), 1), (micros(NOW + 12), 1), (merged, 2), (parted, 1)]
    assert states["2"] == [(micros(NOW + 11), 1), (merged, None), (parted, 1)]


def test_only_customers_with_news_are_made_again_offline(workspace: Workspace) -> None:
    intake = Intake(database.connect(workspace), Online(), NOTHING_SOLD)
    intake.many([order(number, user_id=str(number)) for number in range(40)], NOW + 100)
    assert build.build_lacking(workspace).customers == 40
    intake.many([identify(50, "jo@x", user_id="1"), identify(51, "jo@x", user_id="2")], NOW + 101)
    summary = build.build_lacking(workspace)
    assert (summary.customers, summary.moments) == (2, 4)
    intake.undo("2", NOW + 200)
    assert build.build_lacking(workspace).customers == 2
    assert build.build_lacking(workspace).parts == 0


def mixture(seed: int, people: int, count: int) -> list[Record]:
    """Shoppers with several ids each: orders, returns, logins, keys, aliases, and merges taken back."""
    chance = random.Random(seed)
    made: list[Record] = []
    while len(made) < count:
        person = chance.randrange(people)
        at, user = float(chance.randrange(5_000)), f"u{person}-{chance.randrange(2)}"
        visitor = f"a{person}" if chance.random() < 0.9 else "kiosk"
        ids = chance.choice([{"user_id": user}, {"anonymous_id": visitor}, {"user_id": user, "anonymous_id": visitor}])
        kind = chance.random()
        if kind < 0.55:
            made.append(order(at, **ids))
        elif kind < 0.65 and made:
            back = {"order_id": f"o-{chance.choice(made)['message_id']}"}
            made.append(message("Order Refunded", at, **back, **ids))
        elif kind < 0.9:
            made.append(identify(at, f"{person}@x" if chance.random() < 0.5 else None, device_id=f"d{person}", **ids))
        elif kind < 0.96:
            made.append(alias(user, chance.choice([f"u{person}-0", f"a{person}"]), at))
        else:
            pair = ["email", f"user:{user}", f"email:{sum(f'{person}@x'.encode()):064x}"]
            made.append(message("$unlink", at, links=[pair]))
    return made


def test_parity_holds_after_live_late_merged_and_parted_events(workspace: Workspace) -> None:
    sent = mixture(3, 12, 140)
    store = ProfileStore(workspace)
    intake = Intake(database.connect(workspace), store, NOTHING_SOLD)
    append_history(database.connect(workspace), events_of(sent[:40]))
    build.build(workspace, store=store)
    for start in range(40, 140, 7):
        intake.many(sent[start : start + 7], NOW + 6_000 + start)
        if start % 3 == 0:
            build.build_lacking(workspace)
    with database.reading(database.connect(workspace)) as connection:
        absorbed = connection.scalars(sa.select(database.owners.c.id).where(database.owners.c.id.like("user:%"))).all()
    assert absorbed
    assert parity(workspace, store=store) == []
    kept = snapshot(workspace)
    assert build.build(workspace, store=store, whole=True).customers > 12
    assert snapshot(workspace) == kept
    assert parity(workspace, store=store) == []
    for node in absorbed:
        row = store.read(node.removeprefix("user:"))
        assert row is None or not row.profile.state
    store.close()


def snapshot(workspace: Workspace) -> dict[str, bytes]:
    with database.reading(database.connect(workspace)) as connection:
        rows = connection.execute(sa.select(database.profiles)).all()
    return {row.customer_id: row.state + row.items for row in rows}


# -------------------------------------------------------------------------------------- two processes


def take(home: Path, sent: list[Record], at_once: int) -> None:
    """What each of two processes does."""
    engine = database.connect(Workspace(home))
    intake = Intake(engine, Online(), NOTHING_SOLD)
    for start in range(0, len(sent), at_once):
        intake.many(sent[start : start + at_once], NOW + 6_000)
    engine.dispose()


def two_processes_in_any_order(home: Path, sent: list[Record], orders: int) -> None:
    found: list[Any] = []
    with get_context("spawn").Pool(2) as pool:
        for number in range(orders):
            chance = random.Random(number)
            shuffled, here = chance.sample(sent, len(sent)), home / str(number)
            here.mkdir(parents=True)
            database.connect(Workspace(here)).dispose()
            halves = [(here, half, chance.choice([5, 10, 25])) for half in (shuffled[::2], shuffled[1::2])]
            pool.starmap(take, halves, chunksize=1)
            engine = database.connect(Workspace(here))
            with database.reading(engine) as connection:
                owners = connection.execute(sa.select(database.owners).order_by(database.owners.c.id)).all()
                rows = connection.execute(sa.select(database.profiles)).all()
                events = [event_of(row) for row in connection.execute(sa.select(database.events))]
            engine.dispose()
            kept = {row.customer_id: row.state + row.items for row in rows if row.state != b"{}"}
            assert len(events) == len(sent)
            assert {row.online_seq - row.seq for row in rows} == {0}
            found.append(([tuple(row) for row in owners], kept))
    assert found[0][1] == expected(events)[1]
    assert all(each == found[0] for each in found)


def test_the_same_500_events_in_5_orders_over_2_processes_give_identical_profiles(tmp_path: Path) -> None:
    two_processes_in_any_order(tmp_path, mixture(1, 40, 500), 5)


@pytest.mark.prove
def test_proof_orders(tmp_path: Path) -> None:
    two_processes_in_any_order(tmp_path, mixture(2, 300, 5_000), 20)
