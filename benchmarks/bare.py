"""The floor below the floor: one Starlette route under uvicorn that answers a constant, for `uvicorn`."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.empty import ANSWER


async def decide(request: Request) -> Response:
    await request.body()
    return Response(ANSWER, media_type="application/json")


async def ready(request: Request) -> Response:
    return Response(b"")


app = Starlette(routes=[Route("/decide", decide, methods=["POST"]), Route("/readyz", ready)])
