"""One event in: append it, say whose it is, fold the profile, and bring Feast's online row level.

What has been answered as stored is in our database, and the online store shows it: the next decision
of any worker sees it. The order is: one transaction with the event, the identity and the profile's new
sequence number; then, under the same customer's lock, the online row. A crash between the two leaves
`online_seq < seq`, which `level` mends at the next start.

`many` waits for the database and may take long; `at_once` is for who must do neither, an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import sqlalchemy as sa

from features import budgets, commerce, database, driver, identity, profile_rows, profiles, signals, steps, stock
from features.events import EventLog, EventProblem, check
from features.levelling import Levelling, OnlineStore
from features.links import owned_by, whose
from features.profiles import Profile
from features.signals import ABOUT_STOCK, feeds_of
from features.spared import Spared
from features.vocabulary import Event, Offer, Product


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


@dataclass(frozen=True, slots=True)
class Taken:
    """What a transaction has stored: its receipts, what is to be brought level online, and the ids that moved.

    `states` are of customers whose entries are online already, with the number of their profiles.
    """

    receipts: list[Receipt]
    customers: Sequence[str] = ()
    shelves: Sequence[tuple[str, str]] = ()
    owners: Mapping[str, str] = field(default_factory=dict)
    seq: int = 0
    states: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def behind(self) -> bool:
        """Whether anything is to be brought level."""
        return bool(self.customers or self.shelves or self.states)


LONG = steps.ON_ENTRIES | {"Offer Responded"}
"""Events that take long: they change the entries of years, or the log of decisions is asked about them."""


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
        self._log, self._spared = EventLog(), Spared()
        self._levelling = Levelling(self._writer, store)

    def many(self, records: Sequence[Mapping[str, Any] | EventProblem], known_at: float) -> list[Receipt]:
        """Take in a batch, all in one transaction; a bad record is refused with its reason and spoils no other.

        A record that its parser refused comes as its EventProblem, so that receipts keep the order.
        """
        taken = self._take_in(records, [self._checked(record, known_at) for record in records], known_at)
        self.level(taken)
        return taken.receipts

    def at_once(self, records: Sequence[Mapping[str, Any] | EventProblem], known_at: float) -> Taken:
        """Take in a few events without waiting for anybody, or raise NotAtOnce: then nothing was stored.

        What has become of them may have to be brought `level` still, which may wait.
        """
        checked = [self._checked(record, known_at) for record in records]
        if any(isinstance(each, Event) and each.name in LONG for each in checked):
            raise driver.NotAtOnce
        taken = self._take_in(records, checked, known_at, at_once=True)
        try:
            self._levelling.bring(taken.customers, taken.shelves, taken.seq, taken.states, at_once=True)
        except driver.NotAtOnce:
            return taken
        return Taken(taken.receipts)

    def level(self, taken: Taken) -> None:
        """Bring online what was taken in, and tell who has become another customer."""
        self._levelling.bring(taken.customers, taken.shelves, taken.seq, taken.states)
        for node, customer_id in taken.owners.items():
            self._joined(owned_by(node), customer_id)

    def _take_in(
        self,
        records: Sequence[Mapping[str, Any] | EventProblem],
        checked: Sequence[Event | EventProblem],
        known_at: float,
        at_once: bool = False,
    ) -> Taken:
        with self._writer.transaction(at_once) as connection:
            database.in_turn(connection)
            rows = _owned(connection, _first_of_each(checked))
            seqs = self._log.append_many(connection, rows)
            new = [(event, owner) for event, owner in rows if event.message_id in seqs]
            opened = profile_rows.opened(connection, _by_owner(new), self._spared if self._store.apart else None)
            strangers = {owner for _, owner in new if owner and owner not in opened.profiles}
            batch = _Batch(
                connection,
                seq=max(seqs.values(), default=0),
                open=opened.profiles,
                refold=self._log.known_before(connection, strangers, min(seqs.values(), default=0)),
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
            learnt = identity.learn(connection, [(event, seqs[event.message_id]) for event, _ in new], at_once)
            if at_once and batch.refold:
                raise driver.NotAtOnce
            anew = batch.refold | learnt.customers
            for customer_id in anew:
                batch.open[customer_id] = profiles.fold_all(self._log.of_customer(connection, customer_id))
            changed = {each: batch.open[each] for each in sorted(batch.changed | anew)}
            alone = {each: changed.pop(each) for each in list(changed) if each in opened.spared and each not in anew}
            states = profile_rows.touch(connection, batch.seq, known_at, alone)
            oldest = profile_rows.keep(connection, batch.seq, known_at, changed)
            signals.heard(connection, batch.heard)
        self._spared.note(batch.seq, {**oldest, **{each: opened.spared[each] for each in states}})
        if learnt.owners:
            receipts = [
                replace(receipt, customer_id=learnt.owners.get(_whose(event) or "", receipt.customer_id))
                for receipt, event in zip(receipts, checked, strict=True)
            ]
        customers = sorted({*changed, *batch.repeated}.difference(states))
        return Taken(receipts, customers, sorted(batch.shelves), learnt.owners, batch.seq, states)

    def close(self) -> None:
        self._writer.close()

    def use(self, catalog: Catalog) -> None:
        """From now on events are completed from this catalog."""
        self._catalog = catalog

    def one(self, record: Mapping[str, Any], known_at: float) -> Receipt:
        return self.many([record], known_at)[0]

    def level_all(self) -> int:
        """Bring Feast's online store level with our database, as after a crash; how many rows it took."""
        return self._levelling.everything(self._engine)

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
        if event.name in ABOUT_STOCK and stock.take(batch.connection, event, seq):
            batch.shelves.add(stock.shelf_of(event))
        budgets.note(batch.connection, event, seq)
        if customer_id is not None:
            self._fold(batch, customer_id, event)

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


def _whose(event: Event | EventProblem) -> str | None:
    return whose(event.user_id, event.anonymous_id) if isinstance(event, Event) else None


def _by_owner(new: Iterable[tuple[Event, str | None]]) -> dict[str, list[Event]]:
    events: dict[str, list[Event]] = {}
    for event, owner in new:
        if owner:
            events.setdefault(owner, []).append(event)
    return events


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
