"""What is known of whom and what was erased: marks only, HMACs under the workspace's key.

Enough to answer that somebody is gone, and to take an erased message that is sent again for a duplicate;
not enough to tell who it was. Erasing itself is the business of `erasure`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from features import database, driver

_ANY = sa.select(database.erased_messages.c.mark).limit(1)


def mark(connection: sa.Connection, kind: str, text: str) -> bytes:
    """What is kept of an erased id or message: enough to know it again, not enough to tell it."""
    key: bytes = connection.get_execution_options()["onestory_secret"]()
    return hmac.new(key, f"erased {kind}:{text}".encode(), hashlib.sha256).digest()


def at(connection: sa.Connection, customer_id: str) -> float | None:
    """When somebody with this id was last erased; None if never."""
    table = database.erasures
    found = sa.select(table.c.erased_at).where(table.c.mark == mark(connection, "id", customer_id))
    return connection.execute(found).scalar_one_or_none()


def messages(connection: sa.Connection, message_ids: Iterable[Any]) -> set[str]:
    """Those of the messages that were erased: sent again, they are duplicates."""
    table = database.erased_messages
    if not driver.each(connection, _ANY, [{}]):
        return set()
    marks = {mark(connection, "message", each): each for each in message_ids if isinstance(each, str)}
    found: set[str] = set()
    for chunk in database.chunks(list(marks)):
        found |= {marks[each] for each in connection.scalars(sa.select(table.c.mark).where(table.c.mark.in_(chunk)))}
    return found
