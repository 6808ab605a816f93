"""One event in: append it, say whose it is, fold the profile, and bring Feast's online row level.

What has been answered as stored is in our database, and the online store shows it: the next decision
of any worker sees it. The order is: one transaction with the event, the identity and the profile's new
sequence number; then, under the same customer's lock, the online row. A crash between the two leaves
`online_seq < seq`, which `level` mends at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol

import sqlalchemy as sa

from features import budgets, commerce, database, driver, identity, profiles, signals
from features.events import EventLog, EventProblem, check
from features.links import owned_by, whose
from features.ownership import chunks
from features.profiles import Profile
from features.signals import ABOUT_STOCK, feeds_of
from features.vocabulary import ONLINE, Event, Offer, Product

LEVEL_AT_ONCE = 500


class OnlineStore(Protocol):
    """The part of `store.ProfileStore` that intake writes to."""

    def write(self, rows: Iterable[tuple[str, int, float, bytes, bytes]]) -> None: ...

    def write_stock(self, rows: Iterable[tuple[str, str, int, int]]) -> None: ...


class Catalog(Protocol):
    """The part of `catalog.Catalog` that completes an event."""

    @property
    def products(self) -> Mapping[str, Product]: ...

    @property
    def offers(self) -> Mapping[str, Offer]: ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one message: stored, a duplicate, or refused with its problem."""

    message_id: str
    stored: bool = False
    duplicate: bool = False
    problem: EventProblem | None = None
    customer_id: str | None = None


@dataclass(slots=True)
class _Batch:
    """One transaction under way: what is new in it, profiles opened, customers to fold anew, shelves and feeds.

    `repeated` holds the customers of duplicates: a message is sent again when its first answer was lost,
    perhaps to a crash before the online row was written.
    """

    connection: sa.Connection
    seq: int
    open: dict[str, Profile]
    changed: set[str] = field(default_factory=set)
    refold: set[str] = field(default_factory=set)
    shelves: set[tuple[str, str]] = field(default_factory=set)
    heard: dict[tuple[str, str], float] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)


Joined = Callable[[str, str], None]


