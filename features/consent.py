"""What a customer has agreed to, per purpose and channel, and since when.

The latest word in time counts. One that names no channel is about all of them, and replaces what was said of
each before; one for a channel stands beside it from then on. What follows from it is the rulebook's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.profile_value import Profile
from features.vocabulary import Event

ALL = "*"
"""The channel of a word about all channels."""

GRANTED, SINCE, ID = range(3)


@dataclass(frozen=True, slots=True)
class Consent:
    """One word of the customer. `channel` is None for all channels; `evidence` is the message that said it."""

    purpose: str
    channel: str | None
    granted: bool
    since: float
    evidence: str


def consents(profile: Profile | None) -> tuple[Consent, ...]:
    """Every word that counts now, by purpose and channel, that for all channels first."""
    found = profile.state["consent"] if profile is not None and profile.state else {}
    return tuple(
        Consent(purpose, None if channel == ALL else channel, word[GRANTED], word[SINCE], word[ID])
        for purpose, words in sorted(found.items())
        for channel, word in sorted(words.items())
    )


def of(profile: Profile | None, purpose: str, channel: str) -> Consent | None:
    """The word that counts for `purpose` in `channel`; None where the customer has said nothing."""
    found = profile.state["consent"] if profile is not None and profile.state else {}
    words: Mapping[str, Any] = found.get(purpose) or {}
    for key in (channel, ALL):
        if key in words:
            word = words[key]
            return Consent(purpose, None if key == ALL else key, word[GRANTED], word[SINCE], word[ID])
    return None


def granted(profile: Profile | None, purpose: str, channel: str) -> bool | None:
    """Whether the customer has agreed, or refused; None where nothing was said."""
    word = of(profile, purpose, channel)
    return None if word is None else word.granted


def _updated(state: dict[str, Any], items: Any, event: Event) -> None:
    words = state["consent"].setdefault(event.body["purpose"], {})
    channel = event.body.get("channel") or ALL
    if channel == ALL:
        words.clear()
    words[channel] = [event.body["granted"], event.occurred_at, event.message_id]


STEPS = {"Consent Updated": _updated}
