"""What the HTTP face needs of an engine; `engine.Engine` is it, and the tests' fake another.

`decide` is called on the event loop (with a `request_id`, or outbound, on a thread); `decide_batch`, `respond`,
`record`, `confirm`, `ingest` and `ready` on threads, at the same time. An engine must bear that. Any may raise a
`problems.Problem`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from features.vocabulary import EventProblem
from serving.schemas import DecideBatchRequest, DecideRequest, RespondRequest


class Receipt(Protocol):
    """What became of one message (`features.intake.Receipt`)."""

    @property
    def message_id(self) -> str: ...
    @property
    def stored(self) -> bool: ...
    @property
    def duplicate(self) -> bool: ...
    @property
    def problem(self) -> EventProblem | None: ...


class DecisionEngine(Protocol):
    """One workspace, opened: decides, remembers and takes events in. Times are epoch seconds."""

    def decide(self, request: DecideRequest, now: float) -> bytes: ...
    def decide_batch(self, request: DecideBatchRequest, now: float) -> bytes: ...
    def respond(self, request: RespondRequest, now: float) -> dict[str, Any]: ...
    def record(self, decision_id: str) -> bytes | None: ...
    def confirm(self, decision_id: str, now: float) -> dict[str, Any]: ...
    def ingest(
        self, messages: list[Mapping[str, Any]], received_at: float, sent_at: str | None
    ) -> Sequence[Receipt]: ...
    def ready(self) -> bool: ...
    def close(self) -> None: ...
