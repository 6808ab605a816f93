"""What was known of a customer or a shelf, and when: the event log replayed moment by moment.

`History` reads the log with the moments at which each event became, and ceased to be, this customer's:
what an anonymous id did is the login's only once the two were joined, and stays the anonymous
customer's before. `replay` turns one customer's history into its changes, folding as live intake does.
Nothing is written here; `build` does that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from features import database, profiles
from features.events import event_of
from features.profiles import Profile
from features.vocabulary import ANONYMOUS, ONLINE, Event


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
        self._owners = _owners(connection)
        self._once: dict[str, set[str]] = {}
        for anonymous_id, owners in self._owners.items():
            for _, owner in owners:
                self._once.setdefault(owner, set()).add(anonymous_id)

    def spans(self, customer_ids: Sequence[str]) -> dict[str, list[Span]]:
        """The history of each of `customer_ids`, in no particular order."""
        table = database.events
        found: dict[str, list[Span]] = {customer_id: [] for customer_id in customer_ids}
        related = sorted(set().union(*(self._once.get(customer_id, ()) for customer_id in customer_ids)))
        theirs: sa.ColumnElement[bool] = table.c.customer_id.in_(customer_ids)
        if related:
            theirs = theirs | (table.c.user_id.is_(None) & table.c.anonymous_id.in_(related))
        for row in self.connection.execute(sa.select(table).where(theirs)):
            event, known = event_of(row), (micros(row.known_at), row.seq)
            owners = self._owners.get(row.anonymous_id) if row.user_id is None else None
            if owners is None:
                found[row.customer_id].append(Span(event, known))
                continue
            for (since, owner), (until, _) in zip(owners, [*owners[1:], (None, "")], strict=True):
                if owner in found and (until is None or until > known):
                    found[owner].append(Span(event, max(since, known), until))
        return found

    def customers(self) -> dict[str, tuple[int, int]]:
        """Every customer there ever was, with `(events, highest seq)` as the log counts them today."""
        return {**dict.fromkeys(self._once, (0, 0)), **counts(self.connection)}


def counts(connection: sa.Connection, among: Sequence[str] | None = None) -> dict[str, tuple[int, int]]:
    """`(events, highest seq)` of every customer (`among` these) who has any."""
    columns = database.events.c
    statement = (
        sa.select(columns.customer_id, sa.func.count(), sa.func.max(columns.seq))
        .where(columns.customer_id.is_not(None) if among is None else columns.customer_id.in_(among))
        .group_by(columns.customer_id)
    )
    return {customer_id: (count, seq) for customer_id, count, seq in connection.execute(statement)}


def _owners(connection: sa.Connection) -> dict[str, list[tuple[tuple[int, int], str]]]:
    """For each joined anonymous id, who owned its events from which moment on, as `identity.join` learnt it."""
    columns = database.events.c
    statement = (
        sa.select(
            columns.anonymous_id,
            columns.user_id,
            columns.occurred_at,
            columns.message_id,
            columns.known_at,
            columns.seq,
        )
        .where(columns.anonymous_id.is_not(None), columns.user_id.is_not(None))
        .order_by(columns.anonymous_id, columns.known_at, columns.seq)
    )
    owners: dict[str, list[tuple[tuple[int, int], str]]] = {}
    earliest: tuple[float, str] = (math.inf, "")
    for row in connection.execute(statement):
        if row.anonymous_id not in owners:
            owners[row.anonymous_id] = [((-(2**63), 0), ANONYMOUS + row.anonymous_id)]
            earliest = (math.inf, "")
        if (row.occurred_at, row.message_id) < earliest:
            earliest = (row.occurred_at, row.message_id)
            if owners[row.anonymous_id][-1][1] != row.user_id:
                owners[row.anonymous_id].append(((micros(row.known_at), row.seq), row.user_id))
    return owners


def shelf_changes(rows: Iterable[sa.Row[Any]]) -> Iterator[tuple[str, str, int, int]]:
    """`(product_id, location_id, moment, sellable)` for each change of stock, from its events in the order of knowing.

    The same arithmetic as `signals.set_stock` and `reserve_stock`: a newer count starts the reservations anew.
    """
    counts: dict[tuple[str, str], tuple[tuple[float, str], int, int]] = {}
    for moment, group in groupby(rows, key=lambda row: micros(row.known_at)):
        changed = set()
        for event in map(event_of, group):
            shelf = event.body["product_id"], event.body.get("location_id") or event.location_id or ONLINE
            key, quantity, reserved = counts.get(shelf, ((-math.inf, ""), 0, 0))
            if event.name == "Stock Updated" and event.key > key:
                counts[shelf] = (event.key, event.body["quantity"], 0)
            elif event.name != "Stock Updated" and key[0] < event.occurred_at and shelf in counts:
                amount = event.body["quantity"] if event.name == "Stock Reserved" else -event.body["quantity"]
                counts[shelf] = (key, quantity, reserved + amount)
            else:
                continue
            changed.add(shelf)
        for shelf in sorted(changed):
            _, quantity, reserved = counts[shelf]
            yield *shelf, moment, quantity - reserved
