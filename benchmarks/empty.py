"""The floor: an endpoint of our schemas and settings that decides nothing, for `bentoml serve`."""

from __future__ import annotations

import bentoml
import orjson
from starlette.responses import Response

from serving.answers import Decision
from serving.schemas import DecideRequest
from serving.settings import Settings

ANSWER = orjson.dumps({"decision_id": "", "customer_id": "", "offers": []})


@bentoml.service(
    workers=Settings.read().workers,
    http={"host": "127.0.0.1"},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing={"excluded_urls": ".*"},
)
class Empty:
    @bentoml.api(output_spec=Decision)
    async def decide(self, request: DecideRequest, /) -> Response:
        return Response(ANSWER, media_type="application/json")
