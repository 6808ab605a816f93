"""Decisions in channels where we begin: each takes a contact, or is held back because there is none left.

A decision is made first, over the contacts as they are, without holding anything up. Then, in one write
transaction, the contacts are read again: if they are what the decision saw, it is logged and its contact taken; if
not, it is made again, now with the lock held. So no two callers, threads or workers can spend the same contact,
and the lock is held for what a log record takes. Many customers share one transaction.

The record is written before the transaction commits, the answer leaves after it: an acknowledged decision has
both. Whoever is killed in between leaves a record that nobody was told of and no reservation; killed
after the commit, a reservation that time gives back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from features import database
from serving import repeats, reservations
from serving.decision_log import DecisionLog
from serving.desk import Desk
from serving.draft import Draft
from serving.facts import Contact, Contacts, later
from serving.problems import Problem
from serving.question import Ask

AT_ONCE = 100
"""Customers to a transaction: few enough that events of other callers wait for some tens of milliseconds only."""

Answer = Mapping[str, Any]


class Outbound:
    """One worker's way to grant contacts. Safe to use from several threads, which take turns."""

    def __init__(self, engine: sa.Engine, log: DecisionLog, desk: Desk):
        self._engine, self._log, self._desk = engine, log, desk
        self._turn = threading.Lock()  # waiting here is fair and wakes at once; SQLite's waiting is neither

    def decide(self, asks: Sequence[Ask], now: float) -> list[Answer | Problem]:
        """The answer to each question, or the Problem of one that cannot be answered.

        The door comes first, so that nobody holds up an erasure while waiting for a turn that waits for the door.
        """
        answers: list[Answer | Problem] = []
        for start in range(0, len(asks), AT_ONCE):
            with self._log.door.inside(), self._turn:
                answers += self._decided(asks[start : start + AT_ONCE], now)
        return answers

    def _decided(self, questions: Sequence[Ask], now: float) -> list[Answer | Problem]:
        asks = [(ask, self._desk.resolver.customer(ask.customer_id, ask.anonymous_id)) for ask in questions]
        customers = {customer_id for _, customer_id in asks}
        with database.reading(self._engine) as connection:
            seen = self._contacts(connection, customers, now)
        drafts = [self._drafted(ask, customer_id, now, seen[customer_id]) for ask, customer_id in asks]
        if not any(_takes(ask, draft) or ask.request_id for (ask, _), draft in zip(asks, drafts, strict=True)):
            return [each if isinstance(each, Problem) else self._desk.told(each) for each in drafts]
        with database.transaction(self._engine) as connection:
            reservations.lock(connection, customers)
            fresh = self._contacts(connection, customers, now)
            taken: list[tuple[str, Contact]] = []
            answers = [
                self._settled(connection, ask, customer_id, now, draft, fresh, taken)
                for (ask, customer_id), draft in zip(asks, drafts, strict=True)
            ]
            reservations.take(connection, taken)
            return answers

    def _drafted(self, ask: Ask, customer_id: str, now: float, contacts: Contacts) -> Draft | Problem:
        try:
            return self._desk.draft(ask, customer_id, now, contacts)
        except Problem as problem:
            return problem

    def _settled(
        self,
        connection: sa.Connection,
        ask: Ask,
        customer_id: str,
        now: float,
        draft: Draft | Problem,
        fresh: dict[str, Contacts],
        taken: list[tuple[str, Contact]],
    ) -> Answer | Problem:
        try:
            if isinstance(draft, Problem):
                return draft
            known = repeats.answered(connection, self._log, ask, customer_id, now)
            if known is not None:
                return known
        except Problem as problem:
            return problem
        if _takes(ask, draft) and draft.contacts != fresh[customer_id]:
            draft = self._drafted(ask, customer_id, now, fresh[customer_id])
            if isinstance(draft, Problem):
                return draft
        answer = self._desk.told(draft)
        repeats.remember(connection, ask, customer_id, now, answer["decision_id"])
        if _takes(ask, draft):
            mine = self.contact(answer["decision_id"], ask.channel, draft.kinds, now)
            taken.append((customer_id, mine))
            before = fresh[customer_id]
            fresh[customer_id] = Contacts((*before.made, mine), before.dismissed)
        return answer

    def still(
        self, customer_id: str, taken: Contact, now: float, check: Callable[[Contacts], Sequence[Any]]
    ) -> Sequence[Any]:
        """What `check` has against a contact that a decision took, given all others of the customer: nothing, and it
        is taken anew; something, and it is given back. One that was handed over is left as it is."""
        others: Contacts | None = None
        while True:
            with self._turn:
                with database.reading(self._engine) as connection:
                    others = self._others(connection, customer_id, taken, now)
                against = check(others)
                with database.transaction(self._engine) as connection:
                    reservations.lock(connection, [customer_id])
                    if self._others(connection, customer_id, taken, now) != others:
                        continue  # somebody was granted a contact meanwhile
                    if against:
                        reservations.give_back(connection, taken.decision_id)
                    else:
                        reservations.take(connection, [(customer_id, taken)])
                    return against

    def _others(self, connection: sa.Connection, customer_id: str, taken: Contact, now: float) -> Contacts:
        found = self._contacts(connection, {customer_id}, now)[customer_id]
        return Contacts(tuple(each for each in found.made if each.decision_id != taken.decision_id), found.dismissed)

    def held_by(self, decision_id: str) -> Contact | None:
        """The contact that this decision took, whether or not time has given it back."""
        with database.reading(self._engine) as connection:
            return reservations.held_by(connection, decision_id)

    def contact(self, decision_id: str, channel: str, kinds: Sequence[str], now: float) -> Contact:
        """A contact taken now, to be given back by time."""
        until = later(now, self._desk.policy.book.contact_policy.reserved_minutes * 60)
        return Contact(decision_id, channel, tuple(sorted(set(kinds))), now, until)

    def _contacts(self, connection: sa.Connection, customers: set[str], now: float) -> dict[str, Contacts]:
        return reservations.contacts_of(connection, customers, now, self._desk.policy.book.contact_policy.longest_days)


def _takes(ask: Ask, draft: Draft | Problem) -> bool:
    """Whether it spends a contact: nothing to say, and a look without consequences, do not."""
    return not isinstance(draft, Problem) and bool(draft.kinds) and not ask.preview
