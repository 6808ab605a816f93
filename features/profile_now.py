"""A customer's profile as the online store has it: two rows, one per view, that belong together.

Both rows carry `seq`, so that a read between the two writes of a profile is noticed. Reading the rows is the business
of `store`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from features import profiles
from features.driver import NotAtOnce
from features.profiles import Profile


class StoreDown(ConnectionError):
    """The online store does not answer, or not with a profile."""


@contextmanager
def down_unless_at_once(views: str) -> Iterator[None]:
    """What goes wrong with a write is told as StoreDown; that it cannot be done at once is nothing wrong."""
    try:
        yield
    except NotAtOnce:
        raise
    except Exception as error:
        raise StoreDown(f"the online store does not take `{views}`: {error}") from error


@dataclass(frozen=True, slots=True)
class ProfileNow:
    """The profile, the number of the last change in it, and its bytes as they are stored."""

    profile: Profile
    seq: int
    state: bytes
    items: bytes


def belong_together(state: Mapping[str, Any], items: Mapping[str, Any]) -> bool:
    """Whether both rows are there, and of the same write."""
    return bool(state and items) and state["seq"].int64_val == items["items_seq"].int64_val


def opened(customer_id: str, state: Mapping[str, Any], items: Mapping[str, Any]) -> ProfileNow:
    """The profile of two rows that belong together. Raises StoreDown where they hold none that can be read."""
    packed = state["state"].bytes_val, items["items"].bytes_val
    try:
        profile = profiles.unpack(*packed)
    except (KeyError, ValueError) as error:
        raise StoreDown(f"the rows of customer `{customer_id}` cannot be read: {error}") from error
    if profiles.outdated(profile):
        raise StoreDown(
            f"the profile of customer `{customer_id}` is of another version; run `python -m features build`"
        )
    return ProfileNow(profile, state["seq"].int64_val, *packed)
