"""Who is who: the same messages give the same customers in any order, and what was merged can be parted again."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from features import database, identity, profiles
from features.events import EventProblem, event_of
from features.intake import Intake
from features.learning import learn
from features.links import LOGIN_SEEN, Link, Pair, links_of, node_of, whose
from features.partition import MOST_ANONYMOUS, MOST_LOGINS, Graph, Partition
from features.sources.bulk import append_history
from features.vocabulary import Event

NOW = 1_790_000_000.0
NOTHING_SOLD = SimpleNamespace(products={}, offers={})
Record = dict[str, Any]


class Online:
    """An online store in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}

    def write(self, rows: Iterable[tuple[str, int, float, bytes, bytes]]) -> None:
        self.rows.update((customer_id, state + items) for customer_id, _, _, state, items in rows)

    def write_stock(self, rows: Iterable[tuple[str, str, int, int]]) -> None: ...


class World:
    """A workspace in memory; a closed one's engine, which has its statements compiled, serves the next."""

    engines: ClassVar[list[sa.Engine]] = []

    def __init__(self) -> None:
        self.engine = self.engines.pop() if self.engines else sa.create_engine("sqlite://", poolclass=sa.StaticPool)
        database.metadata.drop_all(self.engine)
        database.metadata.create_all(self.engine)
        self.online = Online()
        self.intake = Intake(self.engine, self.online, NOTHING_SOLD)
        self.clock = NOW + 100

    def take(self, *records: Record, at_once: int = 1) -> World:
        for start in range(0, len(records), at_once):
            self.clock += 1
            receipts = self.intake.many(records[start : start + at_once], self.clock)
            assert [receipt.problem for receipt in receipts] == [None] * len(receipts)
        return self

    def customers(self, *ids: str) -> list[str]:
        with database.reading(self.engine) as connection:
            found = identity.owners_of(connection, map(node_of, ids))
        return [found[node_of(id_)] for id_ in ids]

    def profiles(self) -> dict[str, bytes]:
        """What is online of everybody who is somebody."""
        return {customer_id: row for customer_id, row in self.online.rows.items() if not row.startswith(b"{}")}

    def orders(self) -> dict[str, int]:
        with database.reading(self.engine) as connection:
            rows = connection.execute(sa.select(database.profiles)).all()
        found = {row.customer_id: profiles.unpack(row.state, row.items).state.get("orders", 0) for row in rows}
        return {customer_id: orders for customer_id, orders in found.items() if orders}

    def close(self) -> None:
        self.engines.append(self.engine)


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


def hashed(text: str) -> str:
    return f"{sum(text.encode()):064x}"


_names = iter(range(10**9))


def message(name: str, at: float = 0.0, **body: Any) -> Record:
    ids = {key: body.pop(key) for key in ("user_id", "anonymous_id") if key in body}
    message_id = body.pop("message_id", f"m{next(_names):06}")
    return {"message_id": message_id, "name": name, "occurred_at": NOW + at, "body": body, **ids}


def order(at: float = 0.0, **ids: Any) -> Record:
    made = message("Order Completed", at, products=[{"product_id": "a", "price": 2.5, "quantity": 1}], **ids)
    made["body"]["order_id"] = f"o-{made['message_id']}"
    return made


def identify(at: float = 0.0, email: str | None = None, **more: Any) -> Record:
    traits = {"email_hmac": hashed(email)} if email else {}
    traits |= {key: more.pop(key) for key in ("phone_hmac", "loyalty_number") if key in more}
    return message("$identify", at, traits=traits, **more)


def alias(user: str, previous: str, at: float = 0.0) -> Record:
    return message("$alias", at, user_id=user, previous_id=previous)


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


users, visitors = st.sampled_from("12345"), st.sampled_from("abc")
times = st.integers(0, 9).map(float)
who = st.one_of(
    st.fixed_dictionaries({"user_id": users}),
    st.fixed_dictionaries({"anonymous_id": visitors}),
    st.fixed_dictionaries({"user_id": users, "anonymous_id": visitors}),
)
traits = st.fixed_dictionaries(
    {},
    optional={
        "email_hmac": st.sampled_from([hashed("x"), hashed("y")]),
        "phone_hmac": st.sampled_from([hashed("+1")]),
        "loyalty_number": st.sampled_from("78"),
    },
)
pairs = st.one_of(
    st.tuples(st.just("login"), visitors.map("anonymous:{}".format), users.map("user:{}".format)),
    st.tuples(st.just("email"), users.map("user:{}".format), st.just(f"email:{hashed('x')}")),
    st.tuples(st.just("email"), visitors.map("anonymous:{}".format), st.just(f"email:{hashed('x')}")),
    st.tuples(st.just("alias"), users.map("user:{}".format), users.map("user:{}".format)),
    st.tuples(st.just("device"), users.map("user:{}".format), st.just("device:d")),
)


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    found = []
    for number in range(draw(st.integers(1, 14))):
        at, name = draw(times), draw(st.sampled_from(["order", "order", "identify", "identify", "alias", "unlink"]))
        if name == "order":
            made = order(at, **draw(who))
        elif name == "identify":
            made = message("$identify", at, traits=draw(traits), **draw(who))
        elif name == "alias":
            made = alias(draw(users), draw(st.one_of(users, visitors)), at)
        else:
            made = message("$unlink", at, links=[list(draw(pairs))], for_good=draw(st.booleans()))
        if name != "unlink" and draw(st.booleans()):
            made["body"]["device_id"] = "d"
        found.append({**made, "message_id": f"m{number:02}"})
    return found


def expected(events: Sequence[Event]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Who is whom and their profiles, straight from all messages at once."""
    graph = Graph()
    for event in events:
        for link in links_of(event, 0):
            graph.add(link)
        if event.user_id:
            node = node_of(event.user_id)
            graph.add(Link(Pair(LOGIN_SEEN, node, node), 0.0, event.message_id, 0.0, 0))
    whole, owners, theirs = Partition(graph), dict[str, str](), dict[str, list[Event]]()
    for event in events:
        node = whose(event.user_id, event.anonymous_id)
        if node:
            owners[node] = whole.customer(node)
            theirs.setdefault(owners[node], []).append(event)
    packed = {customer_id: profiles.pack(profiles.fold_all(mine)) for customer_id, mine in theirs.items()}
    return owners, {customer_id: state + items for customer_id, (state, items) in packed.items()}


def logged(world: World) -> list[Event]:
    with database.reading(world.engine) as connection:
        return [event_of(row) for row in connection.execute(sa.select(database.events))]


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
