"""Taking a single event in at once: waits for nobody, and leaves behind what taking it in at leisure would."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from histories import histories
from hypothesis import given

from features import checkpoints, database, driver, profiles, signals
from features.driver import NotAtOnce, Writer
from features.events import EventLog
from features.intake import Intake
from features.profiles import Profile
from features.spared import MOST, Spared
from features.steps import ON_ENTRIES, STEPS
from features.store import ProfileStore
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace
from tests.people import NOTHING_SOLD

NOON = 1_790_000_000.0
FEEDS = database.feeds


@pytest.fixture
def intake(applied: tuple[Workspace, ProfileStore]) -> Iterator[Intake]:
    made = Intake(database.connect(applied[0]), applied[1], NOTHING_SOLD)
    yield made
    made.close()


def said(customer: str, number: int, name: str = "Product Viewed", at: float = NOON, **body: Any) -> dict[str, Any]:
    return {
        "message_id": f"{customer}-{number}",
        "name": name,
        "occurred_at": at + number,
        "user_id": customer,
        "body": body or {"product_id": f"p{number % 3}"},
    }


def bought(customer: str, number: int, at: float = NOON) -> dict[str, Any]:
    lines = [{"product_id": "table", "category": "tables", "price": 10.0, "quantity": 1}]
    return said(customer, number, "Order Completed", at, order_id=f"o{number}", products=lines)


def as_folded_anew(applied: tuple[Workspace, ProfileStore], customer: str) -> None:
    """Our database and the online store hold what the whole log folds to, level with each other."""
    with database.reading(database.connect(applied[0])) as connection:
        row = connection.execute(sa.select(database.profiles).where(database.profiles.c.customer_id == customer)).one()
        packed = profiles.pack(profiles.fold_all(EventLog().of_customer(connection, customer)))
    now = applied[1].read(customer)
    assert now is not None
    assert (row.state, row.items) == packed
    assert (now.state, now.items, now.seq) == (*packed, row.seq)
    assert row.online_seq == row.seq


def test_one_after_the_other_they_leave_what_folding_the_log_gives(
    applied: tuple[Workspace, ProfileStore], intake: Intake
) -> None:
    intake.one(bought("her", 0, NOON - 100), NOON)
    for number in range(1, 8):
        taken = intake.at_once([said("her", number)], NOON + 10)
        assert taken.receipts[0].stored
        assert not taken.behind
        as_folded_anew(applied, "her")
    intake.one(bought("her", 8), NOON + 10)
    assert not intake.at_once([said("her", 9)], NOON + 10).behind
    as_folded_anew(applied, "her")
    assert intake.at_once([said("her", 9)], NOON + 10).receipts[0].duplicate
    as_folded_anew(applied, "her")


def test_some_together_leave_what_they_would_one_after_the_other(
    applied: tuple[Workspace, ProfileStore], intake: Intake
) -> None:
    people = ("ann", "ben", "cat")
    for number, customer in enumerate(people):
        intake.one(bought(customer, number), NOON + 10)
    records = [said(customer, number) for number in range(3, 6) for customer in people]
    refused = said("ann", 9) | {"name": ""}
    taken = intake.at_once([*records, records[0], refused], NOON + 20)
    assert [(each.stored, each.duplicate) for each in taken.receipts] == [(True, False)] * 9 + [
        (False, True),
        (False, False),
    ]
    assert taken.receipts[-1].problem is not None
    for customer in people:
        as_folded_anew(applied, customer)


def test_what_another_worker_did_meanwhile_is_kept(applied: tuple[Workspace, ProfileStore], intake: Intake) -> None:
    other = Intake(database.connect(applied[0]), applied[1], NOTHING_SOLD)
    for number in range(0, 9, 3):
        intake.at_once([said("both", number)], NOON + 10)
        other.one(bought("both", number + 1), NOON + 10)
        intake.at_once([said("both", number + 2)], NOON + 10)
        as_folded_anew(applied, "both")
    other.close()


def test_an_entry_goes_when_it_is_idle_for_too_long_though_only_pages_are_viewed(
    applied: tuple[Workspace, ProfileStore], intake: Intake
) -> None:
    for number, days in enumerate((800, 400, 300, 100, 50, 1)):
        at = NOON - days * DAY_S
        intake.one(bought("idle", number, at), at + 100) if not number else intake.at_once(
            [said("idle", number, at=at)], at + 100
        )
        as_folded_anew(applied, "idle")
    now = applied[1].read("idle")
    assert now is not None
    assert len(now.profile.items) == 0


def test_years_of_entries_are_not_written_again_for_a_page_view(
    applied: tuple[Workspace, ProfileStore], intake: Intake
) -> None:
    lines = [{"product_id": f"p{each}", "price": 1.0, "quantity": 1} for each in range(2_000)]
    intake.one(said("much", 0, "Order Completed", order_id="o", products=lines), NOON)
    intake.at_once([said("much", 1)], NOON + 10)
    with closing(sqlite3.connect(applied[0].home / "online.db")) as online:
        told = "SELECT feature_name, event_ts FROM onestory_last_seen WHERE value IS NOT NULL ORDER BY event_ts"
        before = dict(online.execute(told).fetchall()[-2:])
        intake.at_once([said("much", 2)], NOON + 10)
        after = dict(online.execute(told).fetchall()[-2:])
    assert before["items_seq"] < after["items_seq"]
    assert before["items"] == after["items"]
    as_folded_anew(applied, "much")


def test_without_its_entries_online_a_profile_is_written_whole(
    applied: tuple[Workspace, ProfileStore], intake: Intake
) -> None:
    intake.at_once([said("lost", 1)], NOON + 10)
    applied[1].forget(["lost"])
    intake.at_once([said("lost", 2)], NOON + 10)
    as_folded_anew(applied, "lost")


# ------------------------------------------------------------------------------- what is not done at once


@pytest.mark.parametrize(
    "record",
    [
        bought("slow", 5),
        said("slow", 5, "Offer Responded", offer_id="o", offer_kind="promotion", response="clicked"),
        said("slow", -9),
        said("slow", 5) | {"anonymous_id": "device"},
    ],
    ids=["an order", "a response", "one that comes late", "a new link"],
)
def test_what_takes_long_is_left_for_later_and_nothing_of_it_stored(
    applied: tuple[Workspace, ProfileStore], intake: Intake, record: dict[str, Any]
) -> None:
    intake.one(said("slow", 0), NOON + 10)
    with pytest.raises(NotAtOnce):
        intake.at_once([record], NOON + 10)
    with database.reading(database.connect(applied[0])) as connection:
        assert record["message_id"] not in connection.scalars(sa.select(database.events.c.message_id)).all()


def test_a_link_that_is_known_already_is_nothing_new(applied: tuple[Workspace, ProfileStore], intake: Intake) -> None:
    intake.one(said("linked", 0) | {"anonymous_id": "phone"}, NOON + 10)
    assert intake.at_once([said("linked", 1) | {"anonymous_id": "phone"}], NOON + 10).receipts[0].stored
    as_folded_anew(applied, "linked")


def test_a_refused_record_needs_nobody(intake: Intake) -> None:
    (receipt,) = intake.at_once([said("bad", 0) | {"name": ""}], NOON + 10).receipts
    assert receipt.problem is not None


def test_while_another_writes_nothing_is_waited_for(applied: tuple[Workspace, ProfileStore], intake: Intake) -> None:
    with closing(sqlite3.connect(applied[0].home / "onestory.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(NotAtOnce):
            intake.at_once([said("held", 0)], NOON + 10)
        assert time.monotonic() - started < 1
        holder.execute("ROLLBACK")
    assert intake.at_once([said("held", 0)], NOON + 10).receipts[0].stored


def test_where_the_online_store_is_busy_the_rest_is_done_later(
    applied: tuple[Workspace, ProfileStore], intake: Intake
) -> None:
    for number in range(2):  # with its entries, and without
        with closing(sqlite3.connect(applied[0].home / "online.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            taken = intake.at_once([said("later", number)], NOON + 10)
            holder.execute("ROLLBACK")
        assert taken.receipts[0].stored
        assert taken.behind
        intake.level(taken)
        as_folded_anew(applied, "later")


def test_who_is_erased_meanwhile_does_not_come_back(applied: tuple[Workspace, ProfileStore], intake: Intake) -> None:
    intake.at_once([said("gone", 0)], NOON + 10)
    with closing(sqlite3.connect(applied[0].home / "online.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        taken = intake.at_once([said("gone", 1)], NOON + 10)
        holder.execute("ROLLBACK")
    with database.transaction(database.connect(applied[0])) as connection:
        connection.execute(sa.delete(database.profiles).where(database.profiles.c.customer_id == "gone"))
    applied[1].forget(["gone"])
    intake.level(taken)
    assert applied[1].read("gone") is None


def test_commits_that_wait_for_the_disk_are_not_made_at_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONESTORY_SQLITE_SYNCHRONOUS", "FULL")
    writer = Writer(database.connect(workspace))
    with pytest.raises(NotAtOnce), writer.transaction(at_once=True):
        pass
    with writer.transaction() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(FEEDS)) == 0
    writer.close()


def test_the_write_ahead_log_does_not_grow_for_ever(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 5)
    monkeypatch.setattr(checkpoints, "LONGEST", 20)
    writer, sizes = Writer(database.connect(workspace)), list[int]()
    for _ in range(10):
        for number in range(50):
            with suppress(NotAtOnce), writer.transaction(at_once=True) as connection:  # not while the log starts anew
                row = {"signal": "x", "location_id": f"{number:03}" * 500, "last_at": time.time()}
                driver.each(connection, signals._hearing("sqlite"), [row])
        assert writer._checkpoints is not None
        writer._checkpoints.close()
        sizes.append(Path(f"{workspace.home}/onestory.db-wal").stat().st_size)
    writer.close()
    assert sizes[-1] <= 2 * max(sizes[:2])


# ------------------------------------------------------------------------------------------------ entries


class Closed(dict[str, Any]):
    """Entries that nobody may look at."""

    def _looked(self, *_: Any) -> Any:
        raise AssertionError("looked at")

    get = __getitem__ = __setitem__ = __contains__ = __iter__ = __len__ = setdefault = pop = _looked


@given(histories())
def test_no_other_event_looks_at_entries(history: list[Event]) -> None:
    profile = Profile({}, {})
    for event in sorted(history, key=lambda event: event.key):
        if profiles.must_refold(profile, event):
            continue
        items = profile.items
        if event.name not in ON_ENTRIES:
            profile.items = Closed()
        profiles.fold(profile, event)
        profile.items = items


def test_the_events_on_entries_are_those_that_have_steps() -> None:
    assert set(STEPS) >= ON_ENTRIES


def test_of_the_latest_customers_it_is_known_when_their_entries_go() -> None:
    spared, view = Spared(), [Event("m", "Product Viewed", NOON, NOON)]
    spared.note(1, {f"c{number}": NOON for number in range(MOST)})
    spared.note(2, {"c0": NOON, "new": NOON})
    assert spared.oldest("c0", 2, view) == spared.oldest("new", 2, view) == NOON
    assert spared.oldest("c0", 1, view) is None
    assert spared.oldest("c1", 1, view) is None
    assert spared.oldest("c2", 1, view) == NOON
    assert spared.oldest("c2", 1, [Event("m", "Order Completed", NOON, NOON)]) is None
