"""Answers questions and takes events in: for one customer, for a batch, for an audience.

The engine is the composition of one worker: database, Feast, signals, policy and decision log. It adds no rule of
its own; how one decision is made and logged is the business of `desk`. Time is an argument of every call.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import repeat
from typing import Any

import orjson

from features import database, segment
from features.driver import NotAtOnce
from features.events import EventProblem
from features.history import oldest
from features.identity import Resolver
from features.intake import LONG, Intake, Receipt
from features.learning import learn_from_log
from features.profile_now import StoreDown
from features.sentences import FileProblem
from features.signals import Signals
from features.store import ProfileStore
from features.vocabulary import OUTBOUND
from features.workspace import Workspace
from serving import counters, repeats, schemas
from serving.caretaker import Caretaker
from serving.confirm import confirmed
from serving.customers import Customers
from serving.decide import Policy
from serving.decision_log import DecisionLog
from serving.desk import Desk
from serving.draft import Draft, Told
from serving.explained import discreet, explained, of_many
from serving.last_decisions import LastDecisions
from serving.outbound import Outbound
from serving.packing import pack_past
from serving.ports import Arrived
from serving.problems import Problem, bad_input, not_now
from serving.question import Ask, Question
from serving.replay import policies
from serving.responses import Known, accepted_by, asks_for_a_decision, completed, responded
from serving.retention import prune_days, prune_rows
from serving.schemas import DecideBatchRequest, Refused, RespondRequest
from serving.scoring import counted
from serving.swap import Swap, looks, open_policy
from serving.tally import Tally
from serving.versions import at_work, keep, note_at_work

SAME_DECISION = 4
"""Records of decisions kept at hand while a batch is taken in: what it says of one comes together, and records are
large."""


class Engine:
    """One worker's way to decide. Open it with `Engine.open(workspace)`, end it with `close`."""

    def __init__(self, workspace: Workspace, store: ProfileStore, policy: Policy):
        self.workspace, self.store = workspace, store
        self.database = database.connect(workspace)
        self.signals = Signals(self.database)
        self.resolver = Resolver(self.database)
        self.log = DecisionLog(workspace.decisions)
        self.last = LastDecisions(workspace.continuity, workspace.secret())
        self.intake = Intake(self.database, store, policy.catalog, self.last.joined)
        self.desk = Desk(self.resolver, store, self.signals, self.log, self.last, policy)
        self.outbound = Outbound(self.database, self.log, self.desk)
        self.tally = Tally(self.database, self.log.door)
        self._caretaker: Caretaker | None = None
        self._looked = looks(workspace)
        self._hash = segment.hasher(workspace.secret())
        self._oldest = oldest(self.database) or ""
        self.customers = Customers(workspace, store, self.look)

    @classmethod
    def open(cls, workspace: Workspace) -> Engine:
        """The engine over `workspace`, its files checked and its online store level with the event log."""
        before = looks(workspace)
        policy = _opened(workspace)
        learn_from_log(database.connect(workspace))
        engine = cls(workspace, ProfileStore(workspace), policy)
        engine.intake.level_all()
        if (down := engine._unreadable()) is not None:
            sys.stderr.write(f"profiles: {down}\n")
            sys.stderr.flush()
        engine._looked = before
        engine.customers.go_on(time.time())
        return engine

    @property
    def policy(self) -> Policy:
        """The policy at work."""
        return self.desk.policy

    def attend(self, retention_days: int, clock: Callable[[], float]) -> None:
        """Look after this worker from now on: changed files and promoted models are taken up, what is past goes."""
        swap = Swap(self.workspace, self.policy, self._looked, self.use, _said)

        def prune() -> None:
            prune_days(self.workspace.decisions, clock(), retention_days)
            pack_past(self.workspace.decisions, clock())
            prune_rows(self.database, clock())

        self._caretaker = Caretaker(swap.look, prune)

    def use(self, policy: Policy) -> None:
        """Decide by `policy` from the next decision on."""
        keep(self.workspace, policy)
        note_at_work(self.workspace, policy)
        self.intake.use(policy.catalog)
        self.desk.policy = policy

    def close(self) -> None:
        if self._caretaker is not None:
            self._caretaker.stop()
        self.intake.close()
        self.signals.close()
        self.resolver.close()
        self.log.close()
        self.last.close()

    def ready(self) -> bool:
        """Whether profiles can be read: by that of the customer heard of longest ago, if there is any."""
        return self._unreadable() is None

    def _unreadable(self) -> StoreDown | None:
        try:
            self.store.read(self._oldest)
        except StoreDown as down:
            return down
        return None

    # ------------------------------------------------------------------------------------ decisions

    def decide(self, request: Ask, now: float) -> bytes:
        """The answer to one question, as JSON. Raises Problem where the question cannot be answered."""
        decided = self.decision(request, now)
        if isinstance(decided, Told) and not request.explain and not discreet(request):
            return decided.without_trace
        return orjson.dumps(explained(request, decided))

    def decide_batch(self, request: DecideBatchRequest, now: float) -> bytes:
        """`{"decisions": […]}` in the order asked; one that is refused stands there as its error."""
        entries = schemas.entries(request)
        asked = [entry for entry in entries if not isinstance(entry, Refused)]
        answers = zip(asked, self.decisions(asked, now), strict=True)
        return orjson.dumps({"decisions": [of_many(entry, answers) for entry in entries]})

    def decision(self, ask: Ask, now: float) -> Mapping[str, Any]:
        """The answer to one question with its whole trace. Raises Problem where it cannot be answered."""
        (answer_,) = self.decisions([ask], now)
        if isinstance(answer_, Problem):
            raise answer_
        return answer_

    def decisions(self, asks: Sequence[Ask], now: float) -> Iterator[Mapping[str, Any] | Problem]:
        """The answer to each question in their order, or its Problem; those of outbound channels share transactions."""
        self.signals.refresh()
        if asks and asks[0].channel in OUTBOUND:  # many questions are of one channel
            yield from self.outbound.decide(asks, now)
            return
        for ask in asks:
            try:
                yield self._inbound(ask, now)
            except Problem as problem:
                yield problem

    def _inbound(self, ask: Ask, now: float) -> Mapping[str, Any]:
        """Whose profile is read behind the door, and its decision logged, is not erased in between."""
        with self.log.door.inside():
            return self._inside(ask, now)

    def _inside(self, ask: Ask, now: float) -> Mapping[str, Any]:
        customer_id = self.resolver.customer(ask.customer_id, ask.anonymous_id)
        if ask.request_id is None:
            return self.desk.told(self.desk.draft(ask, customer_id, now))
        with database.transaction(self.database) as connection:  # two callers at once agree
            known = repeats.answered(connection, self.log, ask, customer_id, now)
            if known is not None:
                return known
            decided = self.desk.told(self.desk.draft(ask, customer_id, now))
            repeats.remember(connection, ask, customer_id, now, decided["decision_id"])
            return decided

    def look(self, ask: Question, now: float) -> tuple[Draft, Mapping[str, Any]] | None:
        """A preview, and its answer; None, and nothing logged, for a customer of whom nothing is known."""
        self.signals.refresh()
        with self.log.door.inside():
            draft = self.desk.draft(ask, self.resolver.customer(ask.customer_id), now)
            if draft.decision.facts.profile_missing:
                raise not_now("the profile store does not answer; try again in a second")
            return None if draft.seen is None else (draft, self.desk.told(draft))

    def confirm(self, decision_id: str, now: float) -> dict[str, Any]:
        """Whether a prepared outbound decision is still right. Raises Problem where there is nothing to confirm."""
        self.signals.refresh()
        with self.log.door.inside():
            return confirmed(self.outbound, self.log, self.desk, decision_id, now)

    def record(self, decision_id: str) -> bytes | None:
        """The whole record of a decision, or that it was erased; None where there is none."""
        found = self.log.line(decision_id)
        return None if found is None else orjson.dumps(found)

    def product_names(self, product_ids: Iterable[str]) -> dict[str, str]:
        """What today's catalog calls these products, as far as it has them."""
        products = self.policy.catalog.products
        return {each: products[each].name for each in product_ids if each in products}

    # --------------------------------------------------------------------------------------- events

    def ingest(self, messages: Sequence[Mapping[str, Any]], received_at: float, sent_at: str | None) -> list[Receipt]:
        """Segment messages in, one receipt each: stored, a duplicate, or refused with its reason."""
        last = len(messages) - 1
        times = (received_at if m.get("timestamp") else received_at - (last - n) / 1e3 for n, m in enumerate(messages))
        # what says no time happened in the order of the batch: a millisecond apart, the last one now
        known = self._known()
        parsed = [
            record if isinstance(record, EventProblem) else completed(record, known, received_at)
            for record in map(self._parsed, messages, times, repeat(sent_at))
        ]
        told = [record for record in parsed if not isinstance(record, EventProblem)]
        taken_up = [each for record in told for each in accepted_by(record, known, received_at)]
        receipts = self.intake.many([*parsed, *taken_up], received_at)[: len(parsed)]
        self.tally.count(parsed, receipts, known)
        return receipts

    def _known(self) -> Known:
        return Known(lru_cache(SAME_DECISION)(self.log.find), self.resolver.customer, self.policy.catalog)

    def ingest_at_once(
        self, messages: Sequence[Arrived], now: float
    ) -> tuple[list[Receipt | None], Callable[[], None] | None]:
        """Their receipts, None for what `ingest` must take in, and what must still be done, if it may wait.

        Raises NotAtOnce where `ingest` must take in all of them.
        """
        parsed = [self._parsed(each.content, each.received_at, each.sent_at) for each in messages]
        short = [number for number, record in enumerate(parsed) if _is_short(record)]
        if not short:
            raise NotAtOnce
        taken = self.intake.at_once([parsed[number] for number in short], now)
        receipts: dict[int, Receipt] = dict(zip(short, taken.receipts, strict=True))
        left = partial(self.intake.level, taken) if taken.behind else None
        return [receipts.get(number) for number in range(len(parsed))], left

    def _parsed(
        self, message: Mapping[str, Any], received_at: float, sent_at: str | None
    ) -> dict[str, Any] | EventProblem:
        try:
            return segment.parse(message, received_at, sent_at, self._hash)
        except EventProblem as problem:
            return problem

    def respond(self, request: RespondRequest, now: float) -> dict[str, bool]:
        """Take in what a customer did with an offer. Raises Problem where no such offer was made."""
        event = responded(request, self.log, now)
        receipt = self.intake.one(event, now)
        if receipt.problem is not None:
            raise bad_input(receipt.problem.field, receipt.problem.problem)
        self.tally.count([event], [receipt], self._known())
        return {"recorded": True, "duplicate": receipt.duplicate}


def _is_short(record: Mapping[str, Any] | EventProblem) -> bool:
    return isinstance(record, EventProblem) or not (record["name"] in LONG or asks_for_a_decision(record))


def _opened(workspace: Workspace) -> Policy:
    """The policy of the workspace's files; a worker that starts while they are broken takes the last sound one."""
    try:
        policy = open_policy(workspace)
    except (FileProblem, FileNotFoundError) as problem:
        sound = at_work(workspace)
        if sound is None:
            raise
        _said(f"the files are broken, the last sound ones stay: {problem}", False)
        policy = policies(workspace)(sound)
        return replace(policy, models=counted(workspace, policy.models))
    keep(workspace, policy)
    note_at_work(workspace, policy)
    return policy


def _said(sentence: str, swapped: bool) -> None:
    """Told on stderr, and counted."""
    counters.policy("swapped" if swapped else "refused")
    sys.stderr.write(f"policy: {sentence}\n")
    sys.stderr.flush()
