"""Profiles as our database has them: opened for events to be folded into, and kept. Under the caller's lock.

Years of entries are neither read nor written for an event that leaves them as they are (`spared`). Bringing the online
store level is the business of `levelling`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

import sqlalchemy as sa

from features import columns, database, driver, profiles
from features.profiles import Profile
from features.spared import Spared
from features.vocabulary import Event


@dataclass(slots=True)
class Opened:
    """Profiles by customer; of those in `spared` without their entries, with when the oldest of these was touched."""

    profiles: dict[str, Profile] = field(default_factory=dict)
    spared: dict[str, float] = field(default_factory=dict)


def opened(connection: sa.Connection, events: Mapping[str, Iterable[Event]], spared: Spared | None) -> Opened:
    """The profiles of those customers that have one, for these events of each. Without `spared` with all entries."""
    found, packed = Opened(), dict[str, bytes]()
    for customer_id, state, seq, online_seq in driver.of_ids(connection, _STATES, sorted(events)):
        level = spared is not None and seq == online_seq  # else the entries online may be older ones
        oldest = spared.oldest(customer_id, seq, events[customer_id]) if spared is not None and level else None
        if oldest is None:
            packed[customer_id] = state
        else:
            found.spared[customer_id] = oldest
            found.profiles[customer_id] = profiles.unpack(state, columns.NO_ENTRIES)
    for customer_id, entries in driver.of_ids(connection, _ENTRIES, packed):
        found.profiles[customer_id] = profiles.unpack(packed[customer_id], entries)
    return found


def keep(connection: sa.Connection, seq: int, known_at: float, changed: Mapping[str, Profile]) -> dict[str, float]:
    """Write these customers' profiles as they are now; none for who never was anybody. When the oldest entry of each
    was touched."""
    rows, oldest = [], {}
    for customer_id, profile in changed.items():
        if profile.state or _is_stored(connection, customer_id):
            state, items = profiles.pack(profile)
            rows.append({"customer_id": customer_id, "seq": seq, "known_at": known_at, "state": state, "items": items})
            oldest[customer_id] = columns.oldest(profile.items, profile.key[0])
    driver.each(connection, keeping(connection.dialect.name), rows)
    return oldest


def touch(connection: sa.Connection, seq: int, known_at: float, changed: Mapping[str, Profile]) -> dict[str, bytes]:
    """Write the states of customers whose entries stay as they are; what was written of each."""
    states = {customer_id: profiles.packed_state(profile) for customer_id, profile in changed.items()}
    rows = [{"customer": each, "now": seq, "known": known_at, "packed": state} for each, state in states.items()]
    driver.each(connection, _TOUCHED, rows)
    return states


def _is_stored(connection: sa.Connection, customer_id: str) -> bool:
    return bool(connection.scalar(sa.select(sa.exists().where(_table.c.customer_id == customer_id))))


# Made once, see `database.insert_of`.

_table = database.profiles
_ids: sa.BindParameter[list[str]] = sa.bindparam("ids", expanding=True)
_STATES = (
    sa.select(_table.c.customer_id, _table.c.state, _table.c.seq, _table.c.online_seq)
    .where(_table.c.customer_id.in_(_ids))
    .with_for_update()
)
_ENTRIES = sa.select(_table.c.customer_id, _table.c["items"]).where(_table.c.customer_id.in_(_ids))
_TOUCHED = (  # not `online_seq`: a 0 takes less room, and a row of another length is written anew with its entries
    sa.update(_table)
    .where(_table.c.customer_id == sa.bindparam("customer"))
    .values(seq=sa.bindparam("now"), known_at=sa.bindparam("known"), state=sa.bindparam("packed"))
)


@cache
def keeping(dialect: str) -> sa.Insert:
    """Write a profile, new or again; the row online is now behind."""
    names = ("seq", "known_at", "state", "items")
    new = database.insert_of(dialect, _table).values({**database.by_name("customer_id", *names), "online_seq": 0})
    changes = {name: new.excluded[name] for name in names}
    return new.on_conflict_do_update(index_elements=["customer_id"], set_=changes)
