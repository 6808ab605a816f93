"""Gathers what `decide` needs, calls it, and logs: for one customer, for a batch, for an audience.

The engine is the composition of one worker: database, Feast, signals, policy and decision log. It adds
no rule of its own. Time is an argument of every call.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from features import database, identity, segment
from features.catalog import load_catalog
from features.events import EventProblem
from features.intake import Intake, Receipt
from features.signals import Signals
from features.store import ProfileNow, ProfileStore, StoreDown
from features.vocabulary import ANONYMOUS, ONLINE, OUTBOUND
from features.workspace import Workspace
from serving import counters, repeats, rulebook, schemas
from serving.confirm import confirmed
from serving.continuity import carried_by, promises, since
from serving.decide import ENGINE_VERSION, Policy, answer, decide
from serving.decision_log import DecisionLog
from serving.draft import Draft, Read, logged
from serving.facts import Carried, Contacts, Facts
from serving.last_decisions import Last, LastDecisions
from serving.outbound import Outbound
from serving.problems import Problem, bad_input, shown
from serving.question import Ask
from serving.responses import accepted_by, responded
from serving.rulebook import ContactPolicy
from serving.schemas import DecideBatchRequest, DecideRequest, Refused, RespondRequest
from serving.scoring import load_models
from serving.versions import keep

_NO_CONTACTS = Contacts()


class Engine:
    """One worker's way to decide. Open it with `Engine.open(workspace)`, end it with `close`."""

    def __init__(self, workspace: Workspace, store: ProfileStore, policy: Policy):
        self.workspace, self.store, self.policy = workspace, store, policy
        self.database = database.connect(workspace)
        self.signals = Signals(self.database)
        self.log = DecisionLog(workspace.decisions)
        self.intake = Intake(self.database, store, policy.catalog)
        self.last = LastDecisions(workspace.continuity, workspace.secret())
        self.outbound = Outbound(self.database, self.log, self)
        self._hash = segment.hasher(workspace.secret())

    @classmethod
    def open(cls, workspace: Workspace) -> Engine:
        """The engine over `workspace`, its files checked and its online store level with the event log."""
        catalog = load_catalog(workspace)
        policy = Policy(catalog, rulebook.load(workspace.file("rulebook.yaml")), load_models(workspace))
        keep(workspace, policy)
        engine = cls(workspace, ProfileStore(workspace), policy)
        engine.intake.level_all()
        return engine

    def close(self) -> None:
        self.signals.close()
        self.log.close()
        self.last.close()

    def ready(self) -> bool:
        """Whether profiles can be read."""
        try:
            self.store.read("")
        except StoreDown:
            return False
        return True

    # ------------------------------------------------------------------------------------ decisions

    def decide(self, request: Ask, now: float) -> bytes:
        """The answer to one question, as JSON. Raises Problem where the question cannot be answered."""
        return orjson.dumps(_explained(request, self.decision(request, now)))

    def decide_batch(self, request: DecideBatchRequest, now: float) -> bytes:
        """`{"decisions": […]}` in the order asked; one that is refused stands there as its error."""
        entries = schemas.entries(request)
        asked = [entry for entry in entries if not isinstance(entry, Refused)]
        answers = zip(asked, self.decisions(asked, now), strict=True)
        return orjson.dumps({"decisions": [_of_many(entry, answers) for entry in entries]})

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
            yield from self.outbound.decide([(ask, self._customer(ask)) for ask in asks], now)
            return
        for ask in asks:
            try:
                yield self._inbound(ask, now)
            except Problem as problem:
                yield problem

    def _customer(self, ask: Ask) -> str:
        return ask.customer_id if ask.customer_id is not None else self.customer_now(f"{ANONYMOUS}{ask.anonymous_id}")

    def customer_now(self, customer_id: str) -> str:
        """Who the customer of that id is now: an anonymous one may have logged in since."""
        if not customer_id.startswith(ANONYMOUS):
            return customer_id
        with database.reading(self.database) as connection:
            return identity.customer_of(connection, None, customer_id.removeprefix(ANONYMOUS)) or customer_id

    def _inbound(self, ask: Ask, now: float) -> Mapping[str, Any]:
        customer_id = self._customer(ask)
        if ask.request_id is None:
            return self.told(self.draft(ask, customer_id, now))
        with database.transaction(self.database) as connection:  # two callers at once agree
            known = repeats.answered(connection, self.log, ask, customer_id, now)
            if known is not None:
                return known
            decided = self.told(self.draft(ask, customer_id, now))
            repeats.remember(connection, ask, customer_id, now, decided["decision_id"])
            return decided

    def draft(
        self, ask: Ask, customer_id: str, now: float, contacts: Contacts = _NO_CONTACTS, carried: Carried | None = None
    ) -> Draft:
        """Decide, over everything that is known now; nothing is logged, and nobody is told yet."""
        policy = self.policy
        carried = carried or self._carried(ask, customer_id, now, policy.book.continuity.minutes * 60)
        seen, missing = self._profile(customer_id)
        location_id = ask.location_id or (None if ask.channel == "store" else ONLINE)
        location = policy.catalog.locations.get(location_id or "")
        stock = Read(self.signals.stock_at(location_id) if location_id else {})
        facts = Facts(
            decision_id="",
            now=now,
            customer_id=customer_id,
            channel=ask.channel,
            placement=ask.placement,
            limit=ask.limit,
            location_id=location_id,
            market=location.market if location else None,
            product_id=ask.product_id,
            cart=tuple(ask.cart),
            profile=seen.profile if seen else None,
            profile_missing=missing,
            stock=stock,
            feeds={
                "profile": self.signals.last_at("profile"),
                "stock": self.signals.last_at("stock", location_id) if location_id else None,
            },
            contacts=contacts,
            carried=carried,
            seed=secrets.token_hex(8),
        )
        return Draft(ask, decide(facts, policy), stock.read, seen)

    def told(self, draft: Draft) -> dict[str, Any]:
        """The answer of a decision, which is logged by then."""
        decision, seen = draft.decision, draft.seen
        facts, policy = decision.facts, decision.policy
        profile = None
        if seen is not None:
            content = {"state": seen.profile.state, "items": seen.profile.items}
            profile = (facts.customer_id or "", seen.seq, content)
        with self.log.slot(facts.now, profile) as slot:
            facts = replace(facts, decision_id=slot.decision_id)
            decided = answer(replace(decision, facts=facts))
            slot.write(
                {
                    "decision_id": slot.decision_id,
                    "engine": ENGINE_VERSION,
                    "versions": policy.versions,
                    "request": repeats.asked(draft.ask),
                    "facts": logged(facts, draft.stock, seen.seq if seen else None, slot.profile_at),
                    "promised": promises(policy.catalog.offers, decided),
                    "answer": decided,
                }
            )
        if decided["offers"] and not draft.ask.preview:
            last = Last(slot.decision_id, facts.channel, facts.now, since(facts, decided))
            self.last.note(facts.customer_id or "", last)
        _count(decided)
        return decided

    def _carried(self, ask: Ask, customer_id: str, now: float, within_s: float) -> Carried | None:
        """What this decision goes on with: what the caller names, else what another channel has just shown."""
        if ask.continue_from is not None:
            record = self.log.find(ask.continue_from)
            owner = record["answer"]["customer_id"] if record else ""
            if record is None or customer_id not in (owner, self.customer_now(owner)):
                said = f"{shown(ask.continue_from)} is no decision of this customer; expected the `decision_id` of one"
                raise bad_input("continue_from", said)
            return carried_by(record, now)
        last = self.last.elsewhere(customer_id, ask.channel, now, within_s) if within_s else None
        record = self.log.find(last.decision_id) if last else None
        return None if last is None or record is None else carried_by(record, last.since)

    def contact_policy(self) -> ContactPolicy:
        return self.policy.book.contact_policy

    def _profile(self, customer_id: str) -> tuple[ProfileNow | None, bool]:
        try:
            return self.store.read(customer_id), False
        except StoreDown:
            return None, True

    def confirm(self, decision_id: str, now: float) -> dict[str, Any]:
        """Whether a prepared outbound decision is still right. Raises Problem where there is nothing to confirm."""
        self.signals.refresh()
        return confirmed(self.outbound, self.log, self, decision_id, now)

    def record(self, decision_id: str) -> bytes | None:
        """The whole record of a decision; None where there is none."""
        found = self.log.find(decision_id)
        return None if found is None else orjson.dumps(found)

    # --------------------------------------------------------------------------------------- events

    def ingest(self, messages: Sequence[Mapping[str, Any]], received_at: float, sent_at: str | None) -> list[Receipt]:
        """Segment messages in, one receipt each: stored, a duplicate, or refused with its reason."""
        last = len(messages) - 1
        parsed = [
            self._parsed(
                message, received_at if message.get("timestamp") else received_at - (last - place) / 1e3, sent_at
            )
            for place, message in enumerate(messages)
        ]  # what says no time happened in the order of the batch: a millisecond apart, the last one now
        taken_up = [
            accepted
            for record in parsed
            if not isinstance(record, EventProblem)
            for accepted in accepted_by(record, self.log)
        ]
        self.outbound.responded([record for record in parsed if not isinstance(record, EventProblem)], received_at)
        return self.intake.many([*parsed, *taken_up], received_at)[: len(parsed)]

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
        self.outbound.responded([event], now)
        receipt = self.intake.one(event, now)
        if receipt.problem is not None:
            raise bad_input(receipt.problem.field, receipt.problem.problem)
        return {"recorded": True, "duplicate": receipt.duplicate}


def _explained(ask: Ask, decided: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer as it was asked for: with its trace, or without."""
    if ask.explain:
        return decided
    return {name: value for name, value in decided.items() if name not in ("suppressed", "passed_over")}


def _of_many(
    entry: DecideRequest | Refused, answers: Iterator[tuple[DecideRequest, Mapping[str, Any] | Problem]]
) -> Mapping[str, Any]:
    """What stands for one entry of a batch: its answer, taken from the next of `answers`, or its error."""
    if isinstance(entry, Refused):
        return entry.body()
    ask, decided = next(answers)
    return Refused(ask.customer_id, decided).body() if isinstance(decided, Problem) else _explained(ask, decided)


def _count(decided: Mapping[str, Any]) -> None:
    reasons = Counter(reason["code"] for each in decided["suppressed"] for reason in each["reasons"])
    counters.decided(decided["channel"], decided["fallback"], reasons)
