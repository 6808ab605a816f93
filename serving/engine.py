"""Gathers what `decide` needs, calls it, and logs: for one customer, for a batch, for an audience.

The engine is the composition of one worker: database, Feast, signals, policy and decision log. It adds
no rule of its own. Time is an argument of every call.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from features import database, identity, segment
from features.catalog import load_catalog
from features.events import EventProblem
from features.intake import Intake, Receipt
from features.signals import Signals
from features.store import ProfileNow, ProfileStore, StoreDown
from features.vocabulary import DAY_S, ONLINE
from features.workspace import Workspace
from serving import counters, rulebook, schemas
from serving.decide import ENGINE_VERSION, Policy, answer, decide
from serving.decision_log import DecisionLog
from serving.facts import Facts
from serving.problems import Problem, bad_input
from serving.question import Question
from serving.responses import accepted_by, responded
from serving.schemas import DecideBatchRequest, DecideRequest, Refused, RespondRequest
from serving.scoring import load_models
from serving.shelves import Shelf, Shops
from serving.versions import keep

Ask = DecideRequest | Question


class Engine:
    """One worker's way to decide. Open it with `Engine.open(workspace)`, end it with `close`."""

    def __init__(self, workspace: Workspace, store: ProfileStore, policy: Policy):
        self.workspace, self.store, self.policy = workspace, store, policy
        self.database = database.connect(workspace)
        self.signals = Signals(self.database)
        self.log = DecisionLog(workspace.decisions)
        self.intake = Intake(self.database, store, policy.catalog)
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
        decided = self.decision(request, now)
        if not request.explain:
            decided = {name: value for name, value in decided.items() if name not in ("suppressed", "passed_over")}
        return orjson.dumps(decided)

    def decide_batch(self, request: DecideBatchRequest, now: float) -> bytes:
        """`{"decisions": […]}` in the order asked; one that is refused stands there as its error."""
        decided = [orjson.Fragment(self._one_of_many(entry, now)) for entry in schemas.entries(request)]
        return orjson.dumps({"decisions": decided})

    def _one_of_many(self, entry: DecideRequest | Refused, now: float) -> bytes:
        if isinstance(entry, Refused):
            return orjson.dumps(entry.body())
        try:
            return self.decide(entry, now)
        except Problem as problem:
            return orjson.dumps(Refused(entry.customer_id, problem).body())

    def decision(self, ask: Ask, now: float) -> dict[str, Any]:
        """The answer to one question with its whole trace. Raises Problem where it cannot be answered."""
        self.signals.refresh()
        customer_id = ask.customer_id
        if customer_id is None:
            with database.reading(self.database) as connection:
                customer_id = identity.customer_of(connection, None, ask.anonymous_id) or ""
        if ask.request_id is None:
            return self._decided(ask, customer_id, now)
        with database.transaction(self.database) as connection:
            return self._repeatable(connection, ask, customer_id, now)

    def _repeatable(self, connection: sa.Connection, ask: Ask, customer_id: str, now: float) -> dict[str, Any]:
        """The same decision for the same `request_id` within a day; the lock makes two callers at once agree."""
        table = database.requests
        content = _content(ask)
        mine = (table.c.customer_id == customer_id) & (table.c.request_id == ask.request_id)
        row = connection.execute(sa.select(table).where(mine)).one_or_none()
        if row is not None and now - row.requested_at < DAY_S:
            if row.content != content:
                raise bad_input(
                    "request_id", f"`{ask.request_id}` was used for another question within a day; expected a new one"
                )
            record = self.log.find(row.decision_id)
            if record is not None:
                return dict(record["answer"])
        decided = self._decided(ask, customer_id, now)
        values = {"requested_at": now, "content": content, "decision_id": decided["decision_id"]}
        statement = database.insert(connection, table)
        statement = statement.values(customer_id=customer_id, request_id=ask.request_id, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["customer_id", "request_id"], set_=values))
        return decided

    def _decided(self, ask: Ask, customer_id: str, now: float) -> dict[str, Any]:
        seen, missing = self._profile(customer_id)
        location_id = ask.location_id or (None if ask.channel == "store" else ONLINE)
        location = self.policy.catalog.locations.get(location_id or "")
        stock = Shelf(self.signals.stock_at(location_id) if location_id else {})
        shops = Shops(self.signals)
        feeds = {
            "profile": self.signals.last_at("profile"),
            "stock": self.signals.last_at("stock", location_id) if location_id else None,
        }
        content = (customer_id, seen.seq, {"state": seen.profile.state, "items": seen.profile.items}) if seen else None
        with self.log.slot(now, content) as slot:
            facts = Facts(
                decision_id=slot.decision_id,
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
                feeds=feeds,
                shops=shops,
                used={offer_id: self.signals.used(offer_id, now) for offer_id in self.policy.catalog.budgeted},
            )
            decided = answer(decide(facts, self.policy))
            _count(decided)
            slot.write(
                {
                    "decision_id": slot.decision_id,
                    "engine": ENGINE_VERSION,
                    "versions": self.policy.versions,
                    "request": _asked(ask),
                    "facts": _logged(facts, stock, shops, seen.seq if seen else None, slot.profile_at),
                    "answer": decided,
                }
            )
        return decided

    def _profile(self, customer_id: str) -> tuple[ProfileNow | None, bool]:
        try:
            return self.store.read(customer_id), False
        except StoreDown:
            return None, True

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
        receipt = self.intake.one(responded(request, self.log, now), now)
        if receipt.problem is not None:
            raise bad_input(receipt.problem.field, receipt.problem.problem)
        return {"recorded": True, "duplicate": receipt.duplicate}


def _count(decided: Mapping[str, Any]) -> None:
    reasons = Counter(reason["code"] for each in decided["suppressed"] for reason in each["reasons"])
    counters.decided(decided["channel"], decided["fallback"], reasons)


def _asked(ask: Ask) -> dict[str, Any]:
    return {
        "customer_id": ask.customer_id,
        "anonymous_id": ask.anonymous_id,
        "channel": ask.channel,
        "placement": ask.placement,
        "limit": ask.limit,
        "location_id": ask.location_id,
        "product_id": ask.product_id,
        "cart": list(ask.cart),
        "preview": ask.preview,
    }


def _content(ask: Ask) -> str:
    return hashlib.sha256(orjson.dumps(_asked(ask))).hexdigest()


def _logged(facts: Facts, stock: Shelf, shops: Shops, seq: int | None, profile_at: int | None) -> dict[str, Any]:
    return {
        "now": facts.now,
        "customer_id": facts.customer_id,
        "channel": facts.channel,
        "placement": facts.placement,
        "limit": facts.limit,
        "location_id": facts.location_id,
        "market": facts.market,
        "product_id": facts.product_id,
        "cart": facts.cart,
        "profile_seq": seq,
        "profile_at": profile_at,
        "profile_missing": facts.profile_missing,
        "stock": stock.logged(),
        "feeds": facts.feeds,
        "shops": shops.logged(),
        "used": {offer_id: [*used] for offer_id, used in facts.used.items()},
    }