class Intake:
    """The way of every live event into a workspace."""

    def __init__(
        self, engine: sa.Engine, store: OnlineStore, catalog: Catalog, joined: Joined = lambda former, now: None
    ):
        """`joined` hears of each id that has become another customer's: the name it had of itself, and whose it is."""
        self._engine, self._store, self._catalog, self._joined = engine, store, catalog, joined
        self._writer = driver.Writer(engine)
        self._log = EventLog()

    def many(self, records: Sequence[Mapping[str, Any] | EventProblem], known_at: float) -> list[Receipt]:
        """Take in a batch, all in one transaction; a bad record is refused with its reason and spoils no other.

        A record that its parser refused comes as its EventProblem, so that receipts keep the order.
        """
        checked = [self._checked(record, known_at) for record in records]
        with self._writer.transaction() as connection:
            database.in_turn(connection)
            rows = _owned(connection, _first_of_each(checked))
            seqs = self._log.append_many(connection, rows)
            new = [(event, owner) for event, owner in rows if event.message_id in seqs]
            batch = _Batch(
                connection,
                seq=max(seqs.values(), default=0),
                open=_stored(connection, {owner for _, owner in new if owner}),
                repeated={owner for event, owner in rows if owner and event.message_id not in seqs},
            )
            owners = {event.message_id: owner for event, owner in rows}
            receipts, fresh = [], dict(seqs)
            for record, event in zip(records, checked, strict=True):
                if isinstance(event, EventProblem):
                    message_id = record.get("message_id") if isinstance(record, Mapping) else None
                    receipts.append(Receipt(str(message_id or ""), problem=event))
                    continue
                owner, seq = owners[event.message_id], fresh.pop(event.message_id, None)
                if seq is not None:
                    self._take(batch, event, seq, owner)
                receipts.append(
                    Receipt(event.message_id, stored=seq is not None, duplicate=seq is None, customer_id=owner)
                )
            learnt = identity.learn(connection, [(event, seqs[event.message_id]) for event, _ in new])
            for customer_id in batch.refold | learnt.customers:
                batch.open[customer_id] = profiles.fold_all(self._log.of_customer(connection, customer_id))
            changed = sorted(batch.changed | batch.refold | learnt.customers)
            _keep(batch, changed, known_at)
            signals.heard(connection, batch.heard)
        self._level([*changed, *sorted(batch.repeated.difference(changed))], sorted(batch.shelves))
        for node, customer_id in learnt.owners.items():
            self._joined(owned_by(node), customer_id)
        return [
            replace(receipt, customer_id=learnt.owners.get(_whose(event) or "", receipt.customer_id))
            for receipt, event in zip(receipts, checked, strict=True)
        ]

    def close(self) -> None:
        self._writer.close()

    def use(self, catalog: Catalog) -> None:
        """From now on events are completed from this catalog."""
        self._catalog = catalog

    def one(self, record: Mapping[str, Any], known_at: float) -> Receipt:
        return self.many([record], known_at)[0]

    def undo(self, id_: str, now: float, for_good: bool = False) -> int:
        """Part a login or anonymous id from the customer it was merged into, by an event of its own; how many links.

        Raises EventProblem where nothing ties it to another.
        """
        with database.reading(self._engine) as connection:
            record = identity.undoing(connection, id_, now, for_good)
        self.one(record, now)
        return len(record["body"]["links"])

    def _take(self, batch: _Batch, event: Event, seq: int, customer_id: str | None) -> None:
        """What a new event means for the shelves, the feeds and its customer."""
        for feed in feeds_of(event, customer_id):
            batch.heard[feed] = max(event.occurred_at, batch.heard.get(feed, event.occurred_at))
        if event.name in ABOUT_STOCK:
            self._stock(batch, event, seq)
        budgets.note(batch.connection, event, seq)
        if customer_id is not None:
            self._fold(batch, customer_id, event)

    def _stock(self, batch: _Batch, event: Event, seq: int) -> None:
        take = signals.set_stock if event.name == "Stock Updated" else signals.reserve_stock
        location_id = event.body.get("location_id") or event.location_id or ONLINE
        if take(batch.connection, event, seq):
            batch.shelves.add((event.body["product_id"], location_id))

    def _fold(self, batch: _Batch, customer_id: str, event: Event) -> None:
        """Add one event to its customer's profile; what cannot simply be added is folded anew at the end."""
        if customer_id in batch.refold:
            return
        profile = batch.open.setdefault(customer_id, profiles.empty())
        if profiles.must_refold(profile, event):
            batch.refold.add(customer_id)
        else:
            batch.open[customer_id] = profiles.fold(profile, event)
            batch.changed.add(customer_id)

    def _checked(self, record: Mapping[str, Any] | EventProblem, known_at: float) -> Event | EventProblem:
        """The event with what the catalog knows of its products or offer and the message does not say."""
        if isinstance(record, EventProblem):
            return record
        try:
            event = check(record, known_at)
            return replace(event, body=commerce.completed(event.name, dict(event.body), self._catalog))
        except EventProblem as problem:
            return problem

    # ------------------------------------------------------------------------------- the online store

    def level_all(self) -> int:
        """Bring Feast's online store level with our database, as after a crash; how many rows it took."""
        with database.reading(self._engine) as connection:
            table, shelf = database.profiles, database.stock
            customers = connection.scalars(
                sa.select(table.c.customer_id).where(table.c.online_seq < table.c.seq).order_by(table.c.customer_id)
            ).all()
            behind = sa.select(shelf.c.product_id, shelf.c.location_id).where(shelf.c.online_seq < shelf.c.seq)
            shelves = [(row.product_id, row.location_id) for row in connection.execute(behind)]
        for some in chunks(customers):
            self._level(some, [])
        for start in range(0, len(shelves), LEVEL_AT_ONCE):
            self._level([], shelves[start : start + LEVEL_AT_ONCE])
        return len(customers) + len(shelves)

    def _level(self, customers: Sequence[str], shelves: Sequence[tuple[str, str]]) -> None:
        """Write online what is newer in our database. Holding the rows' lock keeps an older write from winning."""
        if not customers and not shelves:
            return
        with self._writer.transaction() as connection:
            if rows := driver.of_ids(connection, _BEHIND, customers):
                driver.each(connection, _LEVELLED, [{"customer": row[0]} for row in rows])
                self._store.write(rows)
            if rows := driver.each(
                connection, _LEVEL_SHELF, [{"product": p, "location": place} for p, place in shelves]
            ):
                self._store.write_stock(rows)


