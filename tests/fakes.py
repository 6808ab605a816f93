"""Stand-ins for what the tests do not mean to test: an engine that decides nothing and remembers everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from features.intake import Receipt
from features.vocabulary import EventProblem
from serving import counters
from serving.schemas import DecideBatchRequest, DecideRequest, Refused, RespondRequest, entries


class FakeEngine:
    """Answers every customer with no offer. `failure` is raised by every call while it is set."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.ingested: list[Mapping[str, Any]] = []
        self.sent_at: str | None = None
        self.failure: Exception | None = None
        self.is_ready = True
        self.closed = False

    def decide(self, request: DecideRequest, now: float) -> bytes:
        self._note(request)
        counters.decided(request.channel, None, {"no_consent": 2})
        return orjson.dumps(self._decision(request))

    def decide_batch(self, request: DecideBatchRequest, now: float) -> bytes:
        self._note(request)
        return orjson.dumps(
            {
                "decisions": [
                    one.body() if isinstance(one, Refused) else self._decision(one) for one in entries(request)
                ]
            }
        )

    def respond(self, request: RespondRequest, now: float) -> dict[str, Any]:
        self._note(request)
        return {"recorded": True, "duplicate": False}

    def record(self, decision_id: str) -> bytes | None:
        self._note(decision_id)
        return b'{"decision_id":"d1"}' if decision_id == "d1" else None

    def ingest(
        self, messages: Sequence[Mapping[str, Any]], received_at: float, sent_at: str | None
    ) -> Sequence[Receipt]:
        """Refuses messages of the event `Bad`; the rest are stored once per messageId."""
        self._note(messages)
        self.sent_at = sent_at
        receipts = []
        for message in messages:
            known = {one.get("messageId") for one in self.ingested}
            message_id = str(message.get("messageId"))
            if message.get("event") == "Bad":
                problem = EventProblem("properties.quantity", "got `-1`; expected at least 0")
                receipts.append(Receipt(message_id, problem=problem))
            elif message.get("messageId") in known:
                receipts.append(Receipt(message_id, duplicate=True))
            else:
                self.ingested.append(message)
                receipts.append(Receipt(message_id, stored=True))
        return receipts

    def ready(self) -> bool:
        return self.is_ready

    def close(self) -> None:
        self.closed = True

    def _note(self, request: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.asked.append(request)

    @staticmethod
    def _decision(request: DecideRequest) -> dict[str, Any]:
        return {
            "decision_id": "d1",
            "customer_id": request.customer_id or f"anonymous:{request.anonymous_id}",
            "channel": request.channel,
            "placement": request.placement,
            "decided_at": "2026-11-20T10:00:00Z",
            "arm": "nba",
            "fallback": None,
            "continued_from": None,
            "offers": [],
            "signals": {},
            "versions": {},
        }
