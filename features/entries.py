"""The entries of a profile's `items`: what a customer last bought and returned, one per product and category.

Suppression rests on them, so none is left out within 730 days. Which event reaches which entry is in `steps`.
"""

from __future__ import annotations

from typing import Any, Protocol

from features.decay import half
from features.vocabulary import DAY_S, KEEP_DAYS, Event


class Items(Protocol):
    """Entries by key. One that is got may be a copy: what changes it puts it back."""

    def get(self, key: str, /) -> list[Any] | None: ...

    def __setitem__(self, key: str, entry: list[Any], /) -> None: ...


# Positions in an entry; times in epoch seconds, 0.0 means never.
LAST, FIRST, TRIPS, DECAYED_TRIPS, DECAYED_SPEND, LAST_ID, RETURNED, RETURN_ID, RETURN_REASON = range(9)
ITEM_HALF_LIFE_DAYS = 90
"""Half-life of an entry's decayed trips and spend, both anchored at its last purchase."""

KEEP_S = KEEP_DAYS * DAY_S


def bought(items: Items, key: str, event: Event, paid: float, seen: set[str]) -> int:
    """Count one line into its entry; 1 if the entry is new. A trip counts once however many lines it has."""
    now = event.occurred_at
    entry = items.get(key)
    if key in seen and entry is not None:
        entry[DECAYED_SPEND] += paid
        items[key] = entry
        return 0
    seen.add(key)
    if entry is None or now - max(entry[LAST], entry[RETURNED]) > KEEP_S:
        items[key] = [now, now, 1, 1.0, paid, event.message_id, 0.0, "", ""]
        return 1
    weight = half(now - entry[LAST], ITEM_HALF_LIFE_DAYS) if entry[LAST] else 0.0
    entry[DECAYED_TRIPS] = entry[DECAYED_TRIPS] * weight + 1.0
    entry[DECAYED_SPEND] = entry[DECAYED_SPEND] * weight + paid
    entry[FIRST] = entry[FIRST] or now
    entry[TRIPS] += 1
    entry[LAST] = now
    entry[LAST_ID] = event.message_id
    items[key] = entry
    return 0


def returned(items: Items, key: str, event: Event, reason: str) -> None:
    entry = items.get(key)
    if entry is None or event.occurred_at - max(entry[LAST], entry[RETURNED]) > KEEP_S:
        entry = [0.0, 0.0, 0, 0.0, 0.0, "", 0.0, "", ""]
    entry[RETURNED], entry[RETURN_ID], entry[RETURN_REASON] = event.occurred_at, event.message_id, reason
    items[key] = entry
