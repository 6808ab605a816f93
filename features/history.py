"""What was known of a customer or a shelf, and when: the event log replayed moment by moment.

`History` reads the log with the moments at which each event became, and ceased to be, this customer's:
what an anonymous id or another login did is the customer's only once the two were joined, and stays
the other's before. `replay` turns one customer's history into its changes, folding as live intake does.
Nothing is written here; `build` does that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import orjson
import sqlalchemy as sa

from features import database, profiles
from features.events import event_of
from features.identity import links_around
from features.links import USER, node_of, owned_by, whose
from features.ownership import link_of, owners_of
from features.partition import Graph, Partition, timeline
from features.profiles import Profile
from features.stock import UPDATED, Shelf, amount_of, shelf_of
from features.vocabulary import ANONYMOUS, Event

_ALWAYS = (-(2**63), 0)


def micros(moment: float) -> int:
    """`moment` in whole microseconds: the grain of Feast's timestamps, and so of what counts as the same moment."""
    return round(moment * 1e6)


@dataclass(frozen=True, slots=True)
class Span:
    """One event, counted as this customer's from `since` on, and no longer from `until` on (both as seq, µs)."""

    event: Event
    since: tuple[int, int]
    until: tuple[int, int] | None = None


@dataclass(slots=True)
class Change:
    """What a customer's profile became at one moment (µs). Read it before asking for the next one."""

    moment: int
    seq: int
    profile: Profile
    entries: dict[str, list[Any] | None]
    """The entries of `items` that this moment touched; None: gone."""


def replay(spans: Iterable[Span]) -> Iterator[Change]:
    """The changes of one customer's profile in the order of knowing, one per moment."""
    turns: list[tuple[int, int, bool, Span]] = []
    for span in spans:
        turns.append((*span.since, True, span))
        if span.until is not None:
            turns.append((*span.until, False, span))
    turns.sort(key=lambda turn: turn[0])
    profile, known = profiles.empty(), dict[str, Event]()
    for moment, group in groupby(turns, key=lambda turn: turn[0]):
        here = list(group)
        added = sorted((turn[3].event for turn in here if turn[2]), key=lambda event: event.key)
        known.update((event.message_id, event) for event in added)
        keys = {key for event in added for key in _keys(event)}
        before = {key: list(profile.items[key]) for key in keys if key in profile.items}
        anew = False
        for _, _, begins, span in here:
            if not begins:
                known.pop(span.event.message_id)
                anew = True
        for event in added:
            anew = anew or profiles.must_refold(profile, event)
            if not anew:
                profiles.fold(profile, event)
        if anew:
            before |= {key: entry for key, entry in profile.items.items() if key not in keys}
            profile = profiles.fold_all(known.values())
            keys = before.keys() | profile.items.keys()
        touched = {key: profile.items.get(key) for key in sorted(keys) if before.get(key) != profile.items.get(key)}
        yield Change(moment, max(turn[1] for turn in here), profile, touched)


def _keys(event: Event) -> Iterator[str]:
    """The entries of `items` that an event can touch: those of its lines."""
    for line in event.body.get("products") or ():
        yield "p:" + line["product_id"]
        if line.get("category"):
            yield "c:" + line["category"]


class History:
    """The event log of a workspace, by customer, over one connection."""

    def __init__(self, connection: sa.Connection):
        self.connection = connection
        self._owners: dict[str, list[tuple[tuple[int, int], str]]] = {}
        self._ever: dict[str, set[str]] = {}

    def spans(self, customer_ids: Sequence[str]) -> dict[str, list[Span]]:
        """The history of each of `customer_ids`, in no particular order."""
        table = database.events
        found: dict[str, list[Span]] = {customer_id: [] for customer_id in customer_ids}
        ids = sorted(self._ids_ever(customer_ids))
        now = owners_of(self.connection, [node_of(each) for each in customer_ids] + ids)
        for chunk in database.chunks(sorted({*now.values(), *customer_ids})):
            for row in self.connection.execute(sa.select(table).where(table.c.customer_id.in_(chunk))):
                event, known = event_of(row), (micros(row.known_at), row.seq)
                owners = self._owners.get(whose(row.user_id, row.anonymous_id) or "", [(_ALWAYS, row.customer_id)])
                for (since, owner), (until, _) in zip(owners, [*owners[1:], (None, "")], strict=True):
                    if owner in found and (until is None or until > known):
                        found[owner].append(Span(event, max(since, known), until))
        return found

    def _ids_ever(self, customer_ids: Sequence[str]) -> set[str]:
        """The logins and anonymous ids that ever were these customers'; learns whose they were when."""
        new = [node for node in map(node_of, customer_ids) if node not in self._owners]
        for node in sorted(self._linked(new)):
            if node not in self._owners:
                links = links_around(self.connection, [node])
                around = {end for link in links for end in link.pair[1:] if end.startswith((USER, ANONYMOUS))}
                for each in around:
                    self._now(each, _ALWAYS, owned_by(each))
                for move in timeline(links):
                    self._now(move.node, move.known, move.after)
        return set().union(*(self._ever.get(customer_id, ()) for customer_id in customer_ids))

    def _now(self, node: str, since: tuple[int, int], owner: str) -> None:
        self._owners.setdefault(node, []).append((since, owner))
        self._ever.setdefault(owner, set()).add(node)

    def _linked(self, nodes: Sequence[str]) -> set[str]:
        """Those of `nodes` that any link is about."""
        table = database.links.c
        found: set[str] = set()
        for chunk in database.chunks(nodes):
            for column in (table.one, table.other):
                found |= set(self.connection.scalars(sa.select(column).where(column.in_(chunk)).distinct()))
        return found

    def customers(self) -> list[str]:
        """Every customer there ever was, whether anything is theirs today or not."""
        table, log = database.links.c, database.events.c
        ends = sa.union(sa.select(table.one), sa.select(table.other))
        ids = {owned_by(node) for node in self.connection.scalars(ends) if node.startswith((USER, ANONYMOUS))}
        known = sa.select(log.customer_id).where(log.customer_id.is_not(None)).distinct()
        return sorted(ids | set(self.connection.scalars(known)))


