"""Segment's `GET /v1/projects/<write key>/settings`, which its browser client reads before it sends anything.

The answer says that messages come to the address that was asked, and to nobody else. It holds no secret and
needs no key: the client sends none, and the one in the path is handed back without being looked at.
"""

from __future__ import annotations

import re

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.problems import Problem, bad_input, shown

PATH = "/v1/projects/{write_key}/settings"
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def routes() -> list[Route]:
    return [Route(PATH, settings, methods=["GET"])]


async def settings(request: Request) -> Response:
    """Where the browser client sends its messages. `sampleRate: 0`: it counts its own calls for nobody."""
    host = request.headers.get("host", "")
    try:
        if not _HOST.fullmatch(host):
            raise bad_input("Host", f"got {shown(host)}; expected the address of this service")
    except Problem as problem:
        return problem.response(to_clients=True)
    ours = {
        "apiKey": request.path_params["write_key"],
        "apiHost": f"{host}/v1",
        "protocol": request.url.scheme,
        "addBundledMetadata": False,
    }
    told = {"integrations": {"Segment.io": ours}, "metrics": {"sampleRate": 0}}
    return Response(
        orjson.dumps(told), media_type="application/json", headers={"Cache-Control": "private, max-age=300"}
    )
