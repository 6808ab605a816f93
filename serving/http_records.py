"""What can be read: a logged decision, the counters, and the description of the API.

Mounted beside BentoML's own `/healthz /readyz /livez`, which stay as BentoML has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import counters
from serving.problems import not_found, problem_of, shown


def routes(description: Callable[[], dict[str, Any]]) -> list[Route]:
    """The GET routes; `description` makes the OpenAPI document when it is first asked for."""
    made: list[bytes] = []

    async def docs(_request: Request) -> Response:
        if not made:
            made.append(orjson.dumps(description()))
        return Response(made[0], media_type="application/json")

    return [
        Route("/decisions/{decision_id}", decision),
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


async def metrics(_request: Request) -> Response:
    """Our own counters, in Prometheus' text format."""
    return Response(counters.rendered(), headers={"Content-Type": counters.CONTENT_TYPE_LATEST})
