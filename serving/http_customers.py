"""The routes about one customer: the story, everything held, and its erasure. All ask for a server key (see `keys`).

Ids are taken from the path as they are, slashes and all; who is meant is the business of the engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from features.sentences import suggestion
from features.vocabulary import PLACEMENTS
from serving import counters
from serving.ports import CustomerDesk
from serving.problems import Problem, bad_input, not_found, problem_of, shown
from serving.schemas import AN_ID, LONGEST_ID, is_id

QUERY = ("channel", "location_id")


def routes() -> list[Route]:
    """In this order: an id may hold a slash, so the longer path is looked at first."""
    return [
        Route("/customers/{customer_id:path}/export", export, methods=["GET"]),
        Route("/customers/{customer_id:path}", story_or_erase, methods=["GET", "DELETE"]),
    ]


async def story_or_erase(request: Request) -> Response:
    """One path, two methods: of two routes Starlette would let the first refuse the other's method."""
    return await (erase if request.method == "DELETE" else story)(request)


async def story(request: Request) -> Response:
    """What an agent needs to know of the customer, with offers for the channel in the query."""
    started = time.perf_counter()
    try:
        channel, location_id = _asked(request)
        customer_id = _customer_in(request)
        told = _desk(request).story(customer_id, time.time(), channel, location_id)  # at once, as a decision is made
        if told is None:
            raise unknown(customer_id)
        counters.answered("story", time.perf_counter() - started)
        return Response(told, media_type="application/json")
    except Exception as error:
        return problem_of(error, "/customers").response()


async def export(request: Request) -> Response:
    """Everything held of one customer, as a stream of JSON."""
    try:
        pieces = await _on_thread(request, lambda desk: desk.export)
        name = 'attachment; filename="customer.json"'
        return StreamingResponse(pieces, media_type="application/json", headers={"Content-Disposition": name})
    except Exception as error:
        return problem_of(error, "/customers/…/export").response()


async def erase(request: Request) -> Response:
    """The customer erased everywhere; the receipt."""
    try:
        return Response(orjson.dumps(await _on_thread(request, lambda desk: desk.erase)), media_type="application/json")
    except Exception as error:
        return problem_of(error, "/customers").response()


def _asked(request: Request) -> tuple[str, str | None]:
    """The channel and location in the query."""
    query = dict(request.query_params)
    for name in query:
        if name not in QUERY:
            raise bad_input(name, f"is no known parameter; {suggestion(name, QUERY)}")
    channel, location_id = query.get("channel", "call_centre"), query.get("location_id")
    if channel not in PLACEMENTS["agent"]:
        raise bad_input("channel", f"is {shown(channel)}; expected one of {', '.join(sorted(PLACEMENTS['agent']))}")
    if location_id is not None and not 1 <= len(location_id) <= LONGEST_ID:
        raise bad_input("location_id", f"is {shown(location_id)}; expected 1 to {LONGEST_ID} characters")
    return channel, location_id


async def _on_thread(request: Request, method: Callable[[CustomerDesk], Callable[[str, float], Any]]) -> Any:
    """What the engine's method says of the customer in the path; a 404 where that is nothing."""
    customer_id = _customer_in(request)
    found = await anyio.to_thread.run_sync(method(_desk(request)), customer_id, time.time())
    if found is None:
        raise unknown(customer_id)
    return found


def _desk(request: Request) -> CustomerDesk:
    desk: CustomerDesk = request.app.state.engine.customers
    return desk


def _customer_in(request: Request) -> str:
    customer_id: str = request.path_params["customer_id"]
    if not is_id(customer_id) or not _is_utf_8(request):
        raise bad_input("customer_id", f"is {shown(customer_id)}; expected {AN_ID}")
    return customer_id


def _is_utf_8(request: Request) -> bool:
    """Whether the path was: the server puts U+FFFD in place of what is not, which may be somebody's id."""
    try:
        unquote_to_bytes(request.scope.get("raw_path", b"")).decode()
    except UnicodeDecodeError:
        return False
    return True


def unknown(customer_id: str) -> Problem:
    return not_found(f"nothing is known of a customer {shown(customer_id)}; expected an id that came with an event")
