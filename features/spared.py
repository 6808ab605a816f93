"""Whose entries an event leaves as they are, so that years of them need not be read and written for a page view.

An event leaves them alone if none of its steps looks at them and none of them goes idle by its time. When the next one
would go is noted of customers whose entries were open here lately; nothing else about them is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from features.entries import KEEP_S
from features.steps import ON_ENTRIES
from features.vocabulary import Event

MOST = 20_000
"""Customers of whom it is known, per worker."""


class Spared:
    """What is known stands for one number of a profile: whoever changes the profile gives it another."""

    def __init__(self) -> None:
        self._oldest: dict[int, tuple[int, float]] = {}  # by the hash of a customer id, so that none is kept
        self._lock = threading.Lock()

    def oldest(self, customer_id: str, seq: int, events: Iterable[Event]) -> float | None:
        """When the oldest entry of this customer's profile number `seq` was touched; None where it is not known, or
        the events may change entries."""
        known, oldest = self._oldest.get(hash(customer_id), (None, 0.0))
        if known != seq or any(event.name in ON_ENTRIES or event.occurred_at - oldest > KEEP_S for event in events):
            return None
        return oldest

    def note(self, seq: int, oldest: Mapping[str, float]) -> None:
        """Committed under that number: these customers' entries were last touched then, the oldest of each."""
        with self._lock:
            for customer_id, at in oldest.items():
                self._oldest.pop(hash(customer_id), None)  # the latest stand last
                self._oldest[hash(customer_id)] = (seq, at)
            while len(self._oldest) > MOST:
                del self._oldest[next(iter(self._oldest))]
