"""Everything held of one customer, as one JSON object, piece by piece: it may be larger than memory should bear.

Read page by page, without holding on to the database meanwhile: what comes or goes while it is being read may
be in it or not. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import orjson
import sqlalchemy as sa

from features import database, identity, last_seen, profiles
from features.events import event_of
from features.identity import Id, Merge
from features.profiles import Profile
from features.vocabulary import Event
from features.workspace import Workspace
from serving import decision_files
from serving.facts import moment
from serving.responses import each_once

AT_ONCE = 1_000
NAMES = (
    *("ids", "merges", "profile", "events", "responses", "requests"),
    *("reservations", "dismissals", "decisions", "profiles_seen"),
)
"""The parts of an export, after who and when."""


def export(workspace: Workspace, customer_id: str, now: float) -> Iterator[bytes] | None:
    """The pieces of the JSON object; None for somebody of whom nothing is held."""
    engine = database.connect(workspace)
    with database.reading(engine) as connection:
        ids, known = identity.names_and_ids_of(connection, customer_id)
        merges = identity.merges_of(connection, customer_id)
        requests = [_request(row) for row in _of(connection, database.requests, ids)]
        reservations = [_reservation(row) for row in _of(connection, database.reservations, ids)]
        dismissals = [_dismissal(row) for row in _of(connection, database.dismissals, ids)]
        row = next((row for row in _of(connection, database.profiles, ids) if row.customer_id == ids[0]), None)
    events = _events(engine, ids)
    decisions = (line for line in decision_files.contents(workspace.decisions, ids) if "decision_id" in line)
    first_event, first_decision = next(events, None), next(decisions, None)
    if first_event is None and first_decision is None and row is None and not (requests or reservations):
        return None
    parts: Mapping[str, Any] = {
        "ids": held_ids(known),
        "merges": [_merge(each) for each in merges],
        "profile": _profile(profiles.unpack(row.state, row.items), now) if row else None,
        "events": (_event(event) for event in _again(first_event, events)),
        "responses": map(_response, each_once(_events(engine, ids, "Offer Responded"))),
        "requests": requests,
        "reservations": reservations,
        "dismissals": dismissals,
        "decisions": _again(first_decision, decisions),
        "profiles_seen": (
            _seen(line) for line in decision_files.contents(workspace.decisions, ids) if "profile" in line
        ),
    }
    return _pieces({"customer_id": ids[0], "exported_at": moment(now)}, parts)


def held_ids(known: Sequence[Id]) -> list[dict[str, Any]]:
    """Every id that means a customer, and which message said so."""
    return [
        {
            "id": each.id,
            "kind": each.kind,
            "reason": each.reason,
            "message_id": each.message_id,
            "since": None if each.occurred_at is None else moment(each.occurred_at),
        }
        for each in known
    ]


def _merge(merge: Merge) -> dict[str, Any]:
    return {
        "id": merge.id,
        "before": merge.before,
        "after": merge.after,
        "known_at": moment(merge.known_at),
        "reason": merge.reason,
        "message_id": merge.message_id,
    }


def _seen(line: Mapping[str, Any]) -> dict[str, Any]:
    """A profile as a decision saw it, in the words that a person can read; one of another form as it stands."""
    try:
        profile = profiles.from_log(line["profile"])
    except (KeyError, ValueError):
        return dict(line)
    return {**line, "profile": {"state": profile.state, "items": dict(profile.items)}}


def _pieces(head: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[bytes]:
    yield orjson.dumps(head)[:-1]
    for name in NAMES:
        part = parts[name]
        if not isinstance(part, Iterator):
            yield b',"%s":%s' % (name.encode(), orjson.dumps(part))
            continue
        yield b',"%s":[' % name.encode()
        for number, each in enumerate(part):
            yield (b"," if number else b"") + orjson.dumps(each)
        yield b"]"
    yield b"}"


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    return chain([] if first is None else [first], rest)


def _of(connection: sa.Connection, table: sa.Table, ids: Sequence[str]) -> sa.CursorResult[Any]:
    return connection.execute(sa.select(table).where(table.c.customer_id.in_(ids)))


def _events(engine: sa.Engine, ids: Sequence[str], name: str | None = None) -> Iterator[Event]:
    """The customer's events in the order of arrival."""
    columns, seq = database.events.c, -1
    while True:
        statement = sa.select(database.events).where(columns.customer_id.in_(ids), columns.seq > seq)
        if name is not None:
            statement = statement.where(columns.name == name)
        with database.reading(engine) as connection:
            rows = connection.execute(statement.order_by(columns.seq).limit(AT_ONCE)).all()
        yield from map(event_of, rows)
        if len(rows) < AT_ONCE:
            return
        seq = rows[-1].seq


def _event(event: Event) -> dict[str, Any]:
    return {
        "message_id": event.message_id,
        "name": event.name,
        "occurred_at": moment(event.occurred_at),
        "known_at": moment(event.known_at),
        "user_id": event.user_id,
        "anonymous_id": event.anonymous_id,
        "channel": event.channel,
        "location_id": event.location_id,
        "properties": event.body,
    }


def _request(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "customer_id": row.customer_id,
        "request_id": row.request_id,
        "requested_at": moment(row.requested_at),
        "content": row.content,
        "decision_id": row.decision_id,
    }


def _reservation(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "decision_id": row.decision_id,
        "customer_id": row.customer_id,
        "channel": row.channel,
        "kinds": row.kinds.split(","),
        "at": moment(row.at),
        "until": None if row.until is None else moment(row.until),
    }


def _dismissal(row: sa.Row[Any]) -> dict[str, Any]:
    return {"message_id": row.message_id, "customer_id": row.customer_id, "at": moment(row.at)}


def _response(event: Event) -> dict[str, Any]:
    names = ("decision_id", "offer_id", "offer_kind", "response")
    return {
        "message_id": event.message_id,
        "occurred_at": moment(event.occurred_at),
        "channel": event.channel,
        **{name: event.body.get(name) for name in names},
    }


def _profile(profile: Profile, now: float) -> dict[str, Any]:
    """The features by name with what they mean, and the stored parts they are made of."""
    values = profiles.derive(profile, now)
    return {
        "features": [
            {"name": name, "value": None if values[name] != values[name] else values[name], "means": means}
            for name, means in profiles.FEATURES.items()
        ],
        "state": profile.state,
        "items": {key: dict(zip(last_seen.ENTRY.names, entry, strict=True)) for key, entry in profile.items.items()},
    }
