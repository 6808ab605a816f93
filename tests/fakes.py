"""Stand-ins for what the tests do not mean to test: an engine that decides nothing, and a caller over HTTP."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import orjson
from anyio.from_thread import start_blocking_portal

from features.driver import NotAtOnce
from features.intake import Receipt
from features.vocabulary import EventProblem
from serving import counters
from serving.ports import Arrived
from serving.problems import not_found
from serving.schemas import DecideBatchRequest, DecideRequest, Refused, RespondRequest, entries
from serving.settings import Settings


class FakeCustomers:
    """Knows the customer `1042` alone."""

    def story(self, customer_id: str, now: float, channel: str, location_id: str | None) -> bytes | None:
        told = {"customer_id": customer_id, "channel": channel, "location_id": location_id}
        return orjson.dumps(told) if customer_id == "1042" else None

    def export(self, customer_id: str, now: float) -> Iterator[bytes] | None:
        return iter([b'{"customer_id":', b'"1042"}']) if customer_id == "1042" else None

    def erase(self, customer_id: str, now: float) -> dict[str, Any] | None:
        return {"customer_id": customer_id, "erased": "now"} if customer_id == "1042" else None


class FakeEngine:
    """Answers every customer with no offer. `failure` is raised by every call while it is set."""

    def __init__(self) -> None:
        self.customers = FakeCustomers()
        self.asked: list[Any] = []
        self.ingested: list[Mapping[str, Any]] = []
        self.sent_at: str | None = None
        self.failure: Exception | None = None
        self.is_ready = self.takes_at_once = True
        self.closed = False

    def decide(self, request: DecideRequest, now: float) -> bytes:
        self._note(request)
        counters.decided(request.channel, None, {"no_consent": 2})
        return orjson.dumps(self._decision(request))

    def decide_batch(self, request: DecideBatchRequest, now: float) -> bytes:
        self._note(request)
        return orjson.dumps(
            {"decisions": [one.body() if isinstance(one, Refused) else self._decision(one) for one in entries(request)]}
        )

    def respond(self, request: RespondRequest, now: float) -> dict[str, Any]:
        self._note(request)
        return {"recorded": True, "duplicate": False}

    def record(self, decision_id: str) -> bytes | None:
        self._note(decision_id)
        return orjson.dumps(self._record()) if decision_id == "d1" else None

    def product_names(self, product_ids: Iterable[str]) -> dict[str, str]:
        return {each: f"Product {each}" for each in product_ids}

    def confirm(self, decision_id: str, now: float) -> dict[str, Any]:
        self._note(decision_id)
        if decision_id != "d1":
            raise not_found("no such decision")
        return {"valid": True}

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

    def ingest_at_once(
        self, messages: Sequence[Arrived], now: float
    ) -> tuple[Sequence[Receipt | None], Callable[[], None] | None]:
        if not self.takes_at_once:
            raise NotAtOnce
        return [self.ingest([each.content], each.received_at, each.sent_at)[0] for each in messages], None

    def ready(self) -> bool:
        return self.is_ready

    def close(self) -> None:
        self.closed = True

    def _note(self, request: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.asked.append(request)

    @classmethod
    def _record(cls) -> dict[str, Any]:
        """A logged decision without any offer."""
        asked = DecideRequest(customer_id="1042", channel="web", placement="home")
        answer = {**cls._decision(asked), "suppressed": [], "passed_over": []}
        request = asked.model_dump(exclude={"request_id", "explain"})
        return {
            "decision_id": "d1",
            "engine": "1",
            "versions": {},
            "request": request,
            "facts": {"now": 1795168800.0},
            "answer": answer,
        }

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


class Face:
    """The composed service as a caller sees it, in this process: `with Face(engine) as face: face.post(…)`.

    Starts and stops the application as a worker does. `host` is the address that the caller seems to have.
    """

    def __init__(self, engine: FakeEngine | None = None, host: str = "127.0.0.1", **settings: Any):
        self.engine, self._host = engine or FakeEngine(), host
        self._settings = Settings(**settings)

    def __enter__(self) -> Face:
        with warnings.catch_warnings(action="ignore"):  # BentoML's own, of its libraries
            from serving.service import service  # opens the workspace when first imported: only inside a test

        app: Any = service(lambda: self.engine, self._settings).to_asgi()
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._portal.wrap_async_context_manager(app.router.lifespan_context(app)))
            transport = httpx.ASGITransport(app=app, client=(self._host, 1), raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000")
            self._client: httpx.AsyncClient = stack.enter_context(self._portal.wrap_async_context_manager(client))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def request(self, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        auth = (key, "") if key else None
        return self._portal.call(partial(self._client.request, method, path, auth=auth, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """`body` as JSON, or as it is where it is bytes."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.request("POST", path, content=raw, **options)
