"""A customer erased from every store, with a receipt; whoever was killed halfway is gone on with.

The order: our database; the online store, while no decision is under way; the decision log up to there; the
offline files; the leftovers of SQLite. Only then is it noted as done. What each store does is its own business.
Not reached: files that you had made (audiences, scores, exports), backups, logs of servers in front of this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from features import database, erased, erasure, offline
from features.catalog import Catalog
from features.erasure import Erasing
from features.intake import Intake
from features.store import ProfileStore
from features.workspace import Workspace
from serving import decision_files, door, last_decisions, packing
from serving.facts import moment

STORES = {
    "events": "messages of the customer in the event log",
    "responses": "of these, what the customer did with offers",
    "stock_messages": "messages about shelves, which stay without the customer's ids",
    "identities": "links between the customer's ids",
    "profiles": "profiles in our database",
    "requests": "answers kept for a repeated `request_id`",
    "reservations": "contacts that outbound decisions took",
    "dismissals": "offers waved away, as the contact policy counts them",
    "online_values": "values in Feast's online store",
    "decisions": "records in the decision log, blanked out",
    "decision_profiles": "profiles in the decision log, blanked out",
    "last_decisions": "notes of what was shown last in a channel, blanked out",
    "offline_rows": "rows in Feast's offline files",
}
"""What a receipt counts."""


@dataclass(frozen=True, slots=True)
class Eraser:
    """The stores of one workspace. `reached` hears of each step that is done; tests end there."""

    workspace: Workspace
    store: ProfileStore
    reached: Callable[[str], None] = lambda step: None

    def erase(self, customer_id: str, now: float) -> dict[str, Any] | None:
        """The receipt; None for somebody of whom nothing is held and nobody was erased."""
        self.store.forget([])  # refuses before anything is gone where it cannot forget
        engine = database.connect(self.workspace)
        with database.transaction(engine) as connection:
            before = erased.at(connection, customer_id)
            erasing = erasure.begin(connection, customer_id, now)
        self.reached("database")
        self._everywhere_else(erasing)
        held = any(erasing.counts.values())
        at = now if held else before
        overwritten = at is not None and self._scoured(engine)
        self.reached("leftovers")
        with database.transaction(engine) as connection:
            erasure.finish(connection, erasing, at)
        if at is None:
            return None
        return {
            "customer_id": customer_id,
            "erased": "now" if held else "already",
            "erased_at": moment(at),
            "overwritten": database.without_leftovers(engine, database.erasing) and overwritten,
            "counts": {store: erasing.counts[store] for store in STORES},
        }

    def go_on(self, now: float) -> int:
        """Finish what others had begun and did not end; how many customers that were."""
        with database.reading(database.connect(self.workspace)) as connection:
            begun = erasure.unfinished(connection)
        for customer_id in begun:
            self.erase(customer_id, now)
        return len(begun)

    def _scoured(self, engine: sa.Engine) -> bool:
        """Bring level online who was changed by it; whether neither database file holds any remains."""
        Intake(engine, self.store, Catalog()).level_all()
        return all((database.without_leftovers(engine), self.store.without_leftovers()))

    def _everywhere_else(self, erasing: Erasing) -> None:
        engine, decisions = database.connect(self.workspace), self.workspace.decisions
        self.store.forget([])  # whoever writes there for long is waited for here: behind the closed door nobody decides
        with door.closed(decisions):
            with database.transaction(engine) as connection:
                erasing.counts.update(erasure.drop_granted(connection, erasing))
                erasing.counts["online_values"] += erasure.drop_online(connection, self.store, erasing)
                erasure.note(connection, erasing)
            until = decision_files.sizes(decisions)
        self.reached("online")
        with packing.alone(decisions):
            until |= decision_files.unpacked(decisions, erasing.ids)
            records, profiles = decision_files.blank(until, erasing.ids)
        erasing.counts["decisions"] += records
        erasing.counts["decision_profiles"] += profiles
        key = self.workspace.secret()
        erasing.counts["last_decisions"] += last_decisions.forget(self.workspace.continuity, key, erasing.ids)
        self._note(erasing)
        self.reached("decisions")
        with offline.alone(self.workspace):
            erasing.counts["offline_rows"] += offline.forget(self.workspace, erasing.ids)
        self._note(erasing)
        self.reached("offline")

    def _note(self, erasing: Erasing) -> None:
        with database.transaction(database.connect(self.workspace)) as connection:
            erasure.note(connection, erasing)