def _whose(event: Event | EventProblem) -> str | None:
    return whose(event.user_id, event.anonymous_id) if isinstance(event, Event) else None


def _first_of_each(checked: Iterable[Event | EventProblem]) -> list[Event]:
    """The events of a batch; of a message id that comes twice the first counts, whoever the second is about."""
    first: dict[str, Event] = {}
    for event in checked:
        if isinstance(event, Event):
            first.setdefault(event.message_id, event)
    return list(first.values())


def _owned(connection: sa.Connection, events: Sequence[Event]) -> list[tuple[Event, str | None]]:
    """Each event with the customer it is about as far as is known before this batch."""
    nodes = [_whose(event) for event in events]
    owners = identity.owners_of(connection, {node for node in nodes if node})
    return [(event, owners[node] if node else None) for event, node in zip(events, nodes, strict=True)]


def _stored(connection: sa.Connection, customers: Collection[str]) -> dict[str, Profile]:
    """The profiles of those customers that have one."""
    rows = driver.of_ids(connection, _PROFILES, sorted(customers))
    return {customer_id: profiles.unpack(state, items) for customer_id, state, items in rows}


def _keep(batch: _Batch, customers: Sequence[str], known_at: float) -> None:
    """Write these customers' profiles as they are now; none for who never was anybody."""
    rows = []
    for customer_id in customers:
        profile = batch.open[customer_id]
        if profile.state or _is_stored(batch.connection, customer_id):
            state, items = profiles.pack(profile)
            rows.append(
                {"customer_id": customer_id, "seq": batch.seq, "known_at": known_at, "state": state, "items": items}
            )
    driver.each(batch.connection, _keeping(batch.connection.dialect.name), rows)


def _is_stored(connection: sa.Connection, customer_id: str) -> bool:
    columns = database.profiles.c
    return bool(connection.scalar(sa.select(sa.exists().where(columns.customer_id == customer_id))))


# Made once, see `database.insert_of`.

_table, _shelf = database.profiles, database.stock
_ids: sa.BindParameter[list[str]] = sa.bindparam("ids", expanding=True)
_PROFILES = (
    sa.select(_table.c.customer_id, _table.c.state, _table.c["items"])
    .where(_table.c.customer_id.in_(_ids))
    .with_for_update()
)
_BEHIND = (
    sa.select(_table.c.customer_id, _table.c.seq, _table.c.known_at, _table.c.state, _table.c["items"])
    .where(_table.c.customer_id.in_(_ids), _table.c.online_seq < _table.c.seq)
    .with_for_update()
)
_LEVELLED = (  # a RETURNING here would cost SQLite four times as much: it then writes the whole row anew
    sa.update(_table).where(_table.c.customer_id == sa.bindparam("customer")).values(online_seq=_table.c.seq)
)
_LEVEL_SHELF = (
    sa.update(_shelf)
    .where(_shelf.c.product_id == sa.bindparam("product"), _shelf.c.location_id == sa.bindparam("location"))
    .values(online_seq=_shelf.c.seq)
    .returning(_shelf.c.product_id, _shelf.c.location_id, _shelf.c.quantity - _shelf.c.reserved, _shelf.c.seq)
)


@cache
def _keeping(dialect: str) -> sa.Insert:
    """Write a profile, new or again; the row online is now behind."""
    names = ("seq", "known_at", "state", "items")
    new = database.insert_of(dialect, _table).values({**database.by_name("customer_id", *names), "online_seq": 0})
    changes = {name: new.excluded[name] for name in names}
    return new.on_conflict_do_update(index_elements=["customer_id"], set_=changes)
