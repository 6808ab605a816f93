"""What the service does for one customer beside deciding: tells their story, gives everything held, or erases it.

The composition only; each part has a room of its own (`story`, `export`, `erasure`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import sqlalchemy as sa

from features import database, identity
from features.events import event_of
from features.profile_now import StoreDown
from features.store import ProfileStore
from features.vocabulary import Event
from features.workspace import Workspace
from serving import decision_index
from serving.decide import churn_of
from serving.draft import Draft
from serving.erasure import Eraser
from serving.export import export, held_ids
from serving.problems import not_now
from serving.question import Question
from serving.responses import each_once
from serving.story import Known, story

MOST_DECISIONS = 5
MOST_RESPONSES = 10
LOOKED_THROUGH = 500
"""So many of a customer's latest events are looked through for responses."""

Look = Callable[[Question, float], tuple[Draft, Mapping[str, Any]] | None]
"""A preview of a customer of whom something is known, with its answer."""

_columns = database.events.c
_latest = sa.select(_columns.seq).where(_columns.customer_id == sa.bindparam("customer_id"))
# Made once, see `database.insert_of`.
_RESPONDED = sa.select(database.events).where(
    _columns.seq.in_(_latest.order_by(_columns.seq.desc()).limit(LOOKED_THROUGH)), _columns.name == "Offer Responded"
)


class Customers:
    """The customers of one workspace. `look` makes the preview in a story."""

    def __init__(self, workspace: Workspace, store: ProfileStore, look: Look):
        self._workspace, self._look = workspace, look
        self._eraser = Eraser(workspace, store)

    def story(self, customer_id: str, now: float, channel: str, location_id: str | None) -> bytes | None:
        """The story as JSON, with offers for an agent in that channel; None for a customer without any event."""
        with database.reading(database.connect(self._workspace)) as connection:
            ids, known_by = identity.names_and_ids_of(connection, customer_id)
            responses = _responses(connection, ids[0])
        looked = self._look(Question(ids[0], channel, "agent", location_id=location_id, preview=True), now)
        if looked is None:
            return None
        draft, preview = looked
        profile = draft.decision.facts.profile
        assert profile is not None
        known = Known(
            customer_id=ids[0],
            ids=held_ids(known_by),
            profile=profile,
            responses=responses,
            decisions=list(decision_index.latest(self._workspace.decisions, ids, MOST_DECISIONS)),
            preview=preview,
            churn=churn_of(draft.decision),
        )
        return orjson.dumps(story(known, draft.decision.policy.catalog, now))

    def export(self, customer_id: str, now: float) -> Iterator[bytes] | None:
        """Everything held, as pieces of JSON; None where nothing is."""
        return export(self._workspace, customer_id, now)

    def erase(self, customer_id: str, now: float) -> dict[str, Any] | None:
        """Erased everywhere, with the receipt; None for somebody who never was here."""
        try:
            return self._eraser.erase(customer_id, now)
        except StoreDown as down:
            raise not_now(f"{down}; what was begun is gone on with at the next call") from None

    def go_on(self, now: float) -> int:
        """Finish the erasures that a crash cut short."""
        return self._eraser.go_on(now)


def _responses(connection: sa.Connection, customer_id: str) -> list[Event]:
    """What the customer did with offers lately, the latest first; taken up once, told once: when it was first."""
    rows = connection.execute(_RESPONDED, {"customer_id": customer_id})
    found = list(each_once(sorted((event_of(row) for row in rows), key=lambda event: event.key)))
    return found[::-1][:MOST_RESPONSES]
