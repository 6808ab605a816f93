"""People with many ids, for the tests of identity: a workspace in memory, messages, and what must come of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import sqlalchemy as sa
from hypothesis import strategies as st

from features import database, identity, profiles
from features.events import event_of
from features.intake import Intake
from features.links import LOGIN_SEEN, Link, Pair, links_of, node_of, whose
from features.partition import Graph, Partition
from features.vocabulary import Event

NOW = 1_790_000_000.0
NOTHING_SOLD = SimpleNamespace(products={}, offers={})
Record = dict[str, Any]


class Online:
    """An online store in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.stock: dict[tuple[str, str], int] = {}

    apart = False

    def write(self, rows: Iterable[tuple[str, int, float, bytes, bytes]], at_once: bool = False) -> None:
        self.rows.update((customer_id, state + items) for customer_id, _, _, state, items in rows)

    def write_state(self, customer_id: str, seq: int, state: bytes, at_once: bool = False) -> bool:
        raise AssertionError("told that it cannot")

    def write_stock(self, rows: Iterable[tuple[str, str, int, int]], at_once: bool = False) -> None:
        self.stock.update(((product_id, place), sellable) for product_id, place, sellable, _ in rows)


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


# -------------------------------------------------------------------------------------- any messages


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
    return owners, {customer_id: state + items for customer_id, (state, items) in packed.items() if state != b"{}"}


def logged(world: World) -> list[Event]:
    with database.reading(world.engine) as connection:
        return [event_of(row) for row in connection.execute(sa.select(database.events))]
