"""What the HTTP face needs of an engine; `engine.Engine` is it, and the tests' fake another.

`decide`, `story` and `ingest_at_once` are called on the event loop (`decide` with a `request_id`, or outbound, on a
thread);
`decide_batch`, `respond`, `record`, `product_names`, `confirm`, `ingest`, `ready`, `export` and `erase` on threads, at
the same time. An engine must bear that. Any may raise a `problems.Problem`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

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


class Arrived(NamedTuple):
    """A message that came on its own, and when."""

    content: Mapping[str, Any]
    received_at: float
    sent_at: str | None


class CustomerDesk(Protocol):
    """What is held of one customer; each answers None where that is nothing."""

    def story(self, customer_id: str, now: float, channel: str, location_id: str | None) -> bytes | None: ...
    def export(self, customer_id: str, now: float) -> Iterator[bytes] | None: ...
    def erase(self, customer_id: str, now: float) -> dict[str, Any] | None: ...


class DecisionEngine(Protocol):
    """One workspace, opened: decides, remembers and takes events in. Times are epoch seconds."""

    @property
    def customers(self) -> CustomerDesk: ...
    def decide(self, request: DecideRequest, now: float) -> bytes: ...
    def decide_batch(self, request: DecideBatchRequest, now: float) -> bytes: ...
    def respond(self, request: RespondRequest, now: float) -> dict[str, Any]: ...
    def record(self, decision_id: str) -> bytes | None: ...
    def product_names(self, product_ids: Iterable[str]) -> Mapping[str, str]: ...
    def confirm(self, decision_id: str, now: float) -> dict[str, Any]: ...
    def ingest(
        self, messages: list[Mapping[str, Any]], received_at: float, sent_at: str | None
    ) -> Sequence[Receipt]: ...
    def ingest_at_once(
        self, messages: Sequence[Arrived], now: float
    ) -> tuple[Sequence[Receipt | None], Callable[[], None] | None]: ...
    def ready(self) -> bool: ...
    def close(self) -> None: ...
