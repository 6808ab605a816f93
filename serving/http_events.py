"""Segment's HTTP Tracking API: one POST route per kind of message, and the batch.

Only the envelope is looked at here (JSON, sizes, the write key that browsers send inside); what a message
means is the business of `features.segment` behind the engine. Single messages are taken in at once, on the event loop
(`gathering`), where nobody has to be waited for: with every hand-over to a thread they would stand behind a decision.
All else is taken in on a thread, so that waiting for the database does not hold up decisions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from features.intake import Receipt
from features.vocabulary import EventProblem
from serving import counters, wire
from serving.gathering import Gathering
from serving.keys import Keys, refusal, unauthorised
from serving.ports import Arrived, DecisionEngine
from serving.ports import Receipt as AnyReceipt
from serving.problems import Problem, bad_input, problem_of, shown, too_many

LARGEST_BATCH = 512 * wire.KB
LARGEST_MESSAGE = 32 * wire.KB
SMALL_MESSAGE = 4 * wire.KB
"""Up to so many bytes a message may be taken in at once."""
THREADS = 2
"""That take messages in, per worker: while one waits for the database the other parses."""
MOST_WAITING = 3_000
"""Messages that may wait for those threads, per worker."""
LONGEST_WAIT_S = 5.0
"""Who has waited so long is not taken in any more: clients give up after 10 s, and would send it all again anyway."""
A_REQUEST = 10
"""What a request costs apart from its messages, in messages: its transaction, and the row that it writes online."""
RETRY_AFTER_S = 2

SINGLE = {name: name for name in ("track", "identify", "alias", "group", "page", "screen")}
SINGLE |= {name[0]: name for name in SINGLE if name != "alias"} | {"a": "alias"}  # as the browser SDK calls them
SINGLE_PATHS = tuple(f"/v1/{name}" for name in SINGLE)
BATCH = ("batch", "b", "import")


class EventDesk:
    """Receives messages and hands them to the engine."""

    def __init__(self, keys: Keys, engine: Callable[[], DecisionEngine]):
        """`engine` gives that of the worker, once there is one."""
        self._keys, self._engine = keys, engine
        self._gathering = Gathering(self._ingest_at_once, partial(self._on_thread, A_REQUEST))
        self._limiter: anyio.CapacityLimiter | None = None
        self._waiting = 0

    def give_way(self) -> None:
        """A decision is asked for: messages wait a little, to be taken in together."""
        self._gathering.give_way()

    def routes(self) -> list[Route]:
        one = [Route(f"/v1/{name}", self.one, methods=["POST"]) for name in SINGLE]
        return one + [Route(f"/v1/{name}", self.batch, methods=["POST"]) for name in BATCH]

    async def one(self, request: Request) -> Response:
        """One message, whose type is the route's: stored or a duplicate is a success, refused a 400."""
        try:
            self._make_room(1)
            raw = await wire.body(request)
            message = wire.json_object(raw)
            self._authorise(request, message)
            if len(raw) > LARGEST_MESSAGE and _size(message) > LARGEST_MESSAGE:
                raise wire.too_large(LARGEST_MESSAGE)
            message["type"] = SINGLE[request.scope["path"].rpartition("/")[2]]
            receipt = await self._take_at_once(message, _sent_at(message), len(raw))
            if receipt is None:
                (receipt,) = await self._take_in([message], _sent_at(message))
            if receipt.problem is not None:
                raise bad_input(receipt.problem.field, receipt.problem.problem)
            return _json({"success": True})
        except Exception as error:
            return problem_of(error, request.url.path).response(to_clients=True)

    async def batch(self, request: Request) -> Response:
        """Many messages: the refused ones are told by their index, the others are kept."""
        try:
            self._make_room(1)
            body = wire.json_object(await wire.body(request, LARGEST_BATCH))
            self._authorise(request, body)
            messages = body.get("batch")
            if not isinstance(messages, list):
                came = f"got {shown(messages)}" if "batch" in body else "is missing"
                raise bad_input("batch", f"{came}; expected a list of messages")
            context = body.get("context")
            messages = [_with_context(message, context) for message in messages]
            receipts = await self._take_in(messages, _sent_at(body))
            return _json(_counted(messages, receipts))
        except Exception as error:
            return problem_of(error, request.url.path).response(to_clients=True)

    def _make_room(self, messages: int) -> int:
        """What so many messages weigh in the queue. A 429 where it is full; where it is empty there is always room."""
        weight = A_REQUEST + messages
        if self._waiting and self._waiting + weight > MOST_WAITING:
            raise self._postponed()
        return weight

    def _in_time(
        self, ingest: Callable[..., Sequence[AnyReceipt]], messages: list[Any], received_at: float, sent_at: str | None
    ) -> Sequence[AnyReceipt]:
        """What `ingest` makes of the messages, unless their turn came too late."""
        if time.time() - received_at > LONGEST_WAIT_S:
            raise self._postponed()
        return ingest(messages, received_at, sent_at)

    def _postponed(self) -> Problem:
        counters.received("postponed")
        return too_many(f"too many messages are waiting; try again in {RETRY_AFTER_S} seconds", RETRY_AFTER_S)

    def _authorise(self, request: Request, body: dict[str, Any]) -> None:
        """Segment's browser SDK sends its key in the body; wherever one stands, it goes no further than here."""
        key = body.pop("writeKey", None)
        caller = request.scope.get("onestory.caller")
        if caller is None and isinstance(key, str) and key:
            caller = self._keys.kind(key.encode())
            if caller is None:
                raise unauthorised("the `writeKey` in the body is not known; expected one of the configured keys")
        if problem := refusal(request.scope["path"], caller):
            raise problem

    async def _take_at_once(self, message: dict[str, Any], sent_at: str | None, size: int) -> AnyReceipt | None:
        """The receipt of a message that has to wait for nobody, and if it is stored, stored by now; else None."""
        started = time.perf_counter()
        if size > SMALL_MESSAGE or _unfit(message) is not None:
            return None
        receipt = await self._gathering.receipt(Arrived(message, time.time(), sent_at))
        if receipt is not None:
            self._count([receipt], started)
        return receipt

    def _ingest_at_once(
        self, messages: Sequence[Arrived]
    ) -> tuple[Sequence[AnyReceipt | None], Callable[[], None] | None]:
        return self._engine().ingest_at_once(messages, time.time())

    async def _on_thread(self, weight: int, call: Callable[..., Any], *arguments: Any) -> Any:
        """What the call gives, which may wait, beside the event loop."""
        if self._limiter is None:  # needs the running event loop
            self._limiter = anyio.CapacityLimiter(THREADS)
        self._waiting += weight
        try:
            return await anyio.to_thread.run_sync(call, *arguments, limiter=self._limiter)
        finally:
            self._waiting -= weight

    async def _take_in(self, messages: list[Any], sent_at: str | None) -> list[AnyReceipt]:
        """One receipt per message, in order; what is no message at all never reaches the engine."""
        received_at, started = time.time(), time.perf_counter()
        refused = {index: problem for index, message in enumerate(messages) if (problem := _unfit(message))}
        fit = [message for index, message in enumerate(messages) if index not in refused]
        taken: Sequence[AnyReceipt] = ()
        if fit:
            weight, ingest = self._make_room(len(fit)), self._engine().ingest
            taken = await self._on_thread(weight, self._in_time, ingest, fit, received_at, sent_at)
        rest = iter(taken)
        receipts = [
            Receipt("", problem=refused[index]) if index in refused else next(rest) for index in range(len(messages))
        ]
        self._count(receipts, started)
        return receipts

    @staticmethod
    def _count(receipts: Sequence[AnyReceipt], started: float) -> None:
        counters.received("stored", sum(receipt.stored for receipt in receipts))
        counters.received("duplicate", sum(receipt.duplicate for receipt in receipts))
        counters.received("rejected", sum(receipt.problem is not None for receipt in receipts))
        counters.answered("events", time.perf_counter() - started)


