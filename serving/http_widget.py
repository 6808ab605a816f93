"""`GET /widget.js`: the one file that any page may load to show offers. What it does stands in `web/widget.js`.

Read once, packed once; browsers keep it and ask again whether it is still the same (ETag). No key: the file holds none.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

WIDGET = Path(__file__).parent / "web" / "widget.js"
KEPT_S = 300
"""So long a browser does not even ask: a new version is everywhere five minutes after it is served."""
HEADERS: Mapping[str, str] = {
    "Cache-Control": f"public, max-age={KEPT_S}, stale-while-revalidate=86400",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",  # for pages that isolate themselves, too
}


def routes() -> list[Route]:
    return [Route("/widget.js", widget, methods=["GET"])]


async def widget(request: Request) -> Response:
    """The file, gzipped for who takes that; 304 for who has it."""
    packed = "gzip" in request.headers.get("accept-encoding", "")
    body, etag = _file(packed)
    headers = {**HEADERS, "ETag": etag}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(body, headers=headers, media_type="text/javascript")


@cache
def _file(packed: bool) -> tuple[bytes, str]:
    """The bytes to send, and their strong ETag."""
    body = WIDGET.read_bytes()
    if packed:
        body = gzip.compress(body, 9, mtime=0)
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
