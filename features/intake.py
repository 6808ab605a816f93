"""One event in: append it, say whose it is, fold the profile, and bring Feast's online row level.

What has been answered as stored is in our database, and the online store shows it: the next decision
of any worker sees it. The order is: one transaction with the event, the identity and the profile's new
sequence number; then, under the same customer's lock, the online row. A crash between the two leaves
`online_seq < seq`, which `level` mends at the next start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import sqlalchemy as sa

from features import budgets, commerce, database, identity, profiles, signals
from features.events import EventLog, EventProblem, check
from features.profiles import Profile
from features.vocabulary import ONLINE, Event, Offer, Product

ABOUT_STOCK = frozenset({"Stock Updated", "Stock Reserved", "Stock Released"})
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
    """One transaction under way: profiles opened in it, customers to fold anew, shelves that changed.

    `repeated` holds the customers of duplicates: a message is sent again when its first answer was lost,
    perhaps to a crash before the online row was written.
    """

    connection: sa.Connection
    seq: int = 0
    open: dict[str, Profile] = field(default_factory=dict)
    refold: set[str] = field(default_factory=set)
    shelves: set[tuple[str, str]] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)


class Intake:
    """The way of every live event into a workspace."""

    def __init__(self, engine: sa.Engine, store: OnlineStore, catalog: Catalog):
        self._engine, self._store, self._catalog = engine, store, catalog
        self._log = EventLog()

    def many(self, records: Sequence[Mapping[str, Any] | EventProblem], known_at: float) -> list[Receipt]:
        """Take in a batch, all in one transaction; a bad record is refused with its reason and spoils no other.

        A record that its parser refused comes as its EventProblem, so that receipts keep the order.
        """
        receipts: list[Receipt] = []
        with database.transaction(self._engine) as connection:
            batch = _Batch(connection)
            for record in records:
                try:
                    if isinstance(record, EventProblem):
                        raise record
                    receipts.append(self._append(batch, self._completed(check(record, known_at))))
                except EventProblem as problem:
                    message_id = record.get("message_id") if isinstance(record, Mapping) else None
                    receipts.append(Receipt(str(message_id or ""), problem=problem))
            for customer_id in batch.refold:
                batch.open[customer_id] = profiles.fold_all(self._log.of_customer(connection, customer_id))
            for customer_id, profile in batch.open.items():
                _keep(batch, customer_id, profile, known_at)
        self._level(sorted(batch.open.keys() | batch.repeated), sorted(batch.shelves))
        return receipts

    def use(self, catalog: Catalog) -> None:
        """From now on events are completed from this catalog."""
        self._catalog = catalog

    def one(self, record: Mapping[str, Any], known_at: float) -> Receipt:
        return self.many([record], known_at)[0]

    def _append(self, batch: _Batch, event: Event) -> Receipt:
        customer_id = identity.customer_of(batch.connection, event.user_id, event.anonymous_id)
        seq = self._log.append(batch.connection, event, customer_id)
        if seq is None:
            batch.repeated.update([customer_id] if customer_id else [])
            return Receipt(event.message_id, duplicate=True, customer_id=customer_id)
        batch.seq = seq
        if event.name in ABOUT_STOCK:
            self._stock(batch, event)
        elif event.name == "Feed Alive":
            place = event.body.get("location_id") or event.location_id or ""
            signals.heard(batch.connection, event.body["signal"], place, event.occurred_at)
        budgets.note(batch.connection, event, seq)
        if customer_id is not None:
            signals.heard(batch.connection, "profile", "", event.occurred_at)
            batch.refold |= identity.join(batch.connection, event)
            self._fold(batch, customer_id, event)
        return Receipt(event.message_id, stored=True, customer_id=customer_id)

    def _stock(self, batch: _Batch, event: Event) -> None:
        take = signals.set_stock if event.name == "Stock Updated" else signals.reserve_stock
        location_id = event.body.get("location_id") or event.location_id or ONLINE
        if take(batch.connection, event, batch.seq):
            batch.shelves.add((event.body["product_id"], location_id))
        signals.heard(batch.connection, "stock", location_id, event.occurred_at)

    def _fold(self, batch: _Batch, customer_id: str, event: Event) -> None:
        """Add one event to its customer's profile; what cannot simply be added is folded anew at the end."""
        if customer_id in batch.refold:
            return
        profile = batch.open.get(customer_id) or _stored(batch.connection, customer_id)
        if profiles.must_refold(profile, event):
            batch.refold.add(customer_id)
        else:
            batch.open[customer_id] = profiles.fold(profile, event)

    def _completed(self, event: Event) -> Event:
        """The event with what the catalog knows of its products or offer and the message does not say."""
        return replace(event, body=commerce.completed(event.name, dict(event.body), self._catalog))

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
        for start in range(0, len(customers), LEVEL_AT_ONCE):
            self._level(customers[start : start + LEVEL_AT_ONCE], [])
        for start in range(0, len(shelves), LEVEL_AT_ONCE):
            self._level([], shelves[start : start + LEVEL_AT_ONCE])
        return len(customers) + len(shelves)

    def _level(self, customers: Sequence[str], shelves: Sequence[tuple[str, str]]) -> None:
        """Write online what is newer in our database. Holding the rows' lock keeps an older write from winning."""
        if not customers and not shelves:
            return
        table, shelf = database.profiles, database.stock
        with database.transaction(self._engine) as connection:
            if customers:
                rows = connection.execute(
                    sa.select(table)
                    .where(table.c.customer_id.in_(customers), table.c.online_seq < table.c.seq)
                    .with_for_update()
                ).all()
                self._store.write([(r.customer_id, r.seq, r.known_at, r.state, r.items) for r in rows])
                for row in rows:
                    connection.execute(
                        sa.update(table).where(table.c.customer_id == row.customer_id).values(online_seq=row.seq)
                    )
            for product_id, location_id in shelves:
                here = (shelf.c.product_id == product_id) & (shelf.c.location_id == location_id)
                row = connection.execute(sa.select(shelf).where(here).with_for_update()).one()
                self._store.write_stock([(product_id, location_id, row.quantity - row.reserved, row.seq)])
                connection.execute(sa.update(shelf).where(here).values(online_seq=row.seq))


def _stored(connection: sa.Connection, customer_id: str) -> Profile:
    table = database.profiles
    row = connection.execute(
        sa.select(table.c.state, table.c["items"]).where(table.c.customer_id == customer_id).with_for_update()
    ).one_or_none()
    return profiles.unpack(row.state, row.items) if row else profiles.empty()


def _keep(batch: _Batch, customer_id: str, profile: Profile, known_at: float) -> None:
    state, items = profiles.pack(profile)
    values = {"seq": batch.seq, "known_at": known_at, "state": state, "items": items}
    statement = database.insert(batch.connection, database.profiles)
    statement = statement.values(customer_id=customer_id, online_seq=0, **values)
    batch.connection.execute(statement.on_conflict_do_update(index_elements=["customer_id"], set_=values))