def _unfit(message: Any) -> EventProblem | None:
    """Why this is no message that an engine should see."""
    if not isinstance(message, dict):
        return EventProblem("message", f"got {shown(message)}; expected an object")
    size = _size(message)
    if size < 0:
        return EventProblem("message", "is nested hundreds of levels deep; expected at most 50")
    if size > LARGEST_MESSAGE:
        return EventProblem("message", f"has {size} bytes; expected at most {LARGEST_MESSAGE}")
    return None


def _size(message: Mapping[str, Any]) -> int:
    """Bytes of the message as JSON; -1 where it is nested so deep that it cannot be written again."""
    try:
        return len(orjson.dumps(message))
    except TypeError:
        return -1


def _with_context(message: Any, context: Any) -> Any:
    """The message with what the batch says of all; the message itself wins. Without any key it carries."""
    if not isinstance(message, dict):
        return message
    message.pop("writeKey", None)
    own = message.get("context")
    if isinstance(context, Mapping) and (own is None or isinstance(own, Mapping)):
        message["context"] = {**context, **(own or {})}
    return message


def _sent_at(body: Mapping[str, Any]) -> str | None:
    sent_at = body.get("sentAt")
    if sent_at is not None and not isinstance(sent_at, str):
        raise bad_input("sentAt", f"got {shown(sent_at)}; expected a time such as 2026-11-20T10:00:00Z")
    return sent_at


def _counted(messages: Sequence[Any], receipts: Sequence[AnyReceipt]) -> dict[str, Any]:
    return {
        "success": True,
        "stored": sum(receipt.stored for receipt in receipts),
        "duplicates": sum(receipt.duplicate for receipt in receipts),
        "rejected": [
            {"index": index, "messageId": _message_id(messages[index]), "problem": str(receipt.problem)}
            for index, receipt in enumerate(receipts)
            if receipt.problem is not None
        ],
    }


def _message_id(message: Any) -> str | None:
    given = message.get("messageId") if isinstance(message, dict) else None
    return given[:255] if isinstance(given, str) else None


def _json(value: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
