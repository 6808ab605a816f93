"""The contact policy: how often we may begin, counted over rolling windows. Pure.

A contact is an outbound decision that holds a reservation, or that was handed to the sender (`shown`). It
counts from the moment it was taken, once shown from the moment of that, until it leaves the window of a limit;
one that is not shown is given back at `until`. How contacts are kept is the business of `reservations`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from features.vocabulary import DAY_S
from serving.facts import Contact, Contacts, Dismissal, later
from serving.rulebook import ContactLimit, ContactPolicy, Quiet


@dataclass(frozen=True, slots=True)
class Held:
    """Why we may not begin now: which limit, what was counted, until when, and the decisions or messages counted."""

    rule: str
    observed: int
    limit: str
    retry_after: float | None
    evidence: tuple[str, ...]


def held(policy: ContactPolicy, contacts: Contacts, channel: str, kind: str, now: float) -> Iterator[Held]:
    """Every limit that an offer of `kind` in an outbound `channel` would break."""
    for limit in policy.limits:
        if limit.channel in (None, channel) and limit.kind in (None, kind):
            yield from _over(limit, contacts.made, now)
    if policy.quiet_after is not None:
        yield from _quiet(policy.quiet_after, contacts.dismissed, now)


def _over(limit: ContactLimit, made: Sequence[Contact], now: float) -> Iterator[Held]:
    counted = sorted((_leaves(each, limit.days), each.decision_id) for each in made if _counts(limit, each))
    counted = [each for each in counted if each[0] > now]
    too_many = len(counted) - limit.at_most
    if too_many >= 0:
        # Below the limit again when one more than the surplus has left.
        free = counted[too_many][0] if limit.at_most else None
        evidence = tuple(decision_id for _, decision_id in counted)
        yield Held(_name(limit), len(counted), f"{limit.at_most} in {limit.days:g} days", free, evidence)


def _counts(limit: ContactLimit, contact: Contact) -> bool:
    return limit.channel in (None, contact.channel) and (limit.kind is None or limit.kind in contact.kinds)


def _leaves(contact: Contact, days: float) -> float:
    end = later(contact.at, days * DAY_S)
    return end if contact.until is None else min(end, contact.until)


def _name(limit: ContactLimit) -> str:
    return "_".join(("per", limit.channel or "customer", *((limit.kind,) if limit.kind else ())))


def _quiet(quiet: Quiet, dismissed: Sequence[Dismissal], now: float) -> Iterator[Held]:
    """Quiet begins with the dismissal that makes them so many within the time, and with each one after it that does."""
    ordered = sorted((each.at, each.message_id) for each in dismissed if each.at <= now)
    for position in range(len(ordered) - 1, quiet.dismissals - 2, -1):
        run = ordered[position - quiet.dismissals + 1 : position + 1]
        if run[-1][0] - run[0][0] <= quiet.within_days * DAY_S:
            free = later(run[-1][0], quiet.quiet_days * DAY_S)
            if now < free:
                said = f"{quiet.dismissals} in {quiet.within_days:g} days, then {quiet.quiet_days:g} days quiet"
                yield Held("dismissals", len(run), said, free, tuple(message_id for _, message_id in run))
            return


def as_json(contacts: Contacts) -> list[Any]:
    """What a record keeps of them."""
    made = [[c.decision_id, c.channel, list(c.kinds), c.at, c.until] for c in contacts.made]
    return [made, [[d.message_id, d.at] for d in contacts.dismissed]]


def from_json(content: Sequence[Any]) -> Contacts:
    made, dismissed = content
    return Contacts(
        tuple(
            Contact(decision_id, channel, tuple(kinds), at, until) for decision_id, channel, kinds, at, until in made
        ),
        tuple(Dismissal(message_id, at) for message_id, at in dismissed),
    )
