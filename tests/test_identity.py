"""Who is who: the same messages give the same customers in any order, and what was merged can be parted again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from people import NOTHING_SOLD, NOW, Online, Record, World, alias, expected, hashed, identify, logged, order, records

from features import database, identity
from features.events import EventProblem
from features.intake import Intake
from features.learning import learn, learn_from_log
from features.links import whose
from features.partition import MOST_ANONYMOUS, MOST_LOGINS
from features.sources.bulk import append_history
from features.vocabulary import Event


@pytest.fixture(scope="module", autouse=True)
def _disposed() -> Iterable[None]:
    yield
    for engine in World.engines:
        engine.dispose()


@pytest.fixture
def world() -> Iterable[World]:
    made = World()
    yield made
    made.close()


# ------------------------------------------------------------------------------------------------ rules


def test_an_email_a_phone_and_a_loyalty_number_make_one_customer_of_two_logins(world: World) -> None:
    world.take(order(user_id="1"), order(user_id="2"), order(user_id="3"), order(user_id="4"))
    world.take(identify(1, "jo@x", user_id="1"), identify(2, "jo@x", user_id="2"))
    world.take(identify(3, phone_hmac=hashed("+1"), user_id="2"), identify(4, phone_hmac=hashed("+1"), user_id="3"))
    world.take(identify(5, loyalty_number=" 77", user_id="3"), identify(6, loyalty_number=77, user_id="4"))
    assert world.customers("1", "2", "3", "4") == ["1", "1", "1", "1"]
    assert world.orders() == {"1": 4}


def test_the_customer_is_called_by_the_login_that_was_linked_first(world: World) -> None:
    world.take(identify(5, "jo@x", user_id="1"), identify(2, "jo@x", user_id="2"))
    assert world.customers("1", "2") == ["2", "2"]
    world.take(identify(1, "jo@x", user_id="1"))  # comes late, and was there before
    assert world.customers("1", "2") == ["1", "1"]


def test_an_alias_between_logins_merges_them_and_one_of_an_anonymous_id_ties_that(world: World) -> None:
    world.take(order(anonymous_id="a"), order(user_id="old"), alias("new", "old"), alias("new", "a"))
    assert world.customers("new", "old", "anonymous:a") == ["new", "new", "new"]
    assert world.orders() == {"new": 2}


def test_a_previous_id_counts_as_a_login_once_a_message_has_it_as_one(world: World) -> None:
    world.take(order(user_id="x"), alias("x", "later"), alias("y", "later"), order(user_id="y"))
    assert world.customers("x", "y", "later") == ["x", "y", "later"]
    world.take(order(user_id="later"))
    assert len(set(world.customers("x", "y", "later"))) == 1


def test_a_browsers_alias_of_an_id_to_itself_changes_nothing(world: World) -> None:
    world.take(order(user_id="1"), alias("1", "1"))
    assert world.customers("1") == ["1"]
    assert world.take().orders() == {"1": 1}


def test_a_shared_browser_and_a_shared_device_never_merge_two_logins(world: World) -> None:
    both = {"anonymous_id": "kiosk", "device_id": "tablet"}
    world.take(order(0, **both), order(1, user_id="1", **both), order(2, user_id="2", **both), alias("2", "kiosk", 3))
    assert world.customers("1", "2", "anonymous:kiosk") == ["1", "2", "1"]
    assert world.orders() == {"1": 2, "2": 1}


def test_an_email_typed_in_anonymously_ties_the_browser_to_the_customer_who_has_it(world: World) -> None:
    world.take(order(anonymous_id="phone"), identify(1, "jo@x", anonymous_id="phone"), order(user_id="1"))
    assert world.orders() == {"anonymous:phone": 1, "1": 1}
    world.take(identify(2, "jo@x", user_id="1"))
    assert world.orders() == {"1": 2}


def test_two_browsers_with_one_email_are_one_visitor_until_somebody_logs_in(world: World) -> None:
    world.take(order(anonymous_id="p"), identify(1, "jo@x", anonymous_id="p"))
    world.take(order(anonymous_id="l"), identify(2, "jo@x", anonymous_id="l"))
    assert world.orders() == {"anonymous:p": 2}
    world.take(order(3, user_id="1", anonymous_id="l"))
    assert world.orders() == {"1": 3}


def test_a_new_anonymous_id_on_a_device_is_the_customers_who_logs_in_there(world: World) -> None:
    world.take(order(0, user_id="1", device_id="d"), order(1, anonymous_id="reinstalled", device_id="d"))
    assert world.orders() == {"1": 2}
    world.take(identify(2, "eve@x", anonymous_id="reinstalled"))  # somebody who has a key of their own
    assert world.orders() == {"1": 1, "anonymous:reinstalled": 1}


def test_an_email_that_too_many_logins_share_joins_nobody(world: World) -> None:
    logins = [str(number) for number in range(MOST_LOGINS + 1)]
    world.take(*(order(user_id=login) for login in logins))
    world.take(*(identify(number, "info@shop", user_id=login) for number, login in enumerate(logins[:-1])))
    assert set(world.customers(*logins[:-1])) == {"0"}
    world.take(identify(9, "info@shop", user_id=logins[-1]))
    assert world.customers(*logins) == logins
    assert world.orders() == dict.fromkeys(logins, 1)


def test_what_too_many_visitors_have_typed_in_joins_none_of_them(world: World) -> None:
    visitors = [f"v{number}" for number in range(MOST_ANONYMOUS + 1)]
    world.take(*(identify(number, "test@test", anonymous_id=visitor) for number, visitor in enumerate(visitors)))
    assert len(set(world.customers(*(f"anonymous:{visitor}" for visitor in visitors)))) == len(visitors)


# ------------------------------------------------------------------------------------------ any order


@settings(max_examples=60)
@given(records(), st.integers(1, 5), st.randoms(use_true_random=False))
def test_any_order_and_any_batches_give_the_same_customers_and_profiles(
    sent: list[Record], at_once: int, chance: random.Random
) -> None:
    found = []
    for _ in range(2):
        world = World()
        world.take(*chance.sample(sent, len(sent)), at_once=at_once)
        owners, packed = expected(logged(world))
        with database.reading(world.engine) as connection:
            assert identity.owners_of(connection, owners) == owners
        assert world.profiles() == packed
        world.close()
        found.append(packed)
    assert found[0] == found[1]


@settings(max_examples=30)
@given(records(), st.integers(1, 5), st.integers(0, 14))
def test_a_history_and_live_events_together_give_the_same_customers(
    sent: list[Record], at_once: int, first: int
) -> None:
    world = World()
    live, past = sent[:first], sent[first:]
    world.take(*live)
    append_history(world.engine, (_event(record) for record in past), at_once=at_once)
    owners, _ = expected(logged(world))
    with database.reading(world.engine) as connection:
        assert identity.owners_of(connection, owners) == owners
        rows = connection.execute(sa.select(database.events).where(database.events.c.customer_id.is_not(None))).all()
        assert {row.customer_id for row in rows} == {owners[whose(row.user_id, row.anonymous_id) or ""] for row in rows}
    world.close()


def _event(record: Record) -> Event:
    ids = {key: record.get(key) for key in ("user_id", "anonymous_id")}
    at = record["occurred_at"]
    return Event(record["message_id"], record["name"], at, at, body=record["body"], **ids)


# ------------------------------------------------------------------------------------------------- undo


BEFORE = [
    order(user_id="1"),
    order(1, user_id="2"),
    order(anonymous_id="a"),
    identify(2, "jo@x", user_id="1", anonymous_id="a"),
]


def merged(world: World) -> World:
    return world.take(*BEFORE)


def test_undoing_a_merge_gives_back_the_profiles_of_before_to_the_byte(world: World) -> None:
    theirs = identify(3, "jo@x", user_id="2")
    apart = World()
    merged(apart).take({**theirs, "body": {"traits": {}}})  # the same message, had it not named the address
    merged(world).take(theirs)
    assert (world.customers("1", "2"), world.orders()) == (["1", "1"], {"1": 3})
    assert world.intake.undo("2", NOW + 500) == 1
    assert (world.customers("1", "2", "anonymous:a"), world.orders()) == (["1", "2", "1"], {"1": 2, "2": 1})
    assert world.profiles() == apart.profiles()
    apart.close()


def test_what_was_undone_stays_undone_until_somebody_says_it_anew(world: World) -> None:
    theirs = identify(3, "jo@x", user_id="2")
    merged(world).take(theirs)
    world.intake.undo("2", NOW + 500)
    world.take(theirs, identify(4, "jo@x", user_id="2"))  # a repeat, and one that only comes late
    assert world.customers("2") == ["2"]
    world.clock = NOW + 1_000
    world.take(identify(600, "jo@x", user_id="2"))
    assert world.customers("2") == ["1"]


def test_what_was_undone_for_good_never_joins_again(world: World) -> None:
    merged(world).take(identify(3, "jo@x", user_id="2"))
    world.intake.undo("2", NOW + 500, for_good=True)
    world.clock = NOW + 1_000
    world.take(identify(600, "jo@x", user_id="2"))
    assert world.customers("2") == ["2"]


def test_a_browser_parted_from_its_first_login_is_the_next_ones(world: World) -> None:
    world.take(
        order(0, anonymous_id="a"), order(1, user_id="1", anonymous_id="a"), order(2, user_id="2", anonymous_id="a")
    )
    world.intake.undo("anonymous:a", NOW + 500)
    assert world.customers("anonymous:a") == ["2"]
    world.intake.undo("anonymous:a", NOW + 501)
    assert world.orders() == {"anonymous:a": 1, "1": 1, "2": 1}


def test_who_stands_alone_cannot_be_parted(world: World) -> None:
    world.take(order(user_id="1"))
    with pytest.raises(EventProblem, match="id: `1` is tied to no other; expected a login or `anonymous:<id>`"):
        world.intake.undo("1", NOW)


# ------------------------------------------------------------------------------------------ what is told


def test_the_ids_of_a_customer_are_told_with_their_reasons(world: World) -> None:
    merged(world).take({**identify(3, "jo@x", user_id="2", device_id="d"), "message_id": "theirs"})
    with database.reading(world.engine) as connection:
        found = identity.ids_of(connection, "2")
        assert found == identity.ids_of(connection, "1") == identity.ids_of(connection, "anonymous:a")
    told = [(one.id, one.kind, one.reason) for one in found]
    assert told[:3] == [("1", "login", None), ("a", "anonymous", "login"), ("2", "login", "email")]
    assert told[3:] == [("d", "device", "login"), (hashed("jo@x"), "email", "login")]
    assert found[2].message_id == "theirs"


def test_every_merge_and_its_undoing_is_told_with_its_message(world: World) -> None:
    merged(world).take({**identify(3, "jo@x", user_id="2"), "message_id": "theirs"})
    world.intake.undo("2", NOW + 500)
    with database.reading(world.engine) as connection:
        found = identity.merges_of(connection, "2")
    assert [(one.id, one.before, one.after, one.reason) for one in found] == [
        ("2", "2", "1", "email"),
        ("2", "1", "2", "undone"),
    ]
    assert found[0].message_id == "theirs"
    assert found[0].known_at < found[1].known_at == NOW + 500


def test_a_forgotten_customers_ids_start_anew(world: World) -> None:
    merged(world).take(identify(3, "jo@x", user_id="2"))
    with database.transaction(world.engine) as connection:
        identity.forget(connection, "1")
        assert connection.execute(sa.select(database.links)).all() == []
    assert world.customers("1", "2", "anonymous:a") == ["1", "2", "anonymous:a"]


def test_a_resolver_sees_a_merge_of_another_at_once(workspace: Any) -> None:
    engine = database.connect(workspace)
    resolver = identity.Resolver(engine)
    intake = Intake(engine, Online(), NOTHING_SOLD)
    assert (resolver.customer("2"), resolver.customer(None, "a")) == ("2", "anonymous:a")
    intake.many([identify(0, "jo@x", user_id="1", anonymous_id="a"), identify(1, "jo@x", user_id="2")], NOW + 2)
    assert (resolver.customer("2"), resolver.customer(None, "a"), resolver.customer("anonymous:a")) == ("1", "1", "1")
    resolver.close()


def test_nothing_is_kept_of_a_message_that_says_what_is_known(world: World) -> None:
    world.take(*(identify(at, "jo@x", user_id="1", anonymous_id="a", device_id="d") for at in range(20)))
    with database.reading(world.engine) as connection:
        assert len(connection.execute(sa.select(database.links)).all()) == 4
        assert learn(connection, []).owners == {}


def test_the_links_of_a_log_from_before_links_were_kept_are_learnt_from_it(world: World) -> None:
    merged(world).take(identify(3, "jo@x", user_id="2"))
    kept = world.customers("1", "2", "anonymous:a")
    with database.transaction(world.engine) as connection:
        connection.execute(sa.delete(database.links))
        connection.execute(sa.delete(database.owners))
        connection.exec_driver_sql("CREATE TABLE identities (anonymous_id VARCHAR)")
    learn_from_log(world.engine)
    assert world.customers("1", "2", "anonymous:a") == kept == ["1", "1", "1"]
    assert not sa.inspect(world.engine).has_table("identities")


@pytest.mark.parametrize("nobodys", ["0", "000-000", "none", "NULL", "N/A", "-", "x" * 256, "a\nb"])
def test_what_stands_where_there_is_no_number_joins_nobody(world: World, nobodys: str) -> None:
    world.take(identify(1, loyalty_number=nobodys, user_id="1"), identify(2, loyalty_number=nobodys, user_id="2"))
    assert world.customers("1", "2") == ["1", "2"]
