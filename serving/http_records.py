"""A logged decision, read or confirmed; the counters, and the description of the API.

Mounted beside BentoML's own `/healthz /readyz /livez`, which stay as BentoML has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import counters, wire
from serving.problems import bad_input, not_found, problem_of, shown


def routes(description: Callable[[], dict[str, Any]]) -> list[Route]:
    """The GET routes; `description` makes the OpenAPI document when it is first asked for."""
    made: list[bytes] = []

    async def docs(_request: Request) -> Response:
        if not made:
            made.append(orjson.dumps(description()))
        return Response(made[0], media_type="application/json")

    return [
        Route("/decisions/{decision_id}", decision),
        Route("/decisions/{decision_id}/confirm", confirm, methods=["POST"]),
        Route("/metrics", metrics),
        Route("/docs.json", docs),
    ]


async def decision(request: Request) -> Response:
    """The whole record of one decision, with its trace."""
    decision_id = request.path_params["decision_id"]
    try:
        record = await anyio.to_thread.run_sync(request.app.state.engine.record, decision_id)
        if record is None:
            raise not_found(f"there is no decision {shown(decision_id)} within retention")
        return Response(record, media_type="application/json")
    except Exception as error:
        return problem_of(error, "/decisions").response()


async def confirm(request: Request) -> Response:
    """Whether a prepared decision may be sent now; it waits for the database, so on a thread."""
    try:
        raw = await wire.body(request)
        if raw.strip() and (unknown := wire.json_object(raw)):
            raise bad_input(next(iter(unknown)), "is no known field; expected no body, or {}")
        engine, decision_id = request.app.state.engine, request.path_params["decision_id"]
        answer = await anyio.to_thread.run_sync(engine.confirm, decision_id, time.time())
        return Response(orjson.dumps(answer), media_type="application/json")
    except Exception as error:
        return problem_of(error, "/decisions").response()


async def metrics(_request: Request) -> Response:
    """Our own counters, in Prometheus' text format."""
    return Response(counters.rendered(), headers={"Content-Type": counters.CONTENT_TYPE_LATEST})
