"""What browsers load: the widget, and the page that explains one decision. What either says stands in `web/`.

The widget asks for no key, since it holds none. The page asks for a server key as all of `/decisions` does; a browser
sends it as the user of Basic auth, for which the 401 asks. Nothing on it comes from elsewhere, and no script runs.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import anyio.to_thread
import jinja2
import orjson
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.decision_page import page_of, product_ids
from serving.problems import problem_of

WEB = Path(__file__).parent / "web"
KEPT_S = 300
"""So long a browser does not even ask for the widget: a new version is everywhere five minutes after it is served."""
WIDGET_HEADERS: Mapping[str, str] = {
    "Cache-Control": f"public, max-age={KEPT_S}, stale-while-revalidate=86400",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",  # for pages that isolate themselves, too
}
PAGE_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",  # it names a customer
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def routes() -> list[Route]:
    return [Route("/widget.js", widget, methods=["GET"]), Route("/decisions/{decision_id}/view", view, methods=["GET"])]


async def widget(request: Request) -> Response:
    """The file, gzipped for who takes that; 304 for who has it."""
    packed = "gzip" in request.headers.get("accept-encoding", "")
    body, etag = _file(packed)
    headers = {**WIDGET_HEADERS, "ETag": etag}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(body, headers=headers, media_type="text/javascript")


@cache
def _file(packed: bool) -> tuple[bytes, str]:
    """The bytes of the widget to send, and their strong ETag."""
    body = (WEB / "widget.js").read_bytes()
    if packed:
        body = gzip.compress(body, 9, mtime=0)
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


async def view(request: Request) -> Response:
    """One decision explained; a page of its own for one that was erased (410) or is not there (404)."""
    engine, decision_id = request.app.state.engine, request.path_params["decision_id"]

    def read() -> tuple[dict[str, Any] | None, Mapping[str, str]]:
        raw = engine.record(decision_id)
        record = None if raw is None else orjson.loads(raw)
        return record, engine.product_names(product_ids(record)) if record else {}

    try:
        record, names = await anyio.to_thread.run_sync(read)
        if record is None:
            return _page("no_decision.html", 404, decision_id=decision_id, erased=False)
        if "erased" in record:
            return _page("no_decision.html", 410, decision_id=decision_id, erased=True)
        return _page("decision.html", 200, **page_of(record, names, time.time()))
    except Exception as error:
        return problem_of(error, "/decisions/…/view").response()


@cache
def _templates() -> tuple[jinja2.Environment, str]:
    """The templates, and the policy that lets their one style sheet in and nothing else."""
    style = (WEB / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    made.globals["style"] = Markup(style)  # our own file, read above
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return made, f"{policy}; frame-ancestors 'self'"


def _page(name: str, status: int, **values: Any) -> Response:
    templates, policy = _templates()
    text = templates.get_template(name).render(**values)
    return Response(text, status, {**PAGE_HEADERS, "Content-Security-Policy": policy}, "text/html")