def owners_at(connection: sa.Connection, as_of: float) -> dict[str, str]:
    """The ids (as nodes, see `links`) that were another customer's than their own, as far as was known at `as_of`."""
    links = database.links
    known = [link_of(row) for row in connection.execute(sa.select(links).where(links.c.known_at <= as_of))]
    graph = Graph()
    for link in known:
        graph.add(link)
    then = Partition(graph)
    ids = {end for link in known for end in link.pair[1:] if end.startswith((USER, ANONYMOUS))}
    return {node: then.customer(node) for node in ids if then.customer(node) != owned_by(node)}


def whose_at(connection: sa.Connection, as_of: float) -> Callable[[Any], str]:
    """From a row of the log (its `user_id` and `anonymous_id`) to the customer whom it was then held to be about."""
    owners = owners_at(connection, as_of)

    def then(row: Any) -> str:
        node = whose(row.user_id, row.anonymous_id) or ""
        return owners.get(node, owned_by(node))

    return then


def counts(connection: sa.Connection, among: Sequence[str] | None = None) -> dict[str, tuple[int, int]]:
    """`(events, highest seq)` of every customer (`among` these) who has any."""
    columns = database.events.c
    statement = (
        sa.select(columns.customer_id, sa.func.count(), sa.func.max(columns.seq))
        .where(columns.customer_id.is_not(None) if among is None else columns.customer_id.in_(among))
        .group_by(columns.customer_id)
    )
    return {customer_id: (count, seq) for customer_id, count, seq in connection.execute(statement)}


def oldest(engine: sa.Engine) -> str | None:
    """The customer whose profile has not changed for longest."""
    table = database.profiles.c
    with database.reading(engine) as connection:
        return connection.scalar(sa.select(table.customer_id).order_by(table.seq).limit(1))


def outdated(connection: sa.Connection) -> list[str]:
    """The customers whose profile in our database another version of the code has made."""
    table = database.profiles.c
    rows = connection.execute(sa.select(table.customer_id, table.state).execution_options(yield_per=5_000))
    return [row.customer_id for row in rows if profiles.outdated(Profile(orjson.loads(row.state)))]


def shelf_changes(rows: Iterable[sa.Row[Any]]) -> Iterator[tuple[str, str, int, int]]:
    """`(product_id, location_id, moment, sellable)` for each change of stock, from its events in the order of knowing.

    The same arithmetic as in `stock`: the latest count holds, and what was moved after it.
    """
    counts: dict[Shelf, tuple[tuple[float, str], int, int]] = {}
    moves: dict[Shelf, list[tuple[float, int]]] = {}
    for moment, group in groupby(rows, key=lambda row: micros(row.known_at)):
        changed = set()
        for event in map(event_of, group):
            shelf = shelf_of(event)
            key, quantity, moved = counts.get(shelf, ((-math.inf, ""), 0, 0))
            if event.name == UPDATED and event.key > key:
                moves[shelf] = [move for move in moves.get(shelf, []) if move[0] > event.occurred_at]
                counts[shelf] = (event.key, event.body["quantity"], sum(amount for _, amount in moves[shelf]))
                changed.add(shelf)
            elif event.name != UPDATED and key[0] < event.occurred_at:
                moves.setdefault(shelf, []).append((event.occurred_at, amount_of(event)))
                if shelf in counts:
                    counts[shelf] = (key, quantity, moved + amount_of(event))
                    changed.add(shelf)
        for shelf in sorted(changed):
            _, quantity, moved = counts[shelf]
            yield *shelf, moment, quantity - moved
